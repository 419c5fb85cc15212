import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Before torch is imported, and for every process a test starts: small tensors gain nothing from threads, and threads
# that wait for each other on a busy machine cost tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore Ctrl-C; tests of signals, and the runs that they start, must not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Files with slow tests first: at the end, a long one would keep one core while the others have nothing to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Let reports pass between processes (pytest -n): logs may hold names of files that are no text."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def closed_logs():
    """Close the log that Hydra opens for a program run inside a test; a later test would be blamed for it."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, logging.FileHandler)]:
        if Path(handler.baseFilename) != Path(os.devnull):  # pytest's own
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def repository():
    return ROOT


@pytest.fixture(scope="session")
def mini():
    """Real photographs with masks in COCO's layout; not part of the repository."""
    folder = ROOT.parent / "shared" / "data" / "mini"
    if not folder.is_dir():
        pytest.skip("the photographs of shared/data/mini are not on this machine")
    return folder


@pytest.fixture(scope="session")
def run_program():
    """Run one of castlit's programs as its user does: in a process of its own, from a folder of the caller's."""

    def run(program, *arguments, cwd, timeout=300, **environment):
        return subprocess.run(
            [sys.executable, "-m", f"castlit.{program}", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def run_ranks():
    """Run a script on several processes (gloo), each with its rank and its folder to write to."""

    def run(count, script, folder, *arguments, timeout=120):
        ranks = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
        command = [sys.executable, *ranks, script, folder, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def run_two_ranks(run_ranks):
    """Run a script on two processes (gloo) that writes what it found as rank0.pt and rank1.pt into a folder."""

    def run(script, folder, timeout=120):
        import torch  # only here: the environment above must be set before

        run_ranks(2, script, folder, timeout=timeout)
        return [torch.load(folder / f"rank{number}.pt") for number in range(2)]

    return run


@pytest.fixture(scope="session")
def made_run():
    """Write a run's folder as castlit.train leaves it, with figures of one's own."""

    def make(folder, typed=(), knn=(0.1, 0.2, 0.3), loss=5.0, choices=None, summary=True, pruned=None, **settings):
        """Every epoch is validated, and so is the time before training; settings are keys with __ for dots."""
        import yaml

        plain = {
            "name": "made",
            "seed": 0,
            "output_dir": "${hydra:runtime.output_dir}",
            "budget": {"lr": 0.06},
            "optimizer": {"lr": "${budget.lr}"},
            "attention": {"weight": 3.0},
            "module": {"attention": "${attention}", "lr": "${optimizer.lr}"},
            "trainer": {"max_epochs": len(knn) - 1},
        }
        for key, value in settings.items():
            *above, last = key.split("__")
            place = plain
            for name in above:
                place = place.setdefault(name, {})
            place[last] = value
        lr = plain["optimizer"]["lr"]
        lr = plain["budget"]["lr"] if isinstance(lr, str) else lr
        module = {"attention": plain["attention"], "lr": lr}
        resolved = {**plain, "optimizer": {"lr": lr}, "module": module, "output_dir": str(folder)}
        words = [f"{key}=..." for key in typed]
        hydra = {"hydra": {"job": {"name": "train"}, "runtime": {"choices": {"data": "scenes", **(choices or {})}}}}
        for name, content in (("config", plain), ("overrides", words), ("hydra", hydra)):
            (folder / ".hydra").mkdir(parents=True, exist_ok=True)
            (folder / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content))
        (folder / "config.yaml").write_text(yaml.safe_dump(resolved))
        rows = ["epoch,step,train/loss,val/knn", f"0,0,,{knn[0]}"]
        for epoch, value in enumerate(knn[1:]):
            rows += [f"{epoch},{4 * epoch + 3},{loss},", f"{epoch},{4 * epoch + 3},,{value}"]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
        (folder / "summary.json").unlink(missing_ok=True)
        if summary:
            metrics = {"val/knn": {"start": knn[0], "end": knn[-1]}, "train/loss": {"start": 9.0, "end": loss}}
            told = {"epochs": len(knn) - 1, "seconds": 12.5, "pruned": pruned, "metrics": metrics}
            (folder / "summary.json").write_text(json.dumps(told))
        return folder

    return make
