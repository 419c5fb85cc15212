from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from torch import nn
from torch.nn import functional as F

from castlit.evaluation.probing import (
    Classifier,
    Recipe,
    balanced_subset,
    evaluate_finetune,
    evaluate_knn,
    evaluate_linear,
    open_labelled,
)
from castlit.evaluation.probing.data import ProbeData
from castlit.nn import build_backbone
from castlit.utils.validation import InputError

CPU = torch.device("cpu")
TRAINER = partial(
    pl.Trainer, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1
)


def linear(backbone, folder, root, **given):
    settings = {"epochs": 4, "lr": 1.0, "drops": (3,), "batch_size": 8, "size": 32, "workers": 0, "trainer": TRAINER}
    return evaluate_linear(backbone, folder, "random", 0, root, **{**settings, **given})


class Keep(pl.Callback):
    """Keeps a copy of what was trained, and of each step's loss and rates."""

    def __init__(self):
        self.losses, self.rates, self.state, self.mode = [], [], {}, None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        self.mode = pl_module.backbone.training

    def on_train_end(self, trainer, pl_module):
        self.state = {name: x.clone() for name, x in pl_module.state_dict().items()}


def test_linear_on_perfect_and_constant_features(folders, tmp_path):
    assert linear(nn.Identity(), tmp_path, folders) == {"top1": 100, "top5": 100}
    nothing = nn.Conv2d(3, 3, 1)
    nn.init.zeros_(nothing.weight)
    results = linear(nothing, tmp_path, folders)
    assert results["top1"] == pytest.approx(100 / 3)


def test_linear_equals_plain_loop(folders, tmp_path):
    keep = Keep()
    backbone = nn.Conv2d(3, 5, 3)
    linear(backbone, tmp_path, folders, callbacks={"keep": keep}, drop_factor=0.1, lr=0.02)
    data = open_labelled(folders)
    torch.manual_seed(0)
    head = Classifier(backbone, 3, Recipe(), {}).head.double()
    batches = ProbeData(data.train, data.val, np.arange(24), 32, None, 8, 0, 0)
    loader, losses = batches.train_dataloader(), []
    speed = [torch.zeros_like(p) for p in head.parameters()]
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            features = backbone(batch["image"]).detach().double().mean((2, 3))
            loss = F.cross_entropy(head(features), batch["label"])
            losses.append(loss.item())
            for p, v, g in zip(
                head.parameters(), speed, torch.autograd.grad(loss, list(head.parameters())), strict=True
            ):
                v.mul_(0.9).add_(g)
                p.data.sub_((0.02 if epoch < 3 else 0.002) * v)
    assert losses[-1] > 0.01  # there is something to compare
    np.testing.assert_allclose(keep.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(keep.state["head.weight"], head.weight.detach(), rtol=1e-3, atol=1e-5)


class FixedLogits(Classifier):
    """Returns fixed logits; images are indices of them."""

    def forward(self, images):
        return self.logits[images]

    def log(self, *words, **more):
        """There is no trainer."""


def top(logits, labels):
    """``top1`` and ``top5`` of these logits."""
    classifier = FixedLogits(nn.Conv2d(3, 4, 1), logits.shape[1], Recipe(), {})
    classifier.logits = torch.from_numpy(logits)
    classifier.on_validation_epoch_start()
    for part in torch.arange(len(labels)).split(7):
        classifier.validation_step({"image": part, "label": torch.from_numpy(labels)[part], "index": part}, 0)
    classifier.on_validation_epoch_end()
    return classifier.top1, classifier.top5


def test_accuracies():
    right = np.eye(8)[[3, 1, 0]]
    assert top(right, np.array([3, 1, 0])) == (100, 100)
    order = np.array([[7.0, 6, 5, 4, 3, 2, 1, 0]] * 4)  # classes 0 to 7 in this order
    assert top(order, np.array([0, 4, 5, 7])) == (25, 50)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4000, 8)), rng.integers(0, 8, 4000)
    expected = [100 * top_k_accuracy_score(labels, logits, k=k) for k in (1, 5)]
    assert top(logits, labels) == pytest.approx(expected)
    assert expected == pytest.approx([100 / 8, 500 / 8], abs=3)


