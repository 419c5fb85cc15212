"""The benchmarks: their implementations do the right work, and their programs write rows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from castlit.bench import implementations
from castlit.bench.data import make_photographs
from castlit.bench.fits import castlit_trainer
from castlit.bench.implementations import WARM_UP, Settings, installed_implementations, timed_training
from castlit.bench.loops import BareMoCo, PublishedCAST
from castlit.bench.peer_views import peer_views
from castlit.bench.ratios import median_ratio, ratio_interval
from castlit.bench.step import bench_step
from castlit.utils.validation import InputError

SMALL = Settings("tiny_resnet", size=16, batch_size=4, queue_size=9, precision="32", device="cpu")


@pytest.fixture
def built(monkeypatch):
    """The methods that the implementations train, in the order of construction."""
    methods = []
    build = Settings.method

    def method(self):
        methods.append(build(self))
        return methods[-1]

    monkeypatch.setattr(Settings, "method", method)
    return methods


def passes(network):
    """Count the network's forward passes in a list."""
    seen = []
    network.register_forward_hook(lambda *_: seen.append(1))
    return seen


class TestImplementations:
    @pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
    def test_lightning_equals_bare_loop(self, built, monkeypatch):
        def unclipped(folder, precision):  # the bare loop does not clip gradients
            trainer = castlit_trainer(folder, precision)
            trainer.gradient_clip_val = None
            return trainer

        monkeypatch.setattr(implementations, "castlit_trainer", unclipped)
        batches = SMALL.batches(4)
        for name in ("moco", "lightning_moco"):
            assert timed_training(name, SMALL)(batches) > 0
        bare, lightning = built
        assert int(bare.queue.pointer) == 4 * 4 % 9
        for (key, a), (_, b) in zip(bare.state_dict().items(), lightning.state_dict().items(), strict=True):
            assert torch.allclose(a.float(), b.float(), atol=1e-5), key

    def test_trainer_of_castlit_train(self, tmp_path):
        trainer = castlit_trainer(str(tmp_path), "32-true")
        names = {type(callback).__name__ for callback in trainer.callbacks}
        assert {"ProgressBar", "LastCheckpoint", "ExactResume", "FiniteLoss", "RunRecord"} <= names
        assert [type(logger).__name__ for logger in trainer.loggers] == ["MetricsCSV"]

    @pytest.mark.filterwarnings("ignore")
    def test_lightly_equals_bare_loop(self, built):
        """From the same weights and keys, its loss is that of castlit's MoCo."""
        pytest.importorskip("lightly")
        from castlit.bench.lightly_moco import LightlyMoCo

        method, peer = SMALL.method(), LightlyMoCo("tiny_resnet", SMALL.queue_size)
        for ours, theirs in (
            (method.encoder, (peer.backbone[0], peer.projection_head)),
            (method.momentum_encoder, (peer.backbone_momentum[0], peer.projection_head_momentum)),
        ):
            for part, other in zip((ours.backbone, ours.head), theirs, strict=True):
                for value, copied in zip(part.parameters(), other.parameters(), strict=True):
                    copied.data.copy_(value)
        peer.criterion.memory_bank.bank = method.queue.snapshot().clone()
        (batch,) = SMALL.batches(1)
        expected = method(batch["query"], batch["key"]).loss
        assert torch.allclose(peer.training_step(batch, 0), expected, rtol=1e-4)

    def test_published_step_reads_its_metrics_last(self, monkeypatch):
        loop, seen = PublishedCAST(SMALL.method(), autocast=False), []
        item, step = torch.Tensor.item, loop.optimizer.step
        monkeypatch.setattr(torch.Tensor, "item", lambda self: seen.append("item") or item(self))
        monkeypatch.setattr(loop.optimizer, "step", lambda: seen.append("step") or step())
        loop.run(SMALL.batches(1))
        assert seen[-3:] == ["item"] * 3
        assert seen.index("step") < len(seen) - 3

    @pytest.mark.parametrize(("loop", "queries", "keys"), [(BareMoCo, 1, 1), (PublishedCAST, 2, 2)])
    def test_passes_of_bare_step(self, loop, queries, keys):
        method = SMALL.method()
        of_queries, of_keys = passes(method.encoder.backbone), passes(method.momentum_encoder.backbone)
        loop(method, autocast=False).run(SMALL.batches(1))
        assert (len(of_queries), len(of_keys)) == (queries, keys)

    @pytest.mark.parametrize(("name", "keys"), [("cast", 2), ("cast_masked_features", 1), ("lightning_moco", 1)])
    def test_passes_of_module_step(self, built, name, keys):
        run = timed_training(name, SMALL)
        of_queries, of_keys = passes(built[0].encoder.backbone), passes(built[0].momentum_encoder.backbone)
        run(SMALL.batches(WARM_UP + 1))
        assert (len(of_queries), len(of_keys)) == (WARM_UP + 1, keys * (WARM_UP + 1))

    def test_published_step_updates_momentum_twice(self):
        method = SMALL.method()
        with torch.no_grad():
            for parameter in method.momentum_encoder.parameters():
                parameter.zero_()
        trained = [parameter.detach().clone() for parameter in method.encoder.parameters()]
        PublishedCAST(method, autocast=False).run(SMALL.batches(1))
        for average, before in zip(method.momentum_encoder.parameters(), trained, strict=True):
            assert torch.allclose(average, (1 - method.momentum**2) * before, atol=1e-6)


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"size": 0}, "size must be"),
            ({"batch_size": 1}, "batch_size must be"),
            ({"precision": "half"}, "precision"),
            ({"steps": 0}, "steps must be"),
            ({"rounds": 0}, "rounds must be"),
            ({"threads": 0}, "threads must be"),
            ({"backbone": "resnet19"}, "resnet1"),
        ],
    )
    def test_invalid_values(self, wrong, message):
        given = {"backbone": "tiny_resnet", "size": 16, "batch_size": 4, "queue_size": 9, "rounds": 1, "steps": 1}
        with pytest.raises(InputError, match=message):
            bench_step(**{**given, **wrong})


