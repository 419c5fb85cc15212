"""Export a backbone: ``python -m castlit.export checkpoint=last.ckpt output=backbone.pth format=torchvision``."""

from omegaconf import DictConfig
from rich.console import Console

from castlit.cli.app import program


def main() -> None:
    """Run the program."""
    program("export", export_as)


def export_as(config: DictConfig) -> None:
    """Write a backbone as the config says, and print how to read it."""
    given = (config.checkpoint, config.output, config.format, config.backbone, config.size)
    from castlit.interop import export  # only now, because it takes seconds: torch

    readers = export(*given)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Wrote {config.output}, for {readers}", markup=False)


if __name__ == "__main__":
    main()
