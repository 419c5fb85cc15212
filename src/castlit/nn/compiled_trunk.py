"""torch.compile for the part of a network before a layer; hooks on the layer still run."""

import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from castlit.nn.forward_patch import ForwardPatch, has_parts
from castlit.utils.validation import InputError


class CompiledPart(ForwardPatch):
    """A part of a network that runs compiled in training mode.

    Only ``forward`` is compiled: hooks on the part itself, such as a tap, still run; hooks on parts inside it may not.
    Evaluation mode runs uncompiled, as it would need a compilation of its own.

    Its output can be differentiated once: torch.compile has no second derivative.

    Args:
        module: A part of a network.
        first: Of an ``nn.Sequential``, compile this many of the first parts together and run the others uncompiled.
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
            InputError: torch.compile does not work on this machine.
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
        """Leave out the compiled program, which can be neither copied nor pickled; a copy compiles again."""
        return {**vars(self), "_compiled": None}

    def _program(self) -> Callable[..., Tensor]:
        original, first = self.original, self._first

        def run(*inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401
            if first is None:
                output: Tensor = original(*inputs, **named)
                return output
            x: Tensor = inputs[0]
            for part in first:
                x = part(x)
            return x

        # Torch counts compiled variants (with and without gradient, with and without tracked statistics) per code
        # object and gives up beyond a few, so each part gets a code object of its own.
        return FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)


def parts_before(network: nn.Module, layer: nn.Module) -> list[CompiledPart]:
    """Return the largest pieces of a network that can be compiled up to a layer's output; none is applied yet.

    They cover the layer and everything before it, except for a block that contains the layer. Parts are taken to run in
    the order of their registration.

    Args:
        network: Contains the layer, or is the layer.
        layer: A part of the network.
    """
    found: list[CompiledPart] = []
    part = network
    while part is not layer:
        parts = list(part.children())
        inside = (number for number, child in enumerate(parts) if any(inner is layer for inner in child.modules()))
        position = next(inside, None)
        if position is None:
            break  # The layer is not in this network, but behind it.
        if isinstance(part, nn.Sequential) and position > 0:
            found.append(CompiledPart(part, position))
        elif not isinstance(part, nn.Sequential):
            # One by one. Compiling a single layer, such as a convolution, gains nothing.
            found += [CompiledPart(child) for child in parts[:position] if has_parts(child)]
        part = parts[position]
    return [*found, CompiledPart(part)] if has_parts(part) else found


def _first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return textwrap.shorten(line, 200, placeholder=" …")
