"""Groups that are switched off: null, a removed group and its option none mean the same."""

import json

import pytest

from castlit.cli.overrides import settle_group
from castlit.utils.validation import InputError

SMALL = [
    *("data.train_count=8", "data.val_count=8", "data.batch_size=4", "data.size=32", "data.scene_size=36"),
    *("data.workers=0", "method.queue_size=16", "trainer.max_epochs=1", "hydra.run.dir=run"),
    "trainer.log_every_n_steps=1",
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("callbacks=null", "callbacks=none"),
        ("~callbacks", "callbacks=none"),
        ("callbacks=none", "callbacks=none"),
        ("logger=null", "logger=none"),
        ("+logger=null", "logger=none"),
        ("~logger", "logger=none"),
        ("attention=null", "attention=none"),
        ("~attention", "attention=none"),
        # Everything else stays.
        ("callbacks={}", "callbacks={}"),
        ("~callbacks.knn", "~callbacks.knn"),
        ("logger.csv=null", "logger.csv=null"),
        ("colours=null", "colours=null"),
        ("~colours", "~colours"),
        ("data.masks=null", "data.masks=null"),
        ("~data=scenes", "~data=scenes"),
        ("-m", "-m"),
        ("--cfg", "--cfg"),
    ],
)
def test_words(typed, meant):
    assert settle_group(typed) == meant


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("data=null", r"^data=null: choose one of data's options: coco, folder, scenes, shards$"),
        ("data@x=1", r"^data@x=1: choose one of data's options: coco, folder, scenes, shards$"),
        ("data=-1e3", r"^data=-1e3: choose one of data's options"),
        ("logger=true", r"^logger=true: choose one of logger's options: csv, none, tensorboard, wandb$"),
        ("~crop", r"^~crop: choose one of crop's options: random, saliency$"),
        ("+protocol=null", r"^\+protocol=null: choose one of protocol's options: all, "),
    ],
)
def test_groups_that_are_needed(typed, words):
    with pytest.raises(InputError, match=words):
        settle_group(typed)


@pytest.mark.parametrize(
    "words",
    [["callbacks=null", "logger=null"], ["~callbacks", "~logger"], ["callbacks=none"], ["logger=none"]],
    ids=str,
)
def test_training_without(run_program, tmp_path, words):
    done = run_program("train", *SMALL, *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    logs, calls = not any("logger" in word for word in words), not any("callbacks" in word for word in words)
    assert (tmp_path / "run" / "metrics.csv").is_file() == logs
    assert (tmp_path / "run" / "gradcam.png").is_file() == calls
    if calls:
        assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2