@pytest.mark.slow
@pytest.mark.nightly  # a new process for each implementation
def test_step_row(run_program, tmp_path):
    settings = ["backbone=tiny_resnet", "size=32", "batch_size=8", "queue_size=64", "steps=1", "rounds=2"]
    done = run_program("bench", "step", *settings, "output=rows/step.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "rows" / "step.json").read_text())
    assert row == json.loads(done.stdout.splitlines()[-1])
    for part in ("images_per_s", "ratio_to_moco", "peak_memory_mib"):
        assert set(row[part]) == set(installed_implementations())
        assert all(figure > 0 for figure in row[part].values()), part
    assert row["ratio_to_moco"]["moco"] == 1
    assert {"cpu", "cores", "gpu", "versions"} <= set(row["machine"])
    assert [path.name for path in tmp_path.iterdir()] == ["rows"], "a benchmark writes nothing else"


@pytest.mark.parametrize(("rounds", "left_out"), [(1, 0), (5, 0), (8, 0), (9, 1), (12, 2), (15, 3)])
def test_interval_of_median(rounds, left_out):
    """The order statistics of tables of the sign test."""
    times = [float(i) for i in range(1, rounds + 1)]
    low, high = ratio_interval(times[::-1], [1.0] * rounds, 3)
    assert (low, high) == (1.0 + left_out, rounds - left_out)
    assert low <= median_ratio(times, [1.0] * rounds, 3) <= high


def test_peers_make_the_same_views(tmp_path):
    """Shapes and types, levels in ImageNet's range, and masks that moved with their image."""
    images, masks = make_photographs(tmp_path, 1)
    for folder in (images, masks):  # a black left half; the mask is the right half
        (file,) = Path(folder).iterdir()
        pixels = np.asarray(Image.open(file)) | 255
        pixels[:, :320] = 0
        Image.fromarray(pixels).save(file)
    paths = [(next(Path(images).iterdir()), next(Path(masks).iterdir()))] * 8
    peers = peer_views(32)
    assert {"torchvision_v2", "albumentations_masks", "albumentations"} <= set(peers)
    for name, make in peers.items():
        query, key, *made = make(paths)
        for view in (query, key):
            assert (view.shape, view.dtype) == ((8, 3, 32, 32), torch.float32), name
            assert -2.2 < view.min() < -1.5 < 1 < view.max() < 2.7, name
            assert (view[0] != view[1]).any(), name
        assert len(made) == (2 if name in ("torchvision_v2", "albumentations_masks") else 0)
        for view, mask in zip((query, key), made, strict=False):
            assert (mask.shape, mask.dtype, mask.unique().tolist()) == ((8, 1, 32, 32), torch.uint8, [0, 1]), name
            assert ((view.mean(1, keepdim=True) > -0.9) == mask.bool()).float().mean() > 0.9, name


def test_data_row(run_program, tmp_path):
    done = run_program("bench", "data", "count=32", "size=64", "rounds=1", "output=data.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "data.json").read_text())
    assert row["benchmark"] == "data"
    for peer in ("pil", "torchvision_v2", "albumentations_masks", "albumentations"):
        for name, ratio in row[f"ratio_to_{peer}"].items():
            low, high = row[f"ratio_to_{peer}_interval"][name]
            assert 0 < low <= ratio <= high
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_unknown_benchmark(run_program, tmp_path):
    done = run_program("bench", "speed", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no benchmark 'speed'" in done.stderr
    assert "step" in done.stderr
