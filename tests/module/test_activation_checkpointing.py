"""activation_checkpointing=true in CASTModule and a real Trainer: the same run, with less memory."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, MoCo, SimSiam
from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError

METHODS = {
    "moco": lambda: MoCo("tiny_resnet", dim=8, queue_size=15, momentum=0.9),
    "byol": lambda: BYOL("tiny_resnet", dim=8, hidden=9, momentum=0.9),
    "simsiam": lambda: SimSiam("tiny_resnet", dim=8, hidden=9),
}


class Watch(pl.Callback):
    """Losses, the first step's gradients, and how often each backbone's blocks ran in training."""

    def on_fit_start(self, trainer, pl_module):
        self.losses, self.runs = [], {"trained": 0, "momentum": 0}
        for name in ("encoder", "momentum_encoder"):
            if hasattr(pl_module.method, name):
                key = "trained" if name == "encoder" else "momentum"
                block = getattr(pl_module.method, name).backbone.layer2[0]
                block.conv1.register_forward_hook(lambda *_, key=key: self._count(pl_module, key))

    def _count(self, module, key):
        self.runs[key] += module.training

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 0:
            self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append([float(outputs[key].detach()) for key in outputs])


def trained(fit, samples, name, layer, switch, precision="64-true"):
    torch.manual_seed(2)
    attention = None if layer is None else AttentionLoss(layer)
    module = CASTModule(METHODS[name](), attention, OptimizerRecipe(lr=0.01), activation_checkpointing=switch)
    watch = Watch()
    dtype = torch.float64 if precision == "64-true" else torch.float32
    made = [{key: x.to(dtype) if x.is_floating_point() else x for key, x in sample.items()} for sample in samples]
    validation = [{"image": sample["query"], "mask": sample["query_mask"]} for sample in made[:4]]
    trainer = fit(module, made, validation=validation, callbacks=[watch], precision=precision)
    return module, watch, trainer


@pytest.mark.parametrize(
    ("name", "layer", "precision"),
    [
        ("moco", "layer4", "64-true"),
        ("moco", "layer3", "64-true"),
        ("moco", "layer4.0.conv2", "64-true"),
        ("moco", None, "64-true"),
        ("moco", "layer4", "bf16-mixed"),
        ("byol", "layer4", "64-true"),
        ("simsiam", "layer4", "bf16-mixed"),
    ],
)
def test_compiled_run_is_equal(fit, samples, name, layer, precision):
    made = samples(12, (32, 32))
    module, watch, _ = trained(fit, made, name, layer, True, precision)
    plain, wanted, _ = trained(fit, made, name, layer, False, precision)
    assert torch.allclose(torch.tensor(watch.losses), torch.tensor(wanted.losses), rtol=1e-6)
    assert set(watch.gradients) == set(wanted.gradients)
    for key, gradient in wanted.gradients.items():
        assert torch.allclose(watch.gradients[key], gradient, rtol=1e-6, atol=1e-9), key
    assert list(module.state_dict()) == list(plain.state_dict())
    for key, tensor in plain.state_dict().items():
        assert torch.allclose(module.state_dict()[key], tensor, rtol=1e-6, atol=1e-9), key
    # In each of three steps: passes with a gradient, which run twice, and passes without.
    passes, others = {"moco": (1, 0), "byol": (2, 0), "simsiam": (2, 1)}[name]
    assert wanted.runs["trained"] == 3 * (passes + others)
    assert watch.runs["trained"] == 3 * (2 * passes + others)
    assert watch.runs["momentum"] == wanted.runs["momentum"], "passes without a gradient are not recomputed"
    assert not [part for part in module.modules() if "forward" in vars(part)], "patches are removed after the fit"


def test_saves_less_for_backward(fit, samples):
    class Kept(CASTModule):
        def training_step(self, batch, batch_idx):
            self.kept = 0

            def pack(tensor):
                self.kept += tensor.numel() * tensor.element_size()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                return super().training_step(batch, batch_idx)

    kept = []
    for switch in (False, True):
        module = Kept(METHODS["moco"](), AttentionLoss(), activation_checkpointing=switch)
        fit(module, samples(4, (32, 32)))
        kept.append(module.kept)
    assert kept[1] < 0.5 * kept[0]


def test_checkpoint_has_no_patches(fit, samples, tmp_path):
    made = samples(4, (32, 32))
    _, _, trainer = trained(fit, made, "moco", "layer4", True, "32-true")
    trainer.save_checkpoint(tmp_path / "with.ckpt")
    _, _, trainer = trained(fit, made, "moco", "layer4", False, "32-true")
    trainer.save_checkpoint(tmp_path / "without.ckpt")
    found, wanted = (torch.load(tmp_path / name, weights_only=True) for name in ("with.ckpt", "without.ckpt"))
    assert list(found["state_dict"]) == list(wanted["state_dict"])
    assert found["hyper_parameters"] == wanted["hyper_parameters"]
    again = CASTModule.load_from_checkpoint(tmp_path / "with.ckpt", activation_checkpointing=True)
    assert trained_once_more(fit, again, made)


def trained_once_more(fit, module, samples):
    watch = Watch()
    fit(module, samples, callbacks=[watch])
    return watch.runs["trained"] == 2


def test_fit_after_interrupted_fit(fit, samples):
    class Break(pl.Callback):
        def on_train_batch_end(self, *_):
            raise KeyError

    made = samples(4, (32, 32))
    module = CASTModule(METHODS["moco"](), AttentionLoss(), activation_checkpointing=True)
    with pytest.raises(KeyError):
        fit(module, made, callbacks=[Break()])
    assert trained_once_more(fit, module, made)


def test_nothing_to_recompute(fit, samples):
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
    module = CASTModule(MoCo(backbone, dim=4, queue_size=7), AttentionLoss("0"), activation_checkpointing=True)
    with pytest.raises(InputError, match="activation_checkpointing=true finds no block of layers to recompute"):
        fit(module, samples(4))


@pytest.mark.parametrize("switch", ["activation_checkpointing", "compile"])
def test_switches_must_be_bool(switch):
    with pytest.raises(InputError, match=f"{switch} must be true or false, got 'yes'"):
        CASTModule(METHODS["moco"](), **{switch: "yes"})


def test_on_two_ranks(tmp_path, run_two_ranks):
    ranks = run_two_ranks(Path(__file__).with_name("two_ranks_recompute.py"), tmp_path)
    for name in ("32-true", "bf16-mixed", "synchronised"):
        for rank, found in enumerate(ranks):
            plain, recomputed = found[name, False], found[name, True]
            for key, tensor in plain.items():
                assert torch.equal(recomputed[key], tensor), (rank, name, key)
        first, second = (found[name, True] for found in ranks)
        weights = [key for key in first if key.endswith(("weight", "bias"))]
        assert weights
        assert all(torch.equal(first[key], second[key]) for key in weights)
    plain, synchronised = (ranks[0][name, True] for name in ("32-true", "synchronised"))
    assert not torch.equal(
        plain["method.encoder.backbone.conv1.weight"], synchronised["method.encoder.backbone.conv1.weight"]
    )
