import pickle

import numpy as np
import pytest

from castlit.data import TwoViews
from castlit.data.datamodules.sampler import sample_rng
from castlit.utils.validation import InputError


def painted(size=72):
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : size // 2, size // 3 : size - 9] = 1
    return np.repeat(mask[..., None] * 255, 3, axis=2), mask


@pytest.mark.parametrize("options", [{}, {"constraint": "pair"}, {"min_coverage": None}, {"min_coverage": 0.9}])
def test_masks_match_views(options):
    image, mask = painted()
    views = TwoViews(64, colours=None, **options)
    for i in range(100):
        query, key, query_mask, key_mask, *_ = views(image, mask, np.random.default_rng(i))
        for view, view_mask in ((query, query_mask), (key, key_mask)):
            assert view.shape == (64, 64, 3)
            assert view_mask.shape == (64, 64)
            assert view.dtype == view_mask.dtype == np.uint8
            assert set(np.unique(view_mask)) <= {0, 1}
            assert view.flags.c_contiguous
            assert np.mean((view[..., 0] > 127) != view_mask) < 0.05
            if options.get("min_coverage", 0.2):
                assert view_mask.any()


def test_colours_do_not_change_masks():
    image, mask = painted()
    plain = TwoViews(64, colours=None)(image, mask, np.random.default_rng(3))
    for name in ("moco_v1", "moco_v2"):
        coloured = TwoViews(64, colours=name)(image, mask, np.random.default_rng(3))
        assert np.array_equal(plain.query_mask, coloured.query_mask)


def test_flip_probability():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16] = 255
    flips = []
    views = TwoViews(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), colours=None)
    for i in range(2000):
        query, key, *_ = views(image, None, sample_rng(0, 0, i))
        flips.append((query[0, 0, 0] == 0, key[0, 0, 0] == 0))
    first, second = np.array(flips).T
    assert abs(first.mean() - 0.5) < 0.04
    assert abs(second.mean() - 0.5) < 0.04
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08
    never = TwoViews(32, scale=(1.0, 1.0), ratio=(1.0, 1.0), colours=None, flip=0.0)
    assert all((never(image, None, sample_rng(0, 0, i)).query == image).all() for i in range(20))


def test_flip_and_grey_are_uncorrelated():
    # With albumentations' Compose(seed=), all transforms share one seed, so that flip and grey correlate.
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = (250, 40, 10)
    views = TwoViews(8, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    flipped, grey = [], []
    for i in range(10000):
        query = views(image, None, sample_rng(1, 0, i)).query
        flipped.append(query[:, :4].astype(int).sum() < query[:, 4:].astype(int).sum())
        grey.append(np.ptp(query, axis=2).max() == 0)
    flipped, grey = np.array(flipped), np.array(grey)
    assert abs(np.mean(flipped) - 0.5) < 0.02
    assert abs(np.mean(grey) - 0.2) < 0.015
    assert abs(np.corrcoef(flipped, grey)[0, 1]) < 0.04


def test_common_region():
    mask = np.ones((100, 100), np.uint8)
    image = np.zeros((100, 100, 3), np.uint8)
    own, common = (TwoViews(50, scale=(0.2, 0.5), colours=None, flip=0, region=r) for r in ("own", "common"))
    fractions = []
    for i in range(50):
        a, b = own(image, mask, np.random.default_rng(i)), common(image, mask, np.random.default_rng(i))
        assert a.query_mask.all()
        assert np.array_equal(a.key_mask, b.key_mask)
        fractions.append(b.query_mask.mean())
    assert 0.05 < np.mean(fractions) < 0.8


def test_no_mask_gives_empty_masks():
    image, _ = painted()
    views = TwoViews(32)(image, None, np.random.default_rng(0))
    assert not views.query_mask.any()
    assert not views.key_mask.any()


def test_custom_colours():
    image, mask = painted()
    views = TwoViews(16, colours=lambda view, rng: np.full_like(view, 9))
    assert (views(image, mask, np.random.default_rng(0)).key == 9).all()


def test_inputs_are_not_modified():
    image, mask = painted()
    image.flags.writeable = mask.flags.writeable = False
    TwoViews(72, scale=(1.0, 1.0), ratio=(1.0, 1.0))(image, mask, np.random.default_rng(0))


def test_pickle():
    image, mask = painted()
    views = TwoViews(24, min_coverage=0.4, region="common", colours="moco_v1")
    copy = pickle.loads(pickle.dumps(views))
    a, b = (v(image, mask, np.random.default_rng(0)) for v in (views, copy))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": 2.5}, "size"),
        ({"min_coverage": 1.5}, "min_coverage"),
        ({"scale": (1, 0.5)}, "scale"),
        ({"ratio": "wide"}, "ratio"),
        ({"constraint": "both"}, "constraint"),
        ({"region": "shared"}, "region"),
        ({"colours": "moco_v3"}, "did you mean 'moco_v"),
        ({"colours": 3}, "colours"),
        ({"flip": -0.5}, "flip"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(InputError, match=message):
        TwoViews(**{"size": 8, **change})


def test_mask_of_another_size():
    image, mask = painted()
    with pytest.raises(InputError, match="mask has shape"):
        TwoViews(8)(image, mask[:-1], np.random.default_rng(0))
