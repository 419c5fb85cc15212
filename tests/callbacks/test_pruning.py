"""Pruning: the median rule against Optuna's, and fits next to runs with known metrics."""

import json
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.callbacks import LastCheckpoint, Pruning, RunRecord
from castlit.callbacks.pruning import below, finished, median_at
from castlit.utils.validation import InputError

CURVES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(CURVES, st.lists(CURVES, max_size=5), st.integers(1, 3), st.integers(0, 4))
def test_rule_equals_optuna(mine, others, startup, warmup):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old Optuna, on a new SQLAlchemy
        optuna = pytest.importorskip("optuna", reason="needs castlit[sweep]")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        for curve in others:
            trial = study.ask()
            for epoch, value in enumerate(curve, start=1):
                trial.report(value, epoch)
            study.tell(trial, curve[-1])
        trial = study.ask()
        for epoch, value in enumerate(mine, start=1):
            trial.report(value, epoch)
        theirs = trial.should_prune()
    curves = [dict(enumerate(curve, start=1)) for curve in others]
    epoch = len(mine)
    enough = len(others) >= startup and epoch >= warmup
    assert (enough and below(dict(enumerate(mine, start=1)), median_at(epoch, curves))) == theirs


def test_non_finite_values():
    nan = float("nan")
    assert median_at(1, [{1: 0.2}, {1: nan}, {2: 0.9}, {1: 0.4}]) == pytest.approx(0.3)
    assert median_at(1, [{1: nan}]) is None
    assert below({1: nan}, 0.1)
    assert not below({1: nan}, None)
    assert not below({1: 0.1}, 0.1), "equal to the median is not below"


class Follows(pl.LightningModule):
    """Logs the given values, epoch by epoch."""

    def __init__(self, values):
        super().__init__()
        self.values, self.weight = values, torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch):
        return {"loss": (self.weight * batch["query"]).sum()}

    def validation_step(self, batch):
        # As castlit's probe: the other processes do not have the metric.
        self.log("val/knn", self.values[self.current_epoch], rank_zero_only=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(top, values=(0.1, 0.2, 0.3, 0.4), resume=False, name="mine", ranks=1, max_steps=-1, **arguments):
    folder = top / name
    pruning = Pruning(folder, **{"sweep": top, "startup_runs": 2, "warmup_epochs": 2, **arguments})
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        max_epochs=-1 if max_steps > 0 else 4,
        max_steps=max_steps,
        logger=False,
        callbacks=[pruning, RunRecord(folder / "summary.json"), LastCheckpoint(folder / "checkpoints")],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loader = torch.utils.data.DataLoader([{"query": torch.ones(1)}] * 2 * ranks, batch_size=1)
    last = folder / "checkpoints" / "last.ckpt" if resume else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Follows(values), loader, loader, ckpt_path=last, weights_only=True)
    return trainer, json.loads((folder / "summary.json").read_text()) if trainer.is_global_zero else None


@pytest.fixture
def sweep(made_run, tmp_path):
    """A sweep whose median is 0.5 after each epoch."""
    for i, value in enumerate((0.4, 0.5, 0.6)):
        made_run(tmp_path / str(i), knn=(0, *[value] * 4))
    return tmp_path


def test_run_below_median_is_pruned(sweep, capsys):
    trainer, summary = fit(sweep)
    assert summary["epochs"] == trainer.current_epoch == 2
    assert summary["steps"] == 4
    best = pytest.approx(0.2)
    assert summary["pruned"] == {"epoch": 2, "figure": "val/knn", "best": best, "median": 0.5, "runs": 3}
    assert "Pruned after epoch 2" in capsys.readouterr().out


def test_resumed_run_stays_pruned(sweep):
    first = fit(sweep)[1]
    # Even if the other runs are deleted by then.
    for i in range(3):
        (sweep / str(i) / "summary.json").unlink()
    trainer, again = fit(sweep, resume=True)
    assert trainer.global_step == 4
    assert again["pruned"] == first["pruned"]


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ((0.1, 0.5, 0.1, 0.1), {}),  # the best value so far counts
        ((0.1, 0.1, 0.1, 0.1), {"startup_runs": 4}),
        ((0.1, 0.1, 0.1, 0.1), {"warmup_epochs": 4}),  # pruning after the last epoch saves nothing
    ],
)
def test_runs_not_pruned(sweep, values, arguments):
    summary = fit(sweep, values, **arguments)[1]
    assert summary["pruned"] is None
    assert summary["epochs"] == 4


def test_run_outside_sweep(sweep):
    assert fit(sweep, sweep=sweep / "other")[1]["pruned"] is None


def test_unfinished_runs_do_not_count(made_run, sweep):
    made_run(sweep / "0", knn=(0, *[0.4] * 4), pruned={"epoch": 1})
    made_run(sweep / "1", knn=(0, *[0.4] * 4), summary=False)
    (sweep / "2" / "summary.json").write_text('{"epochs"')
    made_run(sweep / "3", knn=(0, *[0.4] * 4))
    assert fit(sweep)[1]["pruned"] is None, "one finished run is less than two"
    made_run(sweep / "4", knn=(0, *[0.3] * 4))
    assert fit(sweep, name="another")[1]["pruned"]["median"] == pytest.approx(0.35)


def test_non_finite_run_is_pruned(sweep, capsys):
    assert fit(sweep, [float("nan")] * 4)[1]["pruned"]["best"] is None
    assert "val/knn was never finite" in capsys.readouterr().out


def test_pruning_on_two_ranks(sweep, run_two_ranks):
    first, second = run_two_ranks(Path(__file__).with_name("two_ranks_pruning.py"), sweep)
    assert first["epochs"] == second["epochs"] == 2
    assert first["pruned"] == second["pruned"]
    assert first["pruned"]["median"] == 0.5


def test_unknown_monitor(sweep):
    with pytest.raises(InputError, match=r"monitor=val/other: in validation this run logs val/knn"):
        fit(sweep, monitor="val/other")


def test_default_warmup(sweep):
    assert fit(sweep, warmup_epochs=None)[1]["pruned"]["epoch"] == 1


def test_default_warmup_with_max_steps(sweep):
    # Two steps per epoch: nine epochs, three of them warm-up.
    values = [0.1] * 9
    assert fit(sweep, values, max_steps=18, warmup_epochs=None)[1]["pruned"]["epoch"] == 3


@pytest.mark.parametrize("wrong", [{"startup_runs": 0}, {"warmup_epochs": -1}, {"warmup_epochs": 1.5}])
def test_wrong_settings(tmp_path, wrong):
    with pytest.raises(InputError, match=f"callbacks.pruning.{next(iter(wrong))}"):
        Pruning(tmp_path, tmp_path, **wrong)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b"{"])
def test_damaged_runs_do_not_count(tmp_path, damage):
    for name in ("good", "summary", "log", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text('{"pruned": null}')
        (tmp_path / name / "metrics.csv").write_text("epoch,step,train/loss,val/knn\n0,0,1.0,\n0,0,,0.5\n")
    (tmp_path / "summary" / "summary.json").write_bytes(damage)
    (tmp_path / "log" / "metrics.csv").write_text("epoch,step,val/knn\nx,0,y\n")
    (tmp_path / "none" / "metrics.csv").unlink()
    assert finished(tmp_path, "val/knn", but=tmp_path / "mine") == [{1: 0.5}]
