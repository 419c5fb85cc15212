"""Half precision: a step that the gradient scaler skips changes nothing."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, MoCo
from castlit.nn import KeyQueue
from castlit.optim import OptimizerRecipe

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]


def weights(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Watch(pl.Callback):
    """Records the state before and after each step."""

    def __init__(self):
        self.steps = []

    def _now(self, module):
        return weights(module.encoder), weights(module.method.momentum_encoder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = self._now(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append((self.before, self._now(pl_module), trainer.precision_plugin.scaler.get_scale()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", [MoCo, BYOL])
def test_skipped_step_keeps_average(fit, samples, device, method):
    # The gradients overflow at this scale, and not at the next smaller one.
    scaler = torch.amp.GradScaler(device, init_scale=2.0**60, backoff_factor=2.0**-50)
    options = {"queue_size": 15, "dim": 8} if method is MoCo else {"dim": 8, "hidden": 9}
    network = method("tiny_resnet", momentum=0.9, **options)
    with torch.no_grad():
        for parameter in network.momentum_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # or the average would not change
    module, watch = CASTModule(network, AttentionLoss(), OptimizerRecipe(lr=0.01)), Watch()
    plugins = [MixedPrecision("16-mixed", device, scaler)]
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)"):  # because the first step is skipped
        fit(module, samples(8, (32, 32)), callbacks=[watch], plugins=plugins, accelerator=device)
    (skipped, taken) = watch.steps
    assert skipped[2] < 2.0**60, "it did overflow"
    for before, after in zip(*skipped[:2], strict=True):
        assert same(before, after)
    (before, average), (after, moved), _ = taken
    assert not same(before, after)
    for old, new, target in zip(average, moved, after, strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * target, atol=1e-6)
    if method is MoCo:
        assert torch.isfinite(network.queue.keys).all()
        assert int(network.queue.pointer) == 8


@pytest.mark.parametrize("device", DEVICES)
def test_non_finite_keys_are_not_enqueued(device):
    queue = KeyQueue(5, 3).to(device)
    before = queue.keys.clone()
    keys = torch.nn.functional.normalize(torch.randn(4, 3, device=device), dim=1)
    keys[1, 2], keys[3, 0] = float("inf"), float("nan")
    queue.enqueue(keys)
    expected = torch.stack([keys[0], before[1], keys[2], before[3], before[4]])
    assert torch.equal(queue.keys, expected)
    assert int(queue.pointer) == 4


def test_nan_batch_keeps_queue():
    method = MoCo("tiny_resnet", dim=8, queue_size=15)
    before = method.queue.keys.clone()
    images = torch.randn(4, 3, 32, 32)
    loss = method(images, images * float("nan")).loss
    assert torch.isnan(loss)
    assert torch.equal(method.queue.keys, before)
