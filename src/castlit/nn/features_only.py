"""Classifiers that are no chain of their parts, run up to their features."""

import torch
from torch import Tensor, nn

from castlit.nn.output_shape import dry_run
from castlit.nn.tokens import ChannelsFirst, TokensToGrid
from castlit.utils.validation import InputError

MAP = "feature_map"
"""Name of the part that makes a feature map of features that are none by themselves."""


class FeaturesOnly:
    """Stands in for a classifier's ``forward`` and stops at its features; names in the state dict stay.

    Args:
        network: Offers timm's ``forward_features``; other classifiers take a subclass.
        name: What the user calls it.
        size: Height and width of the images that it was made for.
    """

    def __init__(self, network: nn.Module, name: str, size: tuple[int, int]) -> None:
        self.network, self.name, self.size = network, name, size

    def features(self, images: Tensor) -> Tensor:
        """Compute the features of images (N, 3, H, W), in whatever shape the network has them."""
        features: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        return features

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to a feature map (N, C, h, w).

        Raises:
            InputError: The network takes no images of this size.
        """
        height, width = images.shape[-2:]
        try:
            features = self.features(images)
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or (height, width) == self.size:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(
                f"{self.name} does not take images of {height} x {width} px ({reason}): its own size is "
                f"{self.size[0]} x {self.size[1]}, data.size={self.size[0]}"
            ) from error
        to_map = getattr(self.network, MAP, None)
        feature_map: Tensor = features if to_map is None else to_map(features, height, width)
        return feature_map


def end_at_features(forward: FeaturesOnly, prefix: int, channels_last: bool | None = None) -> nn.Module:
    """Let a classifier end at its features, as a feature map, and leave off what only the classifier needs.

    Args:
        forward: The classifier's new ``forward``.
        prefix: Where its features are tokens: how many stand before the patches'.
        channels_last: Where its features are a map: whether it is (N, h, w, C).

    Raises:
        InputError: The features are neither a map nor one token for each patch.
    """
    network, name = forward.network, forward.name
    network.forward = forward
    features = dry_run(network, sizes=(64, forward.size[0]), graph=True)
    if not isinstance(features, Tensor) or features.dim() not in (3, 4):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"{name} gives {shape}, not one feature map or one token for each patch: take another model")
    _leave_off_all_but(_reached(features), network)
    if features.dim() == 3:
        if features.shape[1] <= prefix:
            raise InputError(f"{name} gives no features of places, but of whole images only: take another model")
        network.add_module(MAP, TokensToGrid(prefix))
    elif channels_last:
        network.add_module(MAP, ChannelsFirst())
    return network


def _reached(output: Tensor) -> set[int]:
    """The parameters that an output depends on (their ``id``), by its graph; nothing is differentiated."""
    found, seen, waiting = set(), set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _leave_off_all_but(used: set[int], network: nn.Module) -> None:
    """Take out the parts whose parameters no feature depends on: they would never be trained, and DDP would object."""
    for name, part in list(network.named_children()):
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        if trained and not any(id(parameter) in used for parameter in trained):
            setattr(network, name, nn.Identity())
        else:
            _leave_off_all_but(used, part)
    for parameter in network.parameters(recurse=False):
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in used)
