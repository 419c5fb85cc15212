"""ContraCAM: find objects without masks, as what distinguishes an image from the others (Mo et al., NeurIPS 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.attention import AttentionLoss, contrast, grad_cam, tap
from castlit.module.explain import DEFAULT_TEMPERATURE, embed
from castlit.utils.validation import require_int


def find_objects(method: nn.Module, attention: AttentionLoss, images: Tensor, iterations: int = 1) -> Tensor:
    """Compute ContraCAMs, see :meth:`castlit.CASTModule.find_objects`."""
    require_int("iterations", iterations, 1)
    encoder: nn.Module = method.encoder  # type: ignore[assignment]
    layer = attention.find_layers(encoder)[-1]
    temperature = float(getattr(method, "temperature", DEFAULT_TEMPERATURE))
    with torch.inference_mode(False):
        images = images.clone()  # a tensor made in inference mode cannot enter a graph
        with torch.no_grad():
            key: Tensor = method.target(images)  # type: ignore[operator]
        others, found, shown = [key], torch.zeros_like(images[:, 0]), images
        for iteration in range(iterations):
            if iteration:
                # Objects found so far are replaced by the mean colour, so the next CAM peaks elsewhere.
                shown = images * (1 - found[:, None])
                with torch.no_grad():
                    others.append(method.target(shown))  # type: ignore[operator]
            # The graph starts at the CAM's layer.
            with torch.no_grad(), tap(encoder, layer, leaf=True) as activations:
                z_q = embed(method, shown).embedding
            with torch.enable_grad():
                score = contrast(z_q, key, others, temperature)
                cam = grad_cam(score, activations, create_graph=False, positive_weights=True)
            found = torch.maximum(found, upscale(cam, images.shape[-2:]).to(found.dtype))
    return found


@torch.no_grad()
def upscale(cam: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Upsample CAMs (N, h, w) to (N, H, W) and min-max scale each to [0, 1]; a CAM of zeros stays 0."""
    large = F.interpolate(cam[:, None].detach(), tuple(size), mode="bilinear", align_corners=False)[:, 0]
    large = large - large.amin((1, 2), keepdim=True)
    top = large.amax((1, 2), keepdim=True)
    return large / torch.where(top > 0, top, torch.ones_like(top))
