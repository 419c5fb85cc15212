"""Modules of lightly's tutorials with the callback: their gradients are CAST's."""

import copy
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import castlit
from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import AttentionSupervision, MaskedKey
from castlit.methods import MoCo, SimSiam
from castlit.nn import tiny_resnet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("lightly")
    from lightly.loss import NegativeCosineSimilarity, NTXentLoss
    from lightly.models.modules import MoCoProjectionHead, SimSiamPredictionHead, SimSiamProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum


class LightlyMoCo(pl.LightningModule):
    """As in lightly's MoCo tutorial; batches are ((query, key), (query's mask, key's mask))."""

    def __init__(self, queue_size=64, lr=0.06):
        super().__init__()
        # Like a torchvision network without its classifier: layer4, then the pooling.
        self.backbone = nn.Sequential(*tiny_resnet().children(), nn.AdaptiveAvgPool2d(1))
        self.projection_head = MoCoProjectionHead(128, 128, 128)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue_size, 128))
        self.lr = lr

    def forward(self, x):
        return self.projection_head(self.backbone(x).flatten(start_dim=1))

    def forward_momentum(self, x):
        return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

    def training_step(self, batch, batch_idx):
        update_momentum(self.backbone, self.backbone_momentum, m=0.99)
        update_momentum(self.projection_head, self.projection_head_momentum, m=0.99)
        x_query, x_key = batch[0]
        loss = self.criterion(self.forward(x_query), self.forward_momentum(x_key))
        self.log("train_loss_ssl", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class LightlySimSiam(pl.LightningModule):
    """As in lightly's SimSiam tutorial: batch norm everywhere in the heads."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*tiny_resnet().children(), nn.AdaptiveAvgPool2d(1))
        self.projection_head = SimSiamProjectionHead(128, 32, 32)
        self.prediction_head = SimSiamPredictionHead(32, 16, 32)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, x):
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)

    def training_step(self, batch, batch_idx):
        (x0, x1) = batch[0]
        (z0, p0), (z1, p1) = self.forward(x0), self.forward(x1)
        return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def supervision(target, embedding):
    # Layers of a Sequential have numbers: 6 is the tiny network's layer4.
    return AttentionSupervision("backbone", layer="6", target=target, embedding=embedding, mask=lambda b: b[1][0])


def key_of(batch):
    return batch[0][1]


def key_mask_of(batch):
    return batch[1][1]


def moco_supervision():
    return supervision(MaskedKey("forward_momentum", key_of, key_mask_of), "projection_head")


def simsiam_supervision():
    """SimSiam's key side is the projection, the first output of its forward()."""
    embed = MaskedKey(lambda module, images: module(images)[0], key_of, key_mask_of)
    return supervision(embed, "prediction_head")


def copied(theirs, ours):
    """Copy our weights to their parts, which are in the same order."""
    for part, source in zip(theirs, ours, strict=True):
        pairs = list(zip(part.state_dict().values(), source.state_dict().values(), strict=True))
        for tensor, value in pairs:
            assert tensor.shape == value.shape
            tensor.copy_(value)


class Watch(pl.Callback):
    def __init__(self):
        self.gradients, self.metrics = None, []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if self.gradients is None:
            self.gradients = [p.grad.clone() for p in pl_module.parameters() if p.grad is not None]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(module, batches, *callbacks, **options):
    watch = Watch()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            callbacks=[*callbacks, watch],
            **options,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))
    return watch


def scenes(count, batch_size=32, size=32):
    """castlit's batches, and the same in the tutorials' form."""
    data = castlit.data.ScenesDataModule(
        train_count=count, val_count=10, size=size, scene_size=size + size // 4, batch_size=batch_size, workers=0
    )
    ours = [dict(batch) for batch in data.train_dataloader()]
    return ours, [((b["query"], b["key"]), (b["query_mask"], b["key_mask"])) for b in ours]


def doubled(batch):
    if isinstance(batch, dict):
        return {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}
    return tuple(x.double() for x in batch[0]), batch[1]


@torch.no_grad()
def moco_pair():
    ours, theirs = MoCo(tiny_resnet(), queue_size=64, shuffle_bn=False), LightlyMoCo()
    copied((theirs.backbone, theirs.projection_head), (ours.encoder.backbone, ours.encoder.head))
    copied((theirs.backbone_momentum, theirs.projection_head_momentum), (ours.encoder.backbone, ours.encoder.head))
    theirs.criterion.memory_bank.bank.copy_(ours.queue.keys)
    return ours, theirs, moco_supervision()


@torch.no_grad()
def simsiam_pair():
    ours, theirs = SimSiam(tiny_resnet(), dim=32, hidden=16), LightlySimSiam()
    parts = ours.encoder.backbone, ours.encoder.head
    copied((theirs.backbone, theirs.projection_head), parts)
    # lightly's predictor has the same layers.
    copied((theirs.prediction_head,), (ours.predictor,))
    return ours, theirs, simsiam_supervision()


@pytest.mark.parametrize("pair", [moco_pair, simsiam_pair])
def test_gradients_equal_cast_module(pair):
    torch.manual_seed(0)
    ours, theirs, callback = pair()
    batches = scenes(32)
    ours_batch, theirs_batch = ([doubled(batch) for batch in made[:1]] for made in batches)
    wanted = fit(CASTModule(ours, AttentionLoss(layer="layer4")), ours_batch, precision="64-true")
    found = fit(theirs, theirs_batch, callback, precision="64-true")
    assert found.metrics[0]["train/attention"] == pytest.approx(wanted.metrics[0]["train/attention"], rel=1e-6)
    assert len(found.gradients) == len(wanted.gradients) > 10
    for gradient, other in zip(found.gradients, wanted.gradients, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


def test_gradients_differ_without_callback():
    torch.manual_seed(0)
    theirs, batches = LightlyMoCo(), scenes(32)[1]
    again = copy.deepcopy(theirs)
    plain, looked = fit(theirs, batches), fit(again, batches, moco_supervision())
    assert "train/attention" not in plain.metrics[0]
    difference = [
        float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))
        for a, b in zip(plain.gradients, looked.gradients, strict=True)
    ]
    assert min(difference) < 0.9


@pytest.mark.parametrize(
    ("module", "callback", "size"),
    [
        (LightlyMoCo, moco_supervision, 32),
        # It learns less from smaller images.
        pytest.param(LightlySimSiam, simsiam_supervision, 64, marks=[pytest.mark.slow, pytest.mark.nightly]),
    ],
)
def test_training_raises_pointing(module, callback, size):
    torch.manual_seed(0)
    batches = scenes(512, size=size)[1]
    metrics = fit(module(), batches * 4, callback()).metrics
    attention, pointing = ([step[f"train/{name}"] for step in metrics] for name in ("attention", "pointing"))
    assert len(attention) == 64
    assert np.mean(attention[-8:]) < 0.8 * np.mean(attention[:3])
    assert np.mean(pointing[-8:]) > np.mean(pointing[:8])
