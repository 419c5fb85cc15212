"""Run a study: ``python -m castlit.study study=cast``."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from castlit.cli.app import program
from castlit.utils.locking import output_folder_lock
from castlit.utils.progress import progress
from castlit.utils.signals import stoppable

if TYPE_CHECKING:
    from castlit.experiments.study_plan import PlannedRun


def study(config: DictConfig) -> Path:
    """Run what is not done yet, print a table and write the report.

    Raises:
        InputError: The config is not valid, or some runs failed; the report shows all others.
    """
    # Only now, because it takes half a second; torch is loaded by the runs, not here.
    from castlit.experiments.plot import require_matplotlib
    from castlit.experiments.study_check import check_commands
    from castlit.experiments.study_log import StudyLog
    from castlit.experiments.study_prepare import prepare
    from castlit.experiments.study_runner import Runner
    from castlit.experiments.study_settings import read_study

    settings = read_study(config)
    require_matplotlib("studies")
    runner = Runner(settings.evaluate, settings.threads)
    runs = runner.done_elsewhere(settings.runs, settings.reuse)
    check_commands(runs, settings.evaluate)
    runner.check(runs)
    busy = f"output={settings.output}: another castlit.study is running there: wait for it, or give another output"
    with output_folder_lock(settings.output, settings.output, busy):
        prepare(settings.prepare, settings.output, settings.threads)
        log = StudyLog(settings, runs)
        log.started()
        with progress("Runs") as bar:
            task = bar.add_task("", total=len(runs), completed=log.done, rate="")

            def finished(run: "PlannedRun", error: str) -> None:
                bar.update(task, advance=1, rate=run.title)
                log.finished(run, error)

            runner.run_all(runs, settings.at_once, finished)
        return log.close()


def main() -> None:
    """Run the program."""
    # SIGTERM ends the runs that the study has started, as Ctrl-C does.
    with stoppable(signal.SIGTERM):
        program("study", study)


if __name__ == "__main__":
    main()
