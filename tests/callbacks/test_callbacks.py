"""The callbacks in a real Trainer, on a few scenes."""

import json
import time

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

import castlit
from castlit.attention import pointing_hits
from castlit.callbacks import FiniteLoss, GradCAMPanel, KNNProbe, PointingProbe, RunLog, RunRecord
from castlit.evaluation import knn_accuracy
from castlit.reporting.images import overlay_cam, overlay_mask
from castlit.utils.validation import InputError


def parts(**options):
    pl.seed_everything(0, verbose=False)
    data = castlit.data.ScenesDataModule(train_count=64, val_count=40, batch_size=32, workers=0)
    method = castlit.methods.MoCo(backbone="tiny_resnet", queue_size=64)
    module = castlit.CASTModule(method, castlit.attention.AttentionLoss())
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )
    return trainer, module, data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs with all callbacks."""
    folder = tmp_path_factory.mktemp("run")
    callbacks = [
        KNNProbe(k=3),
        PointingProbe(),
        GradCAMPanel(folder / "gradcam.png", count=3, pixels=64),
        RunRecord(folder / "summary.json"),
    ]
    trainer, module, data = parts(max_epochs=2, check_val_every_n_epoch=2, callbacks=callbacks)
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    return folder, trainer, module.eval(), data


def test_logged_metrics_equal_functions(run):
    _, trainer, module, data = run
    features, hits, labels = [], [], []
    for batch in data.val_dataloader():
        found = module.explain(batch["image"], batch["mask"])
        features.append(found.features)
        hits.append(pointing_hits(found.cam, batch["mask"]))
        labels.append(batch["label"])
    assert trainer.callback_metrics["val/pointing"] == pytest.approx(torch.cat(hits).float().mean().item())
    knn = knn_accuracy(torch.cat(features), torch.cat(labels), k=3)
    assert trainer.callback_metrics["val/knn"] == pytest.approx(knn)


def test_summary(run):
    summary = json.loads((run[0] / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"], summary["images"]) == (2, 4, 128)
    assert summary["seconds"] > summary["validation_seconds"] > 0
    assert set(summary["metrics"]["val/pointing"]) == {"start", "end"}
    assert summary["versions"]["castlit"] == castlit.__version__
    assert summary["checkpoint"] is None


class Steps(pl.LightningModule):
    """Training steps whose metrics are given."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.weight = rows, torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return {"loss": self.weight.sum(), **{name: torch.tensor(x) for name, x in self.rows[batch_idx].items()}}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.parametrize(("objects", "pointing"), [((4, 1, 0), 0.6), ((0, 0, 0), 0.0)])
def test_means_over_images_with_objects(tmp_path, objects, pointing):
    """Three batches of four images: all, one and none have an object; half of the first point, and the second."""
    rows = [
        {"pointing": share if count else 0.0, "empty_masks": 1 - count / 4, "contrastive": share}
        for count, share in zip(objects, (0.5, 1.0, 0.0), strict=True)
    ]
    record = RunRecord(tmp_path / "summary.json")
    trainer, _, _ = parts(max_epochs=1, callbacks=[record])
    trainer.fit(Steps(rows), torch.utils.data.DataLoader([{"query": torch.zeros(1)}] * 12, 4))
    found = record.metrics
    assert found["train/pointing"].start == found["train/pointing"].end == pytest.approx(pointing)
    assert found["train/contrastive"].end == pytest.approx(0.5), "of all images"
    assert found["train/empty_masks"].end == pytest.approx(1 - sum(objects) / 12)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.parametrize("accumulated", [1, 2])
def test_loss_does_not_depend_on_accumulation(tmp_path, accumulated):
    class Constant(Steps):
        def training_step(self, batch, batch_idx):
            return {"loss": 0 * self.weight.sum() + 3}

    record = RunRecord(tmp_path / "summary.json")
    trainer, _, _ = parts(max_epochs=1, accumulate_grad_batches=accumulated, callbacks=[record])
    trainer.fit(Constant([]), torch.utils.data.DataLoader(torch.zeros(8, 1), 2))
    assert record.metrics["train/loss"].start == record.metrics["train/loss"].end == pytest.approx(3)
    assert json.loads((tmp_path / "summary.json").read_text())["images"] == 8


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*returned `None`.*")
def test_steps_without_a_loss(tmp_path):
    """Lightning lets a module skip steps; its batches may be tuples."""

    class Skipping(Steps):
        def training_step(self, batch, batch_idx):
            return {"loss": 0 * self.weight.sum() + batch_idx} if batch_idx % 2 else None

    record = RunRecord(tmp_path / "summary.json")
    trainer, _, _ = parts(max_epochs=1, callbacks=[record, RunLog(), FiniteLoss(tmp_path / "bad.json")])
    rows = [(torch.zeros(1), 0)] * 8
    trainer.fit(Skipping([]), torch.utils.data.DataLoader(rows, 2))
    assert record.metrics["train/loss"].end == pytest.approx(2), "the mean of steps 1 and 3"


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_steps_that_return_more_than_scalars(tmp_path):
    """Predictions and names beside the loss: no metrics, and no hindrance."""

    class Predicting(Steps):
        def training_step(self, batch, batch_idx):
            return {"loss": (0 * self.weight.sum() + len(batch)).view(1), "predictions": batch, "name": "a"}

    record = RunRecord(tmp_path / "summary.json")
    trainer, _, _ = parts(max_epochs=1, callbacks=[record, RunLog(), FiniteLoss(tmp_path / "bad.json")])
    trainer.fit(Predicting([]), torch.utils.data.DataLoader(torch.zeros(6, 3), 4))
    assert record.metrics.keys() == {"train/loss"}
    assert record.metrics["train/loss"].end == pytest.approx(3), "the mean of four and two"


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_one_record_for_two_runs(tmp_path):
    record = RunRecord(tmp_path / "summary.json")
    for rows in ([{"contrastive": 1.0}] * 2, [{"contrastive": 5.0}] * 2):
        trainer, _, _ = parts(max_epochs=1, callbacks=[record])
        trainer.fit(Steps(rows), torch.utils.data.DataLoader([{"query": torch.zeros(1)}] * 8, 4))
        assert record.metrics["train/contrastive"].start == rows[0]["contrastive"]
        time.sleep(0.5)
    assert json.loads((tmp_path / "summary.json").read_text())["seconds"] < 0.5, "of the second alone"


