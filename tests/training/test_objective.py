"""A search by a metric that no run logs ends with the first run."""

from types import SimpleNamespace

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from castlit.callbacks.record import Change
from castlit.cli.sweeps import SweepError
from castlit.training.objective import RequireObjective, find_objective
from support.configs import composed

SEARCH = ["hydra/sweeper=optuna", "hydra.mode=MULTIRUN"]


@pytest.fixture(autouse=True)
def hydras_config(monkeypatch):
    """Of other tests; theirs are no jobs of a search."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)


def logging(*names):
    """A trainer at the end of a run that has logged these metrics."""
    strategy = SimpleNamespace(broadcast=lambda names: names)
    metrics = {name: torch.tensor(0.5) for name in names}
    return SimpleNamespace(callback_metrics=metrics, strategy=strategy, sanity_checking=False, is_global_zero=True)


def test_value(tmp_path):
    composed(tmp_path)
    record = SimpleNamespace(metrics={"train/loss": Change(2.0, 1.0)})
    assert find_objective("val/knn", logging("val/knn"), None) == 0.5
    assert find_objective("train/loss", logging("val/knn"), record) == 1.0
    assert find_objective("val/nothing", logging("val/knn"), record) is None, "no search: nobody asks"


def test_search_without_its_metric(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs castlit[sweep]")
    composed(tmp_path, *SEARCH)
    record = SimpleNamespace(metrics={"train/loss": Change(2.0, 1.0)})
    assert find_objective("train/loss", logging("val/knn"), record) == 1.0
    with pytest.raises(SweepError, match=r"^objective=train/los: this run logs train/loss, val/knn \(did you mean '"):
        find_objective("train/los", logging("val/knn"), record)
    others = logging("train/lr")
    others.is_global_zero = False
    assert find_objective("val/knn", others, None) is None, "only the first process has all metrics"


@pytest.mark.parametrize("name", ["val/knn", "train/loss"])
def test_first_validation_has_it(name):
    RequireObjective(name).on_validation_end(logging("val/knn", "val/pointing"), None)


def test_first_validation_lacks_it():
    with pytest.raises(SweepError, match=r"^objective=val/knnn: in validation this run logs val/knn, val/pointing "):
        RequireObjective("val/knnn").on_validation_end(logging("val/knn", "val/pointing", "train/lr"), None)
