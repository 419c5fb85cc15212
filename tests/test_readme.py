"""The README's examples and commands work."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

import castlit


def blocks(repository, language):
    return re.findall(rf"```{language}\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)


def block_with(repository, words):
    """The single Python block that contains these words."""
    (found,) = [block for block in blocks(repository, "python") if words in block]
    return found


def test_python_example(repository, tmp_path):
    example = block_with(repository, "trainer.fit(module")
    check = "\nassert 'layer4.0.conv1.weight' in backbone.state_dict()\nassert trainer.global_step == 4\n"
    check += "import sys; assert 'hydra' not in sys.modules, 'the library must not need Hydra'\n"
    result = subprocess.run(
        [sys.executable, "-c", example + check], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


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

    example = block_with(repository, "AttentionSupervision(")
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


def test_loss_example_matches_script(repository):
    lines = block_with(repository, "attention.combine(").rstrip("\n").split("\n")
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
    text = "\n".join(blocks(repository, "bash"))
    used = set(re.findall(r"\+?\b(experiment|protocol|data|trainer|logger)=(\w+)", text))
    assert used
    for group, option in used:
        assert (repository / "conf" / group / f"{option}.yaml").is_file(), (group, option)
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile
