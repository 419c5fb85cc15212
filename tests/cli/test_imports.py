"""What programs must not import before they need it: answers come at once, and masks are made without torch."""

import json
import subprocess
import sys

HEAVY = {
    *(
        "albumentations",
        "cv2",
        "faster_coco_eval",
        "joblib",
        "lightning_fabric",
        "matplotlib",
        "numpy",
        "optuna",
        "PIL",
    ),
    *("pytorch_lightning", "scipy", "skimage", "sklearn", "timm", "torch", "torchmetrics", "torchvision", "wandb"),
    *("PIL", "webdataset"),
}
"""Packages that take a tenth of a second or more; torch and Lightning take several."""

ANSWERS = [
    ("train", ["--help"], 0),
    ("train", ["+experiment=cast_mocov2", "--cfg", "job"], 0),
    ("train", ["attention.wieght=1"], 1),
    ("train", ["+experiment=cast_mocov22"], 1),
    ("train", ["data=coco"], 1),
    ("train", ["resume=last", "data=shards"], 1),
    ("evaluate", ["+protocol=grounding", "--cfg", "job"], 0),
    ("evaluate", ["+protocol=groundin", "checkpoint=random"], 1),
    ("evaluate", [], 1),
    ("evaluate", ["+protocol=scenes"], 1),
    ("evaluate", ["+protocol=grounding", "checkpoint=random", "data=folder"], 1),
    *((name, ["--cfg", "job"], 0) for name in ("make_masks", "make_shards", "make_scenes", "export", "compare")),
    *((name, ["outputt=x"], 1) for name in ("make_masks", "make_shards", "make_scenes", "export", "compare")),
    *((name, [], 1) for name in ("make_masks", "make_shards", "make_scenes", "export", "compare")),
    ("study", ["--cfg", "job"], 0),
    ("study", ["study=casts"], 1),
    ("bench.__main__", [], 1),
    ("bench.__main__", ["step", "--cfg", "job"], 0),
    ("bench.__main__", ["data", "countt=1"], 1),
]
"""Command lines that are answered without doing anything, and their exit codes."""

ANSWER_ALL = """
import importlib, io, json, sys
from contextlib import redirect_stderr, redirect_stdout

answers, heavy = map(json.loads, sys.argv[1:])
for name, words, expected in answers:
    sys.argv = [name, *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            importlib.import_module(f"castlit.{name}").main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    assert code == expected, (name, words, code, err.getvalue())
    assert out.getvalue() or err.getvalue(), (name, words)
    loaded = {each.partition(".")[0] for each in sys.modules}
    print(json.dumps([name, words, sorted(loaded.intersection(heavy))]))
"""


def fresh(code, *arguments, cwd):
    """Lines that a fresh interpreter prints."""
    words = [sys.executable, "-c", code, *map(json.dumps, arguments)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_answers_import_nothing_heavy(tmp_path):
    rows = list(map(json.loads, fresh(ANSWER_ALL, ANSWERS, sorted(HEAVY), cwd=tmp_path)))
    assert rows == [[name, words, []] for name, words, _ in ANSWERS]


def test_start_of_several_processes_does_not_load_torch(tmp_path):
    code = (
        "import sys; from castlit.cli.launch import *; end_with_parent(); in_one_folder(['seed=1']); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    packages = set(" ".join(fresh(code, cwd=tmp_path)).split())
    assert {"castlit", "hydra"} <= packages
    assert not packages & HEAVY
