"""Names that are not UTF-8, and emoji where the system has ASCII: nothing is lost, and nothing is a traceback."""

import io
import logging
import os
import pickle
import subprocess
import sys

import cloudpickle
import pytest

from castlit.cli import app
from castlit.cli.streams import accept_any_name

NAMES = ("plain.jpg", "\udcff raw.jpg", "🦊 fox.jpg")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_and_log(tmp_path, monkeypatch, capsys, encoding):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", output)
    handlers = [logging.StreamHandler(output), logging.FileHandler(tmp_path / "train.log", encoding=encoding)]
    root = logging.getLogger()
    try:
        for handler in handlers:
            root.addHandler(handler)
        accept_any_name()
        for name in NAMES:
            logging.getLogger("castlit").warning("%s: is not an image", name)
            print(name)
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
    written = output.buffer.getvalue().decode(encoding)
    logged = (tmp_path / "train.log").read_text("utf-8")
    fox = "🦊" if encoding == "utf-8" else r"\U0001f98a"
    assert written.splitlines() == [
        *("plain.jpg: is not an image", "plain.jpg"),
        *(r"\udcff raw.jpg: is not an image", r"\udcff raw.jpg"),
        *(f"{fox} fox.jpg: is not an image", f"{fox} fox.jpg"),
    ]
    assert logged.splitlines() == [
        "plain.jpg: is not an image",
        r"\udcff raw.jpg: is not an image",
        "🦊 fox.jpg: is not an image",
    ]
    assert "Logging error" not in capsys.readouterr().err


def in_ascii(code, folder):
    """What a new Python prints where text is ASCII, as in small containers."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paths_in_ascii(tmp_path):
    """Only a new process has another encoding of file names; this one imports little."""
    for name in NAMES:
        (tmp_path / name).write_bytes(b"")
    code = (
        "import os, sys\n"
        "from castlit.utils.bytes_array import BytesArray, decode_path, encode_path\n"
        "names = sorted(os.listdir())\n"
        "found = BytesArray.of([encode_path(name) for name in names])\n"
        "print(sys.getfilesystemencoding(), *(os.path.isfile(decode_path(found[i])) for i in range(3)))\n"
    )
    assert in_ascii(code, tmp_path).split() == ["ascii", "True", "True", "True"]


def test_help_in_ascii(tmp_path):
    """The configurations have other characters in comments and examples."""
    code = "from castlit.cli.help import help_text\nprint(ascii(help_text('study', [])))"
    assert "voc=\\u2026" in in_ascii(code, tmp_path)


def test_task_can_be_sent_to_other_processes(monkeypatch):
    """As the launchers of sweeps do, while the program holds Hydra's words back."""
    sent = []

    def main(**options):
        return lambda task: lambda: sent.append(cloudpickle.dumps(task))

    monkeypatch.setattr(app.hydra, "main", main)
    monkeypatch.setattr(sys, "argv", ["train", "seed=1"])
    app.program("train", len)
    assert callable(pickle.loads(sent[0]))


@pytest.mark.parametrize(("words", "said"), [(["--help"], ""), (["images=nowhere", "output=masks"], None)])
def test_reader_that_ends_early(tmp_path, words, said):
    """As head does."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "castlit.make_masks", *words],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    if said is not None:
        assert done.stderr == said
