"""Pseudo-labels: the methods' maps, stored and refined."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from castlit.data.io.images import read_image
from castlit.saliency.algorithms.registry import HANDCRAFTED
from castlit.saliency.deepusps.pseudo_labels import (
    UNUSABLE,
    discretise,
    make_pseudo_labels,
    moving_average,
    refine_targets,
)
from castlit.saliency.deepusps.rows import Rows
from castlit.utils.validation import InputError


def test_maps_and_usable_images(photographs, tmp_path):
    labels = make_pseudo_labels(photographs, tmp_path, ["rbd", "hs"], 40, 0)
    assert labels.images.shape == (10, 40, 40, 3)
    assert labels.maps.shape == (10, 2, 40, 40)
    good = [i for i, path in enumerate(photographs) if path.stem not in ("broken", "uniform")]
    assert labels.usable.tolist() == good
    assert np.array_equal(Rows(tmp_path / "maps", 10, (2, 40, 40)).flags == UNUSABLE, ~np.isin(range(10), good))
    image = read_image(photographs[good[3]])
    for k, method in enumerate(("rbd", "hs")):
        levels = np.rint(HANDCRAFTED[method](image) * 255).astype(np.uint8)
        wanted = cv2.resize(levels, (40, 40), interpolation=cv2.INTER_AREA)
        assert np.array_equal(labels.maps[good[3], k], wanted)


def test_existing_maps_are_kept(photographs, tmp_path, monkeypatch):
    make_pseudo_labels(photographs[:2], tmp_path, ["rbd"], 40, 0)
    calls = []
    monkeypatch.setitem(HANDCRAFTED, "rbd", lambda image: calls.append(1) or np.ones(image.shape[:2], np.float32))
    rows = Rows(tmp_path / "maps", 2, (1, 40, 40))
    with (tmp_path / "maps.done").open("r+b") as file:  # as after a kill before the second
        file.seek(1)
        file.write(b"\0")
    assert rows.missing == [1]
    make_pseudo_labels(photographs[:2], tmp_path, ["rbd"], 40, 0)
    assert len(calls) == 1


def test_processes_give_the_same_maps(photographs, tmp_path):
    here = make_pseudo_labels(photographs, tmp_path / "here", ["rbd"], 40, 0)
    there = make_pseudo_labels(photographs, tmp_path / "there", ["rbd"], 40, 2)
    assert np.array_equal(here.maps, there.maps)
    assert np.array_equal(here.usable, there.usable)


def test_nothing_to_learn_from(photographs, tmp_path):
    bad = [path for path in photographs if path.stem in ("broken", "uniform")]
    with pytest.raises(InputError, match="none of 2 images can be read and shows anything"):
        make_pseudo_labels(bad, tmp_path, ["rbd"], 40, 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_discretise_at_otsu(seed):
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.choice(np.arange(20, 236), 2, replace=False))
    levels = np.where(rng.random((16, 16)) < rng.uniform(0.2, 0.8), low, high) + rng.normal(0, 4, (16, 16))
    levels = np.clip(levels, 0, 255).astype(np.uint8)
    if levels.min() == levels.max():
        return
    assert np.array_equal(discretise(levels) == 255, levels > threshold_otsu(levels))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), momentum=st.floats(0, 1))
def test_moving_average(seed, momentum):
    rng = np.random.default_rng(seed)
    old, new = rng.integers(0, 256, (4, 5)).astype(np.uint8), rng.random((4, 5)).astype(np.float32)
    found = moving_average(old, new, momentum)
    for y in range(4):
        for x in range(5):
            exact = 255 * (momentum * (float(old[y, x]) / 255) + (1 - momentum) * float(new[y, x]))
            assert abs(found[y, x] - exact) <= 0.5 + 1e-3
    assert np.array_equal(moving_average(old, new, 1.0), old)


def test_refined_targets_follow_the_prediction(photographs, tmp_path):
    labels = make_pseudo_labels(photographs[:3], tmp_path, ["rbd"], 48, 0)
    old = np.stack([discretise(levels[0]) for levels in labels.maps])
    predictions = [np.full((12, 12), 0.1 + 0.8 * (i == 1), np.float32) for i in range(3)]
    for momentum, folder in ((1.0, "still"), (0.7, "moves")):
        new = Rows(tmp_path / folder, 3, (48, 48))
        refine_targets("Refining", old, labels.images, iter(predictions), new, momentum, 0)
        assert not new.missing
        if momentum == 1:
            assert np.array_equal(new.values, old)
        else:
            assert new.values[1].mean() > old[1].mean()
            assert new.values[0].mean() < old[0].mean()
