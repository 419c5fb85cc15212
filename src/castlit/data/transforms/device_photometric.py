"""The colours of ``ColourView`` for whole batches, on whatever device they are on.

The same draws give the same images as on the CPU up to 8-bit rounding, of which there is none here. Nothing waits for
the device: every image takes the same path, and what it does not need has a factor or a kernel that changes nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from castlit.data.transforms.colour_ops import BLUR_PASSES, CONTRAST, HUE, LUMA, SATURATION, box_radius
from castlit.data.transforms.photometric import DRAWS, FACTORS, GREY, ORDER, SIGMA, ColourView
from castlit.utils.validation import InputError


@torch.no_grad()
def apply_draws(images: Tensor, draws: Tensor, view: ColourView) -> Tensor:
    """Alter images as drawn.

    Args:
        images: (N, 3, H, W) RGB, uint8 or floating, in [0, 255]; not written to.
        draws: (N, DRAWS) from :meth:`ColourView.draw`, on the images' device.
        view: What made the draws: only its ``grey_first`` and its limits are used, to leave out what never happens.

    Returns:
        New float32 images in [0, 255] (but for float32's own rounding), in the memory format of ``images``.

    Raises:
        InputError: The shapes are wrong.
    """
    if images.ndim != 4 or images.shape[1] != 3 or draws.shape != (len(images), DRAWS):
        raise InputError(
            f"expected images (N, 3, H, W) and draws (N, {DRAWS}), got {tuple(images.shape)} and {tuple(draws.shape)}"
        )
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    # Whole planes, as much of what follows works on one channel or another. A copy, as it is written over.
    x = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    grey = _spread(draws[:, GREY]) > 0
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

    The hue costs most and is done once for all: between three places for what comes before it, and three for what comes
    after it. Of those six an image uses three, and the others have the factor 1.

    Args:
        x: (N, 3, H, W), written over.
        factors: (N, 4).
        order: (N, 4) int64.
    """
    # Computed, as a list would be copied from the host, which waits for the device.
    places = torch.arange(6, device=x.device)
    early = places < 3
    steps = torch.where(early, places, places - 2)  # 0 1 2, 1 2 3
    turn = (order == HUE).int().argmax(1, keepdim=True)  # when it is the hue's turn
    used = torch.where(early, steps < turn, steps > turn)
    operations = order[:, steps]
    used_factors = torch.where(used, factors.gather(1, operations), 1.0)
    for place in range(6):
        if place == 3:
            x = _shift_hue(x, factors[:, HUE])
        x = _blend(x, used_factors[:, place], operations[:, place])
    return x


def _blend(x: Tensor, factor: Tensor, operation: Tensor) -> Tensor:
    """Move values away from black, the image's mean grey level, or each pixel's own, by ``factor``; in place."""
    luma = _luma(x)
    pull = 1 - factor
    mean = _spread(pull * (operation == CONTRAST) * luma.mean((1, 2, 3)))
    grey = torch.addcmul(mean, luma, _spread(pull * (operation == SATURATION)))
    return torch.addcmul(grey, x, _spread(factor), out=x).clamp_(0, 255)


def _shift_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn each image's hue by its ``shift`` of a full turn, in place.

    In HSV, channel values are a function of the hue that repeats: up within a sixth of a turn, at the top for two
    sixths, down within another, and at the bottom. It is the same for the three channels, a third of a turn apart.
    """
    red, green, blue = _channels(x)
    top, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = top - low
    # the hue in sixths of a turn, times the chroma
    hue = torch.where(green == top, 2 * chroma + blue - red, 4 * chroma + red - green)
    hue = torch.where(red == top, green - blue, hue)
    hue = hue.div_(chroma.clamp(min=1e-6)).add_(_spread(6 * shift))
    # Sixths of a turn, 0 to 3, from the middle of each channel's time at the top: hues 0, 2 and 4.
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
    # All planes of all images are the channels of one image: a depthwise convolution has a kernel for each.
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


def _spread(values: Tensor) -> Tensor:
    """One value for each image, (N,), to go with (N, C, H, W)."""
    return values.view(-1, 1, 1, 1)
