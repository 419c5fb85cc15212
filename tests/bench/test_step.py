"""The step's benchmark: its implementations run the right passes, and its program writes a row."""

import json

import pytest
import torch

from castlit.bench.implementations import IMPLEMENTATIONS, WARM_UP, Settings, timed_training
from castlit.bench.loops import BareMoCo, PublishedCAST
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
    def test_lightning_equals_bare_loop(self, built):
        batches = SMALL.batches(4)
        for name in ("moco", "lightning_moco"):
            assert timed_training(name, SMALL)(batches) > 0
        bare, lightning = built
        assert int(bare.queue.pointer) == 4 * 4 % 9
        for (key, a), (_, b) in zip(bare.state_dict().items(), lightning.state_dict().items(), strict=True):
            assert torch.allclose(a.float(), b.float(), atol=1e-5), key

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
        assert set(row[part]) == set(IMPLEMENTATIONS)
        assert all(figure > 0 for figure in row[part].values()), part
    assert row["ratio_to_moco"]["moco"] == 1
    assert {"cpu", "cores", "gpu", "versions"} <= set(row["machine"])
    assert [path.name for path in tmp_path.iterdir()] == ["rows"], "a benchmark writes nothing else"


def test_data_row(run_program, tmp_path):
    done = run_program("bench", "data", "count=32", "size=64", "rounds=1", "output=data.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "data.json").read_text())
    assert row["benchmark"] == "data"
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_unknown_benchmark(run_program, tmp_path):
    done = run_program("bench", "speed", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no benchmark 'speed'" in done.stderr
    assert "step" in done.stderr
