"""Carry runs out, each in processes of its own; whatever is done already is not done again."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

from castlit.nn.checks import InputError
from castlit.studies.plan import Run

PLAN = "study.json"
"""In each run's folder: with which overrides it was begun."""

LOG = "study.log"
"""In each run's folder: what its programs printed."""

RESULTS = Path("evaluation", "results.json")


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
        done = [(_begun_with(path), path.parent) for path in plans if (path.parent / RESULTS).exists()]

        def folder(run: Run) -> Path:
            if (run.folder / RESULTS).exists():
                return run.folder
            facts = self._facts(run)
            return next((there for begun, there in done if begun == facts), run.folder)

        return [run._replace(folder=folder(run)) for run in runs]

    def carry_out(self, runs: Sequence[Run], at_once: int, told: Callable[[Run, str], None]) -> dict[Run, str]:
        """Do all runs that are not done.

        Args:
            runs: What to do.
            at_once: How many at the same moment.
            told: Called with each run that has come to its end, and why it failed (empty: it did not).

        Returns:
            Those that failed, and why.

        Raises:
            InputError: A folder holds a run with other overrides.
        """
        for run in runs:
            self._check(run)
        failed: dict[Run, str] = {}
        pool = ThreadPoolExecutor(at_once)
        try:
            futures = {pool.submit(self._do, run): run for run in runs}
            for future in as_completed(futures):
                run, why = futures[future], future.result()
                if why:
                    failed[run] = why
                told(run, why)
        except BaseException:
            self._stopped.set()
            for process in list(self._processes):
                with suppress(ProcessLookupError):
                    process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return failed

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
        if (run.folder / RESULTS).exists() or self._stopped.is_set():
            return ""
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / PLAN).write_text(json.dumps(self._facts(run), indent=1) + "\n")
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
        printed = (run.folder / LOG).read_bytes()[start:].decode(errors="replace").strip().splitlines()
        errors = [line for line in printed if line.startswith("error: ")] or printed[-1:] or [f"exit code {code}"]
        return f"{program}: {errors[-1].removeprefix('error: ')}"


def _begun_with(plan: Path) -> object:
    """What a run's folder says of how it was begun; None where that is damaged."""
    try:
        return json.loads(plan.read_text())
    except ValueError:
        return None
