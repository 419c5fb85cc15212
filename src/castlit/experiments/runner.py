"""Carry runs out, each in processes of its own; whatever is done already is not done again."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

from castlit.experiments.study_plan import Run
from castlit.utils.atomic_write import write_whole
from castlit.utils.validation import InputError

PLAN = "study.json"
"""In each run's folder: with which overrides it was begun."""

LOG = "study.log"
"""In each run's folder: what its programs printed."""

RESULTS = Path("evaluation", "results.json")

_ERROR, _HINT = "error: ", "Set the environment variable HYDRA_FULL_ERROR=1"


class Runner:
    """Trains and evaluates runs.

    Args:
        protocol: Overrides of ``castlit.evaluate``: the protocol, and what it needs.
        threads: Of each process; None leaves that to torch.
    """

    def __init__(self, protocol: Sequence[str], threads: int | None = None) -> None:
        self.protocol, self.threads = list(map(str, protocol)), threads
        self._stopped = threading.Event()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def done_elsewhere(self, runs: Sequence[Run], studies: Sequence[Path]) -> list[Run]:
        """Send each run that is not done here, but by another study with the same overrides, to the folder there.

        Args:
            runs: What this study asks for.
            studies: Folders of others; one that does not exist has done nothing.

        Returns:
            The same runs, in the same order.
        """
        plans = [path for study in studies for path in sorted(study.glob(f"runs/*/*/{PLAN}"))]
        done = [(_begun_with(path), path.parent) for path in plans if is_done(path.parent)]

        def folder(run: Run) -> Path:
            if is_done(run.folder):
                return run.folder
            facts = self._facts(run)
            return next((there for begun, there in done if begun == facts), run.folder)

        return [run._replace(folder=folder(run)) for run in runs]

    def carry_out(self, runs: Sequence[Run], at_once: int, told: Callable[[Run, str], None]) -> None:
        """Do all runs that are not done.

        Args:
            runs: What to do.
            at_once: How many at the same moment.
            told: Called with each run that has come to its end meanwhile, and why it failed (empty: it did not).

        Raises:
            InputError: A folder holds a run with other overrides.
        """
        for run in runs:
            self._check(run)
        pool = ThreadPoolExecutor(at_once)
        try:
            futures = {pool.submit(self._do, run): run for run in runs if not is_done(run.folder)}
            for future in as_completed(futures):
                told(futures[future], future.result())
        except BaseException:
            self._stopped.set()
            for process in list(self._processes):
                with suppress(ProcessLookupError):
                    process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _check(self, run: Run) -> None:
        path = run.folder / PLAN
        if path.exists() and _begun_with(path) != self._facts(run):
            words = " ".join([*run.overrides, *self.protocol])
            raise InputError(
                f"{run.folder} holds a run with other overrides than {words}: give another output, or remove it"
            )

    def _facts(self, run: Run) -> dict[str, Any]:
        return {"train": list(run.overrides), "evaluate": self.protocol, "seed": run.seed}

    def _do(self, run: Run) -> str:
        if self._stopped.is_set():
            return ""
        write_whole(run.folder / PLAN, (json.dumps(self._facts(run), indent=1) + "\n").encode())
        last = run.folder / "checkpoints" / "last.ckpt"
        if not (run.folder / "summary.json").exists():
            resume = ["resume=last"] if last.exists() else []
            words = [*run.overrides, f"seed={run.seed}", f"hydra.run.dir={run.folder}", *resume]
            why = self._run(run, "castlit.train", words)
            if why:
                return why
        words = [*self.protocol, f"checkpoint={last}", f"hydra.run.dir={run.folder / RESULTS.parent}"]
        return self._run(run, "castlit.evaluate", words)

    def _run(self, run: Run, program: str, words: list[str]) -> str:
        """Run a program; return why it failed."""
        environment = dict(os.environ)
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        with (run.folder / LOG).open("ab") as log:
            start = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", program, *words], stdout=log, stderr=subprocess.STDOUT, env=environment
            )
            self._processes.add(process)
            try:
                code = process.wait()
            finally:
                self._processes.discard(process)
        if code == 0:
            return ""
        printed = (run.folder / LOG).read_bytes()[start:].decode(errors="replace")
        return f"{program}: {why_failed(code, printed.splitlines())} (see {run.folder / LOG})"


def is_done(folder: Path) -> bool:
    """Whether the run in a folder is trained and evaluated."""
    return (folder / RESULTS).exists()


def why_failed(code: int, printed: Sequence[str]) -> str:
    """The line that tells most of what a program printed before it failed.

    Args:
        code: Its exit code; below zero, the signal that ended it.
        printed: Lines of its two streams.
    """
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    errors = [line for line in printed if line.startswith(_ERROR)]
    # Of a traceback it is the last line; what is indented belongs to another, and Hydra says how to see more of it.
    told = [line for line in printed if line.strip() and not line[0].isspace() and not line.startswith(_HINT)]
    return (errors or told or [f"exit code {code}"])[-1].removeprefix(_ERROR)


def _begun_with(plan: Path) -> object:
    """What a run's folder says of how it was begun; None where that is damaged."""
    try:
        return json.loads(plan.read_text())
    except ValueError:
        return None
