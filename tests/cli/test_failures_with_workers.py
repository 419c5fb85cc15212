"""A run that fails while its loader's workers live ends within seconds, with its error, its code and no worker left."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from castlit.interop import open_backbone

# Callbacks that users might write, or a disk that fails: each breaks a run in one place.
BREAKERS = """
import shutil
from pathlib import Path
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

class Breaker(pl.Callback):
    def __init__(self, folder):
        self.folder = Path(folder)

class Gone(Breaker):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            shutil.rmtree(self.folder)

class Raises(Breaker):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            raise PermissionError("a callback of the user's")

class NoCheckpoint(Breaker):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            (self.folder / "checkpoints").write_text("a file where the folder should be")

class NoValidation(Breaker):
    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step:
            raise PermissionError("the validation broke")

class NoPicture(Breaker):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        picture = self.folder / "gradcam.png"
        if picture.is_file():
            picture.unlink()
            picture.mkdir()

class Worse(CSVLogger):
    # Fails, and fails again where Lightning closes it: Lightning then leaves the loaders as they are.
    def log_metrics(self, metrics, step=None):
        raise PermissionError("a logger of the user's")

    def finalize(self, status):
        raise PermissionError("it cannot be closed, either")
"""

PLACES = {
    "Gone": "metrics.csv: No such file or directory",
    "Raises": "error: a callback of the user's",
    "NoCheckpoint": "checkpoints: File exists",
    "NoValidation": "error: the validation broke",
    "NoPicture": "gradcam.png: Is a directory",
    "Worse": "error: it cannot be closed, either",
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 255
    for number in range(24):
        for kind, pixels in (("images", random.integers(0, 256, (40, 40, 3), dtype=np.uint8)), ("masks", mask)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder


def processes_in(folder):
    """The command lines of the processes whose current folder is this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder:
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def assert_ends(run, folder, words):
    begin = time.monotonic()
    result = run(timeout=60)
    assert result.returncode == 1, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - begin < 40
    if Path("/proc").is_dir():
        assert processes_in(folder.resolve()) == []


@pytest.mark.parametrize("place", PLACES)
def test_training_ends(run_program, photographs, tmp_path, place):
    (tmp_path / "breakers.py").write_text(BREAKERS)
    part = "logger" if place == "Worse" else "callbacks"
    key = "save_dir" if place == "Worse" else "folder"
    arguments = [
        *("+experiment=cast_mocov2", "data=folder", f"data.images={photographs / 'images'}", "data.workers=2"),
        *(f"data.masks={photographs / 'masks'}", f"data.cache={tmp_path / 'index'}", "hydra.run.dir=run"),
        *("backbone=tiny_resnet", "data.size=32", "data.batch_size=4", "method.queue_size=16"),
        *("trainer.max_epochs=50", "trainer.log_every_n_steps=1"),
        *(f"+{part}.breaker._target_=breakers.{place}", f"+{part}.breaker.{key}=${{output_dir}}"),
    ]
    assert_ends(
        lambda timeout: run_program("train", *arguments, cwd=tmp_path, timeout=timeout), tmp_path, PLACES[place]
    )


OWN_SCRIPT = """
import sys
import pytorch_lightning as pl
import castlit
from breakers import Worse

method = castlit.methods.SimCLR(backbone="tiny_resnet")
data = castlit.data.ScenesDataModule(train_count=16, val_count=4, size=32, scene_size=48, batch_size=4, workers=2)
trainer = pl.Trainer(
    accelerator="cpu", max_epochs=3, log_every_n_steps=1, logger=Worse("run"), enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
try:
    trainer.fit(castlit.CASTModule(method), data)
except PermissionError as error:
    sys.exit(f"error: {error}")
"""


def test_script_of_the_user_ends(run_python, tmp_path):
    (tmp_path / "breakers.py").write_text(BREAKERS)
    (tmp_path / "script.py").write_text(OWN_SCRIPT)
    script = tmp_path / "script.py"
    assert_ends(
        lambda timeout: run_python(script, cwd=tmp_path, timeout=timeout), tmp_path, "it cannot be closed, either"
    )


def test_evaluation_ends(run_program, photographs, tmp_path):
    network = open_backbone("random", "tiny_resnet")
    weights = {name: torch.full_like(x, 3e38) if x.dim() > 1 else x for name, x in network.state_dict().items()}
    torch.save(weights, tmp_path / "huge.pth")
    for split in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / "imagenet" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "imagenet" / split / label).symlink_to(photographs / "images")
    arguments = [
        *("+protocol=knn", "checkpoint=huge.pth", f"data.root={tmp_path / 'imagenet'}", "protocol.workers=2"),
        *("protocol.size=32", "protocol.cache=null", "hydra.run.dir=run", "protocol.batch_size=8"),
    ]
    assert_ends(
        lambda timeout: run_program("evaluate", *arguments, cwd=tmp_path, timeout=timeout), tmp_path, "not finite"
    )
