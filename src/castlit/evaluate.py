"""Evaluate a checkpoint: ``python -m castlit.evaluate +protocol=scenes checkpoint=last.ckpt``."""

from omegaconf import DictConfig

from castlit.cli.app import output_dir, program
from castlit.cli.launch import end_with_parent, in_one_folder
from castlit.cli.protocols import require_protocol
from castlit.reporting.results import Results, Table


def main() -> None:
    """Run the program."""
    end_with_parent()
    program("evaluate", evaluate, prepare=in_one_folder)


def evaluate(config: DictConfig) -> Results | Table:
    """Evaluate as the config says; write ``results.json`` and print a table."""
    require_protocol(config)
    from castlit.evaluation.run import run_protocol  # only now, because it takes seconds: torch and Lightning

    return run_protocol(config, output_dir()).results


if __name__ == "__main__":
    main()
