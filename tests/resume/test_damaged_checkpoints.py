"""A checkpoint that is damaged or of another version ends in one line; the one before replaces a damaged last one."""

import copy
import random
import re
import warnings

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.callbacks import ExactResume, LastCheckpoint
from castlit.evaluation.inputs import CheckpointUnderTest
from castlit.interop import open_backbone
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.resume.checkpoint_io import read_checkpoint
from castlit.resume.request import PREVIOUS
from castlit.resume.restoring import restoring
from castlit.resume.start import start
from castlit.resume.training_run import start_training
from castlit.utils.plain_file import DamagedFileError
from castlit.utils.validation import InputError


def module():
    torch.manual_seed(3)
    # With a state of its own, whose size is that of the first keys.
    attention = AttentionLoss(target="evidence", subtract="masked_keys")
    return CASTModule(MoCo("tiny_resnet", dim=4, queue_size=16), attention, OptimizerRecipe(schedule="constant"))


@pytest.fixture(scope="module")
def good():
    """The content of a checkpoint of one step."""
    return {}


@pytest.fixture
def content(good, fit, samples, tmp_path):
    if not good:
        saves = [LastCheckpoint(tmp_path / "made"), ExactResume()]
        fit(module(), samples(8, (32, 32)), callbacks=saves, enable_checkpointing=True)
        good.update(torch.load(tmp_path / "made" / "last.ckpt", weights_only=True))
    return copy.deepcopy(good)


def change(*keys, value=None, remove=False):
    def apply(content):
        for key in keys[:-1]:
            content = content[key]
        if remove:
            del content[keys[-1]]
        else:
            content[keys[-1]] = value

    return apply


# What to change, the line of a training that resumes from it, and that of code that loads it (None: it loads).
CONTENTS = {
    "no settings": (
        change("hyper_parameters", value=None),
        "not a checkpoint of castlit's training",
        "damaged: it has no settings",
    ),
    "no weights": (
        change("state_dict", remove=True),
        "it has no state_dict",
        "damaged: it has no state_dict",
    ),
    "no loops": (change("loops", value={}), "its loops are incomplete", None),
    "weights only": (change("optimizer_states", remove=True), "it has no optimizer_states", None),
    "later version": (
        change("hyper_parameters", "method", "flavour", value=3),
        r"its method has flavour, which this version of castlit does not know: it is of another version, or damaged",
        "castlit.methods.moco.MoCo: got an unexpected keyword argument 'flavour': the checkpoint is of another version",
    ),
    "other type": (
        change("hyper_parameters", "method", "dim", value=[4]),
        "was trained with another method: continue it with method.dim=[4]",
        "dim must be a whole number, got [4]",
    ),
    "relative name": (
        change("hyper_parameters", "method", "_target_", value=".x.Y"),
        "was trained with .x.Y, not castlit.methods.moco.MoCo",
        "cannot find the class '.x.Y'",
    ),
    "name of another type": (
        change("hyper_parameters", "method", "_target_", value=["a"]),
        "was trained with ['a'], not castlit.methods.moco.MoCo",
        "cannot find the class \"['a']\"",
    ),
    "method of another type": (
        change("hyper_parameters", "method", value="moco"),
        "its method is not described",
        "method must be a Module, got str",
    ),
    "no method": (
        change("hyper_parameters", "method", remove=True),
        "not a checkpoint of castlit's training",
        "cannot be loaded; it is damaged, or of another version (TypeError",
    ),
    "other weights": (
        change("state_dict", "method.encoder.backbone.conv1.weight", value=torch.zeros(2)),
        "its weights are not those of this run's networks (method.encoder.backbone.conv1.weight)",
        "cannot be loaded; it is damaged, or of another version (RuntimeError",
    ),
    "missing weight": (
        change("state_dict", "method.encoder.backbone.conv1.weight", remove=True),
        "its weights are not those of this run's networks (method.encoder.backbone.conv1.weight)",
        "cannot be loaded; it is damaged, or of another version (RuntimeError",
    ),
    "other optimiser": (
        change("optimizer_states", value=[{"state": {}, "param_groups": []}]),
        "cannot be resumed; it is damaged, or of another version (ValueError",
        None,
    ),
    "no position": (
        change("castlit", value={}),
        "cannot be resumed; it is damaged, or of another version (KeyError",
        None,
    ),
    "no random states": (
        change("castlit", "random", value=[{}]),
        "cannot be resumed; it is damaged, or of another version (KeyError",
        None,
    ),
}


def resume(path, samples, folder):
    trainer = quiet_trainer(folder, callbacks=[LastCheckpoint(folder / "new"), ExactResume()], max_epochs=2)
    again = module()
    checkpoint = start_training(str(path), again, trainer, [], folder)
    with restoring(checkpoint):
        trainer.fit(again, torch.utils.data.DataLoader(samples(8, (32, 32)), 4), ckpt_path=path, weights_only=True)
    return trainer