def test_diverged_classifier_is_never_right():
    assert top(np.full((3, 8), np.nan), np.array([0, 1, 2])) == (0, 0)
    assert top(np.where(np.eye(8)[:3], 1.0, np.nan), np.array([0, 1, 2])) == (0, 0)
    # One score for all classes is no answer either.
    assert top(np.zeros((3, 8)), np.array([0, 1, 2])) == (0, 0)


def test_backbone_is_frozen_or_copied(folders, tmp_path):
    backbone = build_backbone("tiny_resnet").eval()
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    keep = Keep()
    linear(backbone, tmp_path, folders, callbacks={"keep": keep}, epochs=1)
    assert keep.mode is False
    for name, x in before.items():
        torch.testing.assert_close(keep.state[f"backbone.{name}"], x, rtol=0, atol=0)
    keep = Keep()
    given = {"epochs": 2, "batch_size": 6, "size": 32, "workers": 0, "trainer": TRAINER, "drops": (1,)}
    given |= {"lr": 0.5, "backbone_lr": 0.01, "drop_factor": 0.2, "callbacks": {"keep": keep}}
    evaluate_finetune(backbone, tmp_path, "random", 0, root=folders, labels=0.5, **given)
    assert keep.mode is True
    assert keep.rates[0] == [0.5, 0.01]
    assert keep.rates[-1] == pytest.approx([0.1, 0.002])
    assert len(keep.rates) == 4  # half of 24 images, six at a time, two epochs
    assert not torch.equal(keep.state["backbone.conv1.weight"], before["conv1.weight"])
    for name, x in before.items():
        torch.testing.assert_close(backbone.state_dict()[name], x, rtol=0, atol=0)


