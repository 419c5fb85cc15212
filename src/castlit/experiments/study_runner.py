"""Carry out a study's runs, each in its own processes; finished runs are skipped."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from castlit.experiments.read_runs import RESULTS, is_evaluated
from castlit.experiments.study_plan import PlannedRun
from castlit.experiments.study_prepare import environment
from castlit.utils.json_files import load_json, write_json
from castlit.utils.validation import InputError

Evaluations: TypeAlias = list[str] | dict[str, list[str]]
"""Overrides of ``castlit.evaluate``: of one evaluation, or of several by name."""

PLAN = "study.json"
"""In each run's folder: the overrides it was started with."""

LOG = "study.log"
"""In each run's folder: the output of its programs."""

_ERROR, _HINT = "error: ", "Set the environment variable HYDRA_FULL_ERROR=1"


class Runner:
    """Trains and evaluates runs.

    Args:
        evaluations: Overrides of ``castlit.evaluate``: those of the only evaluation, or of several by name.
        threads: Of each process; None leaves that to torch.
    """

    def __init__(self, evaluations: Evaluations, threads: int | None = None) -> None:
        self.evaluations, self.threads = evaluations, threads
        self._stopped = threading.Event()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def done_elsewhere(self, runs: Sequence[PlannedRun], studies: Sequence[Path]) -> list[PlannedRun]:
        """Point each run that another study has done, with the same overrides and seed, to the folder there.

        Args:
            runs: This study's.
            studies: Folders of other studies; they need not exist.

        Returns:
            The same runs, in the same order. Runs that are done here keep their folder.
        """
        plans = [path for study in studies for path in sorted(study.glob(f"runs/*/*/{PLAN}"))]
        done = [(_read_plan(path), path.parent) for path in plans if is_evaluated(path.parent)]

        def folder(run: PlannedRun) -> Path:
            if is_evaluated(run.folder):
                return run.folder
            wanted = plan_of(run, self.evaluations)
            return next((there for found, there in done if found == wanted), run.folder)

        return [run._replace(folder=folder(run)) for run in runs]

    def check(self, runs: Sequence[PlannedRun]) -> None:
        """Check that the runs' folders have no other runs.

        Raises:
            InputError: A folder contains a run with other overrides.
        """
        for run in runs:
            path = run.folder / PLAN
            if path.exists() and _read_plan(path) != plan_of(run, self.evaluations):
                raise InputError(
                    f"{run.folder} contains a run with other overrides than {' '.join(run.overrides)}, or with another "
                    "evaluation: give another output, or remove it"
                )

    def run_all(self, runs: Sequence[PlannedRun], at_once: int, finished: Callable[[PlannedRun, str], None]) -> None:
        """Do all runs that are not done.

        Args:
            runs: The study's.
            at_once: Number of runs at the same time.
            finished: Called after each run with why it failed; empty if it succeeded.
        """
        pool = ThreadPoolExecutor(at_once)
        try:
            futures = {pool.submit(self._do, run): run for run in runs if not is_evaluated(run.folder)}
            for future in as_completed(futures):
                finished(futures[future], future.result())
        except BaseException:
            self._stopped.set()
            for process in list(self._processes):
                with suppress(ProcessLookupError):
                    process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _do(self, run: PlannedRun) -> str:
        if self._stopped.is_set():
            return ""
        write_json(run.folder / PLAN, plan_of(run, self.evaluations))
        if not (run.folder / "summary.json").exists():
            resume = ["resume=last"] if (run.folder / "checkpoints" / "last.ckpt").exists() else []
            words = [*run.overrides, f"seed={run.seed}", f"hydra.run.dir={run.folder}", *resume]
            error = self._start(run, "castlit.train", words)
            if error:
                return error
        if not isinstance(self.evaluations, dict):
            return self._evaluate(run, self.evaluations, run.folder / RESULTS)
        results = {}
        for name, words in self.evaluations.items():
            file = run.folder / RESULTS.parent / name / RESULTS.name
            error = "" if file.exists() else self._evaluate(run, words, file)
            if error:
                return f"{name}: {error}"
            try:
                results[name] = load_json(file.read_bytes())["results"]
            except (ValueError, KeyError, TypeError) as damage:
                return f"{file} is damaged ({damage!r}): remove it to evaluate again"
        # Written last: a run with this file is finished.
        write_json(run.folder / RESULTS, {"results": results})
        return ""

    def _evaluate(self, run: PlannedRun, words: Sequence[str], results: Path) -> str:
        last = run.folder / "checkpoints" / "last.ckpt"
        return self._start(run, "castlit.evaluate", [*words, f"checkpoint={last}", f"hydra.run.dir={results.parent}"])

    def _start(self, run: PlannedRun, program: str, words: list[str]) -> str:
        """Run a program to its end; return why it failed."""
        with (run.folder / LOG).open("ab") as log:
            start = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", program, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self.threads),
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


def plan_of(run: PlannedRun, evaluations: Evaluations) -> dict[str, Any]:
    """What the file ``PLAN`` in a run's folder holds."""
    return {"train": list(run.overrides), "evaluate": evaluations, "seed": run.seed}


def why_failed(code: int, printed: Sequence[str]) -> str:
    """The most informative line of a failed program's output.

    Args:
        code: Its exit code; below zero, the signal that ended it.
        printed: The lines of its standard output and standard error.
    """
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    errors = [line for line in printed if line.startswith(_ERROR)]
    # A traceback's last line; indented lines belong to another, and Hydra adds a hint.
    lines = [line for line in printed if line.strip() and not line[0].isspace() and not line.startswith(_HINT)]
    return (errors or lines or [f"exit code {code}"])[-1].removeprefix(_ERROR)


def _read_plan(path: Path) -> object:
    """A run's plan; None if the file is damaged."""
    try:
        found: object = load_json(path.read_bytes())
        return found
    except ValueError:
        return None
