"""DINO of the lightly package's parts, a vision transformer and several crops, with CAST's attention loss.

The module is lightly's tutorial and knows nothing of castlit; the callback adds the loss. The CAM explains how well the
student's output for the first large crop matches the teacher's for the second, of which only the object is shown.

    pip install lightly "castlit[timm]"
    python examples/dino.py                      # some minutes on a CPU
    python examples/dino.py --weight 0           # measures only
"""

import argparse
import copy
import warnings

import pytorch_lightning as pl
import torch
from several_crops import loader, views_of
from torch import Tensor

from castlit.callbacks import AttentionSupervision, MaskedKey
from castlit.nn import build_backbone, feature_channels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports
    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.utils.scheduler import cosine_schedule


class DINO(pl.LightningModule):
    """lightly's tutorial; batches are those of several_crops.py."""

    def __init__(self, backbone: str, outputs: int = 256, lr: float = 5e-4) -> None:
        super().__init__()
        self.student = build_backbone(backbone)  # (N, 3, H, W) to (N, C, h, w), of any size
        channels = feature_channels(self.student)
        self.student_head = DINOProjectionHead(channels, 128, 64, outputs, freeze_last_layer=1)
        self.teacher = copy.deepcopy(self.student)
        self.teacher_head = DINOProjectionHead(channels, 128, 64, outputs)
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=outputs, warmup_teacher_temp_epochs=5)
        self.lr = lr

    def forward(self, images: Tensor) -> Tensor:
        """The student's outputs (N, outputs)."""
        return self.student_head(self.student(images).mean((2, 3)))

    def forward_teacher(self, images: Tensor) -> Tensor:
        """The teacher's outputs (N, outputs), without graph."""
        with torch.no_grad():
            return self.teacher_head(self.teacher(images).mean((2, 3)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """All crops for the student, the large ones for the teacher."""
        momentum = cosine_schedule(self.current_epoch, self.trainer.max_epochs, 0.996, 1)
        update_momentum(self.student, self.teacher, m=momentum)
        update_momentum(self.student_head, self.teacher_head, m=momentum)
        views = views_of(batch)
        teacher = [self.forward_teacher(view) for view in views[:2]]
        student = [self(view) for view in views]
        loss = self.criterion(teacher, student, epoch=self.current_epoch)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(views[0]))
        return loss

    def on_after_backward(self) -> None:
        """DINO keeps the head's last layer in the first epoch."""
        self.student_head.cancel_last_layer_gradients(current_epoch=self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW((*self.student.parameters(), *self.student_head.parameters()), lr=self.lr)


def main() -> None:
    """Train, and print where the CAMs peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weight", type=float, default=3.0, help="of the attention loss")
    parser.add_argument("--backbone", default="timm/vit_tiny_patch16_224")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train-count", type=int, default=2048, help="training scenes")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    supervision = AttentionSupervision(
        encoder="student",
        layer=None,  # the last feature map
        embedding="student_head",
        target=MaskedKey("forward_teacher", images="view_1", mask="mask_1"),
        mask="mask_0",  # of the student's first pass, the first large crop
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
    trainer.fit(DINO(options.backbone), loader(options.train_count, options.batch_size))
    for name in ("train/loss", "train/attention", "train/pointing"):
        print(f"{name} {float(trainer.callback_metrics[name]):.3f}")


if __name__ == "__main__":
    main()
