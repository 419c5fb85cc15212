"""Write the built-in scenes as files: ``python -m castlit.make_scenes output=/scenes``."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from castlit.cli.app import program
from castlit.utils.paths import display_path
from castlit.utils.progress import progress


def main() -> None:
    """Run the program."""
    program("make_scenes", make_scenes)


def make_scenes(config: DictConfig) -> None:
    """Write training and validation scenes as the config says."""
    output = Path(config.output).expanduser()
    from castlit.data.scenes import Scenes
    from castlit.data.scenes.files import write_scenes

    common = {"size": config.size, "seed": config.seed}
    with progress("Writing scenes") as bar:
        task = bar.add_task("", total=2, rate="")
        # All settings are checked before the first file is written; the smaller set is drawn first.
        val = Scenes(config.val_count, split=config.val_split, **common)
        train = Scenes(config.train_count, background_correlation=config.background_correlation, **common)
        for folder, scenes in (("train", train), ("val", val)):
            write_scenes(scenes, output / "images" / folder, output / "masks" / folder)
            bar.advance(task)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{config.train_count} + {config.val_count} scenes in {display_path(output)}", markup=False)


if __name__ == "__main__":
    main()
