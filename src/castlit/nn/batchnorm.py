"""Batch norm in training mode that leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untracked_batchnorm(network: nn.Module) -> Iterator[None]:
    """Within the context, batch norm normalises by the batch but keeps nothing of it.

    Masked keys are mostly flat images: were they counted, the running statistics of the key encoder would drift
    away from those of real images. In evaluation mode nothing changes.
    """
    tracked = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    training = [part for part in tracked if part.training]
    for part in training:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in training:
            part.track_running_stats = True


def lacks_statistics(network: nn.Module) -> bool:
    """Whether some batch norm has not seen a batch yet, as in a network that has not trained."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    return any(part.num_batches_tracked is not None and part.num_batches_tracked.item() == 0 for part in norms)


@contextmanager
def batch_statistics(network: nn.Module, count: int) -> Iterator[None]:
    """Within the context, batch norm normalises by the batch and keeps nothing of it, also in evaluation mode.

    Two kinds of input need it. A network that has not trained yet has no statistics to evaluate with: by its initial
    ones, signals shrink layer by layer. And masked images are not what the running statistics know: a trained network
    that reads them so places its embeddings off, and the CAM with them.

    Args:
        network: The network to set.
        count: Number of images that follow. One alone has no statistics over vectors; such layers then stay as they
            are.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    modes = [(part, part.training) for part in norms if count > 1 or not isinstance(part, nn.BatchNorm1d)]
    for part, _ in modes:
        part.train()
    try:
        with untracked_batchnorm(network):
            yield
    finally:
        for part, training in modes:
            part.train(training)
