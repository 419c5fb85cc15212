"""ViTs, Swins and ConvNeXts under CASTModule: no batch norm, folded tokens, other memory layouts."""

import copy

import pytest
import pytorch_lightning as pl
import torch

import castlit
from castlit.attention import AttentionLoss
from castlit.methods import DenseCL, MoCo, SimCLR
from castlit.nn import batch_statistics, lacks_statistics, untracked_batchnorm

pytest.importorskip("timm")

BACKBONES = ["timm/test_vit", "timm/test_convnext", "timm/test_mambaout", "timm/test_efficientnet_ln"]


def batch(count=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, count, 3, 64, 64, generator=generator)
    mask = torch.zeros(count, 1, 64, 64, dtype=torch.uint8)
    mask[:, :, 16:48, 16:40] = 1
    return {"query": images[0], "key": images[1], "query_mask": mask, "key_mask": mask}


def fitted(module, folder, **settings):
    data = castlit.data.ScenesDataModule(train_count=32, val_count=8, batch_size=16, workers=0)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize("key", ["masked_image", "masked_features"])
@pytest.mark.parametrize("name", BACKBONES)
def test_fit(tmp_path, name, key):
    torch.manual_seed(0)
    module = castlit.CASTModule(MoCo(name, queue_size=64), AttentionLoss(key=key))
    module.to(memory_format=torch.channels_last)
    before = copy.deepcopy(module.state_dict())
    trainer = fitted(module, tmp_path, precision="bf16-mixed")
    assert trainer.global_step == 2
    metrics = trainer.callback_metrics
    assert metrics["train/loss"].isfinite()
    assert 0 < metrics["train/attention"] <= 1  # 1 where all CAMs of a small untrained network are dead
    after = module.state_dict()
    for branch in ("encoder", "momentum_encoder"):
        changed = [k for k in after if k.startswith(f"method.{branch}.backbone") and not after[k].equal(before[k])]
        assert changed, branch
    path = tmp_path / "it.ckpt"
    trainer.save_checkpoint(path)
    again = castlit.CASTModule.load_from_checkpoint(path).eval()
    # Some CPUs compute another layout in another order.
    again.to(memory_format=torch.channels_last)
    images = batch()["query"]
    assert torch.equal(again(images), module.eval()(images))
    assert again.explain(images, batch()["query_mask"]).cam.shape[1:] == again.encoder.backbone(images).shape[2:]


@pytest.mark.parametrize("make", [SimCLR, lambda name: DenseCL(name, queue_size=32)])
def test_other_methods(make):
    torch.manual_seed(0)
    method = make("timm/test_vit").train()
    found = method(batch()["query"], batch()["key"], batch()["key_mask"])
    found.loss.backward()
    assert all(parameter.grad is not None for parameter in method.encoder.backbone.parameters())
    assert found.masked_key.shape == found.embedding.shape


def test_checkpointed_run_is_equal(tmp_path):
    torch.manual_seed(0)
    plain = castlit.CASTModule(MoCo("timm/test_vit", queue_size=64), AttentionLoss())
    recomputed = castlit.CASTModule(
        MoCo("timm/test_vit", queue_size=64), AttentionLoss(), activation_checkpointing=True
    )
    recomputed.load_state_dict(plain.state_dict())
    for module in (plain, recomputed):
        torch.manual_seed(1)
        fitted(module, tmp_path)
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(recomputed.state_dict()[name], tensor, atol=1e-6), name


def test_nothing_to_track():
    network = MoCo("timm/test_vit", queue_size=8).encoder.eval()
    images = batch()["query"]
    with torch.no_grad():
        wanted = network(images)
        assert not lacks_statistics(network)
        with untracked_batchnorm(network), batch_statistics(network, 4):
            assert torch.equal(network(images), wanted)
    assert not any(part.training for part in network.modules())


@torch.no_grad()
def test_timm_batchnorm_is_restored():
    network = MoCo("timm/test_efficientnet", queue_size=8).encoder.train()
    before = copy.deepcopy(network.state_dict())
    with untracked_batchnorm(network):
        network(batch()["query"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    network(batch()["query"])
    assert any(not torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
