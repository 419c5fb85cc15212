"""The built-in scenes: their seeds, their splits, and their masks."""

import cv2
import numpy as np
import pytest

from castlit.data import FileSource
from castlit.data.scenes import BACKGROUNDS, OBJECTS, SPLITS, Scenes, render, render_scene
from castlit.data.scenes.backgrounds import render_background
from castlit.data.scenes.files import write_scenes
from castlit.evaluation.frozen import read_class_folders
from castlit.utils.validation import InputError

HELD_OUT = SPLITS[1:]


@pytest.fixture(scope="module")
def held_out():
    return {split: Scenes(60, split=split, seed=3) for split in HELD_OUT}


def dilated(mask, pixels):
    return cv2.dilate(mask, np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8))


def test_names():
    assert len(OBJECTS) == len(set(OBJECTS)) == 10
    assert len(BACKGROUNDS) == len(set(BACKGROUNDS)) == 10
    assert SPLITS == ("train", "original", "mixed_same", "mixed_rand", "only_fg")


def test_arrays():
    scenes = Scenes(7, size=40)
    assert len(scenes) == 7
    assert (scenes.images.shape, scenes.images.dtype) == ((7, 40, 40, 3), np.uint8)
    assert (scenes.masks.shape, scenes.masks.dtype) == ((7, 40, 40), np.uint8)
    assert (scenes.objects.shape, scenes.objects.dtype) == ((7,), np.int64)
    assert (scenes.backgrounds.shape, scenes.backgrounds.dtype) == ((7,), np.int64)
    assert set(np.unique(scenes.masks)) == {0, 1}
    image, mask, label = scenes[3]
    assert np.array_equal(image, scenes.images[3])
    assert np.array_equal(mask, scenes.masks[3])
    assert label == scenes.objects[3]
    assert type(label) is int


def test_iteration():
    assert len(list(Scenes(3, size=16))) == 3


def test_seed():
    before, threads = np.random.get_state()[1].copy(), cv2.getNumThreads()  # noqa: NPY002
    first, again, other = Scenes(20, seed=5), Scenes(20, seed=5), Scenes(20, seed=6)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.images, other.images)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert threads == cv2.getNumThreads()


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_ignore_count(split):
    few, many = Scenes(13, split=split, size=32), Scenes(37, split=split, size=32)
    assert np.array_equal(few.images, many.images[:13])
    assert np.array_equal(few.masks, many.masks[:13])
    assert np.array_equal(few.objects, many.objects[:13])
    assert np.array_equal(few.backgrounds, many.backgrounds[:13])


@pytest.mark.parametrize("count", [10, 30, 95])
def test_objects_are_balanced(count):
    numbers = np.bincount(Scenes(count, size=16).objects, minlength=10)
    assert numbers.max() - numbers.min() <= 1


def test_held_out_splits_share_their_objects(held_out):
    alone = held_out["only_fg"]
    for scenes in held_out.values():
        assert np.array_equal(scenes.objects, alone.objects)
        assert np.array_equal(scenes.masks, alone.masks)
        for image, foreground, mask in zip(scenes.images, alone.images, alone.masks, strict=True):
            inside = cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) == 1
            equal = np.abs(image[inside].astype(int) - foreground[inside]) <= 1
            assert equal.mean() > 0.95  # not all: the background is visible in narrow gaps, as above a balloon's basket


def test_held_out_splits_share_backgrounds(held_out):
    same, rand = held_out["mixed_same"], held_out["mixed_rand"]
    equal = same.backgrounds == rand.backgrounds
    assert 0 < equal.sum() < len(same)
    assert np.array_equal(same.images[equal], rand.images[equal])


def test_train_differs_from_held_out_splits():
    train, original = Scenes(60), Scenes(60, split="original")
    equal = [np.array_equal(a, b) for a in train.masks for b in original.masks]
    assert not any(equal)


def test_only_fg_is_black(held_out):
    scenes = held_out["only_fg"]
    assert (scenes.backgrounds == -1).all()
    for image, mask in zip(scenes.images, scenes.masks, strict=True):
        assert not image[dilated(mask, 1) == 0].any()


@pytest.mark.parametrize("split", ["train", "original"])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 1.0])
def test_correlation(split, correlation):
    count = 300
    scenes = Scenes(count, split=split, size=16, background_correlation=correlation)
    own = scenes.backgrounds == scenes.objects
    # Four standard deviations of a binomial fraction.
    assert abs(own.mean() - correlation) <= 4 * np.sqrt(correlation * (1 - correlation) / count)
    step = ((scenes.backgrounds - scenes.objects) % 10)[~own]
    if len(step):
        numbers = np.bincount(step, minlength=10)[1:]
        assert np.abs(numbers - len(step) / 9).max() <= 4.5 * np.sqrt(len(step) / 9)


def test_mixed_splits():
    same = Scenes(100, split="mixed_same", size=16, background_correlation=0.0)
    assert np.array_equal(same.backgrounds, same.objects)
    rand = Scenes(500, split="mixed_rand", size=16, background_correlation=1.0)
    assert np.abs(np.bincount(rand.backgrounds, minlength=10) - 50).max() <= 4 * np.sqrt(50 * 0.9)
    assert abs((rand.backgrounds == rand.objects).mean() - 0.1) <= 4 * np.sqrt(0.09 / 500)


