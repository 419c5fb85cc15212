"""Saliency methods and folders of maps, scored on images and ground-truth masks in folders."""

import cv2
import numpy as np
import pytest

from castlit.data import SaliencyDataModule, ScenesDataModule
from castlit.evaluation import evaluate_saliency
from castlit.utils.validation import InputError


@pytest.fixture
def folders(tmp_path):
    """Eight images of a square on a background, with exact masks, in images/train and masks/train."""
    rng = np.random.default_rng(0)
    for name in ("images/train", "masks/train"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(8):
        image = np.clip(rng.normal((60, 140, 70), 8, (72, 96, 3)), 0, 255)
        mask = np.zeros((72, 96), np.uint8)
        y, x = int(rng.integers(12, 30)), int(rng.integers(12, 50))
        mask[y : y + 26, x : x + 30] = 255
        image[mask > 0] = np.clip(rng.normal((200, 60, 50), 8, (int((mask > 0).sum()), 3)), 0, 255)
        cv2.imwrite(str(tmp_path / f"images/train/{i}.png"), image[..., ::-1].astype(np.uint8))
        cv2.imwrite(str(tmp_path / f"masks/train/{i}.png"), mask)
    return tmp_path


@pytest.fixture
def data(folders):
    return SaliencyDataModule(folders / "images/train", folders / "masks/train", size=32, batch_size=4)


def test_methods_beat_baselines(data):
    table = evaluate_saliency(data, methods=("rbd", "fast"), workers=1)
    assert list(table) == ["all_ones", "centre_gaussian", "spectral_residual", "rbd", "fast"]
    for name in ("rbd", "fast"):
        assert table[name]["max_f"] > 0.9
        assert table[name]["s_measure"] > 0.85
        assert table[name]["iou"] > 0.8
        assert table[name]["images"] == 8
        for floor in ("all_ones", "centre_gaussian", "spectral_residual"):
            assert table[name]["max_f"] > table[floor]["max_f"]
    # 780 of 6,912 pixels: precision of everything, at recall 1.
    fraction = 780 / 6912
    assert table["all_ones"]["max_f"] == pytest.approx(1.3 * fraction / (0.3 * fraction + 1))
    assert table["all_ones"]["iou"] == pytest.approx(fraction)
    assert table["all_ones"]["mae"] == pytest.approx(1 - fraction)


def test_maps_from_folder_or_parent(data, folders):
    perfect = {"same": folders / "masks/train", "above": folders / "masks"}
    table = evaluate_saliency(data, methods=(), maps=perfect, floors=False, workers=1)
    best = {"max_f": 1, "max_f_of_means": 1, "adaptive_f": 1, "weighted_f": 1, "max_e": 6912 / 6911}
    best |= {"mae": 0, "s_measure": 1, "iou": 1, "images": 8}
    for name in perfect:
        means = {metric: table[name][metric] for metric in ("mean_f", "mean_e")}  # at the lowest threshold all is found
        assert table[name] == pytest.approx({**best, **means})
        for low, high in table.intervals[name].values():
            assert high - low == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("auto", lambda path, mask: cv2.imwrite(f"{path}.png", mask // 255)),
        ("auto", lambda path, mask: cv2.imwrite(f"{path}.png", mask.astype(np.uint16) * 257)),
        ("auto", lambda path, mask: cv2.imwrite(f"{path}.png", cv2.merge([mask * 0, mask * 0, mask * 0, mask]))),
        ("labels", lambda path, mask: cv2.imwrite(f"{path}.png", mask // 255 * 13)),
    ],
    ids=["0 and 1", "16 bit", "alpha", "label map"],
)
def test_maps_are_read_as_masks_are(data, folders, kind, write):
    (folders / "maps").mkdir()
    for i in range(8):
        write(folders / "maps" / str(i), cv2.imread(str(folders / f"masks/train/{i}.png"), cv2.IMREAD_GRAYSCALE))
    settings = {"methods": (), "maps": folders / "maps", "floors": False, "workers": 0}
    found = evaluate_saliency(data, mask_kind=kind, **settings)["maps"]
    assert found["iou"] == found["max_f"] == 1
    if kind == "labels":
        with pytest.raises(InputError, match=r"0\.png: a label map, .* set mask_kind=labels"):
            evaluate_saliency(data, **settings)


def test_noise_is_at_chance(data, folders):
    """The precision of noise is the fraction of object pixels at every recall."""
    rng = np.random.default_rng(0)
    (folders / "noise").mkdir()
    for i in range(8):
        cv2.imwrite(str(folders / f"noise/{i}.png"), rng.integers(0, 256, (72, 96)).astype(np.uint8))
    found = evaluate_saliency(data, methods=(), maps=folders / "noise", floors=False, workers=1)["noise"]
    fraction = 780 / 6912
    assert found["max_f"] == pytest.approx(1.3 * fraction / (0.3 * fraction + 1), abs=0.01)
    assert found["mae"] == pytest.approx(0.5, abs=0.01)


def test_processes_and_count(data):
    alone = evaluate_saliency(data, methods=("rbd",), floors=False, workers=1)
    assert evaluate_saliency(data, methods=("rbd",), floors=False, workers=2) == {
        "rbd": pytest.approx(alone["rbd"], abs=1e-12)
    }
    assert set(alone.intervals["rbd"]) == {*alone["rbd"]} - {"images"}
    for metric, (low, high) in alone.intervals["rbd"].items():
        assert low < alone["rbd"][metric] < high
    assert evaluate_saliency(data, methods=("rbd",), floors=False, workers=1, count=3)["rbd"]["images"] == 3
    one = evaluate_saliency(data, methods=("rbd",), floors=False, workers=1, count=1)
    assert one.intervals == {}


def test_scenes():
    data = ScenesDataModule(train_count=4, val_count=3, size=32, scene_size=48, batch_size=2)
    table = evaluate_saliency(data, methods=("rbd",), workers=1)
    assert table["rbd"]["images"] == 7
    assert table["rbd"]["max_f"] > table["all_ones"]["max_f"]
    assert evaluate_saliency(data, methods=("rbd",), workers=1, split="val")["rbd"]["images"] == 3


def test_messages(data, folders):
    with pytest.raises(InputError, match="methods must be one of"):
        evaluate_saliency(data, methods=("rdb",))
    with pytest.raises(InputError, match="split must be one of"):
        evaluate_saliency(data, split="test")
    with pytest.raises(InputError, match=r"maps.nowhere=.* is not a folder"):
        evaluate_saliency(data, maps=folders / "nowhere")
    (folders / "rbd").mkdir()
    with pytest.raises(InputError, match=r"protocol.maps: .*/rbd would be a second row named rbd: name it"):
        evaluate_saliency(data, methods=("rbd", "fast"), maps=folders / "rbd")
    (folders / "some").mkdir()
    with pytest.raises(InputError, match=r"maps.some: neither .*some/0.png nor .*some/train/0.png exists"):
        evaluate_saliency(data, methods=(), maps=folders / "some", workers=1)
    unmasked = SaliencyDataModule(folders / "images", None, size=32, batch_size=4)
    with pytest.raises(InputError, match="none of the images has a mask"):
        evaluate_saliency(unmasked, methods=("rbd",), workers=1)


def test_one_method_and_none():
    scenes = ScenesDataModule(train_count=2, val_count=2)
    assert list(evaluate_saliency(scenes, methods="rbd", floors=False, workers=0)) == ["rbd"]
    with pytest.raises(InputError, match=r"there is nothing to score: give protocol\.methods"):
        evaluate_saliency(scenes, methods=(), floors=False, workers=0)
