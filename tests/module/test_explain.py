"""explain(): the CAM of the similarity to the masked image, with or without inference mode; no state change."""

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, MoCo, SimCLR, SimSiam
from castlit.utils.validation import InputError

METHODS = {
    "moco": lambda backbone: MoCo(backbone, dim=4, queue_size=7),
    "simclr": lambda backbone: SimCLR(backbone, dim=4),
    "byol": lambda backbone: BYOL(backbone, dim=4, hidden=5),
    "simsiam": lambda backbone: SimSiam(backbone, dim=6, hidden=5),
}


@pytest.fixture(params=list(METHODS))
def module(request, make_backbone):
    module = CASTModule(METHODS[request.param](make_backbone()), AttentionLoss())
    for _ in range(3):  # Running statistics unlike the initial ones.
        module.method(torch.randn(6, 3, 12, 16) + 1, torch.randn(6, 3, 12, 16) + 1)
    return module.eval()


@pytest.fixture
def batch():
    return torch.randn(4, 3, 12, 16), (torch.rand(4, 1, 12, 16) > 0.5).byte()


def test_equals_the_formula(module, batch):
    images, masks = batch
    # Only the masked images are normalised by their batch, as in training; target() does not track them.
    module.train()
    target = module.method.target(images * masks)
    module.eval()
    maps = module.encoder.backbone(images).detach().requires_grad_()
    projected = module.encoder.head(maps.mean((2, 3)))
    if hasattr(module.method, "predictor"):
        projected = module.method.predictor(projected)
    (gradient,) = torch.autograd.grad((F.normalize(projected, dim=1) * target).sum(), maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    found = module.explain(images, masks)
    assert torch.allclose(found.cam, cam, rtol=1e-4, atol=1e-7)
    assert torch.allclose(found.features, maps.mean((2, 3)))
    assert not found.cam.requires_grad
    assert not found.features.requires_grad
    assert torch.allclose(module(images), found.features)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_works_in_inference_mode(module, batch, context):
    expected = module.explain(*batch)
    with context():
        images, masks = batch[0] * 1, batch[1] * 1  # Made here, these are inference tensors.
        found = module.explain(images, masks)
        assert images.is_inference() == (context is torch.inference_mode)
    assert torch.equal(found.cam, expected.cam)
    assert torch.equal(found.features, expected.features)
    assert found.cam.max() > 0


def test_explain_is_stateless(module, batch):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.explain(*batch)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


def test_features_are_independent(module, batch):
    together, alone = module.explain(*batch), module.explain(batch[0][2:3], batch[1][2:3])
    assert torch.allclose(together.features[2:3], alone.features, rtol=1e-5, atol=1e-7)
    assert alone.cam.shape == (1, *together.cam.shape[1:])
    assert torch.isfinite(alone.cam).all()


def test_single_image_is_no_negative_of_itself(make_backbone, batch):
    """A single image is doubled for batch norm; its copy must not be what a contrastive score compares it with."""
    module = CASTModule(SimCLR(make_backbone(), dim=4), AttentionLoss(target="contrastive")).eval()
    positive = CASTModule(module.method, AttentionLoss()).eval()
    for image, mask in zip(*batch, strict=True):
        found, alone = (each.explain(image[None], mask[None]).cam for each in (module, positive))
        # Without negatives it is the similarity to the key, divided by the temperature.
        torch.testing.assert_close(found * module.method.temperature, alone, rtol=1e-4, atol=1e-8)


class Seen(pl.Callback):
    def __init__(self):
        self.outputs, self.modes = [], []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.outputs.append(outputs)
        self.modes.append(torch.is_inference_mode_enabled())


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
def test_validation_inside_a_trainer(make_backbone, fit, samples):
    seen, made = Seen(), samples(8)
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss())
    validation = [{"image": s["query"], "mask": s["query_mask"]} for s in made]
    trainer = fit(module, made, validation=validation, callbacks=[seen])
    trainer.validate(module, DataLoader(validation, 4), verbose=False)
    assert seen.modes == [False, False, True, True], "while fitting, and alone"
    module.eval()
    images, masks = (torch.stack([s[name] for s in validation[4:]]) for name in ("image", "mask"))
    expected = module.explain(images, masks)
    for outputs in (seen.outputs[1], seen.outputs[3]):
        assert torch.allclose(outputs["cam"], expected.cam)
        assert torch.allclose(outputs["features"], expected.features)


def test_validation_before_training_uses_the_given_statistics(module, batch):
    """The backbone has statistics, and a new head with batch norm has none."""
    for part in module.encoder.head.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
    module.on_validation_epoch_start()
    found = module.validation_step({"image": batch[0], "mask": batch[1]}, 0)
    torch.testing.assert_close(found["features"], module(batch[0]))


def test_no_negatives_to_subtract(make_backbone):
    """Refused when it is built, before a run's folder is touched."""
    attention = AttentionLoss(target="evidence", subtract="negatives")
    with pytest.raises(InputError, match=r"attention\.subtract=negatives needs a method that stores keys"):
        CASTModule(SimCLR(make_backbone(), dim=4), attention)
    CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), attention)
