"""Another way to run a part of a network, put in place and taken out again; names in the state dict stay."""

from typing import Any

from torch import Tensor, nn


class StandIn:
    """Stands in for a module's ``forward``; hooks on the module run as ever, before and behind it.

    Args:
        module: A part of a network.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.plain = module.forward
        self._had_its_own = "forward" in vars(module)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
        """Run the module."""
        output: Tensor = self.plain(*inputs, **named)
        return output

    def put_in(self) -> None:
        """From now on, the module runs this way."""
        self.module.forward = self

    def take_out(self) -> None:
        """From now on, the module runs as it did before; the last one that was put in comes out first."""
        if self._had_its_own:
            self.module.forward = self.plain
        else:
            del self.module.forward


def blocks_before(network: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """Return the blocks whose work is done when a layer's output is there, the layer's own among them.

    A block is what chains of parts (``nn.Sequential``, ``nn.ModuleList``) are made of, where it has parts itself: a
    residual block, say; a stage that holds such a chain is none itself. What holds the layer inside is none, and
    neither is what lies behind. Parts count as run in the order in which they were registered.

    Args:
        network: Holds the layer somewhere, or is the layer.
        layer: A part of the network.
    """
    found: list[nn.Module] = []

    def walk(part: nn.Module) -> bool:
        """Collect the part's blocks; whether the layer lies within it."""
        if part is not layer and any(inner is layer for inner in part.modules()):
            return any(walk(child) for child in part.children())  # up to the layer, and no further
        if _is_chain(part) or any(_is_chain_of_blocks(child) for child in part.children()):
            for child in part.children():
                walk(child)
        elif _has_parts(part):
            found.append(part)
        return part is layer

    walk(network)
    return found


def _has_parts(part: nn.Module) -> bool:
    return next(part.children(), None) is not None


def _is_chain(part: nn.Module) -> bool:
    return isinstance(part, (nn.Sequential, nn.ModuleList)) and any(_has_parts(child) for child in part.children())


def _is_chain_of_blocks(part: nn.Module) -> bool:
    """Whether its members are more than layers with their norm, of which a block itself is often made."""
    return _is_chain(part) and any(_has_parts(inner) for child in part.children() for inner in child.children())
