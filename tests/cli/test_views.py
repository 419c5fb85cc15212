"""``views=albumentations`` on the command line: the same batches as castlit's own views, and one-line errors."""

import csv

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.errors import explain_error
from castlit.utils.validation import InputError

pytest.importorskip("albumentations")

SMALL = [
    *("data.train_count=16", "data.val_count=8", "data.batch_size=8", "data.size=32", "data.scene_size=36"),
    "data.workers=0",
]
AWAY = "{_target_: albumentations.Affine, translate_px: 500, p: 1}"


def data(*words):
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = compose("train", overrides=["hydra.runtime.output_dir=/nowhere", *SMALL, *words])
    return instantiate(config.data, _convert_="all")


def batches(*words):
    return list(data(*words).train_dataloader())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "words",
    [["+experiment=cast_mocov2"], ["+experiment=mocov1"], ["crop.min_coverage=0.9", "crop.law=uniform"]],
    ids=str,
)
def test_default_pipelines_change_nothing(words):
    own, pipelines = batches(*words), batches(*words, "views=albumentations")
    assert len(own) == 2
    assert all(map(same, own, pipelines))


def test_one_view_gets_a_transform():
    own = batches("views=albumentations")
    turn = "{_target_: albumentations.Rotate, limit: [90, 90], p: 1}"
    turned = batches("views=albumentations", f"+views.query.turn={turn}", "data.flip=0", "colours=null")
    plain = batches("views=albumentations", "data.flip=0", "colours=null")
    assert torch.equal(turned[0]["query_mask"], plain[0]["query_mask"].rot90(1, (2, 3)))
    assert torch.equal(turned[0]["key"], plain[0]["key"])
    assert not same(plain[0], own[0])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["views.query.crop=null"], r"views\.query has no crop"),
        (["views.key.crop.size=16"], r"views\.key makes images of 16 x 16 .*, but size is 32"),
        (["+views.key.last={_target_: albumentations.Normalize}"], r"views\.key: leave out Normalize"),
        (["+views.key.last={_target_: albumentations.ToTensorV2}"], r"views\.key: leave out ToTensorV2"),
        (["+views.key.turn={limit: 30}"], r"views\.key\.turn must be an albumentations transform, with its class"),
        (["crop.constraint=pair"], r"constraint=pair needs both boxes in one image"),
    ],
)
def test_one_line_errors(words, line):
    with pytest.raises(Exception, match=r"views|constraint") as caught:
        data("views=albumentations", *words)
    said = explain_error(caught.value)
    assert said is not None
    assert "\n" not in said
    with pytest.raises(InputError, match=line):
        raise InputError(said)


def test_options_of_the_other_views_are_refused():
    with pytest.raises(ConfigCompositionException, match=r"data\.min_coverage"):
        data("views=albumentations", "data.min_coverage=0.5")


def test_empty_masks_have_no_attention_loss(run_program, tmp_path):
    done = run_program(
        "train", "+experiment=cast_mocov2", "views=albumentations", f"+views.query.away={AWAY}", *SMALL,
        "method.queue_size=16", "trainer.max_epochs=1", "callbacks=none", "hydra.run.dir=run",
        "trainer.log_every_n_steps=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "metrics.csv").open() as file:
        steps = [row for row in csv.DictReader(file) if row["train/empty_masks"]]
    assert len(steps) >= 2
    for row in steps:
        assert float(row["train/empty_masks"]) == 1.0
        assert float(row["train/attention"] or 0) == 0.0
        assert float(row["train/loss"]) == pytest.approx(float(row["train/contrastive"]))
