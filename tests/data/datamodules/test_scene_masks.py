"""Training masks of the built-in scenes other than the exact ones."""

import numpy as np
import pytest

from castlit.data import ScenesDataModule
from castlit.data.datamodules.scene_masks import scene_masks
from castlit.data.scenes import Scenes
from castlit.data.scenes.files import scene_file, write_scenes
from castlit.utils.validation import InputError


@pytest.fixture(scope="module")
def scenes():
    return Scenes(20, size=32)


def test_boxes(scenes):
    centre = scene_masks(scenes, "centre_box")
    assert (centre == centre[0]).all()
    assert centre[0].sum() == 16 * 16 == centre[0, 8:24, 8:24].sum()
    anywhere = scene_masks(scenes, "random_box")
    assert (anywhere.sum((1, 2)) == 16 * 16).all()
    assert len(np.unique(anywhere, axis=0)) > 10
    assert (anywhere == scene_masks(scenes, "random_box")).all(), "the places are fixed"
    # Each is a square: it has 16 rows and 16 columns.
    assert (anywhere.any(1).sum(1) == 16).all()
    assert (anywhere.any(2).sum(1) == 16).all()


def test_files(scenes, tmp_path, caplog):
    write_scenes(scenes, tmp_path / "images", tmp_path / "masks")
    import cv2

    for i in (0, 13):
        image = cv2.imread(str(tmp_path / "images" / scene_file(i, int(scenes.objects[i]))))
        assert (image[..., ::-1] == scenes.images[i]).all()
    assert (scene_masks(scenes, tmp_path / "masks") == scenes.masks).all()
    gone = tmp_path / "masks" / scene_file(13, int(scenes.objects[13]))
    gone.unlink()
    found = scene_masks(scenes, str(tmp_path / "masks"))
    assert "1 of 20 scenes have no mask" in caplog.text
    assert not found[13].any()
    assert (np.delete(found, 13, 0) == np.delete(scenes.masks, 13, 0)).all()


def test_only_training_uses_them():
    settings = {"train_count": 20, "val_count": 10, "size": 32, "scene_size": 32, "batch_size": 4, "workers": 0}
    module = ScenesDataModule(**settings, masks="centre_box")
    train, val, _ = module.sources
    assert (train.masks == scene_masks(Scenes(20, size=32), "centre_box")).all()
    assert (val.masks == Scenes(10, split="mixed_rand", size=32).masks).all()


def test_bad_arguments(scenes, tmp_path):
    with pytest.raises(InputError, match=r"data\.masks=exakt: no such folder; give exact, centre_box, random_box or"):
        scene_masks(scenes, "exakt")
    with pytest.raises(InputError, match="has no mask"):
        scene_masks(scenes, tmp_path)
