"""Attention options on the command line: training, the saved config and evaluation."""

import json

import pytest

SMALL = [
    *("data.train_count=32", "data.val_count=16", "data.size=32", "data.scene_size=36", "data.batch_size=8"),
    "data.workers=0",
]
RUN = [
    *("+experiment=cast_mocov2", *SMALL, "trainer.max_epochs=2", "method.queue_size=16", "callbacks.panel=null"),
    "hydra.run.dir=run",
]

MINE = """
from castlit.nn import Described


def score(embeddings):
    return (embeddings.query * embeddings.masked_key).sum(1)


class Cubed(Described):
    def __init__(self, power):
        self.power = power

    def __call__(self, embeddings):
        return score(embeddings) ** self.power
"""


def evaluated(run_program, folder, *words):
    return run_program(
        "evaluate", "+protocol=grounding", *SMALL, *words, "checkpoint=run/checkpoints/last.ckpt",
        "protocol.pictures=4", "hydra.run.dir=found", cwd=folder, PYTHONPATH=str(folder),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["attention.target=contrastive"], []),
        (["attention.layer=[layer3,layer4]"], []),
        (["attention.target={_target_: mine.Cubed, power: 3}"], ["trust=mine"]),
        (
            ["attention.target={_target_: mine.score, _partial_: true}"],
            ["+attention=cast", "attention.target={_target_: mine.score, _partial_: true}"],
        ),
    ],
)
def test_options_train_and_evaluate(run_program, tmp_path, words, again):
    (tmp_path / "mine.py").write_text(MINE)
    done = run_program("train", *RUN, *words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    figures = (tmp_path / "run" / "metrics.csv").read_text()
    assert "train/attention" in figures
    if again:
        without = evaluated(run_program, tmp_path)
        assert without.returncode == 1
        assert ("trust=mine" if again == ["trust=mine"] else "+attention=") in without.stderr
    found = evaluated(run_program, tmp_path, *again)
    assert found.returncode == 0, found.stderr
    assert 0 <= json.loads((tmp_path / "found" / "results.json").read_text())["results"]["pretext"]["pointing"] <= 1
