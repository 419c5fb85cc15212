"""Run the parts of the GPU benchmark, each in its own process with a time limit."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from castlit.bench.gpu.settings import GPUSettings
from castlit.utils.validation import InputError, require_number

PARTS = {"tests": 100, "step": 130, "views": 30, "training": 120, "interrupted": 60, "two_processes": 40}
"""Seconds after which each part is killed: 8 minutes together."""


def bench_gpu(
    parts: Sequence[str] = tuple(PARTS),
    limits: Mapping[str, float] | None = None,
    tests: str | None = None,
    **sizes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Measure on the GPU of this machine; without one, rehearse on the CPU.

    A part that fails or takes too long does not stop the others; its row then says so.

    Args:
        parts: Names of the parts to run, in this order.
        limits: Seconds by part, in place of :data:`PARTS`.
        tests: Folder of castlit's tests, for the part ``tests``; None leaves it out.
        **sizes: See :class:`castlit.bench.gpu.settings.GPUSettings`.

    Returns:
        Plain values: the settings, and for each part ``seconds`` and its own row, or ``failed`` with the reason.

    Raises:
        InputError: There is no such part, or a value is out of range.
    """
    if "precision" in sizes:
        sizes["precision"] = str(sizes["precision"])  # YAML reads 32 as a number
    settings = GPUSettings(**sizes)
    allowed = {**PARTS, **{name: require_number(f"limits.{name}", s, above=0) for name, s in (limits or {}).items()}}
    for name in [*parts, *allowed]:
        if name not in PARTS:
            raise InputError(f"parts: there is no {name!r}: choose from {', '.join(PARTS)}")
    row: dict[str, Any] = {"device": settings.device, "settings": settings.as_plain(), "parts": {}}
    row["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    for name in parts:
        given = {"settings": settings.as_plain(), "tests": tests}
        print(f"{name}: at most {allowed[name]:g} s", file=sys.stderr, flush=True)
        row["parts"][name] = _run(name, given, allowed[name])
        print(f"{name}: {_summary(row['parts'][name])}", file=sys.stderr, flush=True)
    return row


def _run(name: str, given: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="castlit_gpu_") as folder:
        (Path(folder) / "given.json").write_text(json.dumps(given))
        command = [sys.executable, "-m", "castlit.bench.gpu.part", name, folder]
        with (Path(folder) / "log").open("wb") as log:
            # A group of its own, so that what the part has started ends with it.
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = process.wait(limit_s)
                why = "" if code == 0 else _last_line(Path(folder) / "log", code)
            except subprocess.TimeoutExpired:
                why = f"took longer than {limit_s:g} s"
            finally:
                _end(process)
        found = Path(folder) / "row.json"
        row: dict[str, Any] = {"seconds": round(time.monotonic() - start, 1)}
        if found.is_file():
            row.update(json.loads(found.read_text()))
        return {**row, "failed": why} if why else row


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"exit code {code}"


def _summary(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"failed after {row['seconds']} s: {row['failed']}"
    return ", ".join(f"{name} {value}" for name, value in row.items() if not isinstance(value, (dict, list)))
