"""Activation checkpointing: memory for time (Chen et al., arXiv 1604.06174)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from castlit.nn.forward_patch import StandIn


class Recomputed(StandIn):
    """A block that keeps its inputs only, and computes what lies between again in the backward pass.

    Losses and gradients are the same; a third is added to the work. Random draws are repeated, autocast is as it was,
    and the statistics of batch norm count every image once.

    Its output may be differentiated once. What is differentiated twice, for a CAM, must not be recomputed.
    """

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
        """Run the module, and run it again when its gradient is asked for."""
        if not torch.is_grad_enabled():
            return super().__call__(*inputs, **named)
        output: Tensor = checkpoint(self.plain, *inputs, use_reentrant=False, context_fn=self._contexts, **named)
        return output

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_kept(self.module)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Within the context, batch norm tracks its statistics on copies, which are thrown away.

    Unlike :func:`castlit.nn.untracked_batchnorm`, everything is computed, and kept for the backward pass, as if the
    statistics were tracked: a recomputation has to save the very same tensors.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    kept = [(part, name, buffer) for part in norms for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)
