"""Find a network's output shape by running it on a blank image."""

import torch
from torch import nn

from castlit.utils.validation import InputError

SIZES = (64, 224, 256, 384, 299, 512)
"""Sides of the square images to try, in this order: not every network accepts every size."""


def blank_image_output(network: nn.Module, sizes: tuple[int, ...] = SIZES, graph: bool = False) -> object:
    """Run a network once on a blank image, in evaluation mode; its modes and statistics do not change.

    Args:
        network: Takes images (N, 3, H, W).
        sizes: Sides of the images to try, until the network accepts one.
        graph: Record the autograd graph.

    Returns:
        The network's output for an image (1, 3, size, size).

    Raises:
        InputError: The network accepts none of the sizes.
    """
    training = [part for part in network.modules() if part.training]
    parameter = next(network.parameters(), torch.zeros(1))
    network.eval()
    reasons: list[str] = []
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            for size in sizes:
                try:
                    return network(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
                except (RuntimeError, AssertionError, ValueError) as error:
                    reasons.append((str(error) or type(error).__name__).splitlines()[0])
    finally:
        # Not network.train(): parts that were in evaluation mode stay so.
        for part in training:
            part.training = True
    raise InputError(f"the backbone cannot take a (1, 3, {sizes[0]}, {sizes[0]}) image: {reasons[0]}")
