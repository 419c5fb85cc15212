"""Put runs side by side: ``python -m castlit.compare multirun/2026-01-01/12-00-00``."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from castlit.cli.app import program
from castlit.cli.overrides import quoted
from castlit.experiments.comparison_report import write_comparison
from castlit.experiments.comparison_table import compare, notes, rows_of_groups, rows_of_runs
from castlit.experiments.read_runs import read_runs
from castlit.reporting.tables import print_wide
from castlit.utils.paths import shown
from castlit.utils.validation import InputError

_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Hydra's own words that take the next one along."""

KEYS = 6
"""So many settings are printed at most; the files have all."""


def side_by_side(config: DictConfig) -> Path:
    """Print what differs between runs and what came of it, and write it down.

    Raises:
        InputError: There are no runs, they cannot be read, or none has the figure to sort by.
    """
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    names = [given["runs"]] if isinstance(given["runs"], (str, int)) else list(given["runs"] or [])
    if not names:
        raise InputError("runs: give a folder of runs, such as multirun/2026-01-01/12-00-00")
    tops = [Path(str(name)).expanduser() for name in names]
    what = compare(read_runs(tops), given["sort"])
    default = tops[0] / "compare" if len(tops) == 1 else Path("compare")
    output = default if given["output"] is None else Path(str(given["output"])).expanduser()
    console = Console(soft_wrap=True, highlight=False)
    print_wide(console, f"{len(what.runs)} runs by {what.sort}", *rows_of_runs(what, KEYS))
    for note in notes(what):
        console.print(note, markup=False)
    if what.several_seeds:
        print_wide(console, "Means over seeds, with 95 % intervals", *rows_of_groups(what, KEYS))
    if len(what.keys) > KEYS:
        console.print(f"They differ in more: {', '.join(what.keys[KEYS:])}", markup=False)
    page = write_comparison(output, what, list(map(str, names)))
    console.print(f"Written to {shown(page)}, and compare.csv, .json and .png beside it", markup=False)
    return page


def folders_as_runs(arguments: list[str]) -> list[str]:
    """Turn bare words of a command line, which are folders, into ``runs=[...]``, which Hydra understands.

    Args:
        arguments: The words of the command line.

    Raises:
        InputError: ``runs=`` is there, too.
    """
    folders: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        # Folders may be called after a job's overrides: attention.weight=1.
        bare = "=" not in word and not word.startswith(("-", "+")) and (not word.startswith("~") or "/" in word)
        is_folder = before not in _WITH_VALUE and (bare or (not word.startswith("-") and Path(word).is_dir()))
        (folders if is_folder else others).append(word)
    if not folders:
        return arguments
    if any(word.startswith("runs=") for word in others):
        raise InputError(f"runs= and {folders[0]}: give the folders in one way")
    listed = ",".join(quoted(folder) for folder in folders)
    return [*others, f"runs=[{listed}]"]


def main() -> None:
    """Run the program."""
    program("compare", side_by_side, prepare=folders_as_runs)


if __name__ == "__main__":
    main()
