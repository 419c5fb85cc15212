"""The metrics of a training step, over all ranks."""

import torch
from torch import Tensor

from castlit.attention import has_object, pointing_hits
from castlit.utils.distributed import mean_over_ranks
from castlit.utils.dtype import at_least_float32


def step_metrics(losses: dict[str, Tensor], cam: Tensor | None = None, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Average a step's losses and its pointing game over the ranks, in one all-reduce and without a host sync.

    Args:
        losses: Scalars of this rank.
        cam: CAMs (N, h, w) of this rank's images.
        mask: Their masks (N, 1, H, W).

    Returns:
        Scalars without graph: the losses, and with CAMs also ``pointing``, the fraction of the images with an object
        whose CAM peaks on it, and ``empty_masks``, the fraction of images without one.
    """
    values = [at_least_float32(loss.detach()) for loss in losses.values()]
    if cam is not None and mask is not None:
        with_object = has_object(mask)
        hits = pointing_hits(cam, mask) & with_object
        values += [flags.to(values[0].dtype).mean() for flags in (hits, with_object)]
    means = mean_over_ranks(torch.stack(values)).unbind()
    metrics = dict(zip(losses, means, strict=False))
    if len(means) > len(losses):
        hit_rate, object_rate = means[len(losses) :]
        metrics["pointing"] = hit_rate / object_rate.clamp(min=torch.finfo(hit_rate.dtype).tiny)
        metrics["empty_masks"] = 1.0 - object_rate
    return metrics
