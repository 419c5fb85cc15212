"""Accumulation, clipping and the optimisers in a real run, against steps written by hand."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F

from castlit import CASTModule
from castlit.attention import AttentionLoss, attention_loss, grad_cam, tap
from castlit.methods import MethodOutput, MoCo
from castlit.nn import Encoder, linear_head
from castlit.optim import LARS, OptimizerRecipe


def doubled(samples):
    return [{key: x.double() if x.is_floating_point() else x for key, x in sample.items()} for sample in samples]


def batches(samples, size):
    chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [{key: torch.stack([sample[key] for sample in chunk]) for key in chunk[0]} for chunk in chunks]


def loss_of(method, batch):
    """CAST's loss, from its parts."""
    with tap(method.encoder, "layer4") as maps:
        output = method(batch["query"], batch["key"])
    z_km = method.target(batch["key"] * batch["key_mask"])
    cam = grad_cam((output.embedding * z_km).sum(1), maps)
    return output.loss + 3 * attention_loss(cam, batch["query_mask"])


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def gradient(network):
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def plain_sgd(**settings):
    return OptimizerRecipe("sgd", lr=0.1, momentum=0.0, weight_decay=0.0, schedule="constant", **settings)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_accumulation_averages_gradients(fit, make_backbone, samples, accumulate):
    made = doubled(samples(24))
    method = MoCo(make_backbone(), dim=4, queue_size=7, momentum=0.9)
    by_hand = copy.deepcopy(method).double().train()
    fit(CASTModule(method, AttentionLoss(), plain_sgd()), made, precision="64-true", accumulate_grad_batches=accumulate)
    moved = weights(by_hand.encoder)
    for number, batch in enumerate(batches(made, 4), 1):
        (loss_of(by_hand, batch) / accumulate).backward()
        if number % accumulate == 0:
            with torch.no_grad():
                for parameter in by_hand.encoder.parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
            by_hand.after_step()
    assert not torch.allclose(moved, weights(by_hand.encoder))
    for name, tensor in by_hand.state_dict().items():
        assert torch.allclose(method.state_dict()[name], tensor, rtol=1e-9, atol=1e-12), name


class NoNorm(nn.Module):
    """A method whose images are independent: no batch norm, no negatives."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Conv2d(5, 6, 3)), linear_head(6, 4))

    def forward(self, query, key):
        z_q, z_k = F.normalize(self.encoder(query), dim=1), F.normalize(self.encoder(key), dim=1)
        return MethodOutput((z_q - z_k.detach()).square().sum(1).mean(), z_q)

    def target(self, images):
        raise NotImplementedError


@pytest.mark.filterwarnings("ignore:.*`method` is an instance of `nn.Module`.*")
def test_accumulation_equals_large_batch(fit, samples):
    made, found = doubled(samples(24)), []
    for size, accumulate in ((2, 6), (4, 3), (12, 1)):
        torch.manual_seed(4)
        module = CASTModule(NoNorm(), None, plain_sgd(), cam_layer="2")
        trainer = fit(module, made, size, accumulate_grad_batches=accumulate, precision="64-true")
        assert trainer.global_step == 2
        found.append(weights(module.method))
    assert torch.allclose(found[0], found[2], rtol=1e-10)
    assert torch.allclose(found[1], found[2], rtol=1e-10)


class Sizes(pl.Callback):
    """Norms of the gradients before clipping, and of the updates."""

    def __init__(self):
        self.gradients, self.updates = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = weights(pl_module.encoder)

    def on_after_backward(self, trainer, pl_module):
        self.gradients.append(float(gradient(pl_module.encoder).norm()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.updates.append(float((weights(pl_module.encoder) - self.before).norm()))


def test_clipping_bounds_the_update(fit, make_backbone, samples):
    made = doubled(samples(16))

    def sizes(**options):
        torch.manual_seed(4)
        watch = Sizes()
        module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss(), plain_sgd())
        fit(module, made, precision="64-true", callbacks=[watch], **options)
        return watch

    free = sizes()
    assert free.updates == pytest.approx([0.1 * size for size in free.gradients])
    # Within the range of the norms, so that some steps are clipped and some are not.
    bound = sorted(free.gradients)[1] * 1.001
    clipped = sizes(gradient_clip_val=bound)
    wanted = [0.1 * min(size, bound) for size in clipped.gradients]
    assert clipped.updates == pytest.approx(wanted, rel=1e-5)
    assert any(size > bound for size in clipped.gradients)
    far = sizes(gradient_clip_val=1e6)
    assert far.updates == pytest.approx(free.updates)
    assert max(sizes(gradient_clip_val=1e-3).updates) <= 0.1 * 1e-3 * 1.0001


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_optimiser_steps_equal_plain_torch(fit, make_backbone, samples, name):
    """The loop is by hand; warm-up and cosine are the recipe's."""
    made = doubled(samples(12))
    recipe = OptimizerRecipe(name, lr=0.1, weight_decay=0.01, warmup_epochs=1, trust_coefficient=0.1)
    method = MoCo(make_backbone(), dim=4, queue_size=7, momentum=0.9)
    by_hand = copy.deepcopy(method).double().train()
    trainer = fit(CASTModule(method, AttentionLoss(), recipe), made, precision="64-true", max_epochs=3)
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "lars": LARS}
    assert type(trainer.optimizers[0]) is kinds[name]
    optimizer, scheduler = recipe.build(by_hand.encoder.parameters(), 9, 3)
    for batch in batches(made, 4) * 3:
        optimizer.zero_grad()
        loss_of(by_hand, batch).backward()
        optimizer.step()
        scheduler.step()
        by_hand.after_step()
    for key, tensor in by_hand.state_dict().items():
        assert torch.allclose(method.state_dict()[key], tensor, rtol=1e-8, atol=1e-10), key
