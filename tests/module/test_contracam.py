"""find_objects(): ContraCAMs against the formula in float64; no state change; any method and precision."""

import pytest
import torch
from torch.nn import functional as F

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, MoCo, SimCLR, SimSiam, VICReg
from castlit.utils.validation import InputError

METHODS = {
    "moco": lambda backbone: MoCo(backbone, dim=4, queue_size=7),
    "simclr": lambda backbone: SimCLR(backbone, dim=4),
    "byol": lambda backbone: BYOL(backbone, dim=4, hidden=5),
    "simsiam": lambda backbone: SimSiam(backbone, dim=6, hidden=5),
    "vicreg": lambda backbone: VICReg(backbone, dim=6, hidden=5),
}


@pytest.fixture(params=list(METHODS))
def module(request, make_backbone):
    module = CASTModule(METHODS[request.param](make_backbone()), AttentionLoss())
    for _ in range(3):  # Running statistics unlike the initial ones.
        module.method(torch.randn(6, 3, 12, 16) + 1, torch.randn(6, 3, 12, 16) + 1)
    return module.double().eval()


@pytest.fixture
def images():
    return torch.randn(5, 3, 12, 16, dtype=torch.float64)


def by_hand(module, images, iterations):
    """One image and one score at a time, by autograd on nothing but that score."""
    method, found, keys = module.method, torch.zeros_like(images[:, 0]), []
    temperature = getattr(method, "temperature", 0.2)
    for _ in range(iterations):
        shown = images * (1 - found[:, None])
        keys.append(method.target(shown))
        cams = []
        for i in range(len(images)):
            maps = module.encoder.backbone(shown[i : i + 1]).detach().requires_grad_()
            z = module.encoder.head(maps.mean((2, 3)))
            z = method.predictor(z) if hasattr(method, "predictor") else z
            z = F.normalize(z, dim=1)[0]
            negatives = torch.cat([torch.cat([key[:i], key[i + 1 :]]) for key in keys])
            score = z @ keys[0][i] / temperature - torch.log(torch.exp(negatives @ z / temperature).sum())
            (gradient,) = torch.autograd.grad(score, maps)
            weights = gradient.mean((2, 3), keepdim=True).clamp(min=0)
            cam = F.interpolate((weights * maps).sum(1, keepdim=True).relu(), (12, 16), mode="bilinear")[0, 0].detach()
            cam = cam - cam.min()
            cams.append(cam / cam.max() if cam.max() > 0 else cam)
        found = torch.maximum(found, torch.stack(cams))
    return found


@pytest.mark.parametrize("iterations", [1, 3])
def test_equals_the_formula(module, images, iterations):
    found = module.find_objects(images, iterations)
    expected = by_hand(module, images, iterations)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert found.amax((1, 2)).max() == 1
    assert found.min() >= 0
    assert not found.requires_grad


def test_explain_is_stateless(module, images):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    draw = torch.get_rng_state()
    kept = images.clone()
    module.find_objects(images, 2)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), draw)
    assert torch.equal(images, kept)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_works_without_grad(module, images, context):
    expected = module.find_objects(images, 2)
    with context():
        assert torch.equal(module.find_objects(images * 1, 2), expected)


def test_single_image_finds_nothing(module, images):
    with pytest.raises(InputError, match="iterations"):
        module.find_objects(images, 0)
    assert torch.equal(module.find_objects(images[:1]), torch.zeros(1, 12, 16, dtype=torch.float64))


def test_common_parts_are_not_found(make_backbone):
    """All images are red on the left, and each has another colour on the right."""
    backbone = make_backbone()
    torch.nn.init.dirac_(backbone.conv1.weight)
    torch.nn.init.dirac_(backbone.layer4[0].weight)
    module = CASTModule(MoCo(backbone, dim=6, queue_size=7, mlp=False), AttentionLoss()).double().eval()
    with torch.no_grad():
        for encoder in (module.method.encoder, module.method.momentum_encoder):
            encoder.head.weight.copy_(torch.eye(6))
            encoder.head.bias.zero_()
    images = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
    images[:, 0, :, :8] = 1
    for number in range(2):
        images[number, number + 1, :, 8:] = 1
    found = module.find_objects(images)
    assert (found[:, :, :4].amax((1, 2)) < 0.1).all(), "red is everywhere"
    assert (found[:, :, 12:].amin((1, 2)) > 0.9).all(), "green and blue are in one image each"


def test_autocast_changes_little(make_backbone):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss())
    module.method(torch.randn(6, 3, 12, 16) + 1, torch.randn(6, 3, 12, 16) + 1)
    module.eval()
    images = torch.randn(5, 3, 12, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = module.find_objects(images)
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found.flatten(1), module.find_objects(images).flatten(1)).min() > 0.98
