"""Decoding and fitting masks: levels and thresholds, soft maps in .npy, matching and mismatched shapes."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from castlit.data import FileSource
from castlit.data.io.errors import MismatchError, SampleError
from castlit.data.io.mask_fit import fit_mask
from castlit.data.io.masks import decode_mask


def png(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png", **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return np.frombuffer(file.getvalue(), np.uint8)


@given(threshold=st.floats(0, 1), level=st.integers(0, 255))
def test_threshold(threshold, level):
    levels = np.array([[0, level, 255]], np.uint8)
    expected = [0, int(level > threshold * 255 + 1e-6 or level == 255), 1]
    # Thresholds within float rounding of a level are not tested.
    if abs(level - threshold * 255) > 1e-3:
        assert decode_mask(png(levels), "m", threshold).tolist() == [expected]
        assert decode_mask(npy(levels), "m", threshold).tolist() == [expected]
        assert decode_mask(png((levels.astype(np.uint16)) * 257), "m", threshold).tolist() == [expected]
        assert decode_mask(npy(levels.astype(np.float32) / 255), "m", threshold).tolist() == [expected]


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 0.2], [0.6, 1]]),
        np.array([[0, 0.2], [0.6, 1]], np.float16),
        np.array([[False, False], [True, True]]),
        np.array([[0, 0], [1, 1]], np.int64),
        np.array([[0, 50], [200, 255]], np.int32),
        np.array([[[0, 0.2], [0.6, 1]]], np.float32),
        np.array([[[0], [0.2]], [[0.6], [1]]], np.float32),
        np.asfortranarray([[0, 0.2], [0.6, 1]]),
        np.array([[0, 0.2], [0.6, 1]], ">f4"),
    ],
    ids=str,
)
def test_soft_maps(array):
    assert decode_mask(npy(array), "m.npy").tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.array([[0, 1.5]])), r"m.npy: a soft mask must have values in \[0, 1\]"),
        (npy(np.array([[-0.1, 1]])), r"m.npy: a soft mask must have values in \[0, 1\]"),
        (npy(np.array([[np.nan, 1]])), r"m.npy: a soft mask must have values in \[0, 1\]"),
        (npy(np.array([[0, 999]])), "m.npy: a mask of int64 must have levels from 0 to 255, got 0 to 999"),
        (npy(np.array([[-1, 1]])), "m.npy: a mask of int64 must have levels from 0 to 255, got -1 to 1"),
        (npy(np.zeros((2, 3, 4))), r"m.npy: a mask must have the shape \(height, width\), got \(2, 3, 4\)"),
        (npy(np.zeros(5)), r"m.npy: a mask must have the shape"),
        (npy(np.zeros((0, 5))), r"m.npy: a mask must have the shape"),
        (npy(np.array([["a"]])), "m.npy: a mask must have numbers, got <U1"),
        (npy(np.array([[1j]])), "m.npy: a mask must have numbers, got complex128"),
        (npy(np.ones((50, 50)))[:300], "m.npy: cannot be decoded"),
        (npy(np.ones((5, 5)))[:9], "m.npy: cannot be decoded"),
    ],
)
def test_invalid_arrays(data, message):
    with pytest.raises(SampleError, match=message) as caught:
        decode_mask(data, "m.npy")
    assert "\n" not in str(caught.value)


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "m.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(SampleError, match=r"m.npy: cannot be decoded"):
        decode_mask(np.fromfile(tmp_path / "m.npy", np.uint8), "m.npy")


@pytest.mark.parametrize(
    ("mask", "image"),
    [((432, 432), (480, 640)), ((240, 320), (480, 640)), ((214, 320), (428, 640)), ((1, 1), (7, 3)), ((3, 2), (6, 5))],
)
def test_matching_shapes(mask, image):
    assert fit_mask(np.ones(mask, np.uint8), "m", image).shape == image


@pytest.mark.parametrize("place", range(8))
def test_small_objects_of_a_larger_mask_stay(place):
    mask = np.zeros((800, 800), np.uint8)
    mask[400 + place : 403 + place, 401 + place : 404 + place] = 1
    assert 1 <= fit_mask(mask, "m", (200, 200)).sum() <= 4


@pytest.mark.parametrize(("mask", "image"), [((640, 480), (480, 640)), ((100, 200), (100, 100)), ((90, 30), (60, 40))])
def test_mismatched_shapes(mask, image):
    with pytest.raises(MismatchError, match=f"m.png: the mask is {mask[1]} x {mask[0]}, which cannot show an image of"):
        fit_mask(np.ones(mask, np.uint8), "m.png", image)


def test_npy_and_png(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    soft = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    for name in ("a", "b"):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
    np.save(tmp_path / "masks" / "a.npy", soft)
    Image.fromarray((soft * 255).astype(np.uint8)).save(tmp_path / "masks" / "b.png")
    source = FileSource(tmp_path / "images", tmp_path / "masks", threshold=0.75)
    assert source.mask_path(0).name == "a.npy"
    assert source.read(0).mask.mean() == pytest.approx(0.25, abs=0.01)
    assert source.read(1).mask.mean() == pytest.approx(0.25, abs=0.01)
