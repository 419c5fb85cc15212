"""Measure castlit against what it replaces: ``python -m castlit.bench data images=/photos``."""

import json
import sys
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from castlit.cli.app import program
from castlit.utils.json_files import write_json

BENCHMARKS = {
    "data": "views of photographs, against PIL, torchvision, lightly and albumentations, and the rejection sampler",
    "gpu": "everything that needs a GPU, in at most 8 minutes",
    "step": "a training step: plain MoCo, CAST as published, castlit as it trains, lightly's MoCo",
}


def bench(config: DictConfig) -> None:
    """Run a benchmark; print its row as one line of JSON, and write it to the config's ``output``."""
    from castlit.bench.machine import machine

    row = {"benchmark": config.name, **instantiate(config.benchmark, _convert_="all"), "machine": machine()}
    print(json.dumps(row))
    if config.output is not None:
        file = Path(config.output)
        write_json(file, row)
        print(f"Written to {file}", file=sys.stderr)


def main() -> None:
    """Run the benchmark that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        listed = "\n".join(f"  python -m castlit.bench {each}    {what}" for each, what in BENCHMARKS.items())
        wanted = name in ("", "-h", "--help")
        print(f"{'' if wanted else f'error: there is no benchmark {name!r}. '}Choose one:\n{listed}", file=sys.stderr)
        sys.exit(0 if wanted and name else 1)
    del sys.argv[1]
    program(f"bench_{name}", bench)


if __name__ == "__main__":
    main()
