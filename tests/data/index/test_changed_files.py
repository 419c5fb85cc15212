"""Files that are replaced in place after they were indexed: rotated photographs, and masks that follow or do not."""

import io

import numpy as np
import pytest
from PIL import Image

from castlit.data import EvalDataset, FileSource, TwoViews, ViewDataset
from castlit.data.io.errors import MismatchError

SIZE = (48, 96)


def picture():
    """Dark with a bright block at the top left, which is the mask."""
    pixels = np.full((*SIZE, 3), 20, np.uint8)
    pixels[:20, :40] = 230
    return pixels


def mask():
    return picture()[..., 0] // 230 * np.uint8(255)


def write(path, pixels, orientation=None):
    """Replace the file's content; its folder's time stays."""
    tags = Image.Exif()
    if orientation is not None:
        tags[0x0112] = orientation
    data = io.BytesIO()
    options = {"quality": 95} if path.suffix == ".jpg" else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        data, Image.registered_extensions()[path.suffix], exif=tags, **options
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())


def clockwise(pixels):
    return np.rot90(pixels, -1)


# The photograph and its mask when they were indexed, and afterwards: (pixels, EXIF orientation). A photograph that has
# orientation 6 is shown turned clockwise. Then the upright size.
CHANGES = {
    "both rotated": (picture(), None, mask(), clockwise(picture()), None, clockwise(mask()), (96, 48)),
    "rotated by EXIF, mask rotated": (picture(), None, mask(), picture(), 6, clockwise(mask()), (96, 48)),
    "rotated by EXIF, mask as stored": (picture(), None, mask(), picture(), 6, None, (96, 48)),
    "EXIF removed, mask as stored": (picture(), 6, mask(), picture(), None, None, SIZE),
    "EXIF applied to the pixels": (picture(), 6, clockwise(mask()), clockwise(picture()), None, None, (96, 48)),
    "both rotated back": (clockwise(picture()), None, clockwise(mask()), picture(), None, mask(), SIZE),
    "both smaller": (picture(), None, mask(), picture()[::2, ::2], None, mask()[::2, ::2], (24, 48)),
    "only the photograph rotated": (picture(), None, mask(), clockwise(picture()), None, None, None),
    "only the mask rotated": (picture(), None, mask(), picture(), None, clockwise(mask()), None),
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("when", ["while open", "before it is opened again"])
@pytest.mark.parametrize("name", CHANGES)
def test_changed_in_place(tmp_path, name, when, suffix):
    before, tag, before_mask, after, new_tag, after_mask, size = CHANGES[name]
    image, masks = tmp_path / "images" / f"a{suffix}", tmp_path / "masks" / "a.png"
    write(image, before, tag)
    write(masks, before_mask)
    source = FileSource(image.parent, masks.parent, cache=tmp_path / "cache")
    write(image, after, new_tag)
    if after_mask is not None:
        write(masks, after_mask)
    if when != "while open":
        source = FileSource(image.parent, masks.parent, cache=tmp_path / "cache")
    if size is None:
        with pytest.raises(MismatchError, match=r"a.png: the mask is .*, which cannot show an image of"):
            source.read(0)
        return
    item = source.read(0)
    pixels = item.image if isinstance(item.image, np.ndarray) else item.image.decode()
    assert item.image.shape == pixels.shape == (*size, 3)
    assert item.mask.shape == size
    assert ((pixels[..., 0] > 127) == item.mask).mean() > 0.99
    view = ViewDataset(source, TwoViews(16, scale=(0.9, 1.0), colours=None))[0]
    assert ((view["query"].mean(2) > 127) == (view["query_mask"] > 0)).mean() > 0.85
    whole = EvalDataset(source, 24, 24)[0]
    assert ((whole["image"].mean(2) > 127) == (whole["mask"] > 0)).mean() > 0.9


def test_annotations_follow_the_orientation(tmp_path):
    """A mask from a JSON is in the index only; it turns with its photograph."""
    image = tmp_path / "images" / "a.jpg"
    write(image, picture())
    box = [0, 0, 40, 0, 40, 20, 0, 20]
    listed = {"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}
    content = {"images": [listed], "annotations": [{"image_id": 1, "segmentation": [box]}]}
    (tmp_path / "i.json").write_text(str(content).replace("'", '"'))
    source = FileSource(image.parent, tmp_path / "i.json")
    assert np.array_equal(source.read(0).mask, mask() // 255)
    write(image, picture(), 6)
    item = source.read(0)
    assert item.image.shape == (96, 48, 3)
    assert np.array_equal(item.mask, clockwise(mask()) // 255)
