"""CASTModule: a contrastive method whose encoder learns where to look."""

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from castlit.attention import AttentionLoss, find_layer, has_object
from castlit.module import ranks
from castlit.module.contracam import find_objects
from castlit.module.explain import Explanation, explain, known_negatives, masked, score_of
from castlit.module.metrics import step_figures
from castlit.module.step_hooks import progress, step_taken, takes_progress
from castlit.module.trunks import Trunks
from castlit.nn import batch_statistics, lacks_statistics
from castlit.optim import OptimizerRecipe
from castlit.utils.serializable import Spec, build, describe
from castlit.utils.validation import InputError

PartT = TypeVar("PartT")

# In a checkpoint, for a part that was there but cannot be written down in plain values.
_NO_SPEC = {"no_spec": True}


class CASTModule(pl.LightningModule):
    """A contrastive method whose encoder learns to look at the salient objects (CAST, CVPR 2021).

    Each step makes one query forward pass. Its loss is the method's, plus the attention loss on the Grad-CAM of
    z_q · z_km, where z_km is the embedding of the masked key.

    Training batches hold ``query`` and ``key`` (float, (N, 3, H, W), normalised), ``query_mask`` and ``key_mask``
    ((N, 1, H, W), nonzero on the salient objects). Validation batches hold ``image`` and ``mask`` of the same kinds,
    and may hold ``label``.

    Args:
        method: What is contrasted, from :mod:`castlit.methods` or your own.
        attention: The attention loss; ``None`` trains the method alone.
        optimizer: Optimiser and schedule.
        cam_layer: Layer for the validation CAMs where there is no attention loss to name one; None: the last one that
            gives a feature map.
        activation_checkpointing: During a fit, recompute the backbone's blocks in the backward pass: memory for time.
        compile: During a fit, run the backbones through torch.compile, up to the attention's layer.

    Raises:
        InputError: The encoder has no such layer, or the method's ``after_step`` cannot be called.

    Example:
        >>> method = castlit.methods.MoCo(backbone="resnet18")
        >>> module = castlit.CASTModule(method, castlit.attention.AttentionLoss(layer="layer4", weight=3.0))
    """

    def __init__(
        self,
        method: nn.Module | Mapping[str, Any],
        attention: AttentionLoss | Mapping[str, Any] | None = None,
        optimizer: OptimizerRecipe | Mapping[str, Any] | None = None,
        cam_layer: str | None = None,
        activation_checkpointing: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        # Specs come from a checkpoint, see load_from_checkpoint.
        self.method: nn.Module = _part("method", method, nn.Module)
        _require_protocol(self.method)
        # Hydra has no null group: `attention=none` arrives as an empty mapping.
        self.attention = _part("attention", attention, AttentionLoss) if attention else None
        self.optimizer = OptimizerRecipe() if optimizer is None else _part("optimizer", optimizer, OptimizerRecipe)
        # How validation looks where there is no loss to look with.
        self.look = AttentionLoss(cam_layer) if self.attention is None else self.attention
        self.look.find_layers(self.encoder)
        if self.attention is not None and self.attention.key != "masked_image":
            _require_masked_features(self.method)
        self._trunks = Trunks(activation_checkpointing, compile)
        self._takes_progress = takes_progress(self.method)
        self._lacks_statistics = False
        self.save_hyperparameters(
            {
                "method": _spec(self.method),
                "attention": None if self.attention is None else _spec(self.attention),
                "optimizer": _spec(self.optimizer),
                "cam_layer": cam_layer,
            },
            logger=False,
        )

    @property
    def encoder(self) -> nn.Module:
        """The trained encoder; ``encoder.backbone`` is what downstream tasks take."""
        encoder: nn.Module = self.method.encoder  # type: ignore[assignment]
        return encoder

    @property
    def cam_layer(self) -> str:
        """The layer of the validation CAMs."""
        return self.look.find_layers(self.encoder)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, C) of images (N, 3, H, W)."""
        feature_map: Tensor = self.encoder.backbone(images)  # type: ignore[operator]
        return feature_map.float().mean((2, 3))

    def setup(self, stage: str) -> None:
        """Get ready for however many ranks there are."""
        ranks.prepare(self, self.trainer)

    def on_fit_start(self) -> None:
        """Let all ranks start from the same state, and the trunks run as their switches say."""
        ranks.align(self)
        layer = self.encoder.backbone
        if self.attention is not None:
            # Behind the first of them everything may be differentiated twice.
            tapped = {find_layer(self.encoder, name) for name in self.look.find_layers(self.encoder)}
            layer = next(part for part in self.encoder.modules() if part in tapped)
        self._trunks.put_in(self.method, self.encoder.backbone, layer)  # type: ignore[arg-type]

    def on_fit_end(self) -> None:
        """Leave the trunks as they were."""
        self._trunks.take_out()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute contrastive and attention loss from one query forward pass.

        Returns:
            The loss of this rank's images under ``loss``, with its graph; all other figures over all ranks, without.
        """
        if self.attention is None:
            contrastive = self.method(batch["query"], batch["key"]).loss
            figures = step_figures({"loss": contrastive, "contrastive": contrastive})
            self._log_train(figures, len(batch["query"]))
            return {**figures, "loss": contrastive}
        key_mask = self.attention.key_region(batch["key_mask"])
        # An image whose key shows nothing of its objects has no score to explain: it takes no part, like one whose
        # query does not.
        query_mask = batch["query_mask"] * has_object(key_mask)[:, None, None, None]
        # Before the step's own keys are among them.
        negatives = known_negatives(self.method, self.attention)
        with self.attention.tap(self.encoder) as activations:
            if self.attention.key != "masked_image":
                output = self.method(batch["query"], batch["key"], key_mask)
                z_km = output.masked_key
            else:
                output = self.method(batch["query"], batch["key"])
                z_km = self.method.target(masked(batch["key"], key_mask))  # type: ignore[operator]
        score = score_of(self.method, self.attention, output.embedding, z_km, negatives)
        attention = self.attention(score, activations, query_mask)
        loss = self.attention.combine(output.loss, attention.loss)
        losses = {"loss": loss, "contrastive": output.loss, "attention": attention.loss}
        figures = step_figures(losses, attention.cam, query_mask)
        self._log_train(figures, len(query_mask))
        return {**figures, "loss": loss}

    def on_validation_epoch_start(self) -> None:
        """Look at the batch norms once, not at every batch: on a GPU each look waits for the device."""
        self._lacks_statistics = lacks_statistics(self.encoder)

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Explain a batch for the callbacks, which turn it into figures and pictures."""
        with batch_statistics(self, len(batch["image"])) if self._lacks_statistics else nullcontext():
            return self.explain(batch["image"], batch["mask"])._asdict()

    def explain(self, images: Tensor, masks: Tensor) -> Explanation:
        """Compute features and Grad-CAM of images under the network's current weights.

        The CAM is that of training with the image itself as its key: the score is the similarity of the image's
        embedding to that of the same image under its mask. As in training, batch norm sees the masked images by their
        own batch, so the CAMs depend a little on the company. Works inside ``torch.inference_mode`` too. Call
        ``eval()`` first, as Lightning does for validation.

        Args:
            images: (N, 3, H, W), normalised.
            masks: (N, 1, H, W), nonzero on the salient objects.
        """
        return explain(self.method, self.look, images, masks)

    def find_objects(self, images: Tensor, iterations: int = 1) -> Tensor:
        """Find what tells each image from the others of its batch, with no mask: ContraCAM (Mo et al., NeurIPS 2021).

        The CAM is that of the image's similarity to its own key, less what it has in common with the other images;
        channels that speak against the score are left out. Each further iteration paints over what was found, and
        adds what is found then (the maximum of the maps). Call ``eval()`` first.

        Args:
            images: (N, 3, H, W), normalised; N > 1, as an image alone has nothing to be told from.
            iterations: How often to look, at least 1; each costs two forward passes.

        Returns:
            (N, H, W): each map's minimum is 0 and its maximum 1; all 0 where nothing was found. No graph.
        """
        return find_objects(self.method, self.look, images, iterations)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, and then let the method follow: once per optimiser step, whatever the accumulation."""
        with step_taken(optimizer) as taken:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if taken and hasattr(self.method, "after_step"):
            told = {"progress": progress(self.trainer)} if self._takes_progress else {}
            self.method.after_step(**told)  # type: ignore[operator]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build optimiser and schedule for the length of this run."""
        self.trainer.fit_loop.setup_data()  # Counts the batches; without max_epochs, the next line does not.
        total = self.trainer.estimated_stepping_batches
        if not 0 <= total < math.inf:
            raise InputError("the learning rate's schedule needs an end: give the trainer max_epochs or max_steps")
        # Not total / max_epochs: max_steps may end the run first, or be all that was given.
        batches = self.trainer.num_training_batches
        per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches) if batches < math.inf else int(total)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer, scheduler = self.optimizer.build(trained, int(total), per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log_train(self, figures: dict[str, Tensor], count: int) -> None:
        for name, value in figures.items():
            self.log(f"train/{name}", value, prog_bar=name != "empty_masks", batch_size=count)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=count)


def _require_protocol(method: nn.Module) -> None:
    if not isinstance(getattr(method, "encoder", None), nn.Module) or not callable(getattr(method, "target", None)):
        raise InputError(
            f"{type(method).__name__} is no method: it needs an encoder, forward(query, key) and target(images), as "
            "castlit.methods.Method says"
        )


def _require_masked_features(method: nn.Module) -> None:
    if "key_mask" not in inspect.signature(method.forward).parameters or not hasattr(method, "masked_target"):
        raise InputError(
            f"{type(method).__name__} gives no masked features (forward takes no key_mask, or there is no "
            "masked_target): use attention.key=masked_image"
        )


def _spec(part: object) -> Spec:
    return describe(part) or dict(_NO_SPEC)


def _part(name: str, value: object, kind: type[PartT]) -> PartT:
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping) and value != _NO_SPEC:
        return _part(name, build(value), kind)
    if value == _NO_SPEC:
        raise InputError(
            f"the checkpoint does not say how its {name} was built: give it, "
            f"CASTModule.load_from_checkpoint(path, {name}=...), or +{name}=... on the command line"
        )
    raise InputError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
