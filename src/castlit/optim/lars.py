"""LARS: SGD for large batches, whose step is a fixed fraction of each layer's weight norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from castlit.utils.validation import InputError, require_number


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg, arXiv 1708.03888), as SimCLR and BYOL use it.

    For a weight w with gradient g, in each step::

        u = g + weight_decay · w
        u = u · trust_coefficient · ‖w‖ / ‖u‖     (unchanged where either norm is zero)
        v = momentum · v + u
        w = w - lr · v

    Biases and the parameters of norms, which have one dimension, get SGD's plain step: no ‖w‖ / ‖u‖ and no decay.

    As in BYOL's code and torch's SGD, ``lr`` is outside of v; in the paper and in SimCLR's code it is inside. The two
    are the same for a constant rate.

    The implementation is multi-tensor and reads no value back: on a GPU, no step waits for the device.

    Args:
        params: Parameters, or groups of them, as for any torch optimiser.
        lr: Learning rate, > 0. SimCLR uses 0.3 · batch / 256, BYOL 0.2 · batch / 256.
        momentum: In [0, 1).
        weight_decay: ≥ 0. SimCLR uses 1e-6, BYOL 1.5e-6.
        trust_coefficient: η > 0.
        exclude_norm_and_bias_from_decay: False decays parameters of one dimension, too. Their step is plain in either
            case.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        exclude_norm_and_bias_from_decay: bool = True,
    ) -> None:
        require_number("lr", lr, above=0)
        require_number("weight_decay", weight_decay, low=0)
        require_number("trust_coefficient", trust_coefficient, above=0)
        if require_number("momentum", momentum, low=0) >= 1:
            raise InputError(f"momentum must be below 1, got {momentum!r}")
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "exclude_norm_and_bias_from_decay": exclude_norm_and_bias_from_decay,
        }
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Take a step; return the closure's result, which is called with gradients enabled."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            adapted = [parameter for parameter in trained if parameter.dim() > 1]
            plain = [parameter for parameter in trained if parameter.dim() <= 1]
            if adapted:
                updates = _adapt(adapted, _decayed(adapted, group["weight_decay"]), group["trust_coefficient"])
                self._move(adapted, updates, group)
            if plain:
                decay = 0.0 if group["exclude_norm_and_bias_from_decay"] else group["weight_decay"]
                self._move(plain, _decayed(plain, decay), group)
        return loss

    def _move(self, weights: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        if group["momentum"] > 0:
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(weights, updates, alpha=-group["lr"])


def _decayed(weights: list[Tensor], decay: float) -> list[Tensor]:
    """Gradients with the decay added, not in place."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return list(torch._foreach_add(gradients, weights, alpha=decay)) if decay > 0 else gradients


def _adapt(weights: list[Tensor], updates: list[Tensor], trust_coefficient: float) -> list[Tensor]:
    """Scale each update to the norm of its weight times the trust coefficient."""
    of_weights, of_updates = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(updates))
    ratios = trust_coefficient * of_weights / of_updates
    # A weight of zero would stay zero, and an update of zero has no direction.
    ratios = torch.where((of_weights > 0) & (of_updates > 0), ratios, torch.ones_like(ratios))
    return list(torch._foreach_mul(updates, list(ratios.unbind())))
