"""Checkpoints have plain values and need no config; a resumed run equals an uninterrupted one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, DenseCL, MethodOutput, MoCo, MoCoV3, SimCLR, SimSiam, VICReg
from castlit.nn import Encoder, linear_head
from castlit.optim import OptimizerRecipe
from castlit.utils.serializable import describe
from castlit.utils.validation import InputError


class OwnMethod(nn.Module):
    """A user's method that does not inherit from castlit's: bring the views of an image together."""

    def __init__(self, backbone):
        super().__init__()
        self.encoder = Encoder(backbone, linear_head(6, 4))

    def forward(self, query, key):
        z_q, z_k = F.normalize(self.encoder(query), dim=1), F.normalize(self.encoder(key), dim=1)
        return MethodOutput((z_q - z_k.detach()).square().sum(1).mean(), z_q)

    def target(self, images):
        with torch.no_grad():
            return F.normalize(self.encoder(images), dim=1)


def assert_equal_states(first, second):
    assert list(first.state_dict()) == list(second.state_dict())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize(
    "method",
    [
        lambda: MoCo("tiny_resnet", dim=8, queue_size=15),
        lambda: MoCo(backbone="tiny_resnet", dim=8, queue_size=15, mlp=False, temperature=0.07),
        lambda: SimCLR("tiny_resnet", dim=8),
        lambda: BYOL("tiny_resnet", dim=8, hidden=9),
        lambda: SimSiam("tiny_resnet", dim=8, hidden=9),
        lambda: MoCoV3("tiny_resnet", dim=8, hidden=9, temperature=0.3),
        lambda: DenseCL("tiny_resnet", dim=8, queue_size=15, dense_weight=0.3),
        lambda: VICReg("tiny_resnet", dim=8, hidden=9, covariance=2.0),
    ],
    ids=["moco v2", "moco v1", "simclr", "byol", "simsiam", "moco v3", "densecl", "vicreg"],
)
def test_round_trip(fit, samples, tmp_path, method):
    module = CASTModule(
        method(), AttentionLoss("layer3", weight=2, mode="reference"), OptimizerRecipe("adamw", lr=0.01)
    )
    trainer = fit(module, samples(8, (32, 32)))
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    contents = torch.load(path, weights_only=True)
    assert contents["hyper_parameters"]["method"] == describe(module.method)

    torch.manual_seed(77)
    again = CASTModule.load_from_checkpoint(path)
    assert_equal_states(module, again)
    assert type(again.method) is type(module.method)
    assert describe(again.method) == describe(module.method)
    assert (again.attention.layer, again.attention.weight, again.attention.mode) == ("layer3", 2.0, "reference")
    assert (again.optimizer.name, again.optimizer.lr, again.cam_layer) == ("adamw", 0.01, "layer3")
    if isinstance(module.method, MoCo):
        assert int(again.method.queue.pointer) == 8


def test_another_attention_with_and_without_a_mean_key(fit, samples, tmp_path):
    """The mean of masked keys is the only state of an attention loss: others load without it."""
    mean = AttentionLoss(target="evidence", subtract="masked_keys")
    for attention, name in ((mean, "mean.ckpt"), (AttentionLoss(), "plain.ckpt")):
        module = CASTModule(MoCo("tiny_resnet", dim=8, queue_size=15), attention)
        fit(module, samples(4, (32, 32))).save_checkpoint(tmp_path / name)
    again = CASTModule.load_from_checkpoint(tmp_path / "mean.ckpt")
    assert torch.equal(again.attention.masked_key_mean(), mean.masked_key_mean())
    for other in (AttentionLoss("layer3"), AttentionLoss(target="evidence"), None):
        loaded = CASTModule.load_from_checkpoint(tmp_path / "mean.ckpt", attention=other)
        assert_equal_states(loaded.method, again.method)
    loaded = CASTModule.load_from_checkpoint(
        tmp_path / "plain.ckpt", attention=AttentionLoss(target="evidence", subtract="masked_keys")
    )
    assert loaded.attention.masked_key_mean() is None


def test_without_attention(fit, samples, tmp_path):
    module = CASTModule(MoCo("tiny_resnet", dim=8, queue_size=15), cam_layer="layer2")
    fit(module, samples(4, (32, 32))).save_checkpoint(tmp_path / "last.ckpt")
    again = CASTModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert again.attention is None
    assert again.cam_layer == "layer2"


def test_loading_arguments_win(fit, samples, tmp_path):
    module = CASTModule(MoCo("tiny_resnet", dim=8, queue_size=15), AttentionLoss())
    fit(module, samples(4, (32, 32))).save_checkpoint(tmp_path / "last.ckpt")
    again = CASTModule.load_from_checkpoint(tmp_path / "last.ckpt", attention=AttentionLoss("layer3"))
    assert again.attention.layer == "layer3"
    assert_equal_states(module, again)


def test_misspelt_loading_arguments(fit, samples, tmp_path):
    module = CASTModule(MoCo("tiny_resnet", dim=8, queue_size=15), AttentionLoss())
    fit(module, samples(4, (32, 32))).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"CASTModule has no argument 'atention' \(did you mean 'attention'\?\)"):
        CASTModule.load_from_checkpoint(tmp_path / "last.ckpt", atention=None)


@pytest.mark.parametrize("options", [{}, {"target": "evidence", "subtract": "masked_keys"}], ids=["", "evidence"])
def test_resumed_run_equals_uninterrupted(make_backbone, fit, samples, tmp_path, options):
    made = samples(12)

    def module():
        torch.manual_seed(5)
        recipe = OptimizerRecipe(lr=0.1, schedule="constant")
        return CASTModule(MoCo(make_backbone(), dim=4, queue_size=7, momentum=0.9), AttentionLoss(**options), recipe)

    straight, first, second = module(), module(), module()
    fit(straight, made, max_epochs=3)
    fit(first, made, max_epochs=2).save_checkpoint(tmp_path / "last.ckpt")
    trainer = fit(second, made, max_epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert trainer.global_step == 9
    assert int(second.method.queue.pointer) == 36 % 7
    assert_equal_states(straight, second)
    assert any(not torch.equal(a, b) for a, b in zip(straight.parameters(), first.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*`method` is an instance of `nn.Module`.*")
def test_custom_method_round_trip(make_backbone, fit, samples, tmp_path):
    method = OwnMethod(make_backbone())
    before = method.encoder.head.weight.clone()
    validation = [{"image": s["query"], "mask": s["query_mask"]} for s in samples(4)]
    trainer = fit(CASTModule(method, AttentionLoss()), samples(8), validation=validation)
    assert not torch.equal(method.encoder.head.weight, before)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    with pytest.raises(InputError, match=r"how its method was built.*load_from_checkpoint\(path, method=\.\.\.\)"):
        CASTModule.load_from_checkpoint(path)
    again = CASTModule.load_from_checkpoint(path, method=OwnMethod(make_backbone()))
    assert_equal_states(trainer.lightning_module, again)
    assert again.attention.weight == 3.0


def test_custom_network_without_spec(make_backbone, fit, samples, tmp_path):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7))
    fit(module, samples(4)).save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="method="):
        CASTModule.load_from_checkpoint(tmp_path / "last.ckpt")
    again = CASTModule.load_from_checkpoint(tmp_path / "last.ckpt", method=MoCo(make_backbone(), dim=4, queue_size=7))
    assert_equal_states(module, again)


def test_wrong_parts():
    method = MoCo("tiny_resnet", dim=8, queue_size=15)
    with pytest.raises(InputError, match="attention must be a AttentionLoss, got Linear"):
        CASTModule(method, nn.Linear(2, 2))
    with pytest.raises(InputError, match="method must be a Module, got str"):
        CASTModule("moco")
    with pytest.raises(InputError, match="method must be a Module, got OptimizerRecipe"):
        CASTModule({"_target_": "castlit.optim.OptimizerRecipe"})
    with pytest.raises(InputError, match="attention has the keys weight, and no _target_"):
        CASTModule(method, {"weight": 3})
    with pytest.raises(InputError, match="may build"):
        CASTModule({"_target_": "subprocess.Popen", "args": "true"})
    with pytest.raises(InputError, match="did you mean 'layer4'"):
        CASTModule(method, AttentionLoss("layr4"))
    with pytest.raises(InputError, match="did you mean 'layer4'"):
        CASTModule(method, cam_layer="layr4")


class Subclass(CASTModule):
    """As in Lightning's documentation: it keeps its own hyperparameters."""

    def __init__(self, method=None, attention=None, optimizer=None, extra=1, kept=None):
        super().__init__(SimCLR("tiny_resnet", dim=8) if method is None else method, attention, optimizer)
        if kept == "own":
            self.save_hyperparameters(ignore=["method", "attention", "optimizer"])
        elif kept == "all":
            self.save_hyperparameters()


