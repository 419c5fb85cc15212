"""A refused command leaves no trace: an earlier run in its folder stays as it was, a new folder does not stay."""

import fcntl

import numpy as np
import pytest
from PIL import Image

from castlit.callbacks import MetricsCSV

RUN = "hydra.run.dir=run"
SCENES = ["data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=36"]
SMALL = [*SCENES, "data.workers=0", "method.queue_size=16", "trainer.max_epochs=1", RUN]

REFUSED = {
    "another method": (["+experiment=cast_byol", "resume=last", RUN], "was trained with castlit.methods.moco.MoCo"),
    "another optimiser": ([*SMALL, "resume=last", "optimizer.name=adamw"], "was trained with another optimizer"),
    "value": ([*SMALL, "optimizer.lr=0"], "optimizer.lr must be greater than 0"),
    "data": (["data=folder", "data.images=/no/such", "data.masks=null", RUN], "/no/such does not exist"),
    "length": ([*SMALL, "trainer.max_epochs=-1"], "needs an end"),
    "precision": ([*SMALL, "trainer.precision=17-mixed"], "17-mixed"),
    "a few batches": (
        [*SMALL, "trainer.fast_dev_run=true"],
        "error: trainer.fast_dev_run would replace the run in run: choose another hydra.run.dir\n",
    ),
    "checkpoint": ([*SMALL, "resume=/no/such.ckpt"], "no such file"),
}


def content(folder):
    """All files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(run_program, tmp_path_factory):
    """A folder with a finished run."""
    cwd = tmp_path_factory.mktemp("finished")
    done = run_program("train", *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_earlier_run_stays_as_it_was(run_program, finished, arguments, words):
    before = content(finished)
    assert {"run/.hydra/config.yaml", "run/config.yaml", "run/summary.json", "run/checkpoints/last.ckpt"} <= set(before)
    done = run_program("train", *arguments, cwd=finished)
    assert done.returncode == 1
    assert words in done.stderr
    assert content(finished) == before


def test_log_stays_as_it_was(run_program, finished, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name / f"{name}.png")
    log = finished / "run" / "train.log"
    before = log.read_bytes()
    words = ["data=folder", f"data.images={tmp_path / 'a'}", f"data.masks={tmp_path / 'b'}", RUN]
    done = run_program("train", *words, f"data.cache={tmp_path / 'cache'}", "backbone=tiny_resnet", cwd=finished)
    assert "none of the 1 images has a mask" in done.stderr
    assert "Indexing" in done.stdout  # logged before
    assert log.read_bytes() == before
    (finished / "run" / "data_report.csv").unlink()


def test_second_training_in_a_folder(run_program, finished):
    before = content(finished)
    with (finished / "run" / ".running").open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        done = run_program("train", "+experiment=cast_byol", RUN, cwd=finished)
    assert "another process is training there" in done.stderr
    assert content(finished) == before


def test_refused_job_of_a_sweep(run_program, finished):
    before = content(finished)
    arguments = ["-m", "optimizer.lr=0", "hydra.sweep.dir=.", "hydra.sweep.subdir=run"]
    done = run_program("train", *arguments, cwd=finished)
    assert done.returncode == 1
    after = content(finished)
    assert after.pop("multirun.yaml")  # the sweep itself was accepted
    assert after == before
    (finished / "multirun.yaml").unlink()


def test_other_program_in_the_folder(run_program, finished):
    before = content(finished)
    done = run_program("evaluate", "+protocol=knn", "checkpoint=random", RUN, cwd=finished)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {finished}/run has a run of castlit.train: choose another hydra.run.dir\n",
    )
    assert content(finished) == before


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("train", ["optimizer.lr=0"]), ("train", ["resume=/no.ckpt"]), ("evaluate", ["+protocol=knn", "checkpoint=/no"])],
)
def test_new_folder_does_not_stay(run_program, tmp_path, program, arguments):
    assert run_program(program, *arguments, cwd=tmp_path).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_new_folder_with_a_log_does_not_stay(run_program, finished):
    """Reading the checkpoint is logged."""
    words = ["+protocol=knn", "protocol.k=0", "checkpoint=run/checkpoints/last.ckpt", "hydra.run.dir=new", *SCENES]
    done = run_program("evaluate", *words, cwd=finished)
    assert (done.returncode, done.stderr) == (1, "error: protocol.k must be at least 1, got 0\n")
    assert not (finished / "new").exists()


def test_accepted_run_replaces_the_earlier_one(run_program, finished):
    done = run_program("train", *SMALL, "seed=1", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert "is of an earlier run (resume=last resumes it): it is now replaced.ckpt" in done.stdout
    after = content(finished / "run")
    assert b"seed=1" in after[".hydra/overrides.yaml"]
    assert b"seed: 1" in after["config.yaml"]
    assert after["metrics.csv"].count(b"epoch") == 1
    rows = after["metrics.csv"].decode().splitlines()[1:]
    assert sum(row.startswith("0,0,") for row in rows) == 1, rows


def test_next_command_where_the_run_changes_its_folder(run_program, tmp_path):
    done = run_program("train", *SMALL, "hydra.job.chdir=true", "name=2024", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2024: 1 epoch, 2 steps" in done.stdout, "a number is a name, too"
    assert "All files: run\n" in done.stdout
    assert done.stdout.rstrip().endswith(" checkpoint=run/checkpoints/last.ckpt")


def test_log_is_replaced_with_the_first_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a,step\n1.0,0\n2.0,1\n3.0,2\n")
    before = path.read_bytes()
    for keep, kept in ((0, ""), (2, "1.0,0\n2.0,1\n")):
        path.write_bytes(before)
        logger = MetricsCSV(tmp_path, name="", version="")
        if keep:
            logger.keep(keep)
        assert logger.experiment.metrics == []
        assert logger.rows == keep
        logger.finalize("failed")
        assert path.read_bytes() == before
        logger.log_metrics({"a": 9.0}, step=5)
        logger.save()
        assert path.read_text().replace("\r", "") == f"a,step\n{kept}9.0,5\n"
        assert logger.rows == keep + 1


def test_damaged_log_is_continued(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"a,step\n1.0,0\n2.0,1,7,7\n" + bytes(40) + b"\n\xff\xfe,3\n")
    logger = MetricsCSV(tmp_path, name="", version="")
    logger.keep(2)
    logger.log_metrics({"a": 3.0}, step=2)
    logger.save()
    assert path.read_text().split() == ["a,step", "1.0,0", "2.0,1", "3.0,2"]


def test_a_few_batches_twice(run_program, tmp_path):
    """There is nothing of the first run's to lose."""
    for _ in range(2):
        done = run_program("train", *SMALL, "trainer.fast_dev_run=true", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()
