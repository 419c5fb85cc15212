"""The command that trains on what a program has made, for this machine."""

import platform
import sys
from pathlib import Path

from rich.console import Console

from castlit.cli.app import this_python


def print_next_training(console: Console, *overrides: str) -> None:
    """Print the command, with the recipe for photographs; without an accelerator, also the budget for small machines.

    Args:
        console: Where to.
        overrides: The words of the data, as one types them in a shell.
    """
    small = not shows_accelerator()
    words = ["+experiment=cast_mocov2_evidence", *overrides, *(["budget=laptop"] if small else [])]
    why = " (on this machine without a GPU; budget=laptop keeps it to minutes)" if small else ""
    console.print(f"Train on them next{why}:", markup=False)
    console.print(f"  {this_python()} -m castlit.train {' '.join(words)}", style="bold", markup=False)


def shows_accelerator() -> bool:
    """Whether the system shows a GPU. Torch would know, but takes seconds to import, and this is only about advice."""
    devices = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and Windows' in its Linux
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or any(Path(device).exists() for device in devices)
