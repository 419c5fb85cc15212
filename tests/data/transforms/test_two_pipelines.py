"""Views by albumentations pipelines: castlit's own boxes and draws, masks that move along, one-line errors."""

import pickle

import cv2
import numpy as np
import pytest
import torch

from castlit.crops import SaliencyCrop
from castlit.data import AlbumentationsView, FileSource, ScenesDataModule, TwoPipelines, TwoViews, ViewDataset
from castlit.data.datamodules.sampler import sample_rng
from castlit.data.io.errors import ViewsError
from castlit.data.io.images import EncodedImage
from castlit.data.scenes import Scenes
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.utils.validation import InputError

A = pytest.importorskip("albumentations")

SIZE = 24


def painted(height=60, width=80):
    """A mask and the image painted from it: white on the object, black elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    mask[15:40, 30:65] = 1
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), mask


def crop(**options):
    return SaliencyCrop(SIZE, **options)


def boxes_of(views):
    return [pipeline.crops[0].get_applied_params()["box"] for pipeline in (views.query, views.key)]


def noise(share, seed=0):
    return (np.random.default_rng(seed).random((60, 80)) < share).astype(np.uint8)


@pytest.mark.parametrize(
    ("options", "mask"),
    [
        ({}, None),
        ({}, painted()[1]),
        ({"min_coverage": 0.0}, painted()[1]),
        ({"min_coverage": 1.0}, painted()[1]),
        ({"law": "uniform", "scale": (0.3, 0.6), "ratio": (0.5, 2.0)}, painted()[1]),
        # No such box exists: the second one then depends on the first.
        ({"min_coverage": 0.9, "scale": (0.1, 0.2)}, noise(0.3)),
        ({"min_coverage": 0.62, "scale": (0.5, 0.6)}, noise(0.3)),
    ],
    ids=str,
)
def test_default_pipelines_equal_castlits_own_views(options, mask):
    own = TwoViews(SIZE, **options)
    pipelines = TwoPipelines(SIZE, crop(**options), [crop(**options)], colours="moco_v2", flip=0.5)
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    for index in range(12):
        expected, got = (views(image, mask, sample_rng(3, 2, index)) for views in (own, pipelines))
        salient = np.zeros((60, 80), bool) if mask is None else mask != 0
        assert boxes_of(pipelines) == own.boxes(salient, 2, sample_rng(3, 2, index))
        for name in ("query", "key", "query_mask", "key_mask"):
            assert np.array_equal(getattr(got, name), getattr(expected, name)), name
    assert torch.equal(own.relaxed, pipelines.relaxed)


def test_photographs_differ_by_interpolation_only():
    # castlit's own views decode a JPEG at a reduced size.
    scenes = Scenes(3, size=320)
    own = TwoViews(64, colours=None)
    pipelines = TwoPipelines(64, [SaliencyCrop(64)], [SaliencyCrop(64)], flip=0.5)
    for index, (pixels, mask) in enumerate(zip(scenes.images, scenes.masks, strict=True)):
        data = cv2.imencode(".jpg", pixels[..., ::-1])[1].ravel()
        image = EncodedImage(data, "scene.jpg", pixels.shape[:2])
        assert decode_for_crops(image, [(0, 0, 320, 320)], 64)[0].shape == (80, 80, 3)
        expected, got = (views(image, mask, sample_rng(0, 0, index)) for views in (own, pipelines))
        assert boxes_of(pipelines) == own.boxes(mask.view(bool), 2, sample_rng(0, 0, index))
        for name in ("query", "key"):
            difference = np.abs(getattr(got, name).astype(int) - getattr(expected, name))
            assert difference.mean() < 6, "levels of 255; views of other boxes differ by 30 to 60"
        assert np.array_equal(got.query_mask, expected.query_mask)
        assert np.array_equal(got.key_mask, expected.key_mask)


GEOMETRIC = {
    "rotate": lambda: A.Rotate(limit=(-40, 40), p=1),
    "perspective": lambda: A.Perspective(scale=(0.1, 0.2), p=1),
    "affine": lambda: A.Affine(scale=(0.7, 1.3), shear=(-15, 15), p=1),
    "grid": lambda: A.GridDistortion(p=1),
    "dropout": lambda: A.CoarseDropout(fill=0, fill_mask=0, p=1),
    "transpose": lambda: A.OneOf([A.Transpose(p=1), A.RandomRotate90(p=1)], p=1),
}


@pytest.mark.parametrize("first", [True, False], ids=["before the crop", "after the crop"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_masks_move_along(name, first):
    image, mask = painted(120, 160)
    steps = [GEOMETRIC[name](), SaliencyCrop(64)]
    views = TwoPipelines(64, steps if first else steps[::-1], [SaliencyCrop(64)])
    for index in range(10):
        made = views(image, mask, sample_rng(0, 0, index))
        assert set(np.unique(made.query_mask)) <= {0, 1}
        assert np.mean((made.query[..., 0] > 127) != (made.query_mask > 0)) < 0.05
        assert np.mean((made.key[..., 0] > 127) != (made.key_mask > 0)) < 0.05


def test_views_have_their_own_transforms_and_draws():
    image, mask = painted()
    turn = TwoPipelines(SIZE, [crop(), A.Rotate(limit=(90, 90), p=1)], [crop()])
    plain = TwoPipelines(SIZE, [crop()], [crop()])
    turned, straight = (views(image, mask, sample_rng(0, 0, 1)) for views in (turn, plain))
    assert np.array_equal(turned.query_mask, np.rot90(straight.query_mask))
    assert np.array_equal(turned.key, straight.key), "the query's transforms do not change the key's draws"

    whole = {"min_coverage": 1.0, "scale": (1, 1), "ratio": (4 / 3, 4 / 3)}
    both = TwoPipelines(SIZE, [crop(**whole), A.Rotate(p=1)], [crop(**whole), A.Rotate(p=1)])
    made = [both(image, mask, sample_rng(0, 0, index)) for index in range(5)]
    assert not any(np.array_equal(views.query, views.key) for views in made)
    assert len({views.query.tobytes() for views in made}) == 5


def test_a_mask_that_leaves_its_view_is_empty():
    image, mask = painted()
    views = TwoPipelines(SIZE, [crop(), A.Affine(translate_px=(500, 500), p=1)], {"crop": crop(), "no": None})
    made = views(image, mask, sample_rng(0, 0, 0))
    assert not made.query_mask.any()
    assert made.key_mask.any()
    # Before the crop: there is nothing to cover.
    gone = TwoPipelines(SIZE, [A.Affine(translate_px=(500, 500), p=1), crop()], [crop()])
    assert not gone(image, mask, sample_rng(0, 0, 0)).query_mask.any()


class WritesToItsInput(A.DualTransform):
    """As a user's own transform might."""

    def apply(self, img, **params):
        img[:] = 7
        return img

    def apply_to_mask(self, mask, **params):
        mask[:] = 0
        return mask


