"""Keys that are added with a plus: those that nothing reads are not lost without a word."""

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig

from castlit.cli.unread import refuse_unread
from castlit.utils.validation import InputError


def check(words, program="train", folder=None, name=None):
    where = initialize_config_module("castlit.conf", version_base="1.3")
    more = [] if folder is None else [f"hydra.searchpath=['file://{folder}']"]
    with where:
        config = compose(program, [*words, *more], return_hydra_config=True)
    if name is not None:
        config.hydra.job.config_name = name
    HydraConfig.instance().set_config(config)
    refuse_unread(config.copy())


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("+sed=1", r"\+sed: nothing reads a key sed \(did you mean 'seed'\?\); all keys: add --cfg job"),
        ("++weigths=a", r"nothing reads a key weigths \(did you mean 'weights'\?\)"),
        ("+traner.max_epochs=1", r"\+traner\.max_epochs: nothing reads a key traner \(did you mean 'trainer'\?\)"),
        ("+modul.method.dim=1", r"\+modul\.method\.dim: nothing reads a key modul \(did you mean 'module'\?\)"),
        ("+budget.lrr=1", r"nothing reads a key budget\.lrr \(did you mean 'budget\.lr'\?\)"),
        ("+sed={a: 1}", r"nothing reads a key sed "),
    ],
)
def test_refused(word, line):
    with pytest.raises(InputError, match=line):
        check([word])


def test_labels_are_recorded_with_a_warning(caplog):
    check(["+tag=first"])
    assert "+tag: nothing reads a key tag; it is only recorded" in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        ["+experiment=cast_mocov2"],
        ["+trainer.profiler=simple"],
        ["+data.anything=1", "+method.other=2", "+attention.more=3"],  # their classes say what they take
        ["+callbacks.mine._target_=my.Callback", "+callbacks.panel.pixels=32"],
        ["++seed=3", "++data.workers=1"],
        ["+base=3", "seed=${base}"],
        ["+base.lr=3", "optimizer.lr=${base.lr}"],
        ["+budget.rate=3", "optimizer.lr=${oc.select:budget.rate,1}"],
        ["+views.query.turn._target_=albumentations.Rotate", "views=albumentations"],
    ],
)
def test_read_keys(words, caplog):
    check(words)
    assert not caplog.text


@pytest.mark.parametrize(
    ("program", "words"),
    [("evaluate", ["+protocol=knn", "++trust=mine"]), ("study", ["study=cast", "+arms.mine=['+experiment=byol']"])],
)
def test_other_programs(program, words, caplog):
    check(words, program)
    assert not caplog.text


def test_keys_of_the_users_own_configurations(tmp_path, caplog):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "wide.yaml").write_text("# @package _global_\nsed_of_mine: 3\nown: {sed: 1, other: 2}\n")
    check(["+mine=wide", "+own.sedd=2"], folder=tmp_path)
    assert not caplog.text
    with pytest.raises(InputError, match="nothing reads a key sed "):
        check(["+mine=wide", "+sed=2"], folder=tmp_path)


def test_a_primary_configuration_of_the_users_own(caplog):
    check(["+sed=1"], name="mine")
    assert not caplog.text
