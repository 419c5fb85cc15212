"""Run a study: ``python -m castlit.study study=cast``."""

import signal
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from castlit.cli.app import program
from castlit.experiments.estimates import by_arm, not_there
from castlit.experiments.prepare import prepare
from castlit.experiments.runner import Runner, is_done
from castlit.experiments.study_plan import Run, plan
from castlit.experiments.study_plot import require_matplotlib
from castlit.experiments.study_report import Figures, Study, differences, table, write_report
from castlit.reporting.tables import print_wide
from castlit.utils.paths import shown
from castlit.utils.progress import progress
from castlit.utils.signals import stoppable
from castlit.utils.validation import InputError, as_list, require_int


def study(config: DictConfig) -> Path:
    """Run what is not done yet, print a table and write the report.

    Raises:
        InputError: The config is wrong, or some runs failed; the report tells of all others.
    """
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    # In YAML a name may be a number, and an arm that changes nothing may have nothing behind its colon.
    arms = {str(name): [*given["base"], *(overrides or [])] for name, overrides in given["arms"].items()}
    output = Path(given["output"]).expanduser().resolve()
    runs = plan(arms, given["seeds"], given["overrides"], output)
    columns, in_percent = list(as_list(given["columns"])), tuple(given["in_percent"])
    if not columns:
        raise InputError("columns: name the figures to compare, such as [linear/mixed_rand, knn]")
    what = Study(given["title"], given["about"], columns, _pairs(given["control"], list(arms)))
    require_matplotlib()
    threads = None if given["threads"] is None else require_int("threads", given["threads"], 1)
    prepare(given["prepare"], output, threads)
    runner = Runner(given["evaluate"], threads)
    console = Console(soft_wrap=True, highlight=False)
    others = [Path(str(other)).expanduser().resolve() for other in as_list(given["reuse"] or [])]
    runs = runner.done_elsewhere(runs, others)
    taken_over = sum(output not in run.folder.parents for run in runs)
    if taken_over:
        console.print(f"{taken_over} of {len(runs)} runs are done in other studies (reuse)")
    failed: dict[Run, str] = {}
    unknown: set[str] = set()

    def tell_what_is_not_there(figures: Figures) -> None:
        for name in dict.fromkeys([*columns, *in_percent]):
            if name not in unknown and (line := not_there(figures, name)):
                unknown.add(name)
                console.print(line, style="yellow", markup=False)

    # What cannot be read is told of now, not when the first run has come to its end.
    tell_what_is_not_there(by_arm(runs, in_percent))
    with progress("Runs") as bar:
        task = bar.add_task("", total=len(runs), completed=sum(is_done(run.folder) for run in runs), rate="")

        def told(run: Run, why: str) -> None:
            bar.update(task, advance=1, rate=run.title)
            if why:
                failed[run] = why
                console.print(f"{run.title}: {why}", style="red", markup=False)
            # After every run: whoever looks in before the end sees how far it has come.
            figures = by_arm(runs, in_percent)
            write_report(output, what, runs, figures, failed)
            tell_what_is_not_there(figures)

        runner.carry_out(runs, require_int("at_once", given["at_once"], 1), told)
    figures = by_arm(runs, in_percent)
    report = write_report(output, what, runs, figures, failed)
    print_wide(console, what.title, *table(what, figures))
    compared = differences(what, figures)
    if compared:
        print_wide(console, "Differences, in points", *compared)
    console.print(f"Written to {shown(report)}", markup=False)
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again")
    return report


def _pairs(given: Any, arms: list[str]) -> list[tuple[str, str]]:  # noqa: ANN401 - whatever the YAML holds
    """Arms and their controls; a single name is the control of all others."""
    if given is not None and not isinstance(given, list):
        given = [[arm, given] for arm in arms if arm != str(given)]
    pairs = []
    for pair in given or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"control: give an arm, or a list of pairs [arm, its control], not {pair}")
        arm, control = map(str, pair)
        for name in (arm, control):
            if name not in arms:
                raise InputError(f"control: {name} is none of the arms ({', '.join(arms)})")
        pairs.append((arm, control))
    return pairs


def main() -> None:
    """Run the program."""
    # As with Ctrl-C, the runs that it has started end with it.
    with stoppable(signal.SIGTERM):
        program("study", study)


if __name__ == "__main__":
    main()
