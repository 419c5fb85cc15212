"""How the trunks run during a fit: plainly, compiled, or recomputed in the backward pass."""

from torch import nn

from castlit.nn import Encoder
from castlit.nn.activation_checkpointing import Recomputed
from castlit.nn.compiled_trunk import Compiled, parts_before
from castlit.nn.forward_patch import StandIn, blocks_before
from castlit.utils.validation import InputError


class Trunks:
    """Puts another way to run into a method's trunks, and takes it out again.

    What a CAM differentiates twice, from the layer behind which it looks to the loss, runs plainly in any case. Neither
    weights nor their names change, and nothing of it enters a checkpoint: it is a matter of the machine.

    Args:
        activation_checkpointing: Recompute the trained backbone's blocks in the backward pass.
        compile: Compile the backbones; of the trained one, what lies before the CAM's layer.

    Raises:
        InputError: A switch is neither true nor false.
    """

    def __init__(self, activation_checkpointing: bool = False, compile: bool = False) -> None:
        for name, value in (("activation_checkpointing", activation_checkpointing), ("compile", compile)):
            if not isinstance(value, bool):
                raise InputError(f"{name} must be true or false, got {value!r}")
        self.activation_checkpointing, self.compile = activation_checkpointing, compile
        self._in_place: list[StandIn] = []

    def put_in(self, method: nn.Module, backbone: nn.Module, layer: nn.Module) -> None:
        """Let the trunks run as the switches say, until :meth:`take_out`.

        Args:
            method: Whose momentum encoders are compiled as a whole.
            backbone: The trained one.
            layer: The part of it behind whose output everything may be differentiated twice.

        Raises:
            InputError: There is nothing to recompute.
        """
        self.take_out()
        blocks = blocks_before(backbone, layer) if self.activation_checkpointing else []
        if self.activation_checkpointing and not blocks:
            raise InputError(
                "activation_checkpointing=true finds no block of layers to recompute before the CAM's layer: choose a "
                "backbone made of blocks, or a later attention.layer; or set activation_checkpointing=false"
            )
        if self.compile:
            others = [part.backbone for part in method.modules() if isinstance(part, Encoder)]
            for part in [Compiled(other) for other in others if other is not backbone]:
                self._put_in(part)
            # A recomputation inside a compiled part is not possible, but the other way round.
            for part in [Compiled(block) for block in blocks] or parts_before(backbone, layer):
                self._put_in(part)
        for block in blocks:
            self._put_in(Recomputed(block))

    def take_out(self) -> None:
        """Let the trunks run plainly again."""
        while self._in_place:
            self._in_place.pop().take_out()

    def _put_in(self, stand_in: StandIn) -> None:
        stand_in.put_in()
        self._in_place.append(stand_in)
