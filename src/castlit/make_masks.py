"""Make masks: ``python -m castlit.make_masks images=/photos output=/photo_masks``."""

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from castlit.cli.app import program, this_python
from castlit.cli.overrides import quoted
from castlit.data.io.folders import require_folder
from castlit.saliency.pipeline.folder import make_masks
from castlit.saliency.pipeline.records import share_folder
from castlit.saliency.pipeline.run import Made
from castlit.saliency.pipeline.survey import Share, refuse_nested
from castlit.utils.locking import holding
from castlit.utils.paths import shown
from castlit.utils.signals import Stopped, stoppable
from castlit.utils.validation import InputError


def run(config: DictConfig) -> Made:
    """Make masks as the config says, and print what was done and what to do next.

    Raises:
        InputError: Some images have no mask; the others have. Or nothing could be done.
    """
    images = require_folder("images", config.images, "the photographs")
    output = Path(config.output).expanduser()
    refuse_nested(images, output)
    given: Any = OmegaConf.to_container(config, resolve=True)
    options = {key: value for key, value in given.items() if key not in ("images", "output", "backbone")}
    with _alone_in(share_folder(output, Share.parse(config.shard)), output), stoppable():
        try:
            made = make_masks(images, output, **options)
        except Stopped as stop:
            again = ", without overwrite=true: that would begin again" if config.overwrite else ""
            _console(stderr=True).print(
                f"{stop.name}: stopped. The same command goes on from here{again}", markup=False
            )
            raise
    _tell(made, images, output)
    if made.failed:
        raise InputError(
            f"{made.failed} of {made.images} images have no mask to train with, as {made.failed_list} lists: "
            f"{made.failures}"
        )
    return made


def _tell(made: Made, images: Path, output: Path) -> None:
    console = _console()
    table = Table(title=f"Masks of {shown(images)}")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    for what, meaning in _MEANINGS.items():
        table.add_row(what, f"{made.counts[what]:,}", meaning)
    if made.rate is not None:
        table.add_row("images/s", f"{made.rate:.1f}", f"by {made.workers} process{'es' if made.workers > 1 else ''}")
    console.print(table)
    console.print(f"Masks: {shown(output)}", markup=False)
    if made.preview is not None:
        console.print(f"Look at them: {shown(made.preview)}", markup=False)
    if made.missing:
        console.print(f"{made.missing} shards have not come to their end yet", markup=False)
    elif made.failed < made.images:
        # Images without a mask would stop the training.
        bad = " data.on_bad=unconstrained" if made.failed else ""
        command = f"{this_python()} -m castlit.train +experiment=cast_mocov2 data=folder"
        paths = f"{_typed('data.images', shown(images))} {_typed('data.masks', shown(output))}"
        console.print("Train on them next:", markup=False)
        console.print(f"  {command} {paths}{bad}", style="bold", markup=False)


_MEANINGS = {
    "images": "",
    "made": "",
    "skipped": "were there already",
    "failed": "have no mask to train with",
}


def _typed(key: str, value: str) -> str:
    """An override as a shell and Hydra take it."""
    if re.fullmatch(r"[\w/.-]+", value, re.ASCII):
        return f"{key}={value}"
    return shlex.quote(f"{key}={quoted(value)}")


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


@contextmanager
def _alone_in(folder: Path, output: Path) -> Iterator[None]:
    """Within the context, no other process makes the same masks.

    Raises:
        InputError: Another process does; or the output cannot be written.
    """
    new = not output.exists()
    with ExitStack() as stack:
        try:
            stack.enter_context(holding(folder))
        except InputError:
            raise InputError(f"output={output}: another process is making these masks") from None
        except OSError as error:
            raise InputError(f"output={output} cannot be written to ({error.strerror})") from None
        try:
            yield
        finally:
            if not any(folder.glob("*.json")):
                # A mistake of the user's: nothing was done, and nothing is left there.
                with suppress(OSError):
                    (folder / ".running").unlink()
                    for empty in (folder, folder.parent, *([output] if new else [])):
                        empty.rmdir()


def main() -> None:
    """Run the program."""
    program("make_masks", run)


if __name__ == "__main__":
    main()
