"""What a study prints and writes while it runs, and in the end."""

import math
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from castlit.experiments.estimates import ByConfiguration
from castlit.experiments.read_runs import is_evaluated
from castlit.experiments.study_plan import PlannedRun
from castlit.experiments.study_report import write_report
from castlit.experiments.study_runner import LOG
from castlit.experiments.study_settings import StudySettings
from castlit.experiments.study_tables import by_configuration, differences, means, missing_metric
from castlit.reporting.tables import print_wide
from castlit.utils.paths import display_path
from castlit.utils.validation import InputError


class StudyLog:
    """Reports a study's progress; the files are rewritten after every run.

    Args:
        settings: The study's.
        runs: Its runs; those that another study has done have their folders there.
    """

    def __init__(self, settings: StudySettings, runs: Sequence[PlannedRun]) -> None:
        self.settings, self.runs = settings, runs
        self.failed: dict[PlannedRun, str] = {}
        self.done = self._before = sum(is_evaluated(run.folder) for run in runs)
        self._began = time.monotonic()
        self._console = Console(soft_wrap=True, highlight=False)
        self._reported: set[str] = set()

    def started(self) -> None:
        """Print what there is to do, what other studies have done, and which metrics the finished runs lack.

        Raises:
            InputError: A finished run cannot be read.
        """
        reused = sum(self.settings.output not in run.folder.parents for run in self.runs)
        if reused:
            self._console.print(f"{reused} of {len(self.runs)} runs are done in other studies (reuse)")
        if to_do := len(self.runs) - self.done:
            where = display_path(self.settings.output / "runs" / "*" / "*" / LOG)
            work = f"{to_do} of {len(self.runs)} runs to do, {self.settings.at_once} at a time"
            self._console.print(f"{work}; their output is in {where}", markup=False)
        self._report_missing(self._metrics())

    def finished(self, run: PlannedRun, error: str) -> None:
        """Note a run's end; ``error`` is empty if it succeeded."""
        if error:
            self.failed[run] = error
            self._console.print(f"{run.title}: {error}", style="red", markup=False)
        else:
            self.done += 1
            self._console.print(f"{run.title}: done; {self.done} of {len(self.runs)} runs{self._left()}", markup=False)
        metrics = self._metrics()
        self._write(metrics)
        self._report_missing(metrics)

    def close(self) -> Path:
        """Print the tables, write the files and return the page's path.

        Raises:
            InputError: Some runs failed.
        """
        study, metrics = self.settings.study, self._metrics()
        report = self._write(metrics)
        print_wide(self._console, study.title, *means(study, metrics))
        compared = differences(study, metrics)
        if compared:
            print_wide(self._console, "Differences, in points", *compared)
        self._console.print(f"Written to {display_path(report)}", markup=False)
        if self.failed:
            number = f"{len(self.failed)} of {len(self.runs)} runs failed"
            raise InputError(f"{number}{one_reason(self.failed.values())}; the same command tries them again")
        return report

    def _left(self) -> str:
        """The time for the runs to do, by that of the runs so far."""
        left = len(self.runs) - self.done - len(self.failed)
        # Runs that began together end at about the same time: the first of them tells the time of all.
        rounds, more = (math.ceil(count / self.settings.at_once) for count in (self.done - self._before, left))
        seconds = more * (time.monotonic() - self._began) / rounds
        return f", about {timedelta(seconds=round(seconds))} left" if left else ""

    def _metrics(self) -> ByConfiguration:
        return by_configuration(self.runs, self.settings.in_percent)

    def _write(self, metrics: ByConfiguration) -> Path:
        return write_report(self.settings.output, self.settings.study, self.runs, metrics, self.failed)

    def _report_missing(self, metrics: ByConfiguration) -> None:
        """A mistyped metric is reported once, as soon as a run is done."""
        for name in dict.fromkeys([*self.settings.study.columns, *self.settings.in_percent]):
            line = missing_metric(metrics, name)
            if line and name not in self._reported:
                self._reported.add(name)
                self._console.print(line, style="yellow", markup=False)


def one_reason(errors: Iterable[str]) -> str:
    """Why several runs failed, as a part of a sentence, if it is the same for all; otherwise empty.

    Args:
        errors: Of each run that failed, with the file to see.
    """
    reasons = [error.rpartition(" (see ")[0] or error for error in errors]
    return f", all for one reason ({reasons[0]})" if len(reasons) > 1 and len(set(reasons)) == 1 else ""
