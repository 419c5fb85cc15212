"""The lines that end ``castlit.make_shards``: what was written, and the command to type next."""

import re
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from castlit.cli.next_training import print_next_training
from castlit.cli.overrides import shell_override
from castlit.data.io.masks import MaskKind
from castlit.data.shards.write import Written


def print_closing_lines(
    written: Written, folder: Path, found: int, with_masks: bool, mask_kind: MaskKind = "auto"
) -> None:
    """Print how many samples were written, and how to train on them.

    Args:
        written: The shards.
        folder: Where they are.
        found: How many images there were.
        with_masks: Whether masks were given.
        mask_kind: What their pixels mean.
    """
    console = Console(soft_wrap=True, highlight=False)
    samples = sum(written.counts.values())
    notes = [f"{samples} samples in {len(written.counts)} shards, {decimal(written.bytes)}, in {folder}"]
    if found > samples:
        notes.append(f"{found - samples} images left out")
    if written.unmasked and with_masks:
        notes.append(f"{written.unmasked} without a mask")
    listed = ", listed in data_report.csv" if len(notes) > 1 else ""
    console.print(f"Wrote {'; '.join(notes)}{listed}", markup=False)
    names = list(written.counts)
    shards = names[0] if len(names) == 1 else f"{{{names[0][:-4]}..{names[-1][:-4]}}}.tar"
    urls = _urls(str(folder.absolute() / shards))
    masks = [] if with_masks else ["data.masks=null"]
    masks += [] if mask_kind == "auto" else [f"data.mask_kind={mask_kind}"]
    print_next_training(console, "data=shards", urls, *masks)


def _urls(pattern: str) -> str:
    """The override as one types it in a shell: castlit's programs accept braces, in double quotes."""
    if re.fullmatch(r"[\w/.{}~ -]+", pattern):
        return f'data.urls="{pattern}"'
    return shell_override("data.urls", pattern)
