"""Batch norm that normalises by the batch and does not update its running statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untracked_batchnorm(network: nn.Module) -> Iterator[None]:
    """Within the context, batch norm in training mode does not update its running statistics.

    Masked keys are mostly constant images: they would pull the running statistics of the key encoder away from those of
    real images. Batch norm in evaluation mode is not changed.
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


def fresh_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms that have not tracked a batch yet, as in an untrained network or a new head."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    return [part for part in norms if part.num_batches_tracked is not None and part.num_batches_tracked.item() == 0]


def lacks_statistics(network: nn.Module) -> bool:
    """Whether some batch norm has not tracked a batch yet."""
    return bool(fresh_norms(network))


@contextmanager
def batch_statistics(network: nn.Module, count: int, norms: Sequence[_BatchNorm] | None = None) -> Iterator[None]:
    """Within the context, batch norm normalises by the batch without tracking it, also in evaluation mode.

    Two cases need it. An untrained network has only its initial running statistics, with which signals shrink layer by
    layer. And masked images differ from the images of the running statistics: with these, a trained network's
    embeddings of them, and so the CAM, are off.

    Args:
        network: The network to set.
        count: Number of images in the batch. With one image, ``BatchNorm1d`` layers, which need two vectors, do not
            change.
        norms: Those of the network's batch norms to set, such as :func:`fresh_norms`; None: all.
    """
    if norms is None:
        norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    modes = [(part, part.training) for part in norms if count > 1 or not _over_vectors(part)]
    for part, _ in modes:
        part.train()
    try:
        with untracked_batchnorm(network):
            yield
    finally:
        for part, training in modes:
            part.train(training)


def _over_vectors(norm: _BatchNorm) -> bool:
    """Whether it is a ``BatchNorm1d``, or takes the place of one."""
    replaced: tuple[nn.Module, ...] = getattr(norm, "_replaced", ())
    return any(isinstance(part, nn.BatchNorm1d) for part in (norm, *replaced))
