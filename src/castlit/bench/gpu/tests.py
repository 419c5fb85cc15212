"""The part ``tests``: castlit's tests that need a GPU."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from castlit.bench.gpu.settings import GPUSettings


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """Run ``pytest -m gpu``; return how many tests passed, failed and were skipped, and the names of those that failed.

    Raises:
        RuntimeError: No test ran to its end, for instance because pytest is not installed.
    """
    if tests is None:
        return {"left_out": "no folder of tests was given (tests=tests, in a clone of castlit)"}
    report = folder / "tests.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        tests,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not report.is_file():
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])
    cases = ElementTree.parse(report).getroot().iter("testcase")
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failed = []
    for case in cases:
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    return {**counts, "names_of_failed": failed}
