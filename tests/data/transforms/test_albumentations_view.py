import numpy as np
import pytest

from castlit.data import TwoViews
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.transforms.albumentations_view import AlbumentationsView
from castlit.utils.validation import InputError

A = pytest.importorskip("albumentations")


def picture():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)


def test_draws_depend_only_on_the_generator():
    view = AlbumentationsView(A.Compose([A.ColorJitter(p=0.8), A.ToGray(p=0.2), A.GaussianBlur(p=0.5)], seed=3))
    first = [view(picture(), sample_rng(0, 0, i)) for i in range(10)]
    again = [view(picture(), sample_rng(0, 0, i)) for i in reversed(range(10))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({image.tobytes() for image in first}) > 7


def joint(transform, call):
    """Correlation of two coin flips inside one pipeline: inversion, and turning grey."""
    inverted, grey = [], []
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 200
    for i in range(1500):
        result = call(transform, image, i)
        grey.append(np.ptp(result) == 0)
        inverted.append(result[..., 2].max() > 100)
    return np.corrcoef(inverted, grey)[0, 1]


def test_transforms_of_one_pipeline_are_uncorrelated():
    def pipeline(seed=None):
        return A.Compose([A.ToGray(p=0.5), A.InvertImg(p=0.5)], seed=seed)

    # albumentations itself: with one seed per sample, both draws are equal.
    assert joint(None, lambda _, image, i: pipeline(i)(image=image)["image"]) > 0.9
    view = AlbumentationsView(pipeline(5))
    assert abs(joint(view, lambda v, image, i: v(image, sample_rng(0, 0, i)))) < 0.1


def test_use_in_two_views():
    views = TwoViews(12, colours=AlbumentationsView(A.Compose([A.ToGray(p=1), A.GaussianBlur(p=0.5)])))
    first, again = (views(picture(), None, sample_rng(0, 0, 4)) for _ in range(2))
    for view, repeated in ((first.query, again.query), (first.key, again.key)):
        assert view.shape == (12, 12, 3)
        assert np.ptp(view, axis=2).max() == 0
        assert np.array_equal(view, repeated)


def test_nested_pipelines():
    view = AlbumentationsView(
        A.Compose([A.OneOf([A.ToGray(p=1), A.InvertImg(p=1)], p=0.7), A.SomeOf([A.Blur(p=1)], n=1)])
    )
    assert len(view.nodes) == 6
    assert view(picture(), sample_rng(0, 0, 0)).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "transform", [A.HorizontalFlip(), A.Compose([A.ToGray(), A.OneOf([A.Affine()])]), A.RandomCrop(4, 4)]
)
def test_transforms_that_move_pixels(transform):
    with pytest.raises(InputError, match="moves pixels"):
        AlbumentationsView(transform)


def test_bad_arguments():
    with pytest.raises(InputError, match="albumentations transforms, got function"):
        AlbumentationsView(picture)
    with pytest.raises(InputError, match="returned float32"):
        AlbumentationsView(A.ToFloat(p=1))(picture(), sample_rng(0, 0, 0))
