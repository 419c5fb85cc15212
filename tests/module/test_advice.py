"""Lines that name the cause where a part of the module cannot be differentiated twice; and predictions."""

import pytest
import pytorch_lightning as pl
import torch

from castlit import CASTModule
from castlit.attention import AttentionLoss
from castlit.data import ScenesDataModule
from castlit.methods import MoCo
from castlit.nn import build_backbone
from castlit.utils.validation import InputError


def test_frozen_backbone(fit, make_backbone, samples):
    module = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss())
    module.encoder.backbone.requires_grad_(False)
    with pytest.raises(InputError, match=r"all layers up to it are frozen, .* unfreeze some, or leave it out$"):
        fit(module, samples(4))
    alone = CASTModule(MoCo(make_backbone(), dim=4, queue_size=7))
    alone.encoder.backbone.requires_grad_(False)
    assert fit(alone, samples(4)).global_step == 1  # the advice works


def in_place(backbone):
    backbone.layer4.compile()
    return backbone


@pytest.mark.parametrize("compiled", [torch.compile, in_place])
def test_compiled_backbone(compiled):
    with pytest.raises(InputError, match=r"backbone\S* is compiled by torch.compile, .*: give it as it is; castlit"):
        CASTModule(MoCo(compiled(build_backbone("tiny_resnet")), dim=4, queue_size=7), AttentionLoss())


def test_compiled_module(fit, make_backbone, samples):
    module = torch.compile(CASTModule(MoCo(make_backbone(), dim=4, queue_size=7), AttentionLoss()))
    with pytest.raises(InputError, match=r"the module is compiled as a whole, .*: give it as it is, with compile=True"):
        fit(module, samples(4))


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_predictions(tmp_path):
    data = ScenesDataModule(train_count=8, val_count=6, size=32, scene_size=36, batch_size=4, workers=0)
    module = CASTModule(MoCo("tiny_resnet", dim=4, queue_size=8), AttentionLoss())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    found = trainer.predict(module, data)
    assert [batch["index"].tolist() for batch in found] == [[0, 1, 2, 3], [4, 5]]
    module.eval()
    batch = next(iter(data.val_dataloader()))
    wanted = module.explain(batch["image"], batch["mask"])
    assert torch.allclose(found[0]["features"], wanted.features, atol=1e-5)
    assert torch.allclose(found[0]["cam"], wanted.cam, atol=1e-5)
    assert torch.equal(found[0]["label"], batch["label"])
    images = torch.utils.data.DataLoader(batch["image"], 3)
    alone = trainer.predict(module, images)
    assert [set(each) for each in alone] == [{"features"}] * 2
    assert torch.allclose(torch.cat([each["features"] for each in alone]), found[0]["features"], atol=1e-5)
