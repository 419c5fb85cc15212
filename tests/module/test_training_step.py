"""The training step against formulas in float64, with Grad-CAM's α in closed form."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe


class Gradients(pl.Callback):
    """Records the gradients of the first step."""

    def on_after_backward(self, trainer, pl_module):
        self.found = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}


def normalised_by_batch(x, weight, bias):
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def maps_of(w, images):
    x = F.conv2d(images, w["backbone.conv1.weight"], stride=2)
    x = normalised_by_batch(x, w["backbone.bn1.weight"], w["backbone.bn1.bias"]).relu()
    x = F.conv2d(x, w["backbone.layer4.0.weight"], padding=1)
    return normalised_by_batch(x, w["backbone.layer4.1.weight"], w["backbone.layer4.1.bias"]).relu()


def embed(w, maps):
    """Pool and head; returns the unit embedding, its length before, and the hidden layer before its ReLU."""
    hidden = maps.mean((2, 3)) @ w["head.0.weight"].T + w["head.0.bias"]
    u = hidden.relu() @ w["head.2.weight"].T + w["head.2.bias"]
    length = (u * u).sum(1, keepdim=True).sqrt()
    return u / length, length, hidden


def naive(
    weights, momentum_weights, queue, batch, mode, lambda_, key="masked_image", target="positive", signed=False, mean=0
):
    """Return total, contrastive and attention loss; everything is a first-order expression of the weights."""
    maps = maps_of(weights, batch["query"])
    z, length, hidden = embed(weights, maps)
    z_k = embed(momentum_weights, maps_of(momentum_weights, batch["key"]))[0]
    if key == "masked_image":
        z_km = embed(momentum_weights, maps_of(momentum_weights, batch["key"] * batch["key_mask"]))[0]
    elif key == "plain":
        z_km = z_k
    else:
        key_maps = maps_of(momentum_weights, batch["key"])
        share = F.adaptive_avg_pool2d(batch["key_mask"].double(), key_maps.shape[2:])
        # Then the pooled features are the mean under the mask.
        cells = key_maps[0, 0].numel()
        z_km = embed(momentum_weights, key_maps * share / share.sum((2, 3), keepdim=True).clamp(min=1e-12) * cells)[0]
    positive = (z * z_k).sum(1)
    logits = torch.cat([positive[:, None], z @ queue.T], 1) / 0.2
    contrastive = (logits.exp().sum(1).log() - logits[:, 0]).mean()

    # ∂(z · t)/∂u = (t - (z · t) z) / ‖u‖ and ∂(u · t)/∂u = t, back through the two layers, spread evenly over the
    # map's cells.
    of_u = (z_km - (z * z_km).sum(1, keepdim=True) * z) / length if target == "positive" else z_km - mean
    of_pooled = (of_u @ weights["head.2.weight"] * (hidden > 0)) @ weights["head.0.weight"]
    alpha = of_pooled / maps[0, 0].numel()
    cam = (alpha[:, :, None, None] * maps).sum(1)
    if mode == "paper":
        cam, losses = cam if signed else cam.relu(), []
        for g, m, k in zip(cam, batch["query_mask"], batch["key_mask"], strict=True):
            if m.any() and (k.any() or key == "plain"):
                m = F.adaptive_avg_pool2d(m.double(), g.shape)[0]
                losses.append(1 - (g * m).sum() / ((g * g).sum() * (m * m).sum()).sqrt() if g.any() else g.sum() + 1)
        attention = torch.stack(losses).mean()
        return contrastive + lambda_ * attention, contrastive, attention
    scaled = []
    for g in cam:
        for _ in range(2):
            g = g - g.min()
            g = g / (g.max() + 1e-7)
        scaled.append(g)
    g = torch.stack(scaled)
    m = F.interpolate(batch["query_mask"].double(), g.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    attention = 1 - (g * m).sum() / ((g * g).sum() * (m * m).sum()).sqrt()
    return contrastive / (1 + lambda_) + attention * lambda_ / (1 + lambda_), contrastive, attention


def doubled(network):
    return {name: tensor.detach().double().requires_grad_() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("mode", "lambda_", "key", "options"),
    [
        ("paper", 3.0, "masked_image", {}),
        ("paper", 0.5, "masked_image", {}),
        ("reference", 3.0, "masked_image", {}),
        ("paper", 3.0, "masked_features", {}),
        ("paper", 3.0, "plain", {}),
        ("paper", 3.0, "masked_image", {"cam": "signed"}),
        ("paper", 3.0, "masked_image", {"target": "evidence"}),
        ("paper", 3.0, "masked_features", {"target": "evidence", "cam": "signed"}),
        ("paper", 3.0, "masked_image", {"target": "evidence", "subtract": "negatives"}),
        ("reference", 3.0, "masked_image", {"target": "evidence"}),
    ],
)
def test_losses_and_gradients_equal_formulas(make_backbone, samples, fit, mode, lambda_, key, options):
    method = MoCo(make_backbone(), dim=4, queue_size=7)
    with torch.no_grad():
        for parameter in method.momentum_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    samples = [{k: v.double() if "mask" not in k else v for k, v in s.items()} for s in samples(10)]
    if mode == "paper":
        samples[2]["key_mask"].zero_()  # left out of the attention loss
    weights, momentum_weights = doubled(method.encoder), doubled(method.momentum_encoder)
    queue = method.queue.keys.double()
    gradients = Gradients()
    module = CASTModule(method, AttentionLoss(weight=lambda_, mode=mode, key=key, **options))
    trainer = fit(module, samples, batch_size=10, precision="64-true", callbacks=[gradients])

    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    assert (batch["query_mask"].flatten(1).sum(1) == 0).sum() == 2
    mean = queue.mean(0) if "subtract" in options else 0
    target, signed = options.get("target", "positive"), options.get("cam") == "signed"
    total, contrastive, attention = naive(
        weights, momentum_weights, queue, batch, mode, lambda_, key, target, signed, mean
    )
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    # Lightning keeps its metrics in float32.
    assert metrics["train/loss"] == pytest.approx(float(total.detach()), rel=1e-6)
    assert metrics["train/contrastive"] == pytest.approx(float(contrastive.detach()), rel=1e-6)
    assert metrics["train/attention"] == pytest.approx(float(attention.detach()), rel=1e-6)
    assert metrics["train/empty_masks"] == pytest.approx(0.3 if mode == "paper" and key != "plain" else 0.2)

    total.backward()
    assert set(gradients.found) == {f"method.encoder.{name}" for name, w in weights.items() if w.grad is not None}
    for name, found in gradients.found.items():
        wanted = weights[name.removeprefix("method.encoder.")].grad
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9 * float(wanted.abs().max()), err_msg=name)


def test_weight_zero_keeps_contrastive_gradient(make_backbone, samples, fit):
    found, made = [], samples(8)
    for attention in (None, AttentionLoss(weight=0), AttentionLoss(weight=0, mode="reference"), AttentionLoss()):
        torch.manual_seed(3)
        gradients = Gradients()
        module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), attention)
        trainer = fit(module, made, batch_size=8, callbacks=[gradients])
        found.append(gradients.found)
        assert ("train/attention" in trainer.callback_metrics) == (attention is not None)
    for name, wanted in found[0].items():
        assert torch.equal(found[1][name], wanted)
        assert torch.equal(found[2][name], wanted)
    assert any(not torch.allclose(found[3][name], wanted) for name, wanted in found[0].items())


class Counting(MoCo):
    """Counts the calls of its methods."""

    averages = 0

    def after_step(self):
        self.averages += 1
        wanted = [
            self.momentum * a.detach() + (1 - self.momentum) * b.detach()
            for a, b in zip(self.momentum_encoder.parameters(), self.encoder.parameters(), strict=True)
        ]
        super().after_step()
        self.as_wanted = all(
            torch.allclose(a, b) for a, b in zip(self.momentum_encoder.parameters(), wanted, strict=True)
        )


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 3), (4, 2)])
def test_passes_and_updates_per_step(make_backbone, samples, fit, accumulate, steps):
    method = Counting(make_backbone(), dim=4, queue_size=7, momentum=0.9)
    calls = {"query": 0, "momentum": 0}
    method.encoder.backbone.register_forward_pre_hook(lambda *_: calls.update(query=calls["query"] + 1))
    method.momentum_encoder.register_forward_pre_hook(lambda *_: calls.update(momentum=calls["momentum"] + 1))
    trainer = fit(CASTModule(method, AttentionLoss()), samples(12), 2, accumulate_grad_batches=accumulate)
    assert calls == {"query": 6, "momentum": 12}, "one query; a key and a masked key"
    assert (trainer.global_step, method.averages) == (steps, steps)
    assert method.as_wanted
    assert int(method.queue.pointer) == 12 % 7
    counts = method.momentum_encoder.backbone.bn1.num_batches_tracked
    assert counts == 6, "masked keys are not counted"


def test_training_lowers_attention_loss(make_backbone, samples, fit):
    class Curve(pl.Callback):
        def __init__(self):
            self.losses = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.losses.append(float(outputs["attention"]))

    curve = Curve()
    module = CASTModule(
        MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss(), OptimizerRecipe("adamw", lr=0.02, weight_decay=0)
    )
    made = samples(8, (24, 24))
    for sample in made:  # All objects at the same position, which even this network can learn.
        for name in ("query", "key"):
            sample[f"{name}_mask"].zero_()[:, :12, :12] = 1
            sample[name][:, :12, :12] += 3
    fit(module, made, batch_size=8, max_epochs=40, callbacks=[curve])
    assert curve.losses[-1] < 0.6 * curve.losses[0]
