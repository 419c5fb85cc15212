"""Make masks: ``python -m castlit.make_masks images=/photos output=/photo_masks``."""

import sys
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from castlit.cli.app import program
from castlit.data.io.folders import require_folder
from castlit.saliency.pipeline.output_lock import output_lock
from castlit.saliency.pipeline.records import shard_folder
from castlit.saliency.pipeline.shard import Shard
from castlit.utils.signals import Stopped, stoppable
from castlit.utils.validation import InputError, require_path

if TYPE_CHECKING:
    from castlit.saliency.pipeline.run import RunSummary


def main() -> None:
    """Run the program."""
    program("make_masks", run)


def run(config: DictConfig) -> "RunSummary":
    """Make masks as the config says, print the counts and the next command.

    Raises:
        InputError: Some images have no mask; the others have. Or nothing could be done.
    """
    images = require_folder("images", config.images, "the photographs")
    output = require_path("output", config.output)
    # Only now, because it takes half a second; torch is loaded by quality=deepusps alone.
    from castlit.saliency.pipeline.closing_table import print_closing_table
    from castlit.saliency.pipeline.folder import make_masks
    from castlit.saliency.pipeline.scan import check_output

    check_output(images, output)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    options = {key: value for key, value in settings.items() if key not in ("images", "output", "backbone")}
    with output_lock(shard_folder(output, Shard.parse(config.shard)), output), stoppable():
        try:
            summary = make_masks(images, output, **options)
        except Stopped as stop:
            again = ", without overwrite=true: that would start again" if config.overwrite else ""
            print(f"{stop.name}: stopped. The same command continues from here{again}", file=sys.stderr)
            raise
    print_closing_table(summary, images, output)
    if summary.failed:
        raise InputError(
            f"{summary.failed} of {summary.images} images have no mask to train with, as {summary.failed_list} lists: "
            f"{summary.failures}"
        )
    return summary


if __name__ == "__main__":
    main()
