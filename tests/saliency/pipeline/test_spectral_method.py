"""quality=spectral on folders: what is made, what is recorded, what is refused."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from castlit.interop import open_backbone
from castlit.nn import build_backbone
from castlit.saliency.algorithms.registry import METHODS_VERSION
from castlit.saliency.pipeline.folder import make_masks
from castlit.saliency.spectral.predictor import SpectralPredictor
from castlit.saliency.spectral.settings import SpectralSettings
from castlit.utils.validation import InputError

SMALL = {"backbone": "tiny_resnet", "size": 64}


@pytest.fixture
def photos(tmp_path, blot):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        image, _ = blot((60, 90), (15 + 5 * i, 12, 45 + 5 * i, 40), (60, 140, 70), (200, 60, 50), seed=i)
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    torch.save(build_backbone("tiny_resnet").state_dict(), tmp_path / "weights.pth")
    return tmp_path


def made(folder, checkpoint, settings=SMALL, **options):
    return make_masks(
        folder / "photos",
        folder / "masks",
        "spectral",
        checkpoint=checkpoint,
        spectral=settings,
        **{"workers": 0, "preview": 0, **options},
    )


def test_masks_and_record(photos):
    checkpoint = photos / "weights.pth"
    assert made(photos, checkpoint).counts == {"images": 3, "made": 3, "skipped": 0, "failed": 0}
    predictor = SpectralPredictor(open_backbone(checkpoint, "tiny_resnet"), SpectralSettings(size=64))
    for path in (photos / "photos").iterdir():
        expected = np.rint(predictor(np.asarray(Image.open(path))) * 255)
        np.testing.assert_array_equal(cv2.imread(str(photos / "masks" / path.name), cv2.IMREAD_UNCHANGED), expected)
    notes = json.loads((photos / "masks" / "masks.json").read_text())
    assert notes["quality"] == "spectral"
    assert "torch" in notes["versions"]
    settings = notes["settings"]["spectral"]
    assert settings["methods"] == METHODS_VERSION
    assert (settings["method"], settings["size"], settings["backbone"]) == ("border_cut", 64, "tiny_resnet")
    assert len(settings["checkpoint"]) == 32
    assert not list((photos / "masks").glob("*pickle*"))
    # The same again does nothing; other weights, or settings, are other masks.
    assert made(photos, checkpoint).counts["skipped"] == 3
    with pytest.raises(InputError, match=r"masks with .* spectral\.sigma=0\.3 and .* spectral\.sigma=0\.5: give"):
        made(photos, checkpoint, {**SMALL, "sigma": 0.5})
    torch.save(build_backbone("tiny_resnet").state_dict(), checkpoint)
    with pytest.raises(InputError, match=r"contains masks with .* spectral\.checkpoint="):
        made(photos, checkpoint)
    assert made(photos, checkpoint, overwrite=True).counts["made"] == 3


def test_processes_and_shards_make_the_same(photos):
    made(photos, photos / "weights.pth")
    before = {path.name: path.read_bytes() for path in (photos / "masks").glob("*.png")}
    for path in (photos / "masks").glob("*.png"):
        path.unlink()
    (photos / "masks" / ".make_masks" / "1_of_1" / "record.json").unlink()
    for shard in ("1/2", "2/2"):
        made(photos, photos / "weights.pth", workers=1 if shard == "1/2" else 0, shard=shard)
    assert {path.name: path.read_bytes() for path in (photos / "masks").glob("*.png")} == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"checkpoint": None}, "quality=spectral finds objects in an encoder's features: give checkpoint="),
        ({"checkpoint": "none.ckpt"}, "checkpoint=none.ckpt: cannot be read"),
        ({"checkpoint": "random", "settings": {**SMALL, "layer": "layr4"}}, "spectral.layer=layr4: .*mean 'layer4'"),
        ({"checkpoint": "random", "settings": {"backbone": 3}}, "spectral.backbone must be a backbone's name"),
        ({"checkpoint": "random", "settings": {"lager": 1}}, "spectral.lager is no setting .did you mean 'layer'"),
        ({"checkpoint": "other.pth", "settings": {}}, "does not say which backbone.*add spectral.backbone=NAME"),
        ({"checkpoint": "weights.pth", "settings": {"backbone": "resnet18"}}, "weights are not those of resnet18"),
    ],
)
def test_refused(photos, monkeypatch, options, told):
    monkeypatch.chdir(photos)
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).state_dict(), "other.pth")
    with pytest.raises(InputError, match=told):
        made(photos, **options)
    assert not (photos / "masks").exists(), "nothing was written"


def test_checkpoint_of_other_qualities_is_refused(photos):
    with pytest.raises(InputError, match=r"checkpoint=x\.ckpt is for quality=spectral, and this run has quality=fast"):
        make_masks(photos / "photos", photos / "masks", checkpoint="x.ckpt")
