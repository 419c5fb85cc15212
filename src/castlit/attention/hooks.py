"""Read a layer's output while a network runs, without changing the network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from castlit.utils.dtype import at_least_float32, autocasts
from castlit.utils.validation import InputError, did_you_mean


class Activations(list[Tensor]):
    """The outputs (N, C, h, w) of a tapped layer, one for each forward pass, in order of the passes."""

    @property
    def first(self) -> Tensor:
        """The output of the first forward pass: the query's, by the convention of :mod:`castlit.methods`.

        Raises:
            InputError: The layer has not run.
        """
        if not self:
            raise InputError("the tapped layer has not run: call the network inside the `with tap(...)` block")
        return self[0]


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """Return a layer of the network by its name.

    Args:
        network: Any module.
        layer: A name from ``network.named_modules()``; the prefix ``backbone.`` is optional.

    Raises:
        InputError: There is no such layer; the message gives the nearest name. Or a part of the network is compiled.
    """
    require_eager(network)
    return find_part(network, layer)


def require_eager(network: nn.Module) -> None:
    """Check that no part of a network is compiled.

    Raises:
        InputError: One is.
    """
    compiled = next((name for name, part in network.named_modules() if _is_compiled(part)), None)
    if compiled is not None:
        raise InputError(
            f"{compiled or 'the network'} is compiled by torch.compile, which neither runs hooks on its layers nor "
            "differentiates twice: give it as it is; castlit compiles what it can where CASTModule has compile=True"
        )


def find_part(network: nn.Module, layer: str) -> nn.Module:
    """Return a layer of a network that may have compiled parts elsewhere; otherwise as :func:`find_layer`."""
    layers = dict(network.named_modules())
    for name in (layer, f"backbone.{layer}"):
        if layer and name in layers:
            found: nn.Module = layers[name]
            return found
    names = [name for name in layers if name]
    shallow = [name for name in names if name.removeprefix("backbone.").count(".") == 0]
    raise InputError(
        f"the network has no layer {layer!r}{did_you_mean(layer, [*names, *_short(names)])}; "
        f"its outer layers are {', '.join(_short(shallow))}"
    )


@contextmanager
def tap(network: nn.Module, layer: str, leaf: bool = False) -> Iterator[Activations]:
    """Record a layer's outputs, with their graph, while the context is open.

    A half-precision output is recorded in float32. Under autocast the following layers also get it in float32, so that
    gradients with respect to it are float32, too.

    Args:
        network: The network that contains the layer.
        layer: The layer's name, see :func:`find_layer`.
        leaf: Let the graph begin at this layer. Open the tap under ``torch.no_grad()``: layers before it then store
            nothing, and the output of those after it can be differentiated with respect to the activations.

    Yields:
        A list to which each forward pass appends one output. The hook is removed when the context closes, also after an
        error.

    Raises:
        InputError: There is no such layer, or its output is not a feature map (N, C, h, w).

    Example:
        >>> with tap(encoder, "layer4") as activations:
        ...     embedding = encoder(images)
        >>> activations.first.shape
        torch.Size([8, 512, 7, 7])
    """
    activations = Activations()

    def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.dim() != 4:
            kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"layer {layer!r} gives {kind}, not a feature map (N, C, h, w): tap another layer")
        # Without autocast, a half-precision network has half-precision weights and needs such inputs.
        dtype = None if autocasts(output.device) else output.dtype
        output = at_least_float32(output)
        if leaf:
            output = output.detach().requires_grad_()
            torch.set_grad_enabled(True)  # Until the caller's no_grad() ends.
        activations.append(output)
        # The next layer gets a copy: an in-place ReLU or `+=` would overwrite the record.
        return output.clone() if dtype is None else output.clone().to(dtype)

    handle = find_layer(network, layer).register_forward_hook(record)
    try:
        yield activations
    finally:
        handle.remove()


def _is_compiled(part: nn.Module) -> bool:
    """Whether this is ``torch.compile(module)``, or a module after ``module.compile()``."""
    return hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None


def _short(names: list[str]) -> list[str]:
    return [name.removeprefix("backbone.") for name in names if name != "backbone"]
