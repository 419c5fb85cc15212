"""SwAV of the lightly package's parts, with several crops and CAST's attention loss.

The module is lightly's tutorial and knows nothing of castlit; the callback adds the loss. SwAV has no momentum encoder:
the key of the CAM is the network's own embedding of the second large crop, of which only the object is shown.

    pip install lightly
    python examples/swav.py                      # some minutes on a CPU
    python examples/swav.py --weight 0           # measures only
"""

import argparse
import warnings

import pytorch_lightning as pl
import torch
from several_crops import loader, views_of
from torch import Tensor
from torch.nn import functional as F

from castlit.callbacks import AttentionSupervision, MaskedKey
from castlit.nn import build_backbone, feature_channels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes


class SwAV(pl.LightningModule):
    """lightly's tutorial; batches are those of several_crops.py."""

    def __init__(self, backbone: str, prototypes: int = 64, lr: float = 1e-3) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.projection_head = SwaVProjectionHead(feature_channels(self.backbone), 128, 64)
        self.prototypes = SwaVPrototypes(64, n_prototypes=prototypes)
        self.criterion = SwaVLoss()
        self.lr = lr

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, 64), before their normalisation."""
        return self.projection_head(self.backbone(images).mean((2, 3)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Assign all crops to the prototypes that the large ones are assigned to."""
        self.prototypes.normalize()
        views = views_of(batch)
        scores = [self.prototypes(F.normalize(self(view), dim=1, p=2)) for view in views]
        loss = self.criterion(scores[:2], scores[2:])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(views[0]))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main() -> None:
    """Train, and print where the CAMs peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weight", type=float, default=3.0, help="of the attention loss")
    parser.add_argument("--backbone", default="tiny_resnet")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train-count", type=int, default=2048, help="training scenes")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    supervision = AttentionSupervision(
        encoder="backbone",
        layer="layer4",
        embedding="projection_head",
        target=MaskedKey("forward", images="view_1", mask="mask_1"),
        mask="mask_0",  # of the first pass, the first large crop
        weight=options.weight,
    )
    trainer = pl.Trainer(
        accelerator=options.accelerator,
        devices=1,
        max_epochs=options.epochs,
        callbacks=[supervision],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(SwAV(options.backbone), loader(options.train_count, options.batch_size))
    for name in ("train/loss", "train/attention", "train/pointing"):
        print(f"{name} {float(trainer.callback_metrics[name]):.3f}")


if __name__ == "__main__":
    main()
