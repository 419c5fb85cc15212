"""The table that ends ``castlit.make_masks``, and the command to type next."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from castlit.cli.next_training import print_next_training
from castlit.cli.overrides import shell_override
from castlit.saliency.pipeline.run import RunSummary
from castlit.utils.paths import display_path

_MEANINGS = {
    "images": "",
    "made": "",
    "skipped": "were there already",
    "failed": "have no mask to train with",
}


def print_closing_table(summary: RunSummary, images: Path, output: Path) -> None:
    """Print the counts, where the files are, and how to train on the masks.

    Args:
        summary: The run's result.
        images: The photographs' folder.
        output: The masks' folder.
    """
    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=f"Masks of {display_path(images)}")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    for what, meaning in _MEANINGS.items():
        table.add_row(what, f"{summary.counts[what]:,}", meaning)
    if summary.rate is not None:
        table.add_row(
            "images/s", f"{summary.rate:.1f}", f"by {summary.workers} process{'es' if summary.workers > 1 else ''}"
        )
    console.print(table)
    console.print(f"Masks: {display_path(output)}", markup=False)
    if summary.preview is not None:
        console.print(f"Look at them: {display_path(summary.preview)}", markup=False)
    if summary.missing:
        console.print(f"{summary.missing} shards are not complete yet", markup=False)
    elif summary.failed < summary.images:
        # Images without a mask would stop the training.
        bad = ["data.on_bad=unconstrained"] if summary.failed else []
        paths = [
            shell_override("data.images", display_path(images)),
            shell_override("data.masks", display_path(output)),
        ]
        print_next_training(console, "data=folder", *paths, *bad)
