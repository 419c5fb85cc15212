"""The command that trains on what a program has made, for this machine."""

from rich.console import Console

from castlit.cli.app import this_python


def print_next_training(console: Console, *overrides: str) -> None:
    """Print the command; where there is no accelerator, with the budget for small machines.

    Args:
        console: Where to.
        overrides: The words of the data, as one types them in a shell.
    """
    from castlit.utils.gpu import has_accelerator  # only now, because it takes seconds: torch

    small = not has_accelerator()
    words = ["+experiment=cast_mocov2", *overrides, *(["budget=laptop"] if small else [])]
    why = " (on this machine without a GPU; budget=laptop keeps it to minutes)" if small else ""
    console.print(f"Train on them next{why}:", markup=False)
    console.print(f"  {this_python()} -m castlit.train {' '.join(words)}", style="bold", markup=False)
