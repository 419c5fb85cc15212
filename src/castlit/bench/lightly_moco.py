"""MoCo of the library lightly, as its documentation composes it from lightly's parts."""

import copy
import warnings

import torch
from torch import Tensor, nn

from castlit.bench.loops import RECIPE, Batch
from castlit.nn import build_backbone, feature_channels
from castlit.utils.lightning import pl

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum


class LightlyMoCo(pl.LightningModule):
    """lightly's tutorial of MoCo, with the backbone, sizes, temperature and optimiser of castlit's MoCo v2.

    Args:
        backbone: Name of the backbone.
        queue_size: Keys in the memory bank.
    """

    def __init__(self, backbone: str, queue_size: int) -> None:
        super().__init__()
        trunk = build_backbone(backbone)
        width = feature_channels(trunk)
        self.backbone = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1))
        self.projection_head = MoCoProjectionHead(width, width, 128)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue_size, 128))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss; the momentum encoder is updated before it."""
        update_momentum(self.backbone, self.backbone_momentum, m=0.999)
        update_momentum(self.projection_head, self.projection_head_momentum, m=0.999)
        query = self.projection_head(self.backbone(batch["query"]).flatten(start_dim=1))
        key = self.projection_head_momentum(self.backbone_momentum(batch["key"]).flatten(start_dim=1)).detach()
        loss: Tensor = self.criterion(query, key)
        self.log("train_loss_ssl", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return RECIPE.build(trained, 1000, 1000)[0]
