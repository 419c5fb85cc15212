"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

import json

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from castlit.checkpoints import read_checkpoint
from castlit.cli import output_dir, program
from castlit.module import CASTModule
from castlit.nn.checks import InputError, require_int


def evaluate(config: DictConfig) -> dict[str, float]:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    if OmegaConf.is_missing(config, "protocol"):
        raise InputError("which protocol? Add +protocol=scenes or +protocol=grounding")
    pl.seed_everything(require_int("seed", config.seed, 0, 2**32 - 1), verbose=False)
    protocol = instantiate(config.protocol, _convert_="all")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    read_checkpoint(config.checkpoint)
    # As in training, unless the user says otherwise; a function of the user's own cannot be in a checkpoint.
    look = {"attention": instantiate(config.attention, _convert_="all")} if "attention" in config else {}
    module = CASTModule.load_from_checkpoint(config.checkpoint, map_location="cpu", weights_only=True, **look)
    module.eval().to(device, memory_format=torch.channels_last)
    console = Console(soft_wrap=True)
    with console.status("Evaluating; this takes a minute on a CPU"):
        results: dict[str, float] = protocol(module.explain, device)
    file = output_dir() / "results.json"
    file.write_text(json.dumps({"checkpoint": str(config.checkpoint), "results": results}, indent=2) + "\n")
    table = Table(title=escape(str(config.checkpoint)))
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in results.items():
        table.add_row(name, f"{value:.3f}" if abs(value) <= 1 else f"{value:g}")
    console.print(table)
    console.print(f"Written to {file}", markup=False)
    return results


def main() -> None:
    """Run the program."""
    program("evaluate", evaluate)


if __name__ == "__main__":
    main()
