"""The Lightning module of a linear classifier on pooled features; the backbone is frozen, or trained too."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.evaluation.training import ProtocolTraining
from castlit.nn import feature_channels
from castlit.utils.bar_metrics import log_and_show
from castlit.utils.distributed import gather


class Recipe(NamedTuple):
    """The schedule; the defaults are those of linear classification (He et al., CVPR 2020, section 4.1)."""

    epochs: int = 100
    lr: float = 30.0
    """The classifier's learning rate, for any batch size."""
    backbone_lr: float = 0.0
    """The backbone's learning rate; 0 freezes it."""
    drops: tuple[int, ...] = (60, 80)
    """The learning rates fall at the start of these epochs."""
    drop_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0


class Classifier(ProtocolTraining):
    """Trains the classifier; validation gives ``val/top1`` and ``val/top5`` over all processes, in [0, 100].

    A frozen backbone stays in evaluation mode, and checkpoints leave it out.

    Args:
        backbone: Maps images (N, 3, H, W) to (N, C, h, w); a copy is taken.
        classes: Number of classes.
        recipe: How it is trained.
        identity: See :class:`castlit.evaluation.training.ProtocolTraining`.
    """

    def __init__(self, backbone: nn.Module, classes: int, recipe: Recipe, identity: dict[str, Any]) -> None:
        super().__init__(identity)
        self.recipe = recipe
        self.backbone = copy.deepcopy(backbone).requires_grad_(not self.frozen)
        self.head = nn.Linear(feature_channels(backbone), classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        # A checkpoint holds the backbone only if it is trained.
        self.strict_loading = not self.frozen
        self.top1 = self.top5 = 0.0
        self._seen: list[Tensor] = []
        self.train()

    @property
    def frozen(self) -> bool:
        """Whether the backbone is not trained."""
        return self.recipe.backbone_lr == 0

    def train(self, mode: bool = True) -> "Classifier":
        """Set the mode; a frozen backbone keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.backbone(images).mean((2, 3))
        logits: Tensor = self.head(features)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        logits = self(batch["image"])
        loss = F.cross_entropy(logits.float(), batch["label"])
        log_and_show(self, "train/loss", loss)
        return {"loss": loss}

    def on_validation_epoch_start(self) -> None:
        """Clear the results."""
        self._seen = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect each image's index and the rank of its class; 0 is the first."""
        logits = self(batch["image"]).float()
        own = logits.gather(1, batch["label"][:, None])
        # Ties rank above the class: a classifier that gives all classes one score is never right.
        # So does NaN: a classifier that has diverged is never right.
        rank = (~(logits < own)).sum(1) - 1
        self._seen.append(torch.stack([batch["index"], rank], 1))

    def on_validation_epoch_end(self) -> None:
        """Count each image once: images may repeat where they do not divide evenly among the processes."""
        ranks = dict(gather(torch.cat(self._seen)).tolist())
        found = torch.tensor(list(ranks.values()))
        self.top1, self.top5 = (100 * (found < count).double().mean().item() for count in (1, 5))
        self.log("val/top1", self.top1, prog_bar=True, rank_zero_only=True)
        self.log("val/top5", self.top5, rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the identity; leave a frozen backbone out."""
        super().on_save_checkpoint(checkpoint)
        if self.frozen:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: x for name, x in state.items() if not name.startswith("backbone.")}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of everything
        """SGD, with learning rates that fall at the recipe's epochs."""
        groups: list[dict[str, Any]] = [{"params": list(self.head.parameters()), "lr": self.recipe.lr}]
        if not self.frozen:
            groups.append({"params": list(self.backbone.parameters()), "lr": self.recipe.backbone_lr})
        optimizer = torch.optim.SGD(
            groups, self.recipe.lr, momentum=self.recipe.momentum, weight_decay=self.recipe.weight_decay
        )
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.recipe.drops), self.recipe.drop_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
