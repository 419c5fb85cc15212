"""One part of the GPU benchmark, in its own process: ``python -m castlit.bench.gpu.part NAME FOLDER``.

The folder has ``given.json``, and gets ``row.json`` and whatever the part writes.
"""

import importlib
import json
import sys
from pathlib import Path

from castlit.bench.gpu.settings import GPUSettings


def main() -> None:
    """Run the part, and write its row."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    given = json.loads((folder / "given.json").read_text())
    part = importlib.import_module(f"castlit.bench.gpu.{name}")
    row = part.measure(GPUSettings(**given["settings"]), folder, given["tests"])
    (folder / "row.json").write_text(json.dumps(row))


if __name__ == "__main__":
    main()
