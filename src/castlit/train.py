"""Train CAST: ``python -m castlit.train +experiment=cast_mocov2``.

Every part is chosen and set from the command line; ``--help`` lists the groups, ``--cfg job`` shows the whole config.
"""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from castlit.cli.app import output_dir, program
from castlit.cli.launch import end_with_parent, in_one_folder, refuse_relaunched_sweep
from castlit.cli.refused import accept
from castlit.resume.find_run import reuse_run_folder
from castlit.resume.start import put_aside, remove_old_results
from castlit.resume.training_run import last_path, start_training
from castlit.training.build import build
from castlit.training.closing_table import print_closing_table
from castlit.training.fit import fit
from castlit.utils.atomic_write import write_atomic
from castlit.utils.locking import run_lock
from castlit.utils.quiet import quiet_lightning


def main() -> None:
    """Run the program."""
    end_with_parent()
    program("train", train, prepare=lambda arguments: in_one_folder(reuse_run_folder(arguments)))


def train(config: DictConfig) -> float | None:
    """Train as the config says.

    Returns:
        The metric that the config names as ``objective`` (for sweepers); None if it was not logged.
    """
    with quiet_lightning():
        module, data, trainer = build(config)
        refuse_relaunched_sweep(lambda: trainer)
        with run_lock(output_dir()) if trainer.is_global_zero else nullcontext():
            checkpoint = start_training(config.resume, module, trainer, trainer.loggers, output_dir())
            replace = partial(_replace_earlier_run, config, checkpoint, last_path(trainer))
            record = fit(trainer, module, data, checkpoint, begin=replace if trainer.is_global_zero else accept)
        if record is not None and trainer.is_global_zero:
            print_closing_table(config, trainer, record)
    if config.objective in trainer.callback_metrics:
        return float(trainer.callback_metrics[config.objective])
    # A run that was resumed at its end has not measured it again.
    return record.metrics[config.objective].end if record is not None and config.objective in record.metrics else None


def _replace_earlier_run(config: DictConfig, checkpoint: Path | None, last: Path | None) -> None:
    """The run begins: what an earlier one left in its folder gives way."""
    accept()
    if not config.trainer.fast_dev_run:
        if checkpoint is None and last is not None:
            put_aside(last)
        remove_old_results(output_dir())
    write_atomic(output_dir() / "config.yaml", OmegaConf.to_yaml(config, resolve=True).encode())


if __name__ == "__main__":
    main()
