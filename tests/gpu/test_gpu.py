"""Tests that need a GPU: fp16 with a gradient scaler, and CAMs without TF32."""

import pytest
import pytorch_lightning as pl
import torch

import castlit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_training_lowers_attention_loss(precision):
    pl.seed_everything(0, verbose=False)
    losses = []

    class Losses(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(outputs["attention"].item())

    data = castlit.data.ScenesDataModule(train_count=512, val_count=64, batch_size=64, workers=0)
    method = castlit.methods.MoCo(backbone="tiny_resnet", queue_size=256, momentum=0.99)
    module = castlit.CASTModule(method, castlit.attention.AttentionLoss())
    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Losses()],
    )
    trainer.fit(module, data)
    assert torch.isfinite(torch.tensor(losses)).all()
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cam_under_autocast_equals_float32(dtype):
    torch.manual_seed(0)
    head = castlit.nn.mlp_head(64, 64, 32).cuda()
    encoder = castlit.nn.Encoder(torch.nn.Identity(), head)
    maps = torch.rand(8, 64, 7, 7, device="cuda")
    key = torch.nn.functional.normalize(torch.randn(8, 32, device="cuda"), dim=1)

    def cam():
        tapped = maps.clone().requires_grad_()
        embedding = torch.nn.functional.normalize(encoder(tapped), dim=1)
        return castlit.attention.grad_cam((embedding * key).sum(1), tapped)

    expected = cam()
    with torch.autocast("cuda", dtype=dtype):
        found = cam()
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 1e-3 * expected.max()
