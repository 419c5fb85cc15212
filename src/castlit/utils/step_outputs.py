"""What a training step returned, as callbacks see it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from castlit.utils.lightning import pl


def step_outputs(outputs: Any, trainer: pl.Trainer) -> dict[str, Tensor]:  # noqa: ANN401
    """Return a training step's scalars by name, without graph and on their device; empty if it returned none.

    Args:
        outputs: As Lightning hands it to ``on_train_batch_end``: a mapping, the loss alone, or None. Its loss is
            divided by the accumulated batches; the returned one is not.
        trainer: In a fit.
    """
    named = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
    scalars = {name: x for name, x in named.items() if isinstance(x, Tensor) and x.numel() == 1}
    tensors = {name: x.detach().reshape(()) for name, x in scalars.items()}
    if "loss" in tensors:
        tensors["loss"] = tensors["loss"] * trainer.accumulate_grad_batches
    return tensors