def test_area_and_place():
    scenes = Scenes(1000, split="only_fg", seed=11)
    area = scenes.masks.mean(axis=(1, 2))
    assert area.min() >= 0.05
    assert area.max() <= 0.20
    assert scenes.masks.max(axis=0).mean() > 0.9  # objects are everywhere except in the corners
    for image in scenes.images[:200]:
        count, _ = cv2.connectedComponents((image.max(axis=2) > 0).astype(np.uint8))
        assert count == 2  # black and one connected object


@pytest.mark.parametrize("size", [16, 25, 224])
def test_area_at_other_sizes(size):
    for k in range(40):
        image, mask = render_scene(k % 10, (k // 10) % 10, np.random.default_rng(k), size)
        assert image.shape == (size, size, 3)
        assert 0.05 <= mask.mean() <= 0.20


@pytest.mark.parametrize("object_class", range(10))
def test_mask_is_half_coverage(object_class, monkeypatch):
    # Separate coverage and colour by rendering the same object on black and on white.
    monkeypatch.setattr(render, "_shadow", lambda coverage: np.zeros_like(coverage))
    monkeypatch.setattr(render, "render_background", lambda _, __, size: np.full((size, size, 3), 255, np.float32))
    for seed in range(5):
        black, mask = render_scene(object_class, None, np.random.default_rng(seed))
        white, same = render_scene(object_class, 0, np.random.default_rng(seed))
        assert np.array_equal(mask, same)
        coverage = 1 - (white.astype(float) - black).mean(axis=2) / 255
        certain = np.abs(coverage - 0.5) > 1 / 255
        assert np.array_equal(mask[certain] == 1, coverage[certain] >= 0.5)


def test_outside_of_the_mask():
    for k in range(100):
        image, mask = render.compose(k % 10, k // 10, np.random.default_rng(k), np.random.default_rng(k + 1), 72)
        background = np.clip(np.rint(render_background(k // 10, np.random.default_rng(k + 1), 72)), 0, 255)
        outside = dilated(mask, 1) == 0
        assert (image[outside] <= background[outside] + 1).all()
        far = dilated(mask, 12) == 0
        assert np.array_equal(image[far], background[far])
        assert np.abs(image[mask == 1] - background[mask == 1]).mean() > 20  # the object is visible on every background


def test_backgrounds_differ_in_colour():
    def means(seeds):
        return np.array(
            [[render_background(b, np.random.default_rng(s), 32).mean((0, 1)) for s in seeds] for b in range(10)]
        )

    centres = means(range(10)).mean(axis=1)
    nearest = np.linalg.norm(means(range(100, 120))[:, :, None] - centres, axis=-1).argmin(axis=-1)
    assert (nearest == np.arange(10)[:, None]).mean() > 0.95


def test_backgrounds_are_textured():
    for b in range(10):
        grey = render_background(b, np.random.default_rng(b), 72).mean(axis=2)
        assert (grey - cv2.GaussianBlur(grey, (0, 0), 5)).std() > 4


def test_numpy_labels():
    scenes = Scenes(1, size=16)
    image, _ = render_scene(scenes.objects[0], scenes.backgrounds[0], np.random.default_rng(0), 16)
    assert image.shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 2.5}, "count must be a whole number, got 2.5"),
        ({"size": 15}, "size must be at least 16, got 15"),
        (
            {"split": "mixed_ran"},
            "split must be one of train, original, mixed_same, mixed_rand, only_fg; got 'mixed_ran'",
        ),
        ({"background_correlation": 1.1}, "background_correlation must be at most 1.0, got 1.1"),
        ({"background_correlation": -0.1}, "background_correlation must be at least 0.0, got -0.1"),
        ({"background_correlation": float("nan")}, "background_correlation must be a number, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.")) as caught:
        Scenes(**{"count": 1, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0), "object_class must be at most 9, got 10"),
        ((-1, 0), "object_class must be at least 0, got -1"),
        ((0, 10), "background_class must be at most 9, got 10"),
        ((0, -1), "background_class must be at least 0, got -1"),
    ],
)
def test_bad_classes(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments, np.random.default_rng(0))


def test_bad_scene_size():
    with pytest.raises(ValueError, match="size must be at least 16, got 8"):
        render_scene(0, 0, np.random.default_rng(0), 8)


class Interrupted(Scenes):
    """Scenes that end at the fourth."""

    def __getitem__(self, index):
        if index == 3:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_unfinished_folder_is_refused(tmp_path):
    """A part of the scenes is not taken for all of them, not even with an earlier index; the next call completes it."""
    images, masks = tmp_path / "images" / "train", tmp_path / "masks" / "train"
    write_scenes(Scenes(12, size=32), images, masks)
    cache = tmp_path / "cache"
    assert len(FileSource(tmp_path / "images", tmp_path / "masks", cache=cache)) == 12
    with pytest.raises(KeyboardInterrupt):
        write_scenes(Interrupted(12, size=32), images, masks)
    message = rf"^{images} is unfinished \(unfinished.json\): run the castlit command that was interrupted again"
    for below in ("", "train"):
        with pytest.raises(InputError, match=message):
            FileSource(tmp_path / "images" / below, tmp_path / "masks" / below, cache=cache)
    with pytest.raises(InputError, match=message):
        read_class_folders(images, "data.root")
    write_scenes(Scenes(12, size=32), images, masks)
    assert len(FileSource(tmp_path / "images", tmp_path / "masks", cache=cache)) == 12
