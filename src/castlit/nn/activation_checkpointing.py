"""Activation checkpointing: less memory, more time (Chen et al., arXiv 1604.06174)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from castlit.nn.forward_patch import ForwardPatch


class CheckpointedBlock(ForwardPatch):
    """A block that keeps only its inputs and recomputes its activations in the backward pass.

    Losses and gradients are the same, for about a third more computation. The recomputation repeats random draws and
    autocast, and batch norm counts every image once.

    Its output can be differentiated once: do not checkpoint what a CAM differentiates twice.
    """

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:  # noqa: ANN401 - whatever the module takes
        """Run the module, and again in the backward pass."""
        if not torch.is_grad_enabled():
            return super().__call__(*inputs, **named)
        output: Tensor = checkpoint(self.original, *inputs, use_reentrant=False, context_fn=self._contexts, **named)
        return output

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), discarded_statistics(self.module)


@contextmanager
def discarded_statistics(network: nn.Module) -> Iterator[None]:
    """Within the context, batch norm updates copies of its running statistics, which are discarded.

    Unlike under :func:`castlit.nn.untracked_batchnorm`, the same tensors are saved for the backward pass as when the
    statistics are tracked, as the recomputation must.
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
