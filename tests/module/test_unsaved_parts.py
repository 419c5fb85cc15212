"""Loading raises for parts that a checkpoint cannot describe."""

import pytest
import torch

import castlit
from castlit.utils.validation import InputError


class Weighted(castlit.attention.AttentionLoss):
    def __init__(self, table):
        super().__init__(weight=float(table.sum()))


def small():
    return castlit.methods.MoCo(backbone="tiny_resnet", queue_size=8)


def saved(module, path):
    torch.save(
        {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "pytorch-lightning_version": "2.6.6",
        },
        path,
    )
    return path


def test_attention_without_spec(tmp_path):
    path = saved(castlit.CASTModule(small(), Weighted(torch.ones(3))), tmp_path / "m.ckpt")
    with pytest.raises(InputError, match=r"how its attention was built.*attention=\.\.\."):
        castlit.CASTModule.load_from_checkpoint(path)
    loaded = castlit.CASTModule.load_from_checkpoint(path, attention=Weighted(torch.ones(3)))
    assert loaded.attention.weight == 3.0


def test_no_attention(tmp_path):
    loaded = castlit.CASTModule.load_from_checkpoint(saved(castlit.CASTModule(small()), tmp_path / "m.ckpt"))
    assert loaded.attention is None


def test_single_image():
    for backbone, size in (("tiny_resnet", 64), ("resnet18", 32)):
        method = castlit.methods.MoCo(backbone=backbone, queue_size=8)
        module = castlit.CASTModule(method).eval()
        found = module.explain(torch.randn(1, 3, size, size), torch.ones(1, 1, size, size, dtype=torch.uint8))
        assert found.features.shape[0] == found.cam.shape[0] == 1
        assert torch.isfinite(found.cam).all()


def test_invalid_method():
    class Headless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Conv2d(3, 4, 3)

    for thing in (torch.nn.Linear(2, 2), Headless()):
        with pytest.raises(InputError, match=r"is no method: it needs an encoder, forward\(query, key\) and target"):
            castlit.CASTModule(thing)
