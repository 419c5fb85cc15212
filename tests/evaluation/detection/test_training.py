"""Schedules, training steps, and resuming an interrupted run."""

import math
from dataclasses import fields
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import nn

from castlit.callbacks import ExactResume, FiniteLoss, LastCheckpoint, MetricsCSV
from castlit.evaluation.detection import (
    DetectorSettings,
    evaluate_coco_segmentation,
    evaluate_voc_detection,
    faster_rcnn_c4,
)
from castlit.evaluation.detection.coco_segmentation import SCHEDULES
from castlit.evaluation.detection.detector_module import DetectorTraining
from castlit.evaluation.detection.voc_detection import SCHEDULE
from castlit.nn import build_backbone
from castlit.resume.request import PREVIOUS
from castlit.utils.validation import InputError

TINY = {
    "batch_size": 2,
    "min_size": [64],
    "max_size": 96,
    "anchors": (8, 16, 32, 48, 64),
    "boxes": 4,
    "proposals": 5,
    "workers": 0,
    "classes": "present",
    "warmup": 2,
}
TRAINER = partial(
    pl.Trainer, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1
)


def test_paper_schedules():
    assert (SCHEDULE.iterations, SCHEDULE.drops, SCHEDULE.warmup) == (24000, (18000, 22000), 100)
    assert (SCHEDULE.min_size[0], SCHEDULE.min_size[-1], SCHEDULE.lr, SCHEDULE.weight_decay) == (480, 800, 0.02, 1e-4)
    assert [(s.iterations, s.drops, s.warmup) for s in SCHEDULES.values()] == [
        (90000, (60000, 80000), 1000),
        (180000, (120000, 160000), 1000),
    ]
    rates = [SCHEDULE.lr_factor(step) for step in (0, 50, 100, 17999, 18000, 21999, 22000)]
    assert rates == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01])


def test_settings_override():
    assert DetectorSettings(10, [9, 4], 0, 64).lr_factor(5) == pytest.approx(0.1)
    assert SCHEDULE.override({}) == SCHEDULE
    # Drops scale with the iterations unless they are given.
    for iterations in (4, 6, 18, 1000):
        expected = (round(3 / 4 * iterations), round(11 / 12 * iterations))
        assert SCHEDULE.override({"iterations": iterations, "drops": None}).drops == expected
    assert SCHEDULE.override({"iterations": 100, "drops": 7, "anchors": 32}).drops == (7,)
    with pytest.raises(
        InputError, match=r"^protocol.propsals is not a key of this protocol \(did you mean 'proposals'"
    ):
        SCHEDULE.override({"propsals": 5})


def test_config_has_the_papers_settings(repository):
    conf = repository / "conf"
    shared = OmegaConf.load(conf / "detector" / "default.yaml")
    assert set(shared) <= {field.name for field in fields(DetectorSettings)}
    for protocol, paper in (("voc_detection", SCHEDULE), ("coco_segmentation", SCHEDULES["1x"])):
        own = OmegaConf.load(conf / "protocol" / f"{protocol}.yaml").protocol
        keys = {key: value for key, value in {**shared, **own}.items() if hasattr(paper, key) and value is not None}
        for key in ("trainer", "callbacks", "logger"):
            del keys[key]
        assert {"lr", "warmup", "min_size", "anchors"} <= set(keys)
        assert paper.override(OmegaConf.to_container(OmegaConf.create(keys))) == paper


def test_norms_have_no_weight_decay():
    settings = DetectorSettings(10, (), 100, [64], 96)
    detector = faster_rcnn_c4(build_backbone("tiny_resnet"), 2, settings)
    training = DetectorTraining(detector, settings, masks=False, identity={})
    optimizer = training.configure_optimizers()["optimizer"]
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (1e-4, 0)
    norms = [part for part in training.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(free["params"]) == 2 * len(norms)
    assert len(decayed["params"]) + len(free["params"]) == len(list(training.parameters()))


def run(voc, output, seed=0, iterations=4, **given):
    pl.seed_everything(seed, verbose=False)
    backbone = build_backbone("tiny_resnet")
    settings = {**TINY, "trainer": TRAINER, "iterations": iterations, **given}
    return evaluate_voc_detection(backbone, output, "random", seed, voc, **settings)


class Keep(pl.Callback):
    """Keeps a run's final weights and its losses; or interrupts it."""

    def __init__(self, stop=None):
        self.stop, self.losses = stop, []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.stop:
            raise KeyboardInterrupt("killed")

    def on_validation_end(self, trainer, module):
        self.weights = {name: value.clone() for name, value in module.state_dict().items()}


def kept(*more, every=1):
    checkpoint = partial(LastCheckpoint, dirpath="checkpoints", every_n_minutes=None, every_n_train_steps=every)
    return {"checkpoint": checkpoint, "resume": ExactResume(), **{str(n): callback for n, callback in enumerate(more)}}


def test_resumed_run_equals_uninterrupted(voc, tmp_path):
    full = Keep()
    table = {"logger": {"csv": partial(MetricsCSV, save_dir=".", name="", version="")}}
    scores = run(voc, tmp_path / "full", callbacks=kept(full), **table)
    assert set(scores) == {"AP", "AP50", "AP75"}
    first, rest = Keep(stop=2), Keep()
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        run(voc, tmp_path / "interrupted", callbacks=kept(first), **table)
    again = run(voc, tmp_path / "interrupted", callbacks=kept(rest), resume="last", **table)
    assert len(rest.losses) == 2
    assert first.losses + rest.losses == full.losses
    assert all(torch.equal(value, full.weights[name]) for name, value in rest.weights.items())
    assert again == scores
    # A third run has nothing left to train, and tests again.
    done = Keep()
    assert run(voc, tmp_path / "interrupted", callbacks=kept(done), resume="last", **table) == scores
    assert done.losses == []
    # The logs are equal, too.
    assert (tmp_path / "interrupted" / "metrics.csv").read_text() == (tmp_path / "full" / "metrics.csv").read_text()
    last = tmp_path / "interrupted" / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match=r"is of another run: iterations was 4, not 5, drops"):
        run(voc, tmp_path / "interrupted", iterations=5, resume=str(last))
    last.write_bytes(last.read_bytes()[:1000])
    last.with_name(PREVIOUS).unlink()
    with pytest.raises(InputError, match=r"protocol.resume=.*last.ckpt: not a checkpoint, or damaged"):
        run(voc, tmp_path / "interrupted", resume="last")


def test_no_checkpoint_to_resume(voc, tmp_path, capsys):
    run(voc, tmp_path, iterations=1, resume="last")
    assert "nothing to resume yet, starting from scratch" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"resume=/no/such.ckpt: no such file"):
        run(voc, tmp_path, resume="/no/such.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"not a checkpoint of voc_detection's training"):
        run(voc, tmp_path, resume=str(tmp_path / "other.ckpt"))


def test_new_run_keeps_old_checkpoint(voc, tmp_path, capsys):
    run(voc, tmp_path, iterations=1, callbacks=kept())
    first = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    assert "replaced.ckpt" not in capsys.readouterr().out
    run(voc, tmp_path, iterations=2, callbacks=kept())
    assert "protocol.resume=last resumes it): it is now replaced.ckpt" in capsys.readouterr().out
    assert (tmp_path / "checkpoints" / "replaced.ckpt").read_bytes() == first
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_nonfinite_gradients_stop_run(voc, tmp_path):
    class Spoil(pl.Callback):
        def on_after_backward(self, trainer, module):
            if trainer.global_step == 1:
                next(module.parameters()).grad.fill_(math.nan)

    with pytest.raises(InputError, match=r"gradients are not finite at step 1 \(1 parameters, .*conv1.weight\): lower"):
        run(voc, tmp_path, callbacks={"spoil": Spoil()})


def test_nonfinite_loss_names_images(voc, tmp_path, monkeypatch):
    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            nn.init.constant_(module.detector.roi_heads.box_predictor.cls_score.bias, math.nan)

    with pytest.raises(InputError, match=r"loss is nan at step 0, of .*JPEGImages.*: lower protocol.lr=0.02"):
        run(voc, tmp_path, callbacks={"spoil": Spoil()})
    # Under a gradient scaler, which skips such steps, the callback sees it.
    loss = partial(FiniteLoss, path="bad_batch.json")
    monkeypatch.setattr(DetectorTraining, "on_before_optimizer_step", lambda self, optimizer: None)
    with pytest.raises(InputError, match=r"loss is nan at step 0.*bad_batch.json names its images"):
        run(voc, tmp_path, callbacks={"spoil": Spoil(), "loss": loss})
    assert "JPEGImages" in (tmp_path / "bad_batch.json").read_text()


def test_mixed_precision(voc, tmp_path):
    keep = Keep()
    run(voc, tmp_path, iterations=2, callbacks={"keep": keep}, trainer=partial(TRAINER, precision="bf16-mixed"))
    assert all(math.isfinite(loss) for loss in keep.losses)
    assert all(value.dtype != torch.bfloat16 for value in keep.weights.values())


def test_segmentation_scores_boxes_and_masks(coco, tmp_path):
    keep = Keep()
    scores = evaluate_coco_segmentation(
        build_backbone("tiny_resnet"),
        tmp_path,
        "random",
        0,
        coco,
        iterations=2,
        callbacks={"k": keep},
        trainer=TRAINER,
        **TINY,
    )
    assert list(scores) == [f"{kind}_{metric}" for kind in ("box", "mask") for metric in ("AP", "AP50", "AP75")]
    assert len(keep.losses) == 2


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"architecture": "yolo"}, "protocol.architecture must be one of c4, fpn"),
        ({"architecture": "fpn", "anchors": (32, 64)}, "a feature pyramid takes 5 sides"),
        ({"iterations": 0}, "protocol.iterations must be at least 1"),
        ({"min_size": []}, "protocol.min_size needs at least one short side"),
        ({"min_size": [200]}, "protocol.max_size must be at least 200"),
        ({"boxes": 0}, "protocol.boxes must be at least 1"),
        ({"lr": 0}, "protocol.lr must be greater than 0"),
        ({"workers": -1}, "protocol.workers must be at least 0"),
        ({"workers": "two"}, "protocol.workers must be a whole number"),
        ({"drops": -3}, "protocol.drops must be at least 0"),
        ({"anchors": 0}, "protocol.anchors must be at least 1"),
        ({"min_size": 20}, "protocol.min_size must be at least 32"),
        ({"min_sizes": [64]}, r"^protocol.min_sizes is not a key of this protocol \(did you mean 'min_size'\?\)"),
        ({"resume": True}, "protocol.resume must be null, last, or the path of a .ckpt file; got True"),
        ({"trainer": partial(TRAINER, precision="16-mixd")}, "^protocol.trainer: Precision '16-mixd' is invalid"),
        ({"trainer": partial(TRAINER, presicion=16)}, "^protocol.trainer: .*presicion"),
        (
            {"callbacks": {"checkpoint": partial(LastCheckpoint, every_n_minutes=-1)}},
            "^protocol.callbacks.checkpoint.every_n_minutes must be greater than 0",
        ),
        ({"trainer": partial(TRAINER, accelerator="cpu"), "classes": "all"}, "has no object of aeroplane"),
    ],
)
def test_invalid_settings(voc, tmp_path, given, line):
    with pytest.raises(InputError, match=line):
        run(voc, tmp_path, **given)
