"""Put runs side by side: ``python -m castlit.compare multirun/2026-01-01/12-00-00``."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from castlit.cli.app import program
from castlit.experiments.folder_arguments import folders_as_runs
from castlit.utils.paths import display_path
from castlit.utils.validation import InputError


def compare(config: DictConfig) -> Path:
    """Print and write what differs between runs and which metrics they reached.

    Raises:
        InputError: There are no runs, they cannot be read, none has the metric to sort by, or the output is a file.
    """
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    names = [given["runs"]] if isinstance(given["runs"], (str, int)) else list(given["runs"] or [])
    if not names:
        raise InputError("runs: give a folder of runs, such as multirun/2026-01-01/12-00-00")
    from castlit.experiments.comparison import compare_runs
    from castlit.experiments.comparison_report import write_comparison
    from castlit.experiments.comparison_tables import print_comparison
    from castlit.experiments.read_runs import read_runs

    output = None if given["output"] is None else Path(str(given["output"])).expanduser()
    if output is not None and output.is_file():
        raise InputError(f"output={given['output']} is a file: give a folder")
    folders = [Path(str(name)).expanduser() for name in names]
    what = compare_runs(read_runs(folders), given["sort"])
    console = Console(soft_wrap=True, highlight=False)
    print_comparison(console, what)
    default = folders[0] / "compare" if len(folders) == 1 else Path("compare")
    page = write_comparison(output or default, what, list(map(str, names)))
    console.print(f"Written to {display_path(page)}, and compare.csv, .json and .png beside it", markup=False)
    return page


def main() -> None:
    """Run the program."""
    program("compare", compare, prepare=folders_as_runs)


if __name__ == "__main__":
    main()
