"""The colour augmentation of ``ColourView`` for batches, on any device.

The same draws give the same images as on the CPU, except that there is no 8-bit rounding here. The host never waits for
the device: all images take the same path; an operation that an image does not need gets an identity factor or kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from castlit.data.transforms.colour_ops import BLUR_PASSES, CONTRAST, HUE, LUMA, SATURATION, box_radius
from castlit.data.transforms.photometric import DRAWS, FACTORS, GREY, ORDER, SIGMA, ColourView
from castlit.utils.validation import InputError


@torch.no_grad()
def apply_draws(images: Tensor, draws: Tensor, view: ColourView) -> Tensor:
    """Apply drawn colour augmentation to a batch.

    Args:
        images: (N, 3, H, W) RGB, uint8 or floating, in [0, 255]; not modified.
        draws: (N, DRAWS) from :meth:`ColourView.draw`, on the images' device.
        view: The view that made the draws. Only ``grey_first`` and its limits are used, to skip unused operations.

    Returns:
        New float32 images in [0, 255] (up to float32 rounding), in the memory format of ``images``.

    Raises:
        InputError: The shapes are wrong.
    """
    if images.ndim != 4 or images.shape[1] != 3 or draws.shape != (len(images), DRAWS):
        raise InputError(
            f"expected images (N, 3, H, W) and draws (N, {DRAWS}), got {tuple(images.shape)} and {tuple(draws.shape)}"
        )
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    # Contiguous planes, as many operations work on single channels. A copy, as it is modified in place.
    x = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    grey = _per_image(draws[:, GREY]) > 0
    if view.grey_p and view.grey_first:
        x = torch.where(grey, _luma(x), x)
    if view.jitter_p:
        x = _jitter(x, draws[:, FACTORS].float(), draws[:, ORDER].long())
    if view.grey_p and not view.grey_first:
        x = torch.where(grey, _luma(x), x)
    if view.blur_p:
        x = _blur(x, _kernels(draws[:, SIGMA].float(), view.blur_sigma[1]))
    return x.contiguous(memory_format=torch.channels_last) if last else x


def _jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in each image's own order.

    The hue shift is the most expensive operation, and runs once for all images: between three slots for operations
    before it, and three for those after it. Each image uses three of the six slots; the others have the factor 1.

    Args:
        x: (N, 3, H, W), modified in place.
        factors: (N, 4).
        order: (N, 4) int64.
    """
    # Computed on the device: copying a list from the host would make it wait.
    places = torch.arange(6, device=x.device)
    early = places < 3
    steps = torch.where(early, places, places - 2)  # 0 1 2, 1 2 3
    hue_step = (order == HUE).int().argmax(1, keepdim=True)
    used = torch.where(early, steps < hue_step, steps > hue_step)
    operations = order[:, steps]
    used_factors = torch.where(used, factors.gather(1, operations), 1.0)
    for place in range(6):
        if place == 3:
            x = _shift_hue(x, factors[:, HUE])
        x = _blend(x, used_factors[:, place], operations[:, place])
    return x


def _blend(x: Tensor, factor: Tensor, operation: Tensor) -> Tensor:
    """Scale values, in place, relative to black, the image's mean grey level, or the pixel's own grey level."""
    luma = _luma(x)
    pull = 1 - factor
    mean = _per_image(pull * (operation == CONTRAST) * luma.mean((1, 2, 3)))
    grey = torch.addcmul(mean, luma, _per_image(pull * (operation == SATURATION)))
    return torch.addcmul(grey, x, _per_image(factor), out=x).clamp_(0, 255)


def _shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Shift each image's hue by its ``shift``, a fraction of a full turn, in place.

    In HSV, a channel is a periodic function of the hue: it rises within a sixth of a turn, is at its maximum for two
    sixths, falls within another, and is at its minimum for two. The three channels are a third of a turn apart.
    """
    red, green, blue = _channels(x)
    top, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = top - low
    # hue in sixths of a turn, times the chroma
    hue = torch.where(green == top, 2 * chroma + blue - red, 4 * chroma + red - green)
    hue = torch.where(red == top, green - blue, hue)
    hue = hue.div_(chroma.clamp(min=1e-6)).add_(_per_image(6 * shift))
    # Distance, in sixths of a turn from 0 to 3, to the middle of each channel's maximum: hues 0, 2 and 4.
    middles = 2 * torch.arange(3, device=x.device).view(1, 3, 1, 1)
    away = torch.add(hue, 3 - middles, out=x).remainder_(6).sub_(3).abs_()
    return torch.addcmul(top + chroma, away.clamp_(1, 2), chroma, value=-1, out=x)


def _kernels(sigmas: Tensor, largest: float) -> Tensor:
    """The blur kernels (N, K), K odd, of standard deviations (N,) of at most ``largest`` pixels; 0 does not blur.

    Source: see :func:`castlit.data.transforms.colour_ops.box_radius`.
    """
    radius = box_radius(sigmas)[:, None]
    reach = int(box_radius(largest)) + 1
    offsets = torch.arange(-reach, reach + 1, device=sigmas.device).abs()
    box = (radius + 1 - offsets).clamp(0, 1) / (2 * radius + 1)
    kernel = box
    for _ in range(BLUR_PASSES - 1):
        windows = F.pad(kernel, (2 * reach, 2 * reach)).unfold(1, 2 * reach + 1, 1)
        kernel = (windows * box[:, None]).sum(2)
    return kernel


def _blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image's rows and columns with its kernel; edge pixels repeat beyond the edges."""
    n, _, height, width = x.shape
    reach = kernels.shape[1] // 2
    # Treat all planes of all images as channels of one image: a depthwise convolution has one kernel for each.
    each = kernels[:, None].expand(n, 3, -1).reshape(3 * n, 1, -1)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)[None]
    x = F.conv2d(x, each[:, :, None, :], groups=3 * n)
    x = F.conv2d(x, each[:, :, :, None], groups=3 * n)
    return x.view(n, 3, height, width)


def _luma(x: Tensor) -> Tensor:
    red, green, blue = _channels(x)
    return torch.add(red * LUMA[0], green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _channels(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue, (N, 1, H, W) each."""
    return x[:, :1], x[:, 1:2], x[:, 2:]


def _per_image(values: Tensor) -> Tensor:
    """Reshape one value per image, (N,), to broadcast with (N, C, H, W)."""
    return values.view(-1, 1, 1, 1)
