"""OptimizerRecipe: the schedule in closed form, the optimisers' settings, and the checks."""

import math

import pytest
import torch
from torch import nn

from castlit.optim import LARS, OptimizerRecipe
from castlit.optim.recipe import use_fused
from castlit.utils.serializable import build, describe
from castlit.utils.validation import InputError


def rates(recipe, total, per_epoch, steps):
    optimizer, scheduler = recipe.build(nn.Linear(2, 2).parameters(), total, per_epoch)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_without_warmup():
    expected = [0.5 * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates(OptimizerRecipe(lr=0.5), 20, 5, 20) == pytest.approx(expected)
    assert expected[0] == 0.5


def test_warmup_then_cosine():
    found = rates(OptimizerRecipe(lr=1.0, warmup_epochs=2), 50, 5, 50)
    assert found[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert found[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])
    assert max(found) == found[10] == 1.0


def test_fractional_warmup():
    found = rates(OptimizerRecipe(lr=1.0, warmup_epochs=0.5), 10, 4, 10)
    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_constant():
    assert rates(OptimizerRecipe(lr=0.2, schedule="constant"), 5, 1, 8) == pytest.approx([0.2] * 8)
    found = rates(OptimizerRecipe(lr=0.2, schedule="constant", warmup_epochs=1), 9, 3, 5)
    assert found == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])


def test_rate_past_end_is_zero():
    assert rates(OptimizerRecipe(lr=1.0), 3, 1, 7)[3:] == pytest.approx([0] * 4)


def test_warmup_as_long_as_run():
    found = rates(OptimizerRecipe(lr=1.0, warmup_epochs=5), 5, 1, 6)
    assert all(0 < rate <= 1 for rate in found[:5])


def test_settings_reach_the_optimizer():
    weights = [nn.Parameter(torch.zeros(1))]
    sgd, _ = OptimizerRecipe("sgd", lr=0.1, momentum=0.8, weight_decay=0.02).build(weights, 10, 1)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.8, 0.02)
    adamw, _ = OptimizerRecipe("adamw", lr=0.1, weight_decay=0.02).build(weights, 10, 1)
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["weight_decay"] == 0.02


def test_lars_and_its_settings():
    recipe = OptimizerRecipe("lars", lr=0.1, momentum=0.8, weight_decay=0.02, trust_coefficient=0.5)
    lars, _ = recipe.build([nn.Parameter(torch.zeros(1))], 10, 1)
    assert isinstance(lars, LARS)
    assert lars.defaults == {
        "lr": 0.1,
        "momentum": 0.8,
        "weight_decay": 0.02,
        "trust_coefficient": 0.5,
        "exclude_norm_and_bias_from_decay": True,
    }


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("exclude", [None, True, False])
def test_decayed_parameters(name, exclude):
    weights = list(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).parameters())
    before = [weight.detach().fill_(0.5).clone() for weight in weights]
    recipe = OptimizerRecipe(name, lr=0.1, weight_decay=0.2, exclude_norm_and_bias_from_decay=exclude)
    optimizer, scheduler = recipe.build(weights, 10, 1)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    scheduler.step()
    kept = exclude if exclude is not None else name == "lars"
    for weight, old in zip(weights, before, strict=True):
        assert torch.equal(weight, old) == (kept and weight.dim() == 1)
        assert (weight <= old).all(), "decay only shrinks"
    assert len({group["lr"] for group in optimizer.param_groups}) == 1, "the schedule reaches every group"


def test_describe_round_trip():
    recipe = build(describe(OptimizerRecipe("adamw", lr=0.1, warmup_epochs=3)))
    assert (recipe.name, recipe.lr, recipe.warmup_epochs, recipe.schedule) == ("adamw", 0.1, 3.0, "cosine")
    recipe = build(describe(OptimizerRecipe("lars", exclude_norm_and_bias_from_decay=False, trust_coefficient=0.01)))
    assert (recipe.name, recipe.exclude_norm_and_bias_from_decay, recipe.trust_coefficient) == ("lars", False, 0.01)
    assert build(describe(OptimizerRecipe("lars"))).exclude_norm_and_bias_from_decay is True


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sdg"}, r"optimizer\.name .*did you mean 'sgd'"),
        ({"lr": 0}, r"optimizer\.lr must be greater than 0"),
        ({"lr": float("nan")}, r"optimizer\.lr must be a number"),
        ({"lr": True}, r"optimizer\.lr must be a number"),
        ({"momentum": 1}, r"optimizer\.momentum must be below 1"),
        ({"weight_decay": -1}, r"optimizer\.weight_decay must be at least 0"),
        ({"warmup_epochs": "3"}, r"optimizer\.warmup_epochs must be a number"),
        ({"exclude_norm_and_bias_from_decay": "yes"}, "exclude_norm_and_bias_from_decay must be true or false"),
        ({"trust_coefficient": 0}, r"optimizer\.trust_coefficient must be greater than 0"),
        ({"schedule": "cosin"}, r"did you mean 'cosine'"),
    ],
)
def test_checks(settings, message):
    with pytest.raises(InputError, match=message):
        OptimizerRecipe(**settings)


@pytest.mark.parametrize("scale", [None, 8.0, 1e38])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_fused_takes_the_same_steps(name, scale):
    recipe, found = OptimizerRecipe(name, lr=0.05, exclude_norm_and_bias_from_decay=True), []
    for fused in (False, True):
        torch.manual_seed(0)
        kernel = torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last)
        weights = [nn.Parameter(kernel), nn.Parameter(torch.randn(5))]
        optimizer, _ = recipe.build(weights, 10, 1)
        taken = []
        optimizer.register_step_post_hook(lambda *_, taken=taken: taken.append(True))
        if fused:
            use_fused(optimizer)
            assert all(group.get("fused") == (None if name == "lars" else True) for group in optimizer.param_groups)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for _ in range(5):
            optimizer.zero_grad()
            loss = sum((3 * weight).square().sum() for weight in weights)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(weights, 2.0)
            scaler.step(optimizer)
            scaler.update()
        found.append((weights, len(taken)))
    assert found[0][1] == found[1][1] == (5 if scale != 1e38 else found[0][1])
    assert scale != 1e38 or found[0][1] < 5, "the scaler has skipped steps"
    for plain, fused in zip(found[0][0], found[1][0], strict=True):
        assert torch.allclose(plain, fused, rtol=1e-5, atol=1e-6)


def test_a_chosen_implementation_stays():
    for chosen in ({"fused": False}, {"foreach": False}):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, **chosen)
        use_fused(optimizer)
        assert not optimizer.param_groups[0]["fused"]
