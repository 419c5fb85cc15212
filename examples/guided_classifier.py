"""A classifier that learns to look: CAST's attention loss on the label's logit, on the built-in scenes.

The scenes' backgrounds give nine objects in ten away, and a classifier learns them instead of the objects. Told by
masks where to look, it learns the objects: it is right on backgrounds that do not go with them, too.

    python examples/guided_classifier.py                        # without and with guidance, some minutes each on a CPU
    python examples/guided_classifier.py --epochs 2 --weights 1
"""

import argparse
import logging
import warnings

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import castlit
from castlit.attention import AttentionLoss, grad_cam, pointing_hits, tap
from castlit.data import ArraySource, EvalDataset, collate
from castlit.data.scenes import OBJECTS, Scenes
from castlit.nn import feature_channels, tiny_resnet

SPLITS = ("original", "mixed_same", "mixed_rand", "only_fg")


class LabelledScenes(castlit.data.ScenesDataModule):
    """Training batches with the objects' classes besides, ``label``, int64 (N,)."""

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Look the labels up by the images' numbers."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        labels = torch.from_numpy(self.sources[0].labels)
        return {**batch, "label": labels[batch["index"].cpu()].to(batch["index"].device)}


class GuidedClassifier(pl.LightningModule):
    """A small residual network; with a weight of 0 an ordinary classifier, whose CAMs are measured only."""

    def __init__(self, weight: float, lr: float = 0.05) -> None:
        super().__init__()
        self.backbone = tiny_resnet()
        self.classifier = nn.Linear(feature_channels(self.backbone), len(OBJECTS))
        self.attention = AttentionLoss(layer="layer4", weight=weight)
        self.lr = lr

    def forward(self, images: Tensor) -> Tensor:
        """From images (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.backbone(images).mean((2, 3)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Classify, and explain the label's logit."""
        label = batch["label"]
        with self.attention.tap(self.backbone) as activations:
            logits = self(batch["query"])
        score = logits.gather(1, label[:, None])[:, 0]
        attention = self.attention(score, activations, batch["query_mask"])
        loss = self.attention.combine(F.cross_entropy(logits, label), attention.loss)
        self.log_dict({"train/loss": loss, "train/attention": attention.loss}, prog_bar=True, batch_size=len(label))
        return loss

    def configure_optimizers(self) -> dict[str, object]:
        """SGD with a cosine."""
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9, weight_decay=1e-4)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def examine(module: GuidedClassifier, split: str, count: int) -> tuple[float, float]:
    """Return accuracy, and how often the CAM of the label's logit peaks on the object, on unseen scenes."""
    scenes = Scenes(count, split=split)
    dataset = EvalDataset(ArraySource(scenes.images, scenes.masks, scenes.objects), 64, 64)
    right, hits = [], []
    for batch in DataLoader(dataset, 256, collate_fn=collate):
        label = batch["label"]
        # The graph begins at the layer: what lies before it keeps nothing.
        with torch.no_grad(), tap(module.backbone, "layer4", leaf=True) as activations:
            logits = module(batch["image"])
            score = logits.gather(1, label[:, None])[:, 0]
        right.append(logits.argmax(1) == label)
        hits.append(pointing_hits(grad_cam(score, activations, create_graph=False), batch["mask"]))
    return torch.cat(right).float().mean().item(), torch.cat(hits).float().mean().item()


def main() -> None:
    """Train a classifier for each weight, and print how they do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 3.0], help="of the attention loss")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--train-count", type=int, default=4096, help="training scenes")
    parser.add_argument("--test-count", type=int, default=1000, help="scenes of each test split")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=".*(not have many workers|LeafSpec|smaller than the logging|no `validation_step`).*"
    )
    print(f"{'per cent':<14}{''.join(f'{split:>24}' for split in SPLITS)}")
    print(f"{'':<14}{'accuracy   pointing'.rjust(24) * len(SPLITS)}")
    for weight in options.weights:
        pl.seed_everything(options.seed, verbose=False)
        data = LabelledScenes(train_count=options.train_count, val_count=10, seed=options.seed)
        module = GuidedClassifier(weight)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=options.epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
        module.eval()
        found = [examine(module, split, options.test_count) for split in SPLITS]
        print(f"weight {weight:<7g}{''.join(f'{100 * right:>13.1f}{100 * hits:>11.1f}' for right, hits in found)}")


if __name__ == "__main__":
    main()
