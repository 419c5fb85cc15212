"""Training from weights that exist: ``weights=``."""

import json
import shutil

import pytest
import torch

from castlit.nn import build_backbone

RUN = [
    *("+experiment=cast_mocov2", "data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32"),
    *("data.scene_size=40", "data.workers=0", "callbacks.panel=null", "trainer.max_epochs=1", "hydra.run.dir=run"),
    "budget.lr=1e-9",  # the weights at the end are those of the start
]


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(7)
    return build_backbone("tiny_resnet").eval()


@pytest.fixture
def file(source, tmp_path):
    """A checkpoint of MoCo's, whose head must stay behind."""
    state = {f"module.encoder_q.{name}": value for name, value in source.state_dict().items()}
    state |= {f"module.encoder_q.fc.{n}.weight": torch.full((128, 128), 9.0) for n in (0, 2)}
    torch.save({"epoch": 3, "state_dict": {**state, "module.queue": torch.zeros(128, 9)}}, tmp_path / "moco.pth.tar")
    return tmp_path / "moco.pth.tar"


def test_starts_from_weights(run_program, source, file, tmp_path):
    run = [*RUN, "weights=moco.pth.tar", "resume=last"]
    result = run_program("train", *run, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    line = "weights=moco.pth.tar: tiny_resnet starts from this checkpoint with module.encoder_q.* (left out: queue, fc)"
    assert line in result.stdout
    note = {"from": "moco.pth.tar", "kind": "checkpoint with module.encoder_q.*", "left_out": ["queue", "fc"]}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["weights"] == note
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for encoder in ("encoder", "momentum_encoder"):
        for name, value in source.named_parameters():
            torch.testing.assert_close(state[f"method.{encoder}.backbone.{name}"], value, rtol=0, atol=1e-5)
        assert all(value.abs().max() < 1 for name, value in state.items() if name.startswith(f"method.{encoder}.head"))
    both = run_program("train", *run[:-1], "resume=run/checkpoints/last.ckpt", "trainer.max_epochs=2", cwd=tmp_path)
    assert both.returncode == 1
    assert "weights=moco.pth.tar and resume=run/checkpoints/last.ckpt are two starts of one run" in both.stderr
    # Resumed, it does not start again from them: the file may be gone.
    file.unlink()
    again = run_program("train", *run, "trainer.max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "continuing from" in again.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["epochs"] == 2
    assert summary["weights"] == note


def test_one_line_errors(run_program, file, tmp_path):
    shutil.copy(file, tmp_path / "last.ckpt")
    cases = [
        (["weights=none.pth"], "weights=none.pth: no such file"),
        (
            ["weights=moco.pth.tar", "backbone=resnet18"],
            "weights=moco.pth.tar: its weights under module.encoder_q.* are not those of resnet18: it lacks ",
        ),
        (["weights=[a]"], "weights must be null, random, a file, or a name"),
        (["weights=torchvision/resnet5O"], "torchvision has no classifier 'resnet5O' (did you mean 'resnet50'?)"),
    ]
    for words, printed in cases:
        result = run_program("train", *RUN, *words, cwd=tmp_path)
        assert result.returncode == 1
        assert printed in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").rglob("*.ckpt"))
