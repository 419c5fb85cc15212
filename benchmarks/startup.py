"""CPU seconds and peak memory of each program's start, before and after a change.

    python benchmarks/startup.py before=CHECKOUT/.venv/bin/python output=benchmarks/results/startup.json

``before`` is the Python of another checkout's environment; without it, only this one is measured. The command lines run
in turn, before and after, for several rounds; figures are medians. A program's CPU time is that of all its processes,
and its memory that of the largest one (peak resident set size).
"""

import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from castlit.utils.json_files import write_json

ROUNDS = 5

ANSWERS = {
    "--help": (["--help"], 0),
    "--cfg job": (["--cfg", "job"], 0),
    "typo": (["outputt=x"], 1),
    "missing key": ([], 1),
}
"""Command lines that do nothing, and their exit codes."""

PROGRAMS = {
    "train": {**ANSWERS, "missing key": (["data=coco"], 1)},
    "evaluate": {**ANSWERS, "missing key": (["+protocol=scenes"], 1)},
    "make_masks": {
        **ANSWERS,
        "32 masks, fast": (["images=photos", "output={new}", "workers=2"], 0),
        "32 masks, fused": (["images=photos", "output={new}", "workers=2", "quality=fused"], 0),
    },
    "make_shards": {**ANSWERS, "32 images": (["images=photos", "masks=masks", "output={new}"], 0)},
    "make_scenes": {**ANSWERS, "32 scenes": (["output={new}", "train_count=16", "val_count=16"], 0)},
    "export": ANSWERS,
    "compare": {**ANSWERS, "two runs": (["runs", "output={new}"], 0)},
    "study": {**ANSWERS, "missing key": (["study=photographs"], 1)},
    "bench data": {name: ANSWERS[name] for name in ("--help", "--cfg job", "typo")},
}


def make_place(folder: Path) -> None:
    """Write photographs, their masks, and two runs to compare."""
    import cv2  # not at the top: the memory of the processes below counts what they were forked from
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for i in range(32):
        photo = rng.integers(0, 80, (240, 320, 3), np.uint8)
        mask = np.zeros((240, 320), np.uint8)
        cv2.ellipse(mask, (160, 120), (90, 60), 10 * i, 0, 360, 255, -1)
        photo[mask > 0] += 120
        cv2.imwrite(str(folder / "photos" / f"{i}.jpg"), photo)
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), mask)
    for seed in range(2):
        run = folder / "runs" / str(seed)
        (run / ".hydra").mkdir(parents=True)
        config = f"name: made\nseed: {seed}\nattention: {{weight: 3.0}}\ntrainer: {{max_epochs: 2}}\n"
        for file in (run / "config.yaml", run / ".hydra" / "config.yaml"):
            file.write_text(config)
        (run / ".hydra" / "overrides.yaml").write_text(f"[seed={seed}]\n")
        (run / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: train}, runtime: {choices: {data: scenes}}}\n")
        (run / "metrics.csv").write_text(f"epoch,step,train/loss,val/knn\n0,0,,0.1\n0,3,5.0,\n0,3,,0.{seed + 2}\n")
        metrics = {"val/knn": {"start": 0.1, "end": 0.2 + 0.1 * seed}}
        summary = {"epochs": 1, "seconds": 9.5, "pruned": None, "metrics": metrics}
        (run / "summary.json").write_text(json.dumps(summary))


def measure(python: str, program: str, words: list[str], expected: int, place: Path) -> dict[str, float]:
    """CPU seconds and peak MiB of one start, all of its processes included."""
    with tempfile.TemporaryDirectory(dir=place) as new:
        command = [word.format(new=f"{new}/made") for word in words]
        name, *more = program.split()
        started = [sys.executable, __file__, "child", python, "-m", f"castlit.{name}", *more, *command]
        done = subprocess.run(started, cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    row = json.loads(done.stdout.splitlines()[-1])
    if row.pop("code") != expected:
        raise SystemExit(f"{program} {words}: {done.stderr.decode()}")
    return row


def child(words: list[str]) -> None:
    """Run a command and print what it and its processes used: in a process of its own, as that counts all children."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: the servers of worker processes outlive the program
    done = subprocess.run(words, stdout=subprocess.DEVNULL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"code": done.returncode, "cpu_s": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}))


def main() -> None:
    """Measure all programs, or the given ones: ``python benchmarks/startup.py train rounds=3``."""
    from castlit.bench.machine import machine

    given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    programs = [word for word in sys.argv[1:] if "=" not in word] or list(PROGRAMS)
    pythons = {**({"before": given["before"]} if "before" in given else {}), "after": sys.executable}
    rounds = int(given.get("rounds", ROUNDS))
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_place(Path(folder))
        for program in programs:
            rows[program] = {}
            for name, (words, expected) in PROGRAMS[program].items():
                found = {which: [] for which in pythons}
                for _ in range(rounds):
                    for which, python in pythons.items():
                        found[which].append(measure(python, program, words, expected, Path(folder)))
                rows[program][name] = {
                    which: {
                        "cpu_s": round(statistics.median(each["cpu_s"] for each in taken), 2),
                        "mib": round(statistics.median(each["mib"] for each in taken)),
                    }
                    for which, taken in found.items()
                }
                print(program, name, json.dumps(rows[program][name]), file=sys.stderr, flush=True)
    row = {"benchmark": "startup", "rounds": rounds, "programs": rows, "machine": machine()}
    if "before_is" in given:
        row["before"] = given["before_is"]
    print(json.dumps(row))
    if "output" in given:
        write_json(Path(given["output"]), row)


if __name__ == "__main__":
    child(sys.argv[2:]) if sys.argv[1:2] == ["child"] else main()
