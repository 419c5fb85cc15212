import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castlit.crops import SaliencyCrop, crop_resize, crop_resize_mask
from castlit.utils.validation import InputError

A = pytest.importorskip("albumentations")


def painted(height=120, width=160):
    """A mask and the image painted from it: white on the object, black elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    mask[30:80, 60:130] = 1
    return np.repeat(mask[..., None] * 255, 3, axis=2), mask


def agrees(image, mask, tolerance=0.04):
    return np.mean((image[..., 0] > 127) != (mask > 0)) < tolerance


def test_image_and_mask_stay_aligned():
    image, mask = painted()
    pipeline = A.Compose([SaliencyCrop(size=(64, 96)), A.HorizontalFlip(p=0.5)], seed=1)
    for _ in range(30):
        result = pipeline(image=image, mask=mask)
        assert result["image"].shape == (64, 96, 3)
        assert result["mask"].shape == (64, 96)
        assert set(np.unique(result["mask"])) <= {0, 1}
        assert result["mask"].any()
        assert agrees(result["image"], result["mask"])


def test_further_masks_must_be_declared():
    image, mask = painted()
    declared = A.Compose([SaliencyCrop(32)], additional_targets={"second": "mask"})
    result = declared(image=image, mask=mask, second=mask)
    assert np.array_equal(result["mask"], result["second"])
    with pytest.raises(InputError, match="'second' would pass uncropped"):
        A.Compose([SaliencyCrop(32)])(image=image, mask=mask, second=mask)


def test_pipeline_seed_determines_the_draws():
    image, mask = painted()
    first, second = (A.Compose([SaliencyCrop(48)], seed=7) for _ in range(2))
    for _ in range(5):
        assert np.array_equal(first(image=image, mask=mask)["mask"], second(image=image, mask=mask)["mask"])
    other = A.Compose([SaliencyCrop(48)], seed=8)
    assert not np.array_equal(first(image=image, mask=mask)["mask"], other(image=image, mask=mask)["mask"])


def test_mask_must_match_the_image():
    image, mask = painted()
    with pytest.raises(ValueError, match="mask"):
        A.Compose([SaliencyCrop(32)])(image=image)
    with pytest.raises((InputError, ValueError)):
        A.Compose([SaliencyCrop(32)])(image=image, mask=mask[:50])
    with pytest.raises(InputError, match="the mask is 160 x 50 but the image 160 x 120"):
        SaliencyCrop(32)(image=image, mask=mask[:50])


def test_default_distribution_is_resized_crop():
    # A size twice as long as another one has fewer positions, so it is rarer where all boxes are equally likely.
    image, mask = painted()
    sides = {}
    for name, options in (("default", {}), ("resized_crop", {"law": "resized_crop"}), ("uniform", {"law": "uniform"})):
        crop = SaliencyCrop(8, **options)
        crop.set_random_seed(0)
        shape = {"shape": image.shape}
        boxes = [crop.get_params_dependent_on_data(shape, {"mask": mask})["box"] for _ in range(500)]
        sides[name] = [box[2] - box[0] for box in boxes]
    assert sides["default"] == sides["resized_crop"]
    assert np.mean(sides["uniform"]) < np.mean(sides["default"]) - 10


def test_pickle_repr_and_probability():
    image, mask = painted()
    crop = pickle.loads(pickle.dumps(SaliencyCrop(size=(20, 30), min_coverage=0.4)))
    assert crop.size == (20, 30)
    assert "min_coverage=0.4" in repr(crop)
    assert SaliencyCrop(20, p=0.0)(image=image, mask=mask)["image"].shape == image.shape


@pytest.mark.parametrize("transform", [SaliencyCrop(32, law="uniform"), A.Compose([SaliencyCrop((20, 30))])])
def test_serialisation_keeps_the_class_name(transform):
    saved = A.to_dict(transform)
    crop = saved["transform"].get("transforms", [saved["transform"]])[0]
    assert crop["__class_fullname__"] == "castlit.crops.transform.SaliencyCrop"
    assert A.to_dict(A.from_dict(saved)) == saved


def test_channel_axis_and_float_images():
    image, mask = painted()
    result = SaliencyCrop((24, 24))(image=image.astype(np.float32) / 255, mask=mask[..., None])
    assert result["mask"].shape == (24, 24, 1)
    assert result["image"].dtype == np.float32


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 0},
        {"size": (3, 4, 5)},
        {"size": "big"},
        {"min_coverage": 2},
        {"scale": (0, 1)},
        {"ratio": (2, 1)},
        {"law": "normal"},
        {"p": -1},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SaliencyCrop(**arguments)


@pytest.mark.parametrize("size", [(8, 8), (31, 57), (64, 64), (200, 200), (37, 300)])
@pytest.mark.parametrize("box", [(0, 0, 160, 120), (40, 20, 141, 97), (55, 10, 100, 119)])
def test_resized_image_and_mask_agree(size, box):
    image, mask = painted()
    view, view_mask = crop_resize(image, box, size), crop_resize_mask(mask, box, size)
    assert view.shape == (*size, 3)
    assert view_mask.shape == size
    assert agrees(view, view_mask, tolerance=2.5 / min(size))


def test_resizing_centres_pixels():
    # Eightfold shrinkage of stripes: averaging gives the mean everywhere, not an alias.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert set(np.unique(crop_resize(stripes, (0, 0, 64, 64), (8, 8)))) == {100}
    # Fourfold shrinkage of a mask reads the block's centre, where OpenCV's plain mode reads its corner.
    mask = np.zeros((16, 16), np.uint8)
    mask[1:3, 1:3] = 1
    assert crop_resize_mask(mask, (0, 0, 16, 16), (4, 4))[0, 0] == 1


def test_masks_wider_than_opencv_reads():
    mask = np.zeros((100, 40000), np.uint8)
    mask[:, :20000] = 1
    resized = crop_resize_mask(mask, (0, 0, 40000, 100), (50, 20000))
    assert resized[:, :10000].all()
    assert not resized[:, 10000:].any()


def test_result_is_a_copy():
    image, mask = painted()
    crop_resize(image, (0, 0, 160, 120), (120, 160))[:] = 9
    crop_resize_mask(mask, (0, 0, 160, 120), (120, 160))[:] = 9
    assert image.max() == 255
    assert mask.max() == 1


def test_small_objects_do_not_vanish():
    for height, width, y, x in ((480, 640, 0, 0), (480, 640, 479, 639), (3000, 4000, 1501, 2003), (65, 65, 33, 1)):
        mask = np.zeros((height, width), np.uint8)
        mask[y, x] = 1
        small = crop_resize_mask(mask, (0, 0, width, height), (64, 64))
        assert small.max() == 1
        row, column = y * 64 // height, x * 64 // width
        assert small[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
        assert small.sum() <= 4
    assert not crop_resize_mask(np.zeros((480, 640), np.uint8), (0, 0, 640, 480), (64, 64)).any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_objects_set_what_they_touch(data):
    """Also where one side shrinks and the other grows; against all pairs of pixels."""
    height, width, down, across = (data.draw(st.integers(1, 40)) for _ in range(4))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(data.draw(st.integers(1, 3))):
        mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = 200
    made = crop_resize_mask(mask, (0, 0, width, height), (down, across))
    nearest = cv2.resize(mask, (across, down), interpolation=cv2.INTER_NEAREST_EXACT)
    if nearest.any():
        np.testing.assert_array_equal(made, nearest)
        return
    expected = np.zeros((down, across), np.uint8)
    for y, x in np.argwhere(mask):
        rows = [i for i in range(down) if i * height < (y + 1) * down and y * down < (i + 1) * height]
        columns = [j for j in range(across) if j * width < (x + 1) * across and x * across < (j + 1) * width]
        expected[np.ix_(rows, columns)] = 200
    np.testing.assert_array_equal(made, expected)