def test_knn_without_indices(run):
    """The docs ask for images, masks and labels alone."""
    _, _, module, data = run
    probe = KNNProbe(k=3)
    trainer, _, _ = parts(callbacks=[probe])
    whole = list(data.val_dataloader())
    kept = [{name: batch[name] for name in ("image", "mask", "label")} for batch in whole]
    trainer.validate(module, torch.utils.data.DataLoader(kept, None), verbose=False)
    assert 0 <= trainer.callback_metrics["val/knn"] <= 1


def test_panel_rows(run):
    panel = np.asarray(Image.open(run[0] / "gradcam.png"))
    rows = [panel[40 + i * 70 : 40 + i * 70 + 64, 132 : 132 + 3 * 70 - 6] for i in range(4)]
    assert all(row.std() > 15 for row in rows)
    assert not np.array_equal(rows[2], rows[3])


def test_panel_label_of_trained_network(run, tmp_path):
    _, _, module, data = run
    panel = GradCAMPanel(tmp_path / "p.png", count=2)
    trainer, _, _ = parts(callbacks=[panel])
    trainer.validate(module, data, verbose=False)
    assert [label for label, _ in panel._rows] == ["Grad-CAM"]


def test_panel_frames(tmp_path):
    panel = GradCAMPanel(tmp_path / "p.png", count=2, pixels=32, frames=3)
    trainer, module, data = parts(max_epochs=15, limit_train_batches=1, callbacks=[panel])
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    trainer.validate(module, data, verbose=False)
    labels = [label.partition("\n")[2] for label, _ in panel._rows]
    assert labels[:3] == ["before training", "after 4 epochs", "after 8 epochs"]
    assert len(labels) <= 6
    height = 40 + (2 + 3) * 38 + 34
    assert np.asarray(Image.open(tmp_path / "p_epochs.png")).shape[0] == height, "three rows of CAMs"
    again = GradCAMPanel(tmp_path / "q.png")
    again.load_state_dict(panel.state_dict())
    assert [label for label, _ in again._rows] == [label for label, _ in panel._rows]
    assert all(
        np.array_equal(a, b)
        for (_, x), (_, y) in zip(again._rows, panel._rows, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_no_labels_or_masks():
    class Blank(castlit.data.ScenesDataModule):
        def val_dataloader(self):
            batches = []
            for batch in super().val_dataloader():
                batches.append({**batch, "mask": torch.zeros_like(batch["mask"])})
                del batches[-1]["label"]
            return torch.utils.data.DataLoader(batches, batch_size=None)

    trainer, module, _ = parts(callbacks=[KNNProbe(), PointingProbe()])
    trainer.validate(module, Blank(train_count=8, val_count=8, workers=0), verbose=False)
    assert not [name for name in trainer.callback_metrics if name.startswith("val/")]


def test_overlay_colours():
    image = np.full((32, 32, 3), (200, 40, 40), np.uint8)
    dead = overlay_cam(image, np.zeros((4, 4), np.float32))
    assert np.ptp(dead.reshape(-1, 3), axis=0).max() == 0
    cam = np.zeros((4, 4), np.float32)
    cam[0, 0] = 1e-20
    hot = overlay_cam(np.full((32, 32, 3), 128, np.uint8), cam)
    assert hot[4, 4, 0] > hot[4, 4, 2] + 60, "red over blue at the spot"
    assert np.ptp(hot[28, 28]) < 10, "grey far from it"


def test_overlay_mask():
    image = np.full((32, 32, 3), (10, 120, 10), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 1
    shown = overlay_mask(image, mask)
    assert (shown[16, 16] == image[16, 16]).all()
    assert shown[0, 0].min() > 180


def test_panel_path_must_be_image():
    with pytest.raises(InputError, match=r"callbacks\.panel\.path=cams\.txt: name an image file"):
        GradCAMPanel("cams.txt")


@pytest.mark.parametrize(
    ("callback", "outputs", "batch", "line"),
    [
        (KNNProbe(), None, {"label": 1}, r"KNNProbe needs 'features' in what validation_step returns: \(N, C\)"),
        (PointingProbe(), {}, {"mask": torch.ones(1, 1, 2, 2)}, r"PointingProbe needs 'cam' in what validation_step"),
        (PointingProbe(), {}, [torch.ones(1)], r"PointingProbe needs 'mask' in the validation batch: \(N, 1, H, W\)"),
        (GradCAMPanel(), {}, {}, r"GradCAMPanel needs 'image' in the validation batch: \(N, 3, H, W\)"),
    ],
    ids=["features", "cam", "mask", "image"],
)
def test_parts_that_are_missing(callback, outputs, batch, line):
    trainer, _, _ = parts()
    with pytest.raises(InputError, match=line):
        callback.on_validation_batch_end(trainer, None, outputs, batch, 0)
    if isinstance(callback, KNNProbe):
        callback.on_validation_batch_end(trainer, None, None, torch.ones(1), 0)  # no labels: nothing to do
