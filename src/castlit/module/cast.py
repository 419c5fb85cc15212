"""CASTModule: a contrastive method whose encoder learns where to look."""

import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from castlit.attention import AttentionLoss, find_layer, has_object
from castlit.attention.keys import KEYS
from castlit.module import ranks
from castlit.module.batches import check_training_batch, check_validation_batch
from castlit.module.checkpoint_parts import part_from, reading, spec_of
from castlit.module.contracam import find_objects
from castlit.module.explain import Explanation, explain, known_negatives, query_of, score_of
from castlit.module.metrics import step_metrics
from castlit.module.run_end import require_no_end, require_part_of_run
from castlit.module.step_hooks import (
    StepFollower,
    progress,
    require_own_trainer,
    several_images,
    takes_progress,
    trainer_of,
)
from castlit.module.trunks import Trunks
from castlit.nn import batch_statistics, fresh_norms
from castlit.optim import OptimizerRecipe
from castlit.optim.recipe import use_fused
from castlit.utils.bar_metrics import log_and_show
from castlit.utils.bfloat16 import warn_if_slow
from castlit.utils.lightning import pl
from castlit.utils.run_length import steps_of_epochs, total_steps
from castlit.utils.serializable import trusting
from castlit.utils.validation import InputError, did_you_mean


