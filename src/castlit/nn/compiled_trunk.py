"""torch.compile for what lies before a layer, where the layer's hooks are still seen."""

import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from castlit.nn.forward_patch import StandIn
from castlit.utils.validation import InputError


class Compiled(StandIn):
    """A part of a network that runs compiled while it trains.

    Only ``forward`` is compiled: hooks on the part itself, a tap on its output among them, run as ever; hooks on parts
    inside it may not be seen. In evaluation mode nothing is compiled, for each mode would be compiled anew.

    Its output may be differentiated once: torch.compile has no second derivative.

    Args:
        module: A part of a network.
        first: Of an ``nn.Sequential``, compile so many of the first parts together, and run the others as ever.
    """

    def __init__(self, module: nn.Module, first: int | None = None) -> None:
        super().__init__(module)
        parts = list(module.children())
        self._first = None if first is None else parts[:first]
        self._others = [] if first is None else parts[first:]
        self._compiled: Any = None

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
        """Run the module.

        Raises:
            InputError: Compilation does not work on this machine.
        """
        if not self.module.training:
            return super().__call__(*inputs, **named)
        try:
            if self._compiled is None:
                self._compiled = torch.compile(self._program())
            output: Tensor = self._compiled(*inputs, **named)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InputError(
                f"compile=true does not work on this machine ({_first_line(error)}): it takes a C++ compiler such as "
                "g++, and on a GPU Triton; install them, or set compile=false"
            ) from error
        for part in self._others:
            output = part(output)
        return output

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled program, which can be neither copied nor pickled; a copy compiles anew."""
        return {**vars(self), "_compiled": None}

    def _program(self) -> Callable[..., Tensor]:
        plain, first = self.plain, self._first

        def run(*inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401
            if first is None:
                whole: Tensor = plain(*inputs, **named)
                return whole
            x: Tensor = inputs[0]
            for part in first:
                x = part(x)
            return x

        # Torch counts compiled variants (with gradient and without, with statistics tracked and not) for each code
        # object, gives up beyond a handful, and two parts would share this one.
        return FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)


def parts_before(network: nn.Module, layer: nn.Module) -> list[Compiled]:
    """Return the largest pieces of a network that can be compiled up to a layer's output; none is put in yet.

    They hold all that lies before the layer, and the layer itself, but for what runs in a block around it. Parts count
    as run in the order in which they were registered.

    Args:
        network: Holds the layer somewhere, or is the layer.
        layer: A part of the network.
    """
    found: list[Compiled] = []
    part = network
    while part is not layer:
        parts = list(part.children())
        inside = (number for number, child in enumerate(parts) if any(inner is layer for inner in child.modules()))
        position = next(inside, None)
        if position is None:
            break  # The layer lies elsewhere, behind this network.
        if isinstance(part, nn.Sequential) and position > 0:
            found.append(Compiled(part, position))
        elif not isinstance(part, nn.Sequential):
            # One by one; what has no parts itself, a convolution alone, gains nothing.
            found += [Compiled(child) for child in parts[:position] if _has_parts(child)]
        part = parts[position]
    return [*found, Compiled(part)] if _has_parts(part) else found


def _has_parts(part: nn.Module) -> bool:
    return next(part.children(), None) is not None


def _first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return textwrap.shorten(line, 200, placeholder=" …")
