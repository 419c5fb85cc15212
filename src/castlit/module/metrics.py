"""The figures of a training step, over all ranks."""

import torch
from torch import Tensor

from castlit.attention import has_object, pointing_hits
from castlit.utils.distributed import mean_over_ranks
from castlit.utils.dtype import at_least_float32


def step_figures(losses: dict[str, Tensor], cam: Tensor | None = None, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Average a step's losses over the ranks, and see where its CAMs point; in one exchange, and with no host sync.

    Args:
        losses: Scalars; of this rank.
        cam: CAMs (N, h, w) of this rank's images.
        mask: Their masks (N, 1, H, W).

    Returns:
        Scalars without graph: the losses, and with CAMs also ``pointing``, the share of the images with an object
        whose CAM peaks on it, and ``empty_masks``, the share of images without one.
    """
    figures = [at_least_float32(loss.detach()) for loss in losses.values()]
    if cam is not None and mask is not None:
        seen = has_object(mask)
        figures += [share.to(figures[0].dtype).mean() for share in (pointing_hits(cam, mask) & seen, seen)]
    means = mean_over_ranks(torch.stack(figures)).unbind()
    found = dict(zip(losses, means, strict=False))
    if len(means) > len(losses):
        hits, seen_share = means[len(losses) :]
        found["pointing"] = hits / seen_share.clamp(min=torch.finfo(hits.dtype).tiny)
        found["empty_masks"] = 1.0 - seen_share
    return found
