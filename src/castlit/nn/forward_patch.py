"""Replace the ``forward`` of a part of a network for a while; names in the state dict stay."""

from typing import Any

from torch import Tensor, nn


class ForwardPatch:
    """Replaces a module's ``forward``; hooks on the module still run before and after it.

    Args:
        module: A part of a network.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.original = module.forward
        self._on_instance = "forward" in vars(module)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
        """Run the module."""
        output: Tensor = self.original(*inputs, **named)
        return output

    def apply(self) -> None:
        """Replace the module's ``forward``."""
        self.module.forward = self

    def remove(self) -> None:
        """Restore the original ``forward``; of several patches on a module, remove the last one first."""
        if self._on_instance:
            self.module.forward = self.original
        else:
            del self.module.forward


def blocks_before(network: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """Return the blocks that have run when a layer's output is computed, including the layer's own.

    A block is a member of a chain (``nn.Sequential``, ``nn.ModuleList``) that itself has children, such as a residual
    block. A stage that contains such a chain is no block, nor is a module that contains the layer or comes after it.
    Parts are taken to run in the order of their registration.

    Args:
        network: Contains the layer, or is the layer.
        layer: A part of the network.
    """
    found: list[nn.Module] = []

    def walk(part: nn.Module) -> bool:
        """Collect the part's blocks; return whether the layer lies within it."""
        if part is not layer and any(inner is layer for inner in part.modules()):
            return any(walk(child) for child in part.children())  # stops at the layer
        if _is_chain(part) or any(_is_chain_of_blocks(child) for child in part.children()):
            for child in part.children():
                walk(child)
        elif has_parts(part):
            found.append(part)
        return part is layer

    walk(network)
    return found


def has_parts(part: nn.Module) -> bool:
    """Whether a module has submodules."""
    return next(part.children(), None) is not None


def _is_chain(part: nn.Module) -> bool:
    return isinstance(part, (nn.Sequential, nn.ModuleList)) and any(has_parts(child) for child in part.children())


def _is_chain_of_blocks(part: nn.Module) -> bool:
    """Whether it is a chain of more than layers with their norm, of which a block itself is often made."""
    return _is_chain(part) and any(has_parts(inner) for child in part.children() for inner in child.children())