def quiet_trainer(folder, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        return pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            default_root_dir=folder,
            **options,
        )


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize(("damage", "resumed", "loaded"), CONTENTS.values(), ids=CONTENTS.keys())
def test_contents(content, samples, tmp_path, damage, resumed, loaded):
    damage(content)
    path = tmp_path / "bad.ckpt"
    torch.save(content, path)
    with pytest.raises(InputError, match=re.escape(resumed)) as caught:
        resume(path, samples, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if loaded is None:
        assert isinstance(CASTModule.load_from_checkpoint(path), CASTModule)
        return
    with pytest.raises(InputError, match=re.escape(loaded)) as caught:
        CASTModule.load_from_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*have no `val_dataloader`")
def test_good_content(content, samples, tmp_path):
    torch.save(content, tmp_path / "good.ckpt")
    assert resume(tmp_path / "good.ckpt", samples, tmp_path).global_step == 4


def mutants(data):
    """Files cut short, and files with a few other bytes where the pickle is."""
    for size in (0, 1, 100, *range(4096, len(data), 40_000), len(data) - 1):
        yield data[:size]
    where, random_ = data.find(b"data.pkl"), random.Random(0)
    for _ in range(20):
        changed = bytearray(data)
        for _ in range(3):
            changed[where + random_.randrange(4000)] = random_.randrange(256)
        yield bytes(changed)


@pytest.mark.filterwarnings("ignore:.*weights_only")
def test_bytes(content, tmp_path):
    whole, path = tmp_path / "whole.ckpt", tmp_path / "bad.ckpt"
    torch.save(content, whole)
    config = OmegaConf.create({"checkpoint": str(path), "backbone": None, "seed": 0})
    lines = []
    for data in mutants(whole.read_bytes()):
        path.write_bytes(data)
        for read in (
            lambda: read_checkpoint(path, f"resume={path}", "castlit's training"),
            lambda: CASTModule.load_from_checkpoint(path),
            lambda: open_backbone(path),
            lambda: CheckpointUnderTest(config).module,
        ):
            try:
                read()
            except InputError as error:  # anything else fails the test
                lines.append(str(error))
    assert len(lines) > 80
    assert all(str(path) in line and "\n" not in line for line in lines)


def run(folder, samples, resume=None, epochs=1):
    """Three steps in an epoch; a checkpoint after each epoch."""
    last = LastCheckpoint(folder / "checkpoints")
    trainer = quiet_trainer(folder, callbacks=[last, ExactResume()], max_epochs=epochs)
    again = module()
    checkpoint = start(resume, last.path, folder)
    trainer.fit(again, torch.utils.data.DataLoader(samples, 4), ckpt_path=checkpoint, weights_only=True)
    return again, trainer


def step_of(path):
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize(("links", "missing"), [(True, False), (False, False), (True, True)])
def test_one_before_is_kept_and_used(samples, tmp_path, capsys, monkeypatch, links, missing):
    if not links:  # a disk without hard links
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    made = samples(12, (32, 32))
    whole, _ = run(tmp_path / "whole", made, epochs=3)
    run(tmp_path / "run", made, epochs=2)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    previous = last.with_name(PREVIOUS)
    assert (step_of(previous), step_of(last)) == (3, 6)
    if missing:
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:5000])
    capsys.readouterr()
    resumed, trainer = run(tmp_path / "run", made, "last", epochs=3)
    told = capsys.readouterr()
    what = "last.ckpt is missing" if missing else r"last.ckpt: not a checkpoint, or damaged \(.+\)"
    assert re.search(f"{what}: the one before it is used", told.err)
    assert "continuing from" in told.out
    assert "previous.ckpt, at epoch 1, step 3" in told.out
    assert (trainer.global_step, step_of(previous), step_of(last)) == (9, 6, 9)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_damaged_file_does_not_become_the_one_before(samples, tmp_path):
    last = LastCheckpoint(tmp_path)
    good, damaged = b"the one before", b"damaged"
    last.path.write_bytes(damaged)
    previous = last.path.with_name(PREVIOUS)
    previous.write_bytes(good)
    trainer = quiet_trainer(tmp_path, callbacks=[last])
    trainer.strategy.connect(module())
    trainer.ckpt_path = previous
    last.on_load_checkpoint(trainer, trainer.lightning_module, {})
    last._save(trainer)
    assert previous.read_bytes() == good
    last._save(trainer)
    assert previous.read_bytes() not in (good, damaged)


def test_named_checkpoint_is_not_replaced_silently(content, tmp_path):
    last = tmp_path / "last.ckpt"
    last.write_bytes(b"damaged")
    torch.save(content, tmp_path / PREVIOUS)
    with pytest.raises(DamagedFileError, match=r"not a checkpoint, or damaged .*previous\.ckpt is the one before it"):
        start(str(last), None, tmp_path / "other")
    assert start(str(tmp_path / PREVIOUS), None, tmp_path / "other") == tmp_path / PREVIOUS
    (tmp_path / PREVIOUS).write_bytes(b"damaged, too")
    with pytest.raises(DamagedFileError, match=r"previous\.ckpt: not a checkpoint, or damaged"):
        start("last", last, tmp_path)
