"""How the trunks run during a fit: plainly, compiled, or recomputed in the backward pass."""

from torch import nn

from castlit.nn import Encoder
from castlit.nn.activation_checkpointing import CheckpointedBlock
from castlit.nn.compiled_trunk import CompiledPart, parts_before
from castlit.nn.forward_patch import ForwardPatch, blocks_before
from castlit.utils.validation import InputError, require_bool


class Trunks:
    """Compiles or checkpoints a method's trunks for the time of a fit.

    Everything that a CAM differentiates twice, from its layer to the loss, runs plainly. Neither weights nor their
    names change, and checkpoints do not contain the patches.

    Args:
        activation_checkpointing: Recompute the trained backbone's blocks in the backward pass.
        compile: Compile the backbones; of the trained one, the part before the CAM's layer.

    Raises:
        InputError: A switch is neither true nor false.
    """

    def __init__(self, activation_checkpointing: bool = False, compile: bool = False) -> None:
        self.activation_checkpointing = require_bool("activation_checkpointing", activation_checkpointing)
        self.compile = require_bool("compile", compile)
        self._patches: list[ForwardPatch] = []

    def apply(self, method: nn.Module, backbone: nn.Module, layer: nn.Module) -> None:
        """Patch the trunks as the switches say, until :meth:`remove`.

        Args:
            method: Its momentum encoders are compiled as a whole.
            backbone: The trained one.
            layer: The part of it behind whose output everything may be differentiated twice.

        Raises:
            InputError: There is nothing to recompute.
        """
        self.remove()
        blocks = blocks_before(backbone, layer) if self.activation_checkpointing else []
        if self.activation_checkpointing and not blocks:
            raise InputError(
                "activation_checkpointing=true finds no block of layers to recompute before the CAM's layer: choose a "
                "backbone made of blocks, or a later attention.layer; or set activation_checkpointing=false"
            )
        if self.compile:
            others = [part.backbone for part in method.modules() if isinstance(part, Encoder)]
            for part in [CompiledPart(other) for other in others if other is not backbone]:
                self._apply(part)
            # A compiled part cannot contain a checkpointed block, but a checkpointed block can be compiled.
            for part in [CompiledPart(block) for block in blocks] or parts_before(backbone, layer):
                self._apply(part)
        for block in blocks:
            self._apply(CheckpointedBlock(block))

    def remove(self) -> None:
        """Remove the patches."""
        while self._patches:
            self._patches.pop().remove()

    def _apply(self, patch: ForwardPatch) -> None:
        patch.apply()
        self._patches.append(patch)
