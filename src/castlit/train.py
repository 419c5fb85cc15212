"""Train CAST: ``python -m castlit.train +experiment=cast_mocov2``.

Every part is chosen and set from the command line; ``--help`` lists the groups, ``--cfg job`` shows the whole config.
"""

from contextlib import nullcontext
from functools import partial

from omegaconf import DictConfig

from castlit.cli.app import output_dir, program
from castlit.cli.launch import end_with_parent, in_one_folder, refuse_relaunched_sweep
from castlit.cli.missing import require_complete
from castlit.cli.sweeps import in_search
from castlit.resume.find_run import reuse_run_folder
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
    require_complete(config, "data", "module", "logger", "callbacks", "trainer")
    # Only now, because it takes seconds: torch and Lightning.
    from castlit.resume.training_run import start_training
    from castlit.training.begin import begin, refuse_dev_run
    from castlit.training.build import build
    from castlit.training.closing_table import print_closing_table
    from castlit.training.fit import fit
    from castlit.training.objective import RequireObjective, find_objective
    from castlit.training.start_weights import load_start_weights
    from castlit.utils.cpu_threads import cpu_threads

    with quiet_lightning(), cpu_threads(config.threads):
        module, data, trainer = build(config)
        refuse_relaunched_sweep(lambda: trainer)
        if in_search():
            trainer.callbacks.insert(0, RequireObjective(str(config.objective)))  # type: ignore[attr-defined]
        with run_lock(output_dir()) if trainer.is_global_zero else nullcontext():
            if trainer.is_global_zero:  # the others may come when it has begun
                refuse_dev_run(config, output_dir())
            checkpoint = start_training(config.resume, module, trainer, trainer.loggers, output_dir())
            load_start_weights(config, module, trainer, checkpoint)
            begins = partial(begin, config, module, data, trainer, checkpoint)
            record = fit(trainer, module, data, checkpoint, begins)
        if record is not None and trainer.is_global_zero:
            print_closing_table(config, trainer, record)
    return find_objective(str(config.objective), trainer, record)


if __name__ == "__main__":
    main()