def test_resumed_run_equals_uninterrupted(folders, tmp_path):
    from castlit.callbacks import ExactResume, LastCheckpoint

    def run(folder, **given):
        keep = Keep()
        parts = {"keep": keep, "last": LastCheckpoint(folder / "checkpoints"), "exact": ExactResume()}
        results = linear(nn.Conv2d(3, 4, 1).requires_grad_(False), folder, folders, callbacks=parts, **given)
        return keep, results

    class Stop(Exception):
        pass

    class Break(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                raise Stop

    torch.manual_seed(1)
    full, results = run(tmp_path / "full")
    torch.manual_seed(1)
    parts = {"last": LastCheckpoint(tmp_path / "interrupted" / "checkpoints"), "exact": ExactResume(), "stop": Break()}
    with pytest.raises(Stop):
        linear(nn.Conv2d(3, 4, 1).requires_grad_(False), tmp_path / "interrupted", folders, callbacks=parts)
    saved = torch.load(tmp_path / "interrupted" / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {"head.weight", "head.bias"}
    torch.manual_seed(1)
    rest, again = run(tmp_path / "interrupted", resume="last")
    assert rest.losses == full.losses[6:]
    assert again == results
    for name, x in full.state.items():
        torch.testing.assert_close(rest.state[name], x, rtol=0, atol=0)
    torch.manual_seed(1)
    with pytest.raises(InputError, match="is of another run: epochs was 4, not 9"):
        run(tmp_path / "interrupted", resume="last", epochs=9)
    with pytest.raises(InputError, match="no such file"):
        run(tmp_path / "interrupted", resume="nowhere.ckpt")
    torch.manual_seed(2)  # a checkpoint of the same name whose training went on
    with pytest.raises(InputError, match="is of another run: weights was "):
        run(tmp_path / "interrupted", resume="last")


def test_two_processes_equal_one(run_ranks, folders, tmp_path):
    script = Path(__file__).parent / "two_ranks.py"
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        run_ranks(count, script, folder, folders, str(count))
        found[count] = [torch.load(folder / f"rank{i}.pt") for i in range(count)]
    one, first, second = found[1][0], *found[2]
    assert first["results"] == second["results"] == one["results"]
    for name, x in one["head"].items():
        torch.testing.assert_close(first["head"][name], x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first["head"][name], second["head"][name], rtol=0, atol=0)
    # A checkpoint that the first process alone can see is no start for both.
    run_ranks(2, script, folder, folders, "2", "apart")
    messages = [torch.load(folder / f"rank{i}.pt")["results"] for i in range(2)]
    assert messages[0] == messages[1]
    assert "would resume at different steps (6, 0): the checkpoint of protocol.resume must be on a disk" in messages[0]


def test_mixed_precision_trains(folders, tmp_path):
    results = linear(nn.Conv2d(3, 8, 1), tmp_path, folders, trainer=partial(TRAINER, precision="bf16-mixed"))
    assert results["top1"] > 60


def test_knn_on_perfect_and_constant_features(folders, tmp_path, caplog):
    given = {"size": 32, "workers": 0}
    results = evaluate_knn(nn.AvgPool2d(32), CPU, tmp_path, folders, [1, 5], **given)
    assert results == {"top1/k=1": 100, "top1/k=5": 100}
    assert not caplog.records
    nothing = nn.Conv2d(3, 3, 1)
    nn.init.zeros_(nothing.weight)
    assert evaluate_knn(nothing, CPU, tmp_path, folders, 24, **given)["top1/k=24"] == pytest.approx(100 / 3)
    evaluate_knn(nothing, CPU, tmp_path, folders, 25, **given)
    assert caplog.messages == ["protocol.k=25: there are 24 training images, and all of them vote"]


def test_scenes_need_no_files(tmp_path):
    results = evaluate_knn(build_backbone("tiny_resnet").eval(), CPU, tmp_path, k=5, train_count=40, test_count=20)
    assert 0 <= results["top1/k=5"] <= 100
    results = linear(build_backbone("tiny_resnet").eval(), tmp_path, None, train_count=40, test_count=20, size=None)
    assert set(results) == {"top1", "top5"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_balanced_subset(labels, fraction):
    labels = np.array(labels)
    chosen = balanced_subset(labels, fraction)
    assert len(set(chosen.tolist())) == len(chosen)
    np.testing.assert_array_equal(chosen, balanced_subset(labels, fraction))
    if fraction == 1:
        assert len(chosen) == len(labels)
        return
    counts = Counter(labels.tolist())

    def total(each):
        return sum(min(each, count) for count in counts.values())

    taken = Counter(labels[chosen].tolist())
    each = max(taken.values())
    assert taken == {label: min(each, count) for label, count in counts.items()}
    closest = min(abs(total(other) - fraction * len(labels)) for other in range(1, len(labels) + 1))
    assert abs(len(chosen) - fraction * len(labels)) == pytest.approx(closest)


def test_messages(folders, tmp_path):
    with pytest.raises(InputError, match=r"protocol\.labels must be greater than 0"):
        linear(nn.Identity(), tmp_path, folders, labels=0)
    for wrong, line in (
        ({"drops": -1}, r"protocol\.drops must be at least 0"),
        ({"drops": ["a"]}, r"protocol\.drops must be a whole number"),
        ({"workers": -1}, r"protocol\.workers must be at least 0"),
    ):
        with pytest.raises(InputError, match=line):
            linear(nn.Identity(), tmp_path, folders, **wrong)
    with pytest.raises(InputError, match=r"protocol\.test_count must be at least 1"):
        linear(nn.Identity(), tmp_path, None, test_count=0)
    with pytest.raises(InputError, match=r"protocol\.backbone_lr must be greater than 0"):
        evaluate_finetune(nn.Identity(), tmp_path, "random", 0, root=folders, backbone_lr=0.0)
    (folders / "train" / "plum" / "3.jpg").write_bytes(b"\xff\xd8 none")
    with pytest.raises(InputError, match=r"plum/3\.jpg"):
        linear(nn.Identity(), tmp_path, folders)
    (folders / "val" / "kiwi").rename(folders / "val" / "lime")
    with pytest.raises(InputError, match="does not have the classes of the training images: kiwi, lime"):
        linear(nn.Identity(), tmp_path, folders)
    with pytest.raises(FileNotFoundError, match=r"data\.root="):
        linear(nn.Identity(), tmp_path, tmp_path / "nowhere")
    (folders / "val").rename(folders / "test")
    with pytest.raises(InputError, match="lacks val"):
        linear(nn.Identity(), tmp_path, folders)
