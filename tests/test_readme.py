"""The examples of README and of the pages on Python work, and README's commands exist."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import castlit
from castlit.data.scenes import Scenes

README, PYTHON, YOUR_TRAINING, SALIENCY = "README.md", "docs/python.md", "docs/your_training.md", "docs/api/saliency.md"


def blocks(repository, page, language):
    return re.findall(rf"```{language}\n(.*?)```", (repository / page).read_text(), re.DOTALL)


def block_with(repository, page, words):
    """The single Python block that contains these words."""
    (found,) = [block for block in blocks(repository, page, "python") if words in block]
    return found


def smaller(example, **changes):
    """The example with other values of some arguments, each of which it gives once."""
    for name, value in changes.items():
        example, count = re.subn(rf"\b{name}=[^,()]+", f"{name}={value}", example)
        assert count == 1, name
    return example


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder with photographs, and the current one; masks are not made."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(Scenes(8, size=40, seed=0).images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_quietly(example):
    """Execute a block as the main program, without a line of the trainer's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(example, {"__name__": "__main__"})


def test_readme_is_short(repository):
    assert len((repository / README).read_text().split()) <= 1000


def test_ten_lines(repository, tmp_path):
    example = block_with(repository, PYTHON, "ScenesDataModule(")
    check = "\nassert 'layer4.0.conv1.weight' in backbone.state_dict()\nassert trainer.global_step == 4\n"
    check += "import sys; assert 'hydra' not in sys.modules, 'the library must not need Hydra'\n"
    result = subprocess.run(
        [sys.executable, "-c", example + check], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_all_in_python(repository, photographs):
    """Masks, training, a look and an evaluation, as the page has them; only smaller, and in one process."""
    example = smaller(
        block_with(repository, PYTHON, "make_masks("), size=32, batch_size=4, max_epochs=1, check_val_every_n_epoch=1
    ).replace('make_masks("photos", "masks")', 'make_masks("photos", "masks", workers=0)')
    run_quietly(example.replace(" size=32", " size=32, workers=0"))
    for file in ("masks/preview.html", "gradcam.png", "look/grounding.html", "backbone.pth"):
        assert (photographs / file).is_file(), file
    module = castlit.CASTModule.load_from_checkpoint("last.ckpt")
    weights = castlit.interop.load_backbone("backbone.pth")
    for name, value in module.method.encoder.backbone.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_saliency_maps(repository, photographs):
    """The page's block, on a photograph and an untrained network: castlit's files name their network."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(castlit.CASTModule(castlit.methods.MoCo("tiny_resnet", queue_size=16)))
    trainer.save_checkpoint("last.ckpt")
    (photographs / "photos" / "0.jpg").rename("photo.jpg")
    found = {}
    exec(block_with(repository, SALIENCY, "SpectralPredictor("), found)
    assert found["image"].shape == (40, 40, 3)
    for name in ("saliency_map", "object_map"):
        assert found[name].shape == (40, 40), name
        assert 0 <= found[name].min() < found[name].max() <= 1, name


def test_your_lightning_module(repository, photographs):
    """README's block, only smaller."""
    castlit.saliency.make_masks("photos", "masks", workers=0, preview=0)
    example = smaller(
        block_with(repository, README, "AttentionSupervision("),
        size=32,
        batch_size=4,
        max_epochs=1,
        check_val_every_n_epoch=1,
    ).replace(" size=32", " size=32, workers=0")
    run_quietly(example + "\nassert {'train/attention', 'train/pointing'} <= set(trainer.callback_metrics)\n")
    assert (photographs / "gradcam.png").is_file()


def test_callback_example(repository):
    """The unchanged block, run with a module and data that fit it."""

    class Theirs(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone, self.projection_head = castlit.nn.tiny_resnet(), nn.Linear(128, 8)

        def forward_momentum(self, images):
            return self.projection_head(self.backbone(images).mean((2, 3))).detach()

        def training_step(self, batch, batch_idx):
            query = self.projection_head(self.backbone(batch["query"]).mean((2, 3)))
            return -F.cosine_similarity(query, self.forward_momentum(batch["key"])).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    example = block_with(repository, YOUR_TRAINING, "AttentionSupervision(")
    wanted = "trainer = pl.Trainer(max_epochs=100, callbacks=[supervision])\ntrainer.fit(your_module, your_data)\n"
    assert example.endswith(wanted)
    names = {}
    exec(example.removesuffix(wanted), names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[names["supervision"]],
        )
        trainer.fit(Theirs(), castlit.data.ScenesDataModule(train_count=32, val_count=8, batch_size=16, workers=0))
    assert {"train/attention", "train/pointing"} <= set(trainer.callback_metrics)
    assert 0 < trainer.callback_metrics["train/attention"] < 1


def test_albumentations_example(repository):
    scenes = Scenes(1, size=256, seed=0)
    names = {"image": scenes.images[0], "mask": scenes.masks[0]}
    exec(block_with(repository, YOUR_TRAINING, "SaliencyCrop("), names)
    assert names["view"]["image"].shape == (224, 224, 3)
    assert names["view"]["mask"].any()


def test_loss_example_matches_script(repository):
    lines = block_with(repository, YOUR_TRAINING, "attention.combine(").rstrip("\n").split("\n")
    step = (repository / "examples" / "guided_classifier.py").read_text()
    assert "\n".join(f"        {line}" for line in lines) in step


@pytest.mark.slow
@pytest.mark.nightly
def test_guided_classifier(repository, run_python, tmp_path):
    script = repository / "examples" / "guided_classifier.py"
    small = ["--epochs", "4", "--train-count", "640", "--test-count", "200"]
    done = run_python(script, *small, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stderr
    rows = {
        line.split()[1]: [float(x) for x in line.split()[2:]] for line in done.stdout.splitlines() if "weight " in line
    }
    plain, guided = rows["0"], rows["3"]
    pointing = slice(1, 6, 2)
    assert np.mean(guided[pointing]) > np.mean(plain[pointing]) + 20


def test_commands_name_existing_options(repository):
    """Experiments, groups and protocols in the README's commands exist."""
    text = "\n".join(blocks(repository, README, "bash"))
    used = set(re.findall(r"\+?\b(experiment|protocol|data|trainer|logger)=(\w+)", text))
    assert used
    for group, option in used:
        assert (repository / "conf" / group / f"{option}.yaml").is_file(), (group, option)
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile
