"""compile=true in CASTModule and a real Trainer: the same run, compiled once."""

import os
import shutil
from collections import OrderedDict

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch._dynamo.utils import counters

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import MoCo, SimSiam
from castlit.nn.backbones import ResidualBlock
from castlit.optim import OptimizerRecipe

pytestmark = [
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="there is no C++ compiler here"),
    # torch's own warnings about its compiler.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning"),
]


def backbone():
    """A small network: each kernel takes some seconds of g++."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 3, 2, bias=False),
            bn1=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            layer3=nn.Sequential(ResidualBlock(4, 5, 1)),
            layer4=nn.Sequential(ResidualBlock(5, 6, 2)),
        )
    )


METHODS = {
    "moco": lambda: MoCo(backbone(), dim=4, queue_size=15, momentum=0.9),
    "simsiam": lambda: SimSiam(backbone(), dim=4, hidden=5),
}


class Watch(pl.Callback):
    """Losses, the first step's gradients, and the number of compiled graphs after each step."""

    def on_fit_start(self, trainer, pl_module):
        self.losses, self.graphs = [], []

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 0:
            self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append([float(outputs[key].detach()) for key in outputs])
        self.graphs.append(counters["stats"]["unique_graphs"])


def trained(fit, samples, name, layer, **switches):
    torch.manual_seed(2)
    torch._dynamo.reset()
    counters.clear()
    attention = None if layer is None else AttentionLoss(layer)
    module, watch = CASTModule(METHODS[name](), attention, OptimizerRecipe(lr=0.01), **switches), Watch()
    made = [{key: x.double() if x.is_floating_point() else x for key, x in sample.items()} for sample in samples]
    validation = [{"image": sample["query"], "mask": sample["query_mask"]} for sample in made[:4]]
    options = {"validation": validation, "callbacks": [watch], "precision": "64-true", "max_epochs": 2}
    return module, watch, fit(module, made, **options)


@pytest.mark.parametrize(
    ("name", "layer", "graphs", "switches"),
    [
        # The trained trunk in two parts; the momentum encoder with statistics tracked, and for masked keys without.
        pytest.param("moco", "layer4", 4, {}, marks=pytest.mark.nightly),
        # layer4 is behind the tap and is differentiated twice: it is not compiled.
        pytest.param("moco", "layer3", 4, {}, marks=pytest.mark.nightly),
        pytest.param("moco", None, 2, {}, marks=pytest.mark.nightly),
        # Two parts, each with a gradient and, for masked keys, without.
        pytest.param("simsiam", "layer4", 4, {}, marks=pytest.mark.nightly),
        # Each of both blocks, and the momentum encoder twice. The blocks again in the backward pass, where
        # Lightning's 64-true no longer makes float64 the default; in other precisions that is not so.
        pytest.param("moco", "layer4", 6, {"activation_checkpointing": True}, marks=pytest.mark.nightly),
    ],
)
def test_compiled_run_is_equal(fit, samples, tmp_path, name, layer, graphs, switches):
    made = samples(12, (16, 16))
    module, watch, trainer = trained(fit, made, name, layer, compile=True, **switches)
    assert watch.graphs == [graphs] * 6, "all in the first step, and not again after a validation"
    assert not counters["graph_break"]
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    plain, wanted, _ = trained(fit, made, name, layer)
    assert wanted.graphs == [0] * 6
    assert torch.allclose(torch.tensor(watch.losses), torch.tensor(wanted.losses), rtol=1e-6)
    assert set(watch.gradients) == set(wanted.gradients)
    for key, gradient in wanted.gradients.items():
        assert torch.allclose(watch.gradients[key], gradient, rtol=1e-6, atol=1e-9), key
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert list(saved) == list(plain.state_dict())
    for key, tensor in plain.state_dict().items():
        assert torch.allclose(saved[key], tensor, rtol=1e-6, atol=1e-9), key
    assert not [part for part in module.modules() if "forward" in vars(part)], "patches are removed after the fit"


@pytest.mark.nightly
def test_no_compiler_message(start_program, tmp_path):
    """From the command line, with a compiler that does not exist and nothing compiled before."""
    result = start_program(
        "train",
        "compile=true",
        "trainer.fast_dev_run=true",
        "trainer.accelerator=cpu",
        "data.train_count=16",
        "data.batch_size=8",
        "data.val_count=8",
        "data.workers=0",
        cwd=tmp_path,
        CXX="/no/such/compiler",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "compile=true does not work on this machine" in line
    assert "compile=false" in line
    assert "Traceback" not in result.stderr + result.stdout