def test_input_is_not_written_to():
    image, mask = painted()
    views = TwoPipelines(SIZE, [WritesToItsInput(p=1), crop()], [crop()])
    made = views(image, mask, sample_rng(0, 0, 0))
    assert (made.query == 7).all()
    assert made.key_mask.any()
    assert np.array_equal(image, painted()[0])
    assert np.array_equal(mask, painted()[1])


def as_floats(image, **params):
    return image.astype(np.float32)


def unchanged(mask, **params):
    return mask


class MovesTheImageOnly(A.DualTransform):
    _targets = (A.core.type_definitions.Targets.IMAGE,)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ([A.Rotate()], r"^views\.query has no crop: add castlit\.crops\.SaliencyCrop"),
        ([], r"^views\.query has no crop"),
        (SaliencyCrop(32), r"^views\.query makes images of 32 x 32 .*, but size is 24: give SaliencyCrop that size"),
        ([crop(), A.Resize(24, 20)], r"makes images of 20 x 24 and masks of 20 x 24"),
        ([crop(), A.Normalize()], r"^views\.query: leave out Normalize: castlit normalises"),
        (A.Compose([crop(), A.OneOf([A.ToTensorV2(), A.NoOp()])]), r"leave out ToTensorV2"),
        ([crop(), A.ToFloat()], r"leave out ToFloat"),
        ([crop(), MovesTheImageOnly()], r"MovesTheImageOnly does not move the mask along"),
        ([crop(), A.Lambda(image=as_floats)], r"Lambda has no function for the mask"),
        ([crop(), np.flipud], r"^views\.query\[1\] must be an albumentations transform, got <"),
        ({"crop": crop(), "turn": {"limit": 3}}, r"^views\.query\.turn must be .*, with its class as _target_, got"),
        (None, r"^views\.query must be an albumentations transform, got None"),
    ],
)
def test_pipelines_that_do_not_fit(query, words):
    with pytest.raises(InputError, match=words) as caught:
        TwoPipelines(SIZE, query, [crop()])
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Argument.* 'limt' .* not valid")
def test_misspelt_argument():
    with pytest.raises(InputError, match=r"^views\.key: Rotate has no argument limt$"):
        TwoPipelines(SIZE, [crop()], [A.Rotate(limt=3), crop()])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        # On most draws, or on images of some sizes, nothing is wrong.
        ([crop(p=0.8)], r"^views\.query makes images of 80 x 60"),
        ([A.RandomCrop(100, 100), crop()], r"^views\.query failed on an image of 80 x 60: CropSizeError: "),
        ([crop(), A.Lambda(image=as_floats, mask=unchanged, p=0.2)], r"makes images of float32 \(24, 24, 3\)"),
    ],
)
def test_mistakes_that_show_later(query, words):
    image, mask = painted()
    views = TwoPipelines(SIZE, query, [crop()])
    with pytest.raises(ViewsError, match=words):
        [views(image, mask, sample_rng(0, 0, index)) for index in range(40)]


@pytest.mark.parametrize(
    "views",
    [
        TwoPipelines(SIZE, [A.RandomCrop(100, 100), crop()], [crop()]),
        TwoViews(SIZE, colours=AlbumentationsView(A.ToFloat(p=1))),
    ],
    ids=["pipelines", "colours"],
)
def test_transforms_that_fail_are_no_bad_files(tmp_path, views):
    image, mask = painted()
    for folder, pixels in (("images", image), ("masks", mask * 255)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), pixels)
    source = FileSource(tmp_path / "images", tmp_path / "masks", on_bad="drop")
    with pytest.raises(ViewsError):
        ViewDataset(source, views)[0]


def pipelines(*more):
    return {"query": [crop(), A.Rotate(p=0.5), A.ColorJitter(p=0.5), *more], "key": [crop(), A.Perspective(p=0.7)]}


def data(workers=0, **options):
    small = {"train_count": 22, "val_count": 4, "size": SIZE, "scene_size": 36, "batch_size": 4}
    return ScenesDataModule(**{**small, "views": pipelines(), "workers": workers, **options})


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_batches_depend_on_seed_epoch_and_index_only():
    alone = data().train_dataloader()
    epochs = [list(alone), list(alone)]
    assert not torch.equal(epochs[0][0]["query"], epochs[1][0]["query"])
    parallel = data(2).train_dataloader()
    assert all(map(same, list(parallel), epochs[0]))
    # Resumed within the second epoch.
    resumed = data().train_dataloader()
    resumed.load_state_dict({"epoch": 1, "images": 8})
    assert all(map(same, list(resumed), epochs[1][2:]))
    assert not torch.equal(next(iter(data(seed=1).train_dataloader()))["query"], epochs[0][0]["query"])


def test_workers_hand_on_the_line(ended_workers):
    loader = data(1, views=pipelines(A.Resize(8, 8, p=0.2))).train_dataloader()
    with pytest.raises(ViewsError, match=r"^views\.query makes images of 8 x 8") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


def test_options_of_data_modules():
    assert data().views.colours is None
    assert data().views.flip == 0
    deferred = data(colours="moco_v1", flip=0.3, photometric="device")
    assert (deferred.views.flip, deferred.views.defer) == (0.3, True)
    assert deferred.train_dataloader().dataset[0]["query_colours"].shape == (10,)
    for options, words in [
        ({"min_coverage": 0.2}, r"^min_coverage belongs to the crops in views: give it to their SaliencyCrop$"),
        ({"constraint": "pair"}, r"^constraint=pair needs both boxes in one image"),
        ({"region": "common"}, r"^region=common needs both boxes in one image"),
        ({"views": {"query": crop()}}, r"^views must have the pipelines query and key, got the keys query$"),
        ({"views": crop()}, r"^views must have the pipelines query and key, got SaliencyCrop"),
    ]:
        with pytest.raises(InputError, match=words):
            data(**options)


def test_pickle():
    dataset = data().train_dataloader().dataset
    a, b = dataset[2, 5], pickle.loads(pickle.dumps(dataset))[2, 5]
    assert all(np.array_equal(a[name], b[name]) for name in a)