@pytest.mark.filterwarnings("ignore:Attribute .* is an instance of `nn.Module`")
@pytest.mark.parametrize("kept", ["own", "all", None])
def test_subclass_with_hyperparameters(fit, samples, tmp_path, kept):
    module = Subclass(MoCo("tiny_resnet", dim=8, queue_size=15), AttentionLoss(weight=2.0), extra=7, kept=kept)
    made, path = samples(8, (32, 32)), tmp_path / "last.ckpt"
    fit(module, made).save_checkpoint(path)
    again = Subclass.load_from_checkpoint(path)
    assert_equal_states(again, module)
    assert again.attention.weight == 2.0
    assert again.hparams.get("extra") == (None if kept is None else 7)
    fit(again, made, max_epochs=2, ckpt_path=path)


def test_attention_that_was_added_later(fit, samples, tmp_path):
    module = CASTModule(MoCo("tiny_resnet", dim=8, queue_size=15), cam_layer="layer3")
    assert module.cam_layer == "layer3"
    module.attention = AttentionLoss("layer2", weight=0.5)
    fit(module, samples(8, (32, 32))).save_checkpoint(tmp_path / "last.ckpt")
    again = CASTModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert (again.attention.weight, again.cam_layer) == (0.5, "layer2")
    again.attention = None
    assert again.cam_layer == "layer3"
