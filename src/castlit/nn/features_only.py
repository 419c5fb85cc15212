"""Classifiers that are not a plain chain of their parts, run up to their features."""

import torch
from torch import Tensor, nn

from castlit.nn.output_shape import blank_image_output
from castlit.nn.tokens import ChannelsFirst, TokensToGrid
from castlit.utils.validation import InputError

MAP = "feature_map"
"""Name of the part that reshapes features to a feature map."""


class FeaturesOnly:
    """Replaces a classifier's ``forward`` and stops at its features; names in the state dict stay.

    Args:
        network: Has timm's ``forward_features``; other classifiers need a subclass.
        name: The user's name for it, for messages.
        size: Height and width of its native images.
    """

    def __init__(self, network: nn.Module, name: str, size: tuple[int, int]) -> None:
        self.network, self.name, self.size = network, name, size

    def features(self, images: Tensor) -> Tensor:
        """Compute the features of images (N, 3, H, W), in the network's own shape."""
        features: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        return features

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to a feature map (N, C, h, w).

        Raises:
            InputError: The network does not accept images of this size.
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
    """Let a network end at its features, as a feature map, and remove the parts that only the classifier uses.

    Args:
        forward: The network's new ``forward``.
        prefix: If its features are tokens: the number of tokens before the patches'.
        channels_last: If its features are a map: whether it is (N, h, w, C).

    Raises:
        InputError: The features are neither a map nor one token for each patch.
    """
    network, name = forward.network, forward.name
    network.forward = forward
    features = blank_image_output(network, sizes=(64, forward.size[0]), graph=True)
    if not isinstance(features, Tensor) or features.dim() not in (3, 4):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"{name} gives {shape}, not one feature map or one token for each patch: take another model")
    _remove_all_but(_used_parameters(features), network)
    if features.dim() == 3:
        if features.shape[1] <= prefix:
            raise InputError(f"{name} gives no features of image regions, only of whole images: take another model")
        network.add_module(MAP, TokensToGrid(prefix))
    elif channels_last:
        network.add_module(MAP, ChannelsFirst())
    return network


def _used_parameters(output: Tensor) -> set[int]:
    """The parameters that an output depends on (their ``id``), read from its autograd graph."""
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


def _remove_all_but(used: set[int], network: nn.Module) -> None:
    """Remove the parts whose parameters no feature depends on: DDP raises for parameters without a gradient."""
    for name, part in list(network.named_children()):
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        if trained and not any(id(parameter) in used for parameter in trained):
            setattr(network, name, nn.Identity())
        else:
            _remove_all_but(used, part)
    for parameter in network.parameters(recurse=False):
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in used)
