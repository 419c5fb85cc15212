"""Ask a network what it gives for an image, without a trace."""

import torch
from torch import nn

from castlit.utils.validation import InputError

SIZES = (64, 224, 256, 384, 299, 512)
"""Sides of the square images that are tried, one after the other: not every network takes every size."""


def dry_run(network: nn.Module, sizes: tuple[int, ...] = SIZES, graph: bool = False) -> object:
    """Run a network once on a blank image, in evaluation mode; modes and statistics are as before afterwards.

    Args:
        network: Takes images (N, 3, H, W).
        sizes: Sides of the images to try; the first that the network takes counts.
        graph: Record how the output depends on the parameters.

    Returns:
        What the network gives for an image (1, 3, size, size).

    Raises:
        InputError: It takes none of them.
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
        # One by one: parts that their owner keeps frozen stay so.
        for part in training:
            part.training = True
    raise InputError(f"the backbone cannot take a (1, 3, {sizes[0]}, {sizes[0]}) image: {reasons[0]}")
