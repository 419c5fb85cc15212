"""A run that fails while its loader's workers live ends within seconds, with its error, its code and no worker left."""

import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from castlit.cli.errors import explain_error
from castlit.data import ScenesDataModule
from castlit.interop import open_backbone
from castlit.utils.validation import InputError

# Callbacks that users might write, or a disk that fails: each breaks a run in one place.
BREAKERS = """
import multiprocessing
import os
import shutil
import signal
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

class Frozen(Breaker):
    # As on a disk that does not answer: the workers neither deliver nor end.
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 3:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGSTOP)
            (self.folder / "frozen").touch()

class Killed(Breaker):
    # As where the memory is full.
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

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
    "Killed": "; was the memory full? Set fewer workers",
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


def training(photographs, tmp_path, *more):
    return [
        *("+experiment=cast_mocov2", "data=folder", f"data.images={photographs / 'images'}", "data.workers=2"),
        *(f"data.masks={photographs / 'masks'}", f"data.cache={tmp_path / 'index'}", "hydra.run.dir=run"),
        *("backbone=tiny_resnet", "data.size=32", "data.batch_size=4", "method.queue_size=16"),
        *("trainer.max_epochs=50", "trainer.log_every_n_steps=1", *more),
    ]


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
    errors = [line for line in result.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1, result.stderr
    assert time.monotonic() - begin < 40
    if Path("/proc").is_dir():
        assert processes_in(folder.resolve()) == []


def test_batch_of_a_dead_loader():
    """Where the pipe to a killed process breaks before torch looks at the process."""
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    # torch's file, from which the batch is received.
    receive = eval(compile("lambda pipe: pipe.recv()", "torch/utils/data/dataloader.py", "eval"))
    with pytest.raises(EOFError) as caught:
        receive(ours)
    assert explain_error(caught.value).startswith("a loader process has died (EOFError); was the memory full?")
    with pytest.raises(EOFError) as caught:
        ours.recv()
    assert explain_error(caught.value) is None


@pytest.mark.parametrize("place", PLACES)
def test_training_ends(run_program, photographs, tmp_path, place):
    (tmp_path / "breakers.py").write_text(BREAKERS)
    part = "logger" if place == "Worse" else "callbacks"
    key = "save_dir" if place == "Worse" else "folder"
    breaker = f"+{part}.breaker._target_=breakers.{place}", f"+{part}.breaker.{key}=${{output_dir}}"
    arguments = training(photographs, tmp_path, *breaker)
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


@pytest.mark.slow
def test_sigterm_ends_a_run_that_waits_for_a_batch(run_program, fork_server, photographs, tmp_path):
    (tmp_path / "breakers.py").write_text(BREAKERS)
    short = training(photographs, tmp_path, "data.batch_size=2", "trainer.max_epochs=2")
    whole = run_program("train", *short, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    breaker = "+callbacks.breaker._target_=breakers.Frozen", "+callbacks.breaker.folder=${output_dir}"
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err, Path(os.devnull).open() as nothing:
        words = ["-m", "castlit.train", *short, *breaker]
        fork = fork_server.start(words, tmp_path, dict(os.environ), [each.fileno() for each in (nothing, out, err)])
    try:
        while not (tmp_path / "run" / "frozen").is_file():
            time.sleep(0.1)
        time.sleep(2)  # the batches that are there already are used up
        os.kill(fork.pid, signal.SIGTERM)
        begin = time.monotonic()
        assert fork.wait() == 128 + signal.SIGTERM
    finally:
        fork.close()
    assert time.monotonic() - begin < 30
    assert processes_in(tmp_path.resolve()) == []
    told = (tmp_path / "err").read_text()
    stopped = re.search(r"stopped by SIGTERM at step (\d+): saved run/checkpoints/last.ckpt, of step (\d+)", told)
    assert stopped is not None, told
    assert 3 <= int(stopped[1]) == int(stopped[2]) < 12
    resumed = run_program("train", *short, "resume=last", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "run" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


SMALL_MEMORY = """
import resource
import castlit

data = castlit.data.ScenesDataModule(train_count=32, val_count=16, size=64, scene_size=72, batch_size=16, workers=2)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may be larger, in shared memory neither
for loader in (data.train_dataloader(), data.val_dataloader()):
    try:
        list(loader)
    except castlit.utils.validation.InputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="batches are in /dev/shm on Linux")
def test_batch_that_does_not_fit_into_the_shared_memory(run_python, tmp_path):
    done = run_python("-c", SMALL_MEMORY, cwd=tmp_path, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line in lines:
        assert line.startswith("the shared memory /dev/shm is too small (")
        assert "--shm-size" in line
        assert "data.workers=0" in line


@pytest.mark.skipif(sys.platform != "linux", reason="batches are in /dev/shm on Linux")
def test_shared_memory_is_compared_before_training():
    # 2 views of 32 x 32 pixels, with 3 floats and a mask: 26,624 bytes for an image.
    options = {"train_count": 8, "val_count": 4, "scene_size": 48, "size": 32}
    with pytest.raises(InputError, match=r"too small \(.* are free; 2 loader processes need 532.5 GB.*--shm-size"):
        ScenesDataModule(**options, batch_size=3_333_333, workers=2).setup()
    ScenesDataModule(**options, batch_size=3_333_333, workers=0).setup()
    ScenesDataModule(**options, batch_size=4, workers=2).setup()
