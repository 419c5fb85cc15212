"""Lightning's private names: their only place, and the warning about versions that were not tested."""

import ast
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl

import castlit
from castlit.callbacks import ExactResume, LastCheckpoint
from castlit.utils import lightning_internals as lightning


@pytest.fixture(autouse=True)
def _first_warning():
    lightning.warn_if_untested.cache_clear()
    yield
    lightning.warn_if_untested.cache_clear()


@pytest.mark.parametrize("version", ["2.7.0", "2.10.1", "3.0.0rc1", "2.7.0.dev20260101"])
def test_newer_version_warns_once(monkeypatch, version):
    monkeypatch.setattr(pl, "__version__", version)
    message = rf"^castlit was tested with pytorch-lightning up to 2\.6; found {version}: [^\n]*may fail$"
    with pytest.warns(UserWarning, match=message):
        lightning.warn_if_untested()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lightning.warn_if_untested()


@pytest.mark.parametrize("version", [pl.__version__, "2.6.6", "2.6.9", "2.5.0"])
def test_tested_version_is_silent(monkeypatch, version):
    monkeypatch.setattr(pl, "__version__", version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lightning.warn_if_untested()


@pytest.mark.parametrize("callback", [ExactResume, LastCheckpoint])
def test_callbacks_warn(monkeypatch, tmp_path, callback):
    monkeypatch.setattr(pl, "__version__", "2.7.0")
    monkeypatch.chdir(tmp_path)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.warns(UserWarning, match="found 2.7.0"):
        callback().setup(trainer, pl.LightningModule(), "fit")


def test_private_names_in_one_file():
    used = []
    for path in Path(castlit.__file__).parent.rglob("*.py"):
        if path == Path(lightning.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("pytorch_lightning", "lightning")):
                private = [part for part in node.module.split(".") if part.startswith("_")]
                used += [(path, name) for name in private + [n.name for n in node.names if n.name.startswith("_")]]
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                owner = ast.unparse(node.value).split(".")[-1]
                if owner in ("trainer", "fit_loop", "epoch_loop", "val_loop", "strategy", "fit", "loop", "connector"):
                    used.append((path, ast.unparse(node)))
    assert used == []
