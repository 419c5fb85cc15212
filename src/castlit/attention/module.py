"""The attention loss with its settings: layer, weight, mode, key, target, subtract, cam."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from castlit.attention.cam import raw_cams
from castlit.attention.hooks import Activations, find_layer, tap
from castlit.attention.keys import KEYS
from castlit.attention.loss import attention_loss, has_object, reference_attention_loss
from castlit.attention.mean_key import CHOICES, RunningMean
from castlit.attention.targets import Embeddings, Target, evidence, scores, target_named, uses_negatives
from castlit.nn.attention_layer import default_layer
from castlit.utils.distributed import mean_over_ranks, world_size
from castlit.utils.dtype import at_least_float32
from castlit.utils.serializable import Described
from castlit.utils.validation import InputError, require_choice, require_number


class AttentionOutput(NamedTuple):
    """What :class:`AttentionLoss` returns."""

    loss: Tensor
    """Scalar, with graph."""
    cam: Tensor
    """(N, h, w) of the last of the layers, not negative, no graph."""


class AttentionLoss(Described, nn.Module):
    """CAST's Grad-CAM attention loss (CVPR 2021, section 3).

    Args:
        layer: Name of the encoder's layer whose activations give the CAM, or several: then the loss is the mean of
            theirs. None: the last layer of the encoder whose output is a feature map.
        weight: λ. ``mode="paper"``: loss = contrastive + λ · attention. ``mode="reference"``: the two are weighted
            1/(1+λ) and λ/(1+λ), which for λ = 3 gives 0.25 and 0.75. With 0 the loss is measured, but not trained.
        mode: ``"paper"``, or ``"reference"`` for the numbers of the public reference code, see
            :func:`castlit.attention.reference_attention_loss`.
        key: What the query is scored against, see :mod:`castlit.attention.keys`. ``"masked_image"``: the embedding of
            the key under its mask, one more forward pass (the paper). ``"masked_features"``: the key's own feature map,
            which the step computes anyway, pooled under the mask; no further pass. ``"plain"``: the whole key with its
            background; for comparison, as nothing in this score asks for the object.
        target: The score that the CAM explains: ``"positive"`` (the paper), ``"contrastive"``, ``"evidence"``, or a
            function from :class:`castlit.attention.Embeddings` to (N,); see :mod:`castlit.attention.targets`.
            Checkpoints store the names, and objects of a class that inherits
            :class:`castlit.utils.serializable.Described`; a function has to be given again.
        cam: What the loss compares with the mask. ``"rectified"``: the CAM after its ReLU (the paper). ``"signed"``:
            before it, so that evidence against the score costs where it lies off the object's negative; the loss then
            lies in [0, 2].
        subtract: For ``target="evidence"``, the mean key k̄ that the score leaves out. None: none.
            ``"negatives"``: the mean of the keys that the method stores (MoCo's queue). ``"masked_keys"``: a running
            mean of the masked keys of all images, from the second step on.

    Raises:
        InputError: A negative weight, no such mode, key, target, cam or subtract, no layer, or two settings that do not
            go together.
    """

    def __init__(
        self,
        layer: str | Sequence[str] | None = None,
        weight: float = 3.0,
        mode: str = "paper",
        key: str = "masked_image",
        target: str | Target = "positive",
        cam: str = "rectified",
        subtract: str | None = None,
    ) -> None:
        super().__init__()
        self.layers = None if layer is None else _layers(layer)
        self.weight = require_number("attention.weight", weight, low=0)
        self.mode = require_choice("attention.mode", mode, ("paper", "reference"))
        self.key = require_choice("attention.key", key, tuple(KEYS))
        self.target: Target = target_named(target)
        self.cam = require_choice("attention.cam", cam, ("rectified", "signed"))
        if self.cam == "signed" and self.mode == "reference":
            raise InputError("attention.mode=reference scales its CAM as its code does: leave attention.cam=rectified")
        self.subtract = None if subtract is None else require_choice("attention.subtract", subtract, CHOICES)
        if self.subtract is not None and self.target is not evidence:
            raise InputError(f"attention.subtract={subtract} is for attention.target=evidence: give both or neither")
        self.masked_key_mean = RunningMean() if subtract == "masked_keys" else None

    @property
    def layer(self) -> str | tuple[str, ...] | None:
        """The layer that was given, or the layers; None where :meth:`find_layers` finds one for each encoder."""
        return self.layers[0] if self.layers is not None and len(self.layers) == 1 else self.layers

    @property
    def wants_negatives(self) -> bool:
        """Whether the score uses negatives."""
        return uses_negatives(self.target) or self.subtract == "negatives"

    def mean_key(self, negatives: Tensor | None) -> Tensor | None:
        """The mean key (dim,) to subtract, see ``subtract``; None: none.

        Args:
            negatives: The method's stored keys (K, dim).

        Raises:
            InputError: ``subtract="negatives"``, and the method stores none.
        """
        if self.subtract == "negatives":
            if negatives is None:
                raise InputError(
                    "attention.subtract=negatives needs a method that stores keys, such as MoCo: use "
                    "attention.subtract=masked_keys"
                )
            return at_least_float32(negatives).mean(0)
        return None if self.masked_key_mean is None else self.masked_key_mean()

    def observe(self, masked_key: Tensor, mask: Tensor) -> None:
        """Add a step's masked keys (N, dim), of masks (N, 1, H, W), to the running mean, if there is one.

        Call it after the step's score was computed; all ranks must call it together. In evaluation mode it does
        nothing.
        """
        if self.masked_key_mean is not None and self.training:
            self.masked_key_mean.update(at_least_float32(masked_key), mask)

    def find_layers(self, encoder: nn.Module) -> tuple[str, ...]:
        """The names of this encoder's layers that give the CAMs, in the order given.

        Raises:
            InputError: The encoder has no such layer.
        """
        layers = self.layers or (default_layer(getattr(encoder, "backbone", encoder)),)
        for layer in layers:
            find_layer(encoder, layer)
        return layers

    @contextmanager
    def tap(self, encoder: nn.Module) -> Iterator[tuple[Activations, ...]]:
        """Record the layers of this encoder while the context is open, see :func:`castlit.attention.tap`."""
        with ExitStack() as taps:
            yield tuple(taps.enter_context(tap(encoder, layer)) for layer in self.find_layers(encoder))

    def score(self, embeddings: Embeddings) -> Tensor:
        """Compute the scores (N,) that the CAM explains, in float32 or wider also under autocast."""
        return scores(self.target, embeddings)

    def forward(
        self, score: Tensor, activations: Tensor | Activations | Sequence[Tensor | Activations], mask: Tensor
    ) -> AttentionOutput:
        """Compute the CAM of the score and its loss against the mask; all ranks must call it together.

        DDP averages the ranks' gradients, so the loss is scaled to the mean over all ranks' images with an object: each
        such image has the same weight, however many its rank has.

        Args:
            score: One score per image, (N,), with graph.
            activations: (N, C, h, w), or what :meth:`tap` recorded; of one layer or of several.
            mask: (N, 1, H, W), nonzero on the object.
        """
        layers = [activations] if isinstance(activations, (Tensor, Activations)) else activations
        cams = raw_cams(score, layers, create_graph=self.weight > 0)
        losses = [
            reference_attention_loss(cam, mask)
            if self.mode == "reference"
            else _mean_loss(cam if self.cam == "signed" else cam.relu(), mask)
            for cam in cams
        ]
        loss = torch.stack(losses).mean()
        return AttentionOutput(loss if self.weight > 0 else loss.detach(), cams[-1].detach().relu())

    def combine(self, contrastive: Tensor, attention: Tensor) -> Tensor:
        """Add the two losses with the mode's weights."""
        if self.weight == 0:
            return contrastive
        total = contrastive + self.weight * attention
        return total / (1.0 + self.weight) if self.mode == "reference" else total

    def extra_repr(self) -> str:
        """Show the settings in the module's summary."""
        return f"layers={self.layers!r}, weight={self.weight}, mode={self.mode!r}, key={self.key!r}, cam={self.cam!r}"


def _mean_loss(cam: Tensor, mask: Tensor) -> Tensor:
    loss = attention_loss(cam, mask)
    if world_size() == 1:
        return loss
    count = has_object(mask).sum().to(loss.dtype)
    return loss * count / mean_over_ranks(count).clamp(min=torch.finfo(loss.dtype).tiny)


def _layers(given: str | Sequence[str]) -> tuple[str, ...]:
    layers = (given,) if isinstance(given, str) else tuple(given)
    if not layers or not all(isinstance(layer, str) and layer for layer in layers) or len({*layers}) < len(layers):
        raise InputError(f"attention.layer must be the name of a layer, or a list of different ones; got {given!r}")
    return layers