class CASTModule(pl.LightningModule):
    """A contrastive method whose encoder learns to look at the salient objects (CAST, CVPR 2021).

    Each training step runs one forward pass of the query. The loss is the method's, plus the attention loss on the
    Grad-CAM of z_q · z_km, where z_km is the embedding of the masked key.

    Training batches have ``query`` and ``key`` (float, (N, 3, H, W), normalised), ``query_mask`` and ``key_mask``
    ((N, 1, H, W), nonzero on the salient objects; floats are weights in [0, 1]). Validation batches have ``image`` and
    ``mask`` of the same kinds, and may have ``label``.

    Args:
        method: The contrastive method, from :mod:`castlit.methods` or your own.
        attention: The attention loss; ``None`` trains the method alone.
        optimizer: Optimiser and schedule.
        cam_layer: Layer for the validation CAMs without an attention loss; None: the last layer whose output is a
            feature map.
        activation_checkpointing: During a fit, recompute the backbone's blocks in the backward pass, which saves memory
            and takes time.
        compile: During a fit, compile the backbones with torch.compile, up to the attention loss's layer.

    Raises:
        InputError: The encoder has no such layer, or ``after_step`` of the method has an unknown required argument.

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
        self.method: nn.Module = part_from("method", method, nn.Module)
        _require_protocol(self.method)
        # Hydra has no null group: `attention=none` arrives as an empty mapping.
        self.attention = part_from("attention", attention, AttentionLoss) if attention else None
        self.optimizer = OptimizerRecipe() if optimizer is None else part_from("optimizer", optimizer, OptimizerRecipe)
        self._given_cam_layer = cam_layer
        self.cam_attention.find_layers(self.encoder)
        KEYS[self.cam_attention.key].check(self.method)
        self.cam_attention.mean_key(known_negatives(self.method, self.cam_attention))  # raises where there can be none
        self._trunks = Trunks(activation_checkpointing, compile)
        self._takes_progress = takes_progress(self.method)
        self._follower = StepFollower(self._after_step)
        self._fresh_norms: list[_BatchNorm] = []
        self.save_hyperparameters(self._specs(), logger=False)

    def _specs(self) -> dict[str, Any]:
        """How the parts are built, for a checkpoint."""
        return {
            "method": spec_of(self.method),
            "attention": None if self.attention is None else spec_of(self.attention),
            "optimizer": spec_of(self.optimizer),
            "cam_layer": self._given_cam_layer,
        }

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,  # noqa: ANN401
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        *,
        trust: str | Iterable[str] = (),
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Load a module from a checkpoint, as Lightning does, and run nothing that the checkpoint brings along.

        The checkpoint names the classes of its parts. They are looked up in castlit and in what is imported already;
        other packages are imported only if you trust them.

        Args:
            checkpoint_path: A file or a URL.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            strict: As in Lightning.
            weights_only: True or None reads plain values and tensors only, also from a URL, where Lightning's None runs
                any code in the file, as False does.
            trust: Packages or modules that the checkpoint may import, such as that of your own method.
            **kwargs: Parts in place of the checkpoint's: ``method``, ``attention``, ``optimizer``, ``cam_layer``.

        Raises:
            FileNotFoundError: There is no such file.
            InputError: The file is damaged, or of another version, or names a class that may not be imported; or there
                is no such part.
        """
        known = inspect.signature(cls.__init__).parameters
        unknown = [] if any(each.kind == each.VAR_KEYWORD for each in known.values()) else set(kwargs) - set(known)
        for name in unknown:  # Lightning would leave it out
            raise InputError(f"{cls.__name__} has no argument {name!r}{did_you_mean(name, list(known)[1:])}")
        loader: Any = super().load_from_checkpoint
        weights_only = weights_only is not False
        with reading(checkpoint_path, weights_only), trusting([trust] if isinstance(trust, str) else trust):
            module: Self = loader(checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how the parts are built, also where a subclass keeps hyperparameters of its own, or others in place."""
        checkpoint.setdefault(self.CHECKPOINT_HYPER_PARAMS_KEY, {}).update(self._specs())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what the checkpoint's attention loss keeps and this module's does not, and the reverse."""
        prefix, state = "attention.masked_key_mean.", checkpoint.get("state_dict", {})
        own = {name: value for name, value in self.state_dict().items() if name.startswith(prefix)}
        saved = [name for name in state if name.startswith(prefix)]
        if not own:
            for name in saved:
                del state[name]
        elif not saved:
            state.update(own)

    @property
    def encoder(self) -> nn.Module:
        """The trained encoder; ``encoder.backbone`` is what downstream tasks take."""
        encoder: nn.Module = self.method.encoder  # type: ignore[assignment]
        return encoder

    @property
    def cam_attention(self) -> AttentionLoss:
        """The settings of the CAMs, also where there is no attention loss."""
        # Validation draws CAMs without an attention loss, too.
        return AttentionLoss(self._given_cam_layer) if self.attention is None else self.attention

    @property
    def cam_layer(self) -> str:
        """The layer of the validation CAMs."""
        return self.cam_attention.find_layers(self.encoder)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, C) of images (N, 3, H, W)."""
        feature_map: Tensor = self.encoder.backbone(images)  # type: ignore[operator]
        return feature_map.float().mean((2, 3))

    def setup(self, stage: str) -> None:
        """Prepare the module for DDP, before it is wrapped.

        Raises:
            InputError: The module is compiled as a whole, or the trainer's precision converts the head to half
                precision; or there is no trainer.
        """
        trainer = trainer_of(self)
        if trainer is None:
            raise InputError(
                "CASTModule has no Trainer: Lightning hands its own to a module's direct parts only; in a list or "
                "dictionary of parts, set part.trainer = self.trainer before part.setup(stage)"
            )
        if "16-true" in str(trainer.precision):
            raise InputError(
                f"trainer.precision={trainer.precision} converts head and loss, too, which need float32 for the "
                "CAM: use bf16-mixed, or 16-mixed"
            )
        if getattr(self, "_compiler_ctx", None) is not None:
            raise InputError(
                "the module is compiled as a whole, and torch.compile does not differentiate twice: give it as it is, "
                "with compile=True"
            )
        if stage == "fit":
            warn_if_slow(trainer)
        ranks.prepare(self, trainer)

    def on_fit_start(self) -> None:
        """Copy the first rank's queue to all ranks, and patch the trunks (compile, activation checkpointing)."""
        ranks.align(self)
        self._follower.stop()  # of a fit that failed
        layer = self.encoder.backbone
        if self.attention is not None:
            # Everything behind the first of them may be differentiated twice.
            tapped = {find_layer(self.encoder, name) for name in self.cam_attention.find_layers(self.encoder)}
            layer = next(part for part in self.encoder.modules() if part in tapped)
        self._trunks.apply(self.method, self.encoder.backbone, layer)  # type: ignore[arg-type]

    def unfreeze(self) -> Self:
        """Let all parts be trained, as Lightning does, but for the momentum encoder, which follows the encoder."""
        super().unfreeze()
        momentum_encoder = getattr(self.method, "momentum_encoder", None)
        if isinstance(momentum_encoder, nn.Module):
            momentum_encoder.requires_grad_(False)
        return self

    def on_fit_end(self) -> None:
        """Remove the patches from the trunks."""
        self._trunks.remove()
        self._follower.stop()

    def on_train_start(self) -> None:
        """Call the method's ``after_step`` after each step of its optimiser, whatever the accumulation."""
        self._follow()

    def _follow(self) -> None:
        trainer = trainer_of(self)
        if trainer is not None and hasattr(self.method, "after_step"):
            self._follower.start(trainer.optimizers, self.encoder.parameters(), self.method.parameters())

    def _after_step(self) -> None:
        self.after_step(progress(self.trainer) if self._takes_progress else 0.0)

    def after_step(self, progress: float = 0.0) -> None:
        """Move the momentum encoder: call it after each optimiser step, where no Trainer trains the module.

        Under a Trainer it follows the optimiser by itself.

        Args:
            progress: Fraction in [0, 1] of the run's steps that have been taken, for a momentum that has a schedule.
        """
        if hasattr(self.method, "after_step"):
            self.method.after_step(**({"progress": progress} if self._takes_progress else {}))  # type: ignore[operator]

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute contrastive and attention loss from one query forward pass.

        Returns:
            ``loss`` of this rank's images, with graph; all other metrics over all ranks, without graph.

        Raises:
            InputError: The module is a part of another, or trained by Fabric, so that no Trainer takes its metrics.
        """
        require_own_trainer(self)
        loss, metrics = self._step(batch)
        self._log_train(metrics, len(batch["query"]))
        return {**metrics, "loss": loss}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute a training step's losses, without logging: for modules that contain this one, and for Fabric.

        Under Fabric, call :meth:`after_step` after each step of the optimiser.

        Args:
            batch: A training batch.

        Returns:
            ``loss`` of this rank's images, with graph; all other metrics over all ranks, without graph.

        Raises:
            InputError: The batch has one image and the method needs several; or several processes train, and ``setup``
                was not called.
        """
        loss, metrics = self._step(batch)
        return {**metrics, "loss": loss}

    def _step(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """This rank's loss, with graph, and the metrics over all ranks, of which the loss is one."""
        check_training_batch(batch, masks=self.attention is not None)
        ranks.require_prepared(self)
        self._follow()  # where a subclass, or a module that contains this one, has its own on_train_start
        with several_images(len(batch["query"])):
            return self._losses(batch)

    def _losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if self.attention is None:
            contrastive = self.method(batch["query"], batch["key"]).loss
            return contrastive, step_metrics({"loss": contrastive, "contrastive": contrastive})
        key = KEYS[self.attention.key]
        key_mask = key.region(batch["key_mask"])
        # The attention loss needs the object in both views: without it in the key, there is no score to explain.
        query_mask = batch["query_mask"] * has_object(key_mask)[:, None, None, None]
        # Read before the method enqueues this step's keys.
        negatives = known_negatives(self.method, self.attention)
        with self.attention.tap(self.encoder) as activations:
            output, z_km = key.step(self.method, batch["query"], batch["key"], key_mask)
        score = score_of(self.method, self.attention, query_of(output), z_km, negatives)
        self.attention.observe(z_km, key_mask)
        attention = self.attention(score, activations, query_mask)
        loss = self.attention.combine(output.loss, attention.loss)
        losses = {"loss": loss, "contrastive": output.loss, "attention": attention.loss}
        return loss, step_metrics(losses, attention.cam, query_mask)

    def on_validation_epoch_start(self) -> None:
        """Check the batch norms once, not at every batch: on a GPU each check waits for the device."""
        self._fresh_norms = fresh_norms(self)

    def validation_step(
        self, batch: Mapping[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Compute features and CAMs of a batch, for the callbacks."""
        check_validation_batch(batch)
        with batch_statistics(self, len(batch["image"]), self._fresh_norms):
            return self.explain(batch["image"], batch["mask"])._asdict()

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:  # noqa: ANN401
        """Compute the features (N, C) of a batch's images, and their CAMs (N, h, w) where it has masks.

        Args:
            batch: As in validation: ``image``, and maybe ``mask``; what else it has (``index``, ``label``) is handed
                on. Or a tensor of images alone.
            batch_idx: Its number.
            dataloader_idx: Its loader's number.
        """
        if isinstance(batch, (list, tuple)):  # of images and more
            batch = batch[0]
        given = dict(batch) if isinstance(batch, Mapping) else {"image": batch}
        images, mask = given.pop("image"), given.pop("mask", None)
        if mask is not None:
            return {**self.explain(images, mask)._asdict(), **given}
        return {"features": self(images), **given}

    def explain(
        self, images: Tensor, masks: Tensor, key_images: Tensor | None = None, key_masks: Tensor | None = None
    ) -> Explanation:
        """Compute features and Grad-CAM of images under the network's current weights.

        The CAM is that of training, with the image itself as its key: the score is the similarity of the image's
        embedding to that of the same image under its mask. As in training, batch norm normalises the masked images by
        their own batch, so the CAMs depend slightly on the other images of the batch. Works inside
        ``torch.inference_mode`` too. Call ``eval()`` first, as Lightning does for validation.

        Args:
            images: (N, 3, H, W), normalised.
            masks: (N, 1, H, W), nonzero on the salient objects.
            key_images: Other images to use as the keys, (N, 3, H, W); None: the images themselves.
            key_masks: The masks of the keys, (N, 1, H, W); None: those of the images.
        """
        return explain(self.method, self.cam_attention, images, masks, key_images, key_masks)

    def find_objects(self, images: Tensor, iterations: int = 1) -> Tensor:
        """Find what distinguishes each image from the others of its batch, without a mask (ContraCAM).

        Source: Mo et al., NeurIPS 2021. The CAM is that of the image's similarity to its own key relative to the other
        images' keys; channels with a negative weight are left out. Each further iteration masks what was found so far
        and takes the maximum of the maps. Call ``eval()`` first.

        Args:
            images: (N, 3, H, W), normalised; N > 1, as the other images are the negatives.
            iterations: Number of iterations, at least 1; each costs two forward passes.

        Returns:
            (N, H, W) in [0, 1], each map's maximum 1; all 0 where nothing was found. No graph.
        """
        return find_objects(self.method, self.cam_attention, images, iterations)

    @property
    def lr(self) -> float:
        """The peak learning rate; Lightning's ``Tuner.lr_find`` sets it."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer = part_from("optimizer", {**spec_of(self.optimizer), "lr": float(value)}, OptimizerRecipe)
        self.hparams["optimizer"] = spec_of(self.optimizer)

    def configure_optimizers(self) -> pl.utilities.types.OptimizerLRSchedulerConfig:
        """Build optimiser and schedule for the length of this run."""
        self.trainer.fit_loop.setup_data()  # counts the batches
        total, warmup = total_steps(self.trainer), self.optimizer.warmup_epochs
        if total == math.inf:
            require_no_end(self.optimizer, self.method, self.trainer.num_training_batches == math.inf)
            total = 1  # a constant rate does not ask for it
        # Not total / max_epochs: max_steps may end the run first, and there may be no max_epochs.
        per_epoch = steps_of_epochs(self.trainer, warmup or 1) / (warmup or 1)
        if not math.isfinite(per_epoch):
            require_part_of_run(warmup)
            per_epoch = int(total)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer, scheduler = self.optimizer.build(trained, int(total), per_epoch)
        if self.device.type == "cuda":
            use_fused(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log_train(self, metrics: dict[str, Tensor], count: int) -> None:
        for name, value in metrics.items():
            if name == "empty_masks":
                self.log(f"train/{name}", value, batch_size=count)
            else:
                log_and_show(self, f"train/{name}", value, count)
        # Filled in on the device: Lightning would copy the number there, and the host would wait for the step so far.
        rate = torch.full((), self.trainer.optimizers[0].param_groups[0]["lr"], device=self.device)
        self.log("train/lr", rate, batch_size=count)


def _require_protocol(method: nn.Module) -> None:
    if not isinstance(getattr(method, "encoder", None), nn.Module) or not callable(getattr(method, "target", None)):
        raise InputError(
            f"{type(method).__name__} is no method: it needs an encoder, forward(query, key) and target(images), as "
            "castlit.methods.Method says"
        )
