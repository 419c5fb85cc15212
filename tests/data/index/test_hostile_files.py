"""Unusual and damaged files: each is read correctly, or reported and handled as ``on_bad`` says."""

import csv
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from castlit.data import FileSource, TwoViews, ViewDataset, collate
from castlit.data.io.data_report import DataReport
from castlit.utils.validation import InputError

HEIGHT, WIDTH = 48, 64


def picture(height=HEIGHT, width=WIDTH):
    """Dark with a bright block at the top left, which is also the mask: wrong images or masks are detected."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[: height // 2, : width // 2] = 230
    return image


def mask(height=HEIGHT, width=WIDTH):
    return picture(height, width)[..., 0] // 230 * np.uint8(255)


def encoded(array, kind="png", **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, kind, **options)
    return file.getvalue()


def by_opencv(array, suffix):
    return cv2.imencode(suffix, array)[1].tobytes()


def jpeg(**options):
    return encoded(picture(), "jpeg", quality=95, **options)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def turned(orientation):
    """A JPEG that shows ``picture()`` after applying its EXIF orientation."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    return encoded(Image.fromarray(picture()).transpose(back[orientation]), "jpeg", quality=95, exif=exif(orientation))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb():
    """A PNG header that promises 60,000 × 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def promising(width):
    """A PNG of some bytes whose header promises a width; its pixels are those of ``picture()``."""
    header = struct.pack(">IIBBBBB", width, HEIGHT, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + encoded(picture())[33:]


def wrong_byte(at, value):
    """A PNG with one wrong byte: OpenCV made room for gigabytes before it found that."""
    data = bytearray(encoded(picture()))
    data[at] = value
    return bytes(data)


def large_jpeg():
    """A JPEG of some bytes whose header promises 800 megapixels: OpenCV filled them for minutes."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 20000, 40000)
    return bytes(data)


def broken_crc():
    data = bytearray(encoded(picture()))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def no_size():
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = bytes(4)
    return bytes(data)


def label_map(only=None):
    """Index 5 where the mask is; or one index everywhere."""
    indices = (mask() > 0) * np.uint8(5) if only is None else np.full((HEIGHT, WIDTH), only, np.uint8)
    labels = Image.fromarray(indices, "P")
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 40, 0, 30] + [224, 224, 192] * 250)
    return encoded(labels)


GOOD_JPEG, GOOD_MASK = jpeg(), encoded(mask())
FAIL_IMAGE, FAIL_MASK = "image unreadable", "mask unreadable"

