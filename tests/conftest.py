import gc
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.fork_client import ForkServer, rank_environments

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Before torch is imported, and for every process a test starts: small tensors gain nothing from threads, and threads
# that wait for each other on a busy machine cost tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore Ctrl-C; tests of signals, and the runs that they start, must not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Files with long tests first: at the end, one would keep one core while the others have nothing to do."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: give it a name (ids=...); addresses differ between workers")
    long = {item.path for item in items if item.get_closest_marker("slow") or "fork_server" in item.fixturenames}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Let reports pass between processes (pytest -n): logs may hold names of files that are no text."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def closed_logs():
    """Undo Hydra's logging for a program run inside a test: its open file and its level would reach later tests."""
    yield
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [each for each in root.handlers if isinstance(each, logging.FileHandler)]:
        if Path(handler.baseFilename) != Path(os.devnull):  # pytest's own
            root.removeHandler(handler)
            handler.close()


@pytest.fixture
def ended_workers():
    """End the worker processes of loaders that an exception has left behind, in a cycle with its traceback.

    The garbage collector would end them, in some later test, and would wait for each of them for five seconds.
    """
    yield
    from torch.utils.data import dataloader

    for thing in gc.get_objects():
        if type(thing) is dataloader._MultiProcessingDataLoaderIter:
            thing._shutdown_workers()


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
def fork_server():
    """One process for each worker of pytest that has imported castlit and forks others: see support/fork_client.py."""
    server = ForkServer()
    yield server
    server.close()


def _environment(changes):
    return {**os.environ, "COLUMNS": "200", **changes}


@pytest.fixture(scope="session")
def run_python(fork_server):
    """Run ``python *words``, forked with castlit imported; returns what ``subprocess.run`` does."""

    def run(*words, cwd, timeout=300, **environment):
        return fork_server.run(words, cwd, timeout, _environment(environment))

    return run


@pytest.fixture(scope="session")
def run_program(run_python):
    """Run one of castlit's programs, forked with castlit imported. This is the fixture for most tests of programs."""

    def run(program, *arguments, cwd, timeout=300, **environment):
        return run_python("-m", f"castlit.{program}", *arguments, cwd=cwd, timeout=timeout, **environment)

    return run


@pytest.fixture(scope="session")
def start_program():
    """Run one of castlit's programs as a user does, imports included: 6 to 8 s of CPU time for each.

    For what the start itself decides (signals, several processes, variables that imports read) and for one success and
    one error of each program.
    """

    def run(program, *arguments, cwd, timeout=300, **environment):
        return subprocess.run(
            [sys.executable, "-m", f"castlit.{program}", *map(str, arguments)],
            cwd=cwd,
            env=_environment(environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def run_line(fork_server):
    """Run a line of a shell in which ``python -m castlit...`` is forked with castlit imported."""

    def run(line, cwd, timeout=300):
        environment = _environment({"PATH": f"{fork_server.python.parent}{os.pathsep}{os.environ['PATH']}"})
        return subprocess.run(
            line, shell=True, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


@pytest.fixture(scope="session")
def run_ranks(fork_server):
    """Run a script on several processes (gloo), each with its rank and its folder to write to.

    The processes are forked with castlit imported, in an environment as torchrun gives it.
    """

    def run(count, script, folder, *arguments, timeout=120):
        words = [script, folder, *arguments]
        for done in fork_server.run_together([words] * count, folder, timeout, rank_environments(count)):
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
