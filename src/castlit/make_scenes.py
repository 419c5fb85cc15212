"""Write the built-in scenes as files: ``python -m castlit.make_scenes output=/scenes``."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from castlit.cli.app import program
from castlit.utils.json_files import load_json, write_json
from castlit.utils.paths import display_path
from castlit.utils.progress import progress
from castlit.utils.validation import InputError, require_choice, require_int, require_path

RECORD = "scenes.json"
"""The settings of the scenes in a folder."""


def main() -> None:
    """Run the program."""
    program("make_scenes", make_scenes)


def make_scenes(config: DictConfig) -> None:
    """Write training and validation scenes as the config says.

    Raises:
        InputError: A setting is wrong, or the output has other scenes.
    """
    output = require_path("output", config.output)
    from castlit.data.scenes import Scenes
    from castlit.data.scenes.files import write_scenes
    from castlit.data.scenes.scenes import SPLITS

    common = {"size": config.size, "seed": config.seed}
    settings: Any = OmegaConf.to_container(config, resolve=True)
    settings.pop("output")
    _refuse_other_scenes(output, settings)
    for key in ("train_count", "val_count"):
        require_int(key, config[key], 1)
    # Training scenes are those in train/.
    require_choice("val_split", config.val_split, SPLITS[1:])
    with progress("Writing scenes") as bar:
        task = bar.add_task("", total=2, rate="")
        # All settings are checked before the first file is written; the smaller set is drawn first.
        val = Scenes(config.val_count, split=config.val_split, **common)
        train = Scenes(config.train_count, background_correlation=config.background_correlation, **common)
        write_json(output / RECORD, settings)
        for folder, scenes in (("train", train), ("val", val)):
            write_scenes(scenes, output / "images" / folder, output / "masks" / folder)
            bar.advance(task)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{config.train_count} + {config.val_count} scenes in {display_path(output)}", markup=False)


def _refuse_other_scenes(output: Path, settings: dict[str, Any]) -> None:
    """Check that the output has no scenes, or those of the same settings, which are written again."""
    there = any((output / kind / split).exists() for kind in ("images", "masks") for split in ("train", "val"))
    try:
        same = load_json((output / RECORD).read_bytes()) == settings
    except (OSError, ValueError):
        same = False
    if there and not same:
        raise InputError(
            f"output={output} has scenes of other settings, or of unknown ones ({RECORD}): give a new folder"
        )


if __name__ == "__main__":
    main()