# file name, its bytes (or what to do instead), and what must come of it: None is an image or mask that is read right
IMAGES = [
    ("rgb.jpg", GOOD_JPEG, None),
    ("grey.jpg", encoded(picture()[..., 0], "jpeg", quality=95), None),
    ("cmyk.jpg", encoded(Image.fromarray(picture()).convert("CMYK"), "jpeg", quality=95), None),
    ("progressive.jpg", jpeg(progressive=True), None),
    ("subsampled.jpg", jpeg(subsampling=2), None),
    ("exif3.jpg", turned(3), None),
    ("exif6.jpg", turned(6), None),
    ("exif8.jpg", turned(8), None),
    ("exif_nonsense.jpg", jpeg(exif=exif(99)), None),
    ("trailing.jpg", GOOD_JPEG + b"\0" * 5000, None),
    ("alpha.png", encoded(np.dstack([picture(), np.full((HEIGHT, WIDTH), 128, np.uint8)])), None),
    ("grey_alpha.png", encoded(Image.fromarray(picture()).convert("LA")), None),
    ("sixteen.png", by_opencv(picture()[..., ::-1].astype(np.uint16) * 257, ".png"), None),
    ("sixteen_grey.png", encoded(picture()[..., 0].astype(np.uint16) * 257), None),
    ("one_bit.png", encoded(Image.fromarray(mask() > 0)), None),
    ("palette.png", encoded(Image.fromarray(picture()).quantize(4)), None),
    ("transparent.png", encoded(Image.fromarray(picture()).quantize(4), transparency=0), None),
    ("interlaced.png", encoded(picture()), None),
    ("lossy.webp", encoded(picture(), "webp", quality=95), None),
    ("alpha.webp", encoded(Image.fromarray(picture()).convert("RGBA"), "webp", lossless=True), None),
    ("plain.bmp", encoded(picture(), "bmp"), None),
    ("plain.tiff", encoded(picture(), "tiff"), None),
    ("sixteen.tif", by_opencv(picture()[..., ::-1].astype(np.uint16) * 257, ".tiff"), None),
    ("png_called.jpg", encoded(picture()), None),
    ("jpeg_called.png", GOOD_JPEG, None),
    ("UPPER.JPG", GOOD_JPEG, None),
    ("spaces and ünicode 图.jpg", GOOD_JPEG, None),
    ("with'quote\".jpg", GOOD_JPEG, None),
    ("empty.jpg", b"", FAIL_IMAGE),
    ("cut_late.jpg", GOOD_JPEG[:-40], FAIL_IMAGE),
    ("cut_half.jpg", GOOD_JPEG[: len(GOOD_JPEG) // 2], FAIL_IMAGE),
    ("cut_header.jpg", GOOD_JPEG[:20], FAIL_IMAGE),
    ("two_bytes.jpg", b"\xff\xd8", FAIL_IMAGE),
    ("no_size.jpg", no_size(), FAIL_IMAGE),
    ("zeros.jpg", bytes(4096), FAIL_IMAGE),
    ("html.jpg", b"<!doctype html><title>404</title>", FAIL_IMAGE),
    ("markers.jpg", b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9", FAIL_IMAGE),
    ("pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", FAIL_IMAGE),
    ("cut.png", encoded(picture())[:60], FAIL_IMAGE),
    ("signature.png", b"\x89PNG\r\n\x1a\n", FAIL_IMAGE),
    ("broken_crc.png", broken_crc(), FAIL_IMAGE),
    ("bomb.png", bomb(), FAIL_IMAGE),
    ("wide.png", promising(2**20), FAIL_IMAGE),
    ("wrong_width.png", wrong_byte(16, 0x10), FAIL_IMAGE),
    ("long_chunk.png", wrong_byte(33, 0x60), FAIL_IMAGE),
    ("large.jpg", large_jpeg(), FAIL_IMAGE),
    ("cut.webp", encoded(picture(), "webp")[:40], FAIL_IMAGE),
    ("cut.bmp", encoded(picture(), "bmp")[:30], FAIL_IMAGE),
    ("cut.tif", encoded(picture(), "tiff")[:200], FAIL_IMAGE),
    ("array.jpg", npy(picture()), FAIL_IMAGE),
    ("link.jpg", lambda path: path.symlink_to("nowhere.jpg"), FAIL_IMAGE),
    ("pipe.jpg", os.mkfifo, FAIL_IMAGE),
]

MASKS = [
    ("grey.png", GOOD_MASK, None),
    ("square.png", encoded(mask(432, 432)), None),
    ("half_size.png", encoded(mask(24, 32)), None),
    ("double_size.png", encoded(mask(96, 128)), None),
    ("one_bit.png", encoded(Image.fromarray(mask() > 0)), None),
    ("zero_one.png", encoded(mask() // 255), None),
    ("labels.png", label_map(), None),
    ("rgb.png", encoded(np.dstack([mask()] * 3)), None),
    ("rgba.png", encoded(np.dstack([mask()] * 3 + [np.full_like(mask(), 255)])), None),
    ("sixteen.png", encoded(mask().astype(np.uint16) * 257), None),
    ("soft.png", encoded((mask() // 255 * 200 + 20).astype(np.uint8)), None),
    ("lossy.jpg", encoded(mask(), "jpeg", quality=95), None),
    ("lossless.webp", encoded(np.dstack([mask()] * 3), "webp", lossless=True), None),
    ("soft.npy", npy(mask() / 255), None),
    ("half.npy", npy((mask() / 255).astype(np.float16)), None),
    ("bool.npy", npy(mask() > 0), None),
    ("levels.npy", npy(mask()), None),
    ("channel_first.npy", npy(mask()[None] / 255), None),
    ("big_endian.npy", npy((mask() / 255).astype(">f8")), None),
    ("missing", None, "mask missing"),
    ("wrong_name.txt", GOOD_MASK, "mask missing"),
    ("black.png", encoded(mask() * 0), "mask empty"),
    ("below_threshold.png", encoded(np.minimum(mask(), 100)), "mask is a label map"),
    ("void.png", label_map(only=255), "mask empty"),
    ("zeros.npy", npy(mask() * 0.0), "mask empty"),
    ("on_its_side.png", encoded(mask().T.copy()), "mask mismatched"),
    ("panorama.png", encoded(mask(10, 200)), "mask mismatched"),
    ("empty.png", b"", FAIL_MASK),
    ("cut.png", GOOD_MASK[:50], FAIL_MASK),
    ("cut.jpg", encoded(mask(), "jpeg")[:-30], FAIL_MASK),
    ("html.png", b"<!doctype html>", FAIL_MASK),
    ("bomb.png", bomb(), FAIL_MASK),
    ("nan.npy", npy(mask() * np.nan), FAIL_MASK),
    ("percent.npy", npy(mask() / 2.55), FAIL_MASK),
    ("logits.npy", npy(mask() / 25.5 - 5), FAIL_MASK),
    ("rgb.npy", npy(picture()), FAIL_MASK),
    ("cut.npy", npy(mask())[:200], FAIL_MASK),
    ("strings.npy", npy(np.array([["a"]])), FAIL_MASK),
    ("times.npy", npy(mask().astype("m8[s]")), FAIL_MASK),
    ("fields.npy", npy(np.zeros((HEIGHT, WIDTH), [("a", "u1")])), FAIL_MASK),
    ("pickle.npy", b"\x80\x04K\x01.", FAIL_MASK),
    ("link.png", lambda path: path.symlink_to("nowhere.png"), FAIL_MASK),
    ("pipe.png", os.mkfifo, FAIL_MASK),
]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)


def fill(folder):
    """Every hostile image with a good mask, and every hostile mask with a good image; return what must come of each."""
    expected = {}
    for number, (name, content, outcome) in enumerate(IMAGES):
        image = f"{number:03d} {name}"
        put(folder / "images" / image, content)
        put(folder / "masks" / f"{Path(image).stem}.png", GOOD_MASK)
        expected[image] = outcome
    for number, (name, content, outcome) in enumerate(MASKS, 500):
        stem, suffix = Path(f"{number:03d} {name}").stem, Path(name).suffix
        put(folder / "images" / f"{stem}.jpg", GOOD_JPEG)
        put(folder / "masks" / f"{stem}{suffix}", content)
        expected[f"{stem}.jpg"] = outcome
    return expected


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, fill(folder)


def test_number_of_cases():
    assert len(IMAGES) + len(MASKS) >= 80
    assert sum(outcome is not None for _, _, outcome in IMAGES + MASKS) >= 40


def test_every_problem_is_found(hostile):
    folder, expected = hostile
    report = DataReport(folder / "data_report.csv")
    with pytest.raises(InputError, match=r"\d+ of \d+ images cannot be used as they are") as caught:
        FileSource(folder / "images", folder / "masks", report=report)
    assert "\n" not in str(caught.value)
    with (folder / "data_report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = {row["image"]: row["problem"] for row in rows if row["image"]}
    assert listed == {name: outcome for name, outcome in expected.items() if outcome is not None}
    for row in rows:
        if row["problem"] not in ("mask missing", "mask without an image"):
            # The description names the file.
            assert Path(row["image"]).stem in row["detail"]
            assert "\n" not in row["detail"]


@pytest.mark.parametrize("on_bad", ["drop", "unconstrained"])
def test_good_files_are_read(hostile, on_bad):
    folder, expected = hostile
    source = FileSource(folder / "images", folder / "masks", on_bad=on_bad)
    kept = {
        name
        for name, outcome in expected.items()
        if outcome is None or (on_bad == "unconstrained" and "mask" in outcome)
    }
    assert {source.entry(i).image for i in range(len(source))} == kept
    views = TwoViews(32, scale=(0.9, 1.0), colours=None)
    dataset = ViewDataset(source, views)
    for i in range(len(source)):
        name = source.entry(i).image
        item = source.read(i)
        pixels = item.image if isinstance(item.image, np.ndarray) else item.image.decode()
        assert pixels.shape == (HEIGHT, WIDTH, 3), name
        bright = pixels.max(2) > 127
        assert (bright == (mask() > 0)).mean() > 0.98, name
        if expected[name] is None:
            assert (item.mask == mask() // 255).mean() > 0.98, name
        elif expected[name] is not None:
            assert item.mask is None, name
        assert collate([dataset[0, i]])["index"].tolist() == [i]


@pytest.mark.parametrize("on_bad", ["error", "drop", "unconstrained"])
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_files_that_change_during_training(tmp_path, kind, on_bad, caplog):
    cases = [
        (name, content, outcome)
        for name, content, outcome in (IMAGES if kind == "image" else MASKS)
        if outcome is not None and (content is not None) and outcome != "mask missing"
    ]
    for number in range(len(cases)):
        put(tmp_path / "images" / f"{number:03d}.jpg", GOOD_JPEG)
        suffix = Path(cases[number][0]).suffix if kind == "mask" else ".png"
        good = npy(mask() / 255) if suffix == ".npy" else GOOD_MASK
        put(tmp_path / "masks" / f"{number:03d}{suffix}", good)
    source = FileSource(tmp_path / "images", tmp_path / "masks", on_bad=on_bad)
    dataset = ViewDataset(source, TwoViews(16))
    for number, (name, content, _) in enumerate(cases):
        suffix = Path(name).suffix if kind == "mask" else ".jpg"
        path = tmp_path / f"{kind}s" / f"{number:03d}{suffix}"
        path.unlink()
        put(path, content)
    for number, (name, _, _) in enumerate(cases):
        caplog.clear()
        if on_bad == "error":
            with pytest.raises(InputError, match=f"{number:03d}.*on_bad=drop") as caught:
                dataset[0, number]
            assert "\n" not in str(caught.value)
            continue
        for epoch in range(2):
            sample = dataset[epoch, number]
            if on_bad == "drop" or kind == "image":
                assert sample is None, name
            else:
                assert sample["index"] == number
                assert not sample["query_mask"].any(), name
        assert len(caplog.records) == 1, name
        assert f"{number:03d}" in caplog.text


def test_sizes(tmp_path):
    for number, (height, width) in enumerate([(1, 1), (1, 500), (700, 2), (3, 3), (2000, 30), (1500, 2000)]):
        put(tmp_path / "images" / f"{number}.png", encoded(picture(height, width)))
        put(tmp_path / "masks" / f"{number}.png", encoded(np.maximum(mask(height, width), 200)))
    source = FileSource(tmp_path / "images", tmp_path / "masks")
    dataset = ViewDataset(source, TwoViews(32))
    batch = collate([dataset[0, i] for i in range(len(source))])
    assert batch["query"].shape == (6, 3, 32, 32)
    assert batch["query_mask"].flatten(1).any(1).all()
