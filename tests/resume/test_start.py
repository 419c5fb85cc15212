"""Where a training starts: the request, the checks, the old checkpoint, the log's rows, the messages."""

from types import SimpleNamespace

import pytest
import torch

from castlit.resume.request import LAST_CHECKPOINT, requested
from castlit.resume.start import put_aside, remove_old_results, report_stop, start
from castlit.utils.signals import Stopped
from castlit.utils.validation import InputError


class Log:
    """Stands for a logger: only castlit's keeps rows."""


def save(path, epochs=2, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = {"current": {"processed": epochs}}
    content = {"global_step": 7, "loops": {"fit_loop": {"epoch_progress": progress}}}
    content |= {"state_dict": {}, "optimizer_states": [], "lr_schedulers": []}
    torch.save({**content, **more}, path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


@pytest.fixture
def last(folder):
    return save(folder / LAST_CHECKPOINT)


@pytest.fixture
def csv(folder):
    from castlit.callbacks import MetricsCSV

    logger = MetricsCSV(folder, name="", version="")
    logger.kept = []
    logger.keep = logger.kept.append
    return logger


@pytest.mark.parametrize(
    ("given", "restarts", "expected"),
    [
        (None, None, None),
        (None, "0", None),
        (None, "", None),
        (None, "2", "last"),
        ("last", None, "last"),
        ("a.ckpt", "1", "a.ckpt"),
    ],
)
def test_request(monkeypatch, given, restarts, expected):
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if restarts is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert requested(given) == expected


@pytest.mark.parametrize("given", [True, 3, "", ["last"]])
def test_wrong_request(given):
    with pytest.raises(InputError, match=r"^protocol\.resume must be null, last, or the path of a \.ckpt file; got "):
        requested(given, "protocol.resume")


def test_nothing_to_resume(folder, capsys):
    assert start(None, folder / LAST_CHECKPOINT, folder) is None
    assert capsys.readouterr().out == ""
    for last in (folder / LAST_CHECKPOINT, None):
        assert start("last", last, folder) is None
        assert capsys.readouterr().out == "resume=last: nothing to resume yet, starting from scratch in run\n"


def test_resume_last(folder, last, csv, capsys):
    save(last, castlit={"rows": 12})
    assert start("last", last, folder, loggers=[Log(), csv]) == last
    out = capsys.readouterr().out
    assert out == "resume=last: continuing from run/checkpoints/last.ckpt, at epoch 2, step 7, in run\n"
    assert csv.kept == [12]
    assert not last.with_name("replaced.ckpt").exists()


def test_restarted_slurm_job_resumes_any_training(folder, last, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert start(None, last, folder, key="protocol.resume") == last


def test_resume_from_another_folder(folder, last, csv, tmp_path, capsys):
    other = save(tmp_path / "other.ckpt", castlit={"rows": 12})
    assert start("other.ckpt", last, folder, key="protocol.resume", loggers=[csv]).samefile(other)
    assert "protocol.resume=other.ckpt: continuing from other.ckpt, at epoch 2" in capsys.readouterr().out
    assert csv.kept == []


def test_home_is_expanded(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "other.ckpt")
    assert start("~/other.ckpt", None, folder) == tmp_path / "other.ckpt"


def test_no_key(folder, last, capsys):
    assert start("last", last, folder, key=None) == last
    assert capsys.readouterr().out.startswith("continuing from run/checkpoints/last.ckpt")
    last.write_bytes(b"half")
    with pytest.raises(InputError, match=r"^\S+/run/checkpoints/last\.ckpt: not a checkpoint, or damaged"):
        start("last", last, folder, key=None)


def test_old_checkpoint_is_kept(folder, last, capsys):
    content = last.read_bytes()
    assert start(None, last, folder, key="protocol.resume") is None
    assert last.read_bytes() == content  # until the training begins
    put_aside(last, "protocol.resume")
    assert not last.exists()
    assert last.with_name("replaced.ckpt").read_bytes() == content
    assert capsys.readouterr().out == (
        "run/checkpoints/last.ckpt is of an earlier run (protocol.resume=last resumes it): it is now replaced.ckpt\n"
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file; give the .ckpt file of a training run"),
        (b"not a checkpoint", "not a checkpoint, or damaged (RuntimeError)"),
        (b"", "not a checkpoint, or damaged (RuntimeError)"),
        ({"state_dict": {}}, "not a checkpoint of voc_detection's training"),
        (torch.ones(2), "not a checkpoint of voc_detection's training"),
    ],
)
def test_bad_files(folder, tmp_path, content, line):
    path = tmp_path / "bad.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError) as error:
        start(str(path), None, folder, key="protocol.resume", kind="voc_detection's training")
    assert str(error.value) == f"protocol.resume={path}: {line}"


def test_finished_run(folder, last):
    with pytest.raises(InputError, match=r"has already trained 2 epochs: add trainer\.max_epochs=4 to continue"):
        start(str(last), last, folder, max_epochs=2)
    for resume, epochs in (("last", 2), (str(last), 3), (str(last), -1), (str(last), None)):
        assert start(resume, last, folder, max_epochs=epochs) == last


def test_check_sees_content_and_name(folder, last):
    def check(checkpoint, name):
        raise InputError(f"{name}, {checkpoint['global_step']}")

    with pytest.raises(InputError, match=r"^resume=.*/run/checkpoints/last\.ckpt, 7$"):
        start("last", last, folder, check=check)


def test_old_results_are_removed(tmp_path):
    for name in ("summary.json", "bad_batch.json", "metrics.csv"):
        (tmp_path / name).touch()
    remove_old_results(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    remove_old_results(tmp_path)


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ("run/last.ckpt", "saved run/last.ckpt, of step 4; protocol.resume=x continues"),
        ("", "nothing is saved"),
    ],
)
def test_stop_is_reported(folder, capsys, saved, expected):
    callback = SimpleNamespace(last_model_path=saved, saved_step=4)
    report_stop(Stopped(15), SimpleNamespace(checkpoint_callback=callback, global_step=5), "protocol.resume=x")
    assert capsys.readouterr().err == f"stopped by SIGTERM at step 5: {expected}\n"
