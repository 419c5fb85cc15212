"""Training in mixed precision: finite, close to float32, and float32 where Grad-CAM needs it."""

import pytest
import pytorch_lightning as pl
import torch

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.methods import BYOL, MoCo, SimCLR, SimSiam
from castlit.optim import OptimizerRecipe
from castlit.utils.validation import InputError

METHODS = {
    "moco": lambda: MoCo("tiny_resnet", dim=16, queue_size=15),
    "simclr": lambda: SimCLR("tiny_resnet", dim=16),
    "byol": lambda: BYOL("tiny_resnet", dim=16, hidden=20),
    "simsiam": lambda: SimSiam("tiny_resnet", dim=16, hidden=20),
}


class Losses(pl.Callback):
    def __init__(self):
        self.seen, self.dtypes = [], set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append([float(outputs[name].detach()) for name in ("loss", "contrastive", "attention")])
        self.dtypes |= {outputs[name].dtype for name in ("loss", "contrastive", "attention")}


def trained(fit, samples, name, precision, layer="layer4", mode="paper", batch_size=4, target="positive"):
    torch.manual_seed(0)
    module = CASTModule(METHODS[name](), AttentionLoss(layer, mode=mode, target=target), OptimizerRecipe(lr=0.01))
    maps, losses = [], Losses()
    module.encoder.backbone.register_forward_hook(lambda module, inputs, output: maps.append(output.dtype))
    fit(module, samples, batch_size, precision=precision, callbacks=[losses])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    return torch.tensor(losses.seen), losses.dtypes, set(maps)


@pytest.mark.parametrize(
    ("name", "target"), [*((name, "positive") for name in METHODS), ("moco", "evidence"), ("byol", "evidence")]
)
def test_bf16_trains_close_to_float32(fit, samples, name, target):
    # Batch norm over fewer images magnifies bfloat16's 3 digits.
    made = samples(32, (32, 32))
    exact, _, _ = trained(fit, made, name, "32-true", batch_size=16, target=target)
    mixed, dtypes, _ = trained(fit, made, name, "bf16-mixed", batch_size=16, target=target)
    assert mixed.shape == (2, 3)
    assert dtypes == {torch.float32}
    assert torch.allclose(mixed[0], exact[0], rtol=0.05, atol=0.03)
    assert not torch.equal(mixed, exact), "autocast was on"


@pytest.mark.parametrize("mode", ["paper", "reference"])
def test_middle_layer_in_bf16(fit, samples, mode):
    losses, dtypes, maps = trained(fit, samples(8, (32, 32)), "moco", "bf16-mixed", layer="layer3", mode=mode)
    assert torch.isfinite(losses).all()
    assert dtypes == {torch.float32}
    assert maps == {torch.bfloat16}, "layers behind the tapped one are still in mixed precision"


def test_fp16_mixed_on_cpu(fit, samples):
    # Lightning falls back to bfloat16 here, with a warning.
    with pytest.warns(UserWarning, match="bf16-mixed"):
        losses, _, _ = trained(fit, samples(8, (32, 32)), "moco", "16-mixed")
    assert torch.isfinite(losses).all()


@pytest.mark.parametrize(
    ("precision", "fast", "warned"),
    [("bf16-mixed", False, True), ("bf16-mixed", True, False), ("32-true", False, False)],
)
def test_cpu_without_bfloat16(fit, samples, monkeypatch, caplog, precision, fast, warned):
    monkeypatch.setattr("castlit.utils.bfloat16.cpu_has_bfloat16", lambda: fast)
    trained(fit, samples(8, (32, 32)), "moco", precision)
    lines = [record.getMessage() for record in caplog.records if record.name == "castlit.utils.bfloat16"]
    assert lines == warned * [
        "precision=bf16-mixed: this CPU has no instructions for bfloat16, and is several times slower with it than "
        "with precision=32-true"
    ]


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_of_everything(fit, samples, precision):
    module = CASTModule(METHODS["moco"](), AttentionLoss())
    with pytest.raises(InputError, match=f"trainer.precision={precision} converts head and loss.*use bf16-mixed"):
        fit(module, samples(4, (32, 32)), precision=precision)


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_one_image(fit, samples, name):
    with pytest.raises(InputError, match="a training batch has one image, and this method's batch norm needs at least"):
        fit(CASTModule(METHODS[name](), AttentionLoss()), samples(2, (64, 64)), batch_size=1)


def test_other_errors_of_a_step_stay(fit, samples):
    module = CASTModule(METHODS["moco"]())
    with pytest.raises(RuntimeError, match="expected input"):
        fit(module, [{**sample, "query": sample["query"][:2]} for sample in samples(2, (64, 64))], batch_size=1)
