"""What the pixels of masks mean: grey levels, numbers of classes, colours, alpha; and what is refused as ambiguous."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from castlit.data.io.errors import LabelMapError, SampleError
from castlit.data.io.masks import decode_map, decode_mask
from castlit.data.scenes import Scenes
from castlit.saliency.algorithms.registry import METHODS, shrink

OBJECT = np.zeros((40, 60), np.uint8)
OBJECT[10:30, 5:25] = 1
LINE = cv2.dilate(OBJECT, np.ones((5, 5), np.uint8)) - OBJECT
SECOND = np.zeros((40, 60), np.uint8)
SECOND[5:20, 40:55] = 1
BOTH = OBJECT | SECOND
NONE, ALL = OBJECT * 0, OBJECT * 0 + 1
GREY_ALPHA = np.dstack([NONE + 40, OBJECT * 255])

BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (250, 0, 0), (0, 250, 0)

VOC = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)] + [(0, 0, 128)] * 251 + [(224, 224, 192)], np.uint8)


def file(image, kind="png", **options):
    data = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, kind, **options)
    return data.getvalue()


def npy(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def tiff(array):
    return cv2.imencode(".tiff", array)[1].tobytes()


def palette(numbers, colours, **options):
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return file(image, **options)


def few_bits(numbers, bits):
    """A grey PNG of 2 or 4 bits a pixel."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = numbers.shape
    digits = (numbers[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits.astype(np.uint8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def coloured(first=(200, 0, 0), second=(0, 0, 200), background=(0, 0, 0), dtype=np.uint8):
    pixels = np.empty((40, 60, 3), dtype)
    pixels[:], pixels[OBJECT > 0], pixels[SECOND > 0] = background, first, second
    return pixels


def with_alpha(colours, alpha=OBJECT * 255, **options):
    return file(np.dstack([np.broadcast_to(np.uint8(colours), (40, 60, 3)), alpha]), **options)


def bmp_with_alpha():
    """With the header of version 5, the one that has an alpha channel."""
    pixels = np.dstack([np.full((40, 60, 3), 255, np.uint8), OBJECT * 255])[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, 60, 40, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + b"BGRs"
    return b"BM" + struct.pack("<IHHI", 138 + len(pixels), 0, 0, 138) + header.ljust(124, b"\0") + pixels


def instances():
    """Eighty objects with the numbers 1 to 200 of a data set."""
    rng = np.random.default_rng(0)
    numbers = np.zeros((300, 400), np.uint8)
    for number in rng.permutation(np.arange(1, 201))[:80]:
        y, x = rng.integers(0, 280, 2)
        numbers[y : y + rng.integers(4, 20), x : x + rng.integers(4, 20)] = number
    return numbers


def turned(pixels, orientation, kind):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return file(pixels, kind, exif=tags)


LABELS = OBJECT * np.uint8(13) + LINE * np.uint8(255)
CROWD = instances()
REFUSED, BAD = LabelMapError, SampleError

# name: the file's bytes, and what auto, levels, labels and colours make of it: the mask, or the error
CASES = {
    # Levels that are numbers.
    "class, no label": (file(LABELS), REFUSED, LINE, OBJECT, OBJECT | LINE),
    "two classes": (file(OBJECT * np.uint8(3) + SECOND * np.uint8(20)), REFUSED, NONE, BOTH, BOTH),
    "one class": (file(OBJECT * np.uint8(13)), REFUSED, NONE, OBJECT, OBJECT),
    "classes without background": (file(255 - OBJECT * np.uint8(242)), REFUSED, 1 - OBJECT, OBJECT, ALL),
    "trimap": (file(OBJECT + 2 * LINE + 1), REFUSED, NONE, ALL, ALL),
    "instances": (file(CROWD), REFUSED, CROWD > 128, CROWD > 0, CROWD > 0),
    "16 bit": (file(LABELS.astype(np.uint16)), REFUSED, NONE, OBJECT, OBJECT | LINE),
    "16 bit, large": (file(OBJECT * np.uint16(24003) + LINE * np.uint16(65535)), REFUSED, LINE, OBJECT, OBJECT | LINE),
    "RGB of one number": (file(np.dstack([LABELS] * 3)), REFUSED, LINE, OBJECT, OBJECT | LINE),
    "4 bits": (few_bits(OBJECT * 15 + SECOND * 3, 4), REFUSED, OBJECT, BOTH, BOTH),
    "2 bits": (few_bits(OBJECT * 3 + SECOND * 1, 2), REFUSED, OBJECT, BOTH, BOTH),
    "array": (npy(LABELS.astype(np.int64)), REFUSED, LINE, OBJECT, OBJECT | LINE),
    "array, large": (npy(OBJECT * np.int64(999)), BAD, BAD, OBJECT, OBJECT),
    "array of whole floats": (npy(OBJECT * 13.0), BAD, BAD, OBJECT, OBJECT),
    "negative array": (npy(OBJECT - np.int64(1)), BAD, BAD, BAD, 1 - OBJECT),
    # Levels that are grey.
    "black and white": (file(OBJECT * 255), OBJECT, OBJECT, NONE, OBJECT),
    "zero and one": (file(OBJECT), OBJECT, OBJECT, OBJECT, OBJECT),
    "1 bit": (file(Image.fromarray(OBJECT > 0)), OBJECT, OBJECT, OBJECT, OBJECT),
    "pale": (file(OBJECT * np.uint8(200) + np.uint8(20)), OBJECT, OBJECT, ALL, ALL),
    "all salient": (file(OBJECT * np.uint8(50) + np.uint8(200)), ALL, ALL, ALL, ALL),
    "black": (file(NONE), NONE, NONE, NONE, NONE),
    "soft array": (npy(OBJECT * 0.8), OBJECT, OBJECT, BAD, OBJECT),
    # Palettes.
    "VOC": (palette(OBJECT + SECOND * 3 + LINE * np.uint8(255), VOC), BOTH, LINE, BOTH, BOTH),
    "background is not 0": (palette(7 - OBJECT * 7, [RED] * 7 + [BLACK]), REFUSED, NONE, 1 - OBJECT, OBJECT),
    "black twice": (palette(OBJECT * 2 + SECOND, [BLACK, GREEN, BLACK]), REFUSED, SECOND, BOTH, SECOND),
    "palette left black": (palette(OBJECT * 2 + SECOND, [BLACK] * 256), REFUSED, NONE, BOTH, NONE),
    "grey palette of numbers": (palette(LABELS, np.arange(256).repeat(3)), REFUSED, LINE, OBJECT, OBJECT | LINE),
    "inverted palette": (palette(1 - OBJECT, [WHITE, BLACK]), OBJECT, OBJECT, 1 - OBJECT, OBJECT),
    # Colours.
    "VOC's colours": (file(VOC[OBJECT + SECOND * 3 + LINE * np.uint8(255)]), REFUSED, LINE, BOTH, BOTH),
    "colours": (file(coloured()), REFUSED, NONE, BOTH, BOTH),
    "bright colours": (file(coloured((255, 255, 0), (0, 255, 0))), REFUSED, BOTH, BOTH, BOTH),
    "one channel for each class": (file(coloured((1, 0, 0), (0, 1, 0))), REFUSED, SECOND, BOTH, BOTH),
    "16 bit colours": (tiff(coloured((65535, 0, 0), dtype=np.uint16)), REFUSED, NONE, BOTH, BOTH),
    "grey as JPEG": (file(np.dstack([OBJECT * 255] * 3), "jpeg", quality=95), OBJECT, OBJECT, BAD, BAD),
    "grey as lossy WebP": (file(np.dstack([OBJECT * 255] * 3), "webp", quality=95), OBJECT, OBJECT, BAD, BAD),
    "numbers as JPEG": (
        file(OBJECT * np.uint8(60) + SECOND * np.uint8(220), "jpeg", quality=95),
        REFUSED,
        SECOND,
        BAD,
        BAD,
    ),
    "numbers as lossy WebP": (
        file(np.dstack([OBJECT * np.uint8(60) + SECOND * np.uint8(220)] * 3), "webp", quality=95),
        REFUSED,
        SECOND,
        BAD,
        BAD,
    ),
    # The mask is in the alpha channel.
    "cut-out of dark pixels": (with_alpha(30), OBJECT, OBJECT, OBJECT, OBJECT),
    "cut-out of white": (with_alpha(255), OBJECT, OBJECT, NONE, OBJECT),
    "soft cut-out": (with_alpha((9, 200, 30), OBJECT * np.uint8(180)), OBJECT, OBJECT, OBJECT, OBJECT),
    "grey cut-out": (file(Image.fromarray(GREY_ALPHA, "LA")), OBJECT, OBJECT, OBJECT, OBJECT),
    "WebP cut-out": (with_alpha(90, kind="webp", lossless=True), OBJECT, OBJECT, OBJECT, OBJECT),
    "lossy WebP cut-out": (with_alpha(90, kind="webp", quality=90), OBJECT, OBJECT, BAD, BAD),
    "TIFF cut-out": (with_alpha(250, kind="tiff"), OBJECT, OBJECT, OBJECT, OBJECT),
    "grey TIFF cut-out": (file(Image.fromarray(GREY_ALPHA, "LA"), "tiff"), OBJECT, OBJECT, OBJECT, OBJECT),
    "BMP cut-out": (bmp_with_alpha(), OBJECT, OBJECT, NONE, OBJECT),
    "transparent number": (palette(OBJECT + 4, [(200, 200, 200)] * 6, transparency=4), OBJECT, OBJECT, OBJECT, OBJECT),
    "transparent level": (file(OBJECT * 60 + 90, transparency=90), OBJECT, OBJECT, OBJECT, OBJECT),
    "transparent colour": (file(coloured(background=WHITE), transparency=WHITE), BOTH, BOTH, BOTH, BOTH),
    "opaque nearly everywhere": (
        with_alpha(OBJECT[..., None] * 255, 255 - LINE * np.uint8(9)),
        OBJECT,
        OBJECT,
        NONE,
        OBJECT,
    ),
    "opaque everywhere": (with_alpha(0, ALL * 255), NONE, NONE, NONE, NONE),
    "transparent everywhere": (file(np.dstack([OBJECT * 255] * 3 + [NONE])), OBJECT, OBJECT, NONE, OBJECT),
    # Types that only TIFF and .npy have.
    "int8": (tiff(OBJECT.astype(np.int8)), OBJECT, OBJECT, OBJECT, OBJECT),
    "RGB of int8": (tiff(coloured((0, 0, 127), BLACK, dtype=np.int8)), REFUSED, NONE, OBJECT, OBJECT),
    "RGB of int16": (tiff(coloured((0, 0, 255), dtype=np.int16)), REFUSED, NONE, BOTH, BOTH),
    "grey of int16": (tiff(np.dstack([OBJECT.astype(np.int16) * 255] * 3)), OBJECT, OBJECT, NONE, OBJECT),
    "RGB of int32": (tiff(coloured((0, 0, 255), dtype=np.int32)), REFUSED, NONE, BOTH, BOTH),
    "RGB of float64": (tiff(coloured((0.9, 1, 0.8), BLACK, dtype=np.float64)), REFUSED, OBJECT, OBJECT, OBJECT),
    "RGB of float32": (tiff(coloured((1, 0.99, 0.98), BLACK, dtype=np.float32)), OBJECT, OBJECT, OBJECT, OBJECT),
    "RGB out of range": (tiff(coloured((0, 0, 999), dtype=np.int32)), BAD, BAD, BOTH, BOTH),
    "negative RGB": (tiff(coloured((0, 0, -9), dtype=np.int16)), BAD, BAD, BOTH, BOTH),
}


@pytest.mark.parametrize("kind", ["auto", "levels", "labels", "colours"])
@pytest.mark.parametrize("name", CASES)
def test_kinds(name, kind):
    data, *expected = CASES[name]
    outcome = expected[["auto", "levels", "labels", "colours"].index(kind)]
    data = np.frombuffer(data, np.uint8)
    if isinstance(outcome, type):
        with pytest.raises(outcome, match=r"^m\.x: ") as caught:
            decode_mask(data, "m.x", kind=kind)
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, LabelMapError) or "mask_kind=" in str(caught.value)
        with pytest.raises(outcome):
            decode_map(data, "m.x", kind)
        return
    mask = decode_mask(data, "m.x", kind=kind)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, outcome)
    soft = decode_map(data, "m.x", kind)
    assert soft.dtype == np.float32
    assert 0 <= soft.min() <= soft.max() <= 1
    assert np.array_equal(soft > 128 / 255, outcome > 0)


def soft_maps():
    """Grey maps in which label maps could be seen: of superpixels, of several people, resized, blurred, JPEGs.

    Of the saliency methods, RBD and DSR alone draw superpixels with steps as large as those of label maps. castlit
    writes no such map.
    """
    image = Scenes(1, size=96).images[0]
    for name in ("mc", "hs", "fast", "fused"):
        yield name, np.rint(METHODS[name](shrink(image)) * 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    people = [np.roll(OBJECT, tuple(rng.integers(-4, 5, 2)), (0, 1)) for _ in range(12)]
    yield "twelve people", np.rint(255 * np.mean(people, 0)).astype(np.uint8)
    mask = cv2.resize(OBJECT * 255, (120, 80), interpolation=cv2.INTER_NEAREST)
    cv2.circle(mask, (90, 40), 25, 255, -1)
    for factor in (0.37, 0.5, 2, 3.3):
        for way in (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC):
            yield f"resized {factor} {way}", cv2.resize(mask, None, fx=factor, fy=factor, interpolation=way)
    yield "blurred", cv2.GaussianBlur(mask, (0, 0), 3)
    yield "blurred and dim", (cv2.GaussianBlur(mask, (0, 0), 3) * 0.6).astype(np.uint8)
    for quality in (5, 20, 50, 90):
        yield f"JPEG {quality}", cv2.imdecode(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


@pytest.mark.parametrize("scale", [1, 257])
def test_grey_maps_are_no_label_maps(scale):
    for name, levels in soft_maps():
        values = levels.astype(np.uint8 if scale == 1 else np.uint16) * scale
        data = np.frombuffer(file(values), np.uint8)
        assert np.array_equal(decode_mask(data, name), levels > 128), name


@pytest.mark.parametrize("quality", [5, 20, 75, 95])
def test_grey_jpegs_are_no_label_maps(quality):
    for name, levels in soft_maps():
        data = np.frombuffer(file(levels, "jpeg", quality=quality), np.uint8)
        salient = decode_mask(data, name)
        assert (salient == (levels > 128)).mean() > 0.9, name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_own_orientation(orientation, kind):
    """A mask is upright as every viewer shows it."""
    pixels = OBJECT * 255
    data = np.frombuffer(turned(pixels, orientation, kind), np.uint8)
    shown = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert shown.shape == ((60, 40) if orientation >= 5 else (40, 60))
    assert np.array_equal(decode_mask(data, "m"), shown > 128)


def damaged(data):
    """Copies of a file, each with another byte of its first 128 changed."""
    rng = np.random.default_rng(0)
    for at in range(6, 128):
        for value in (0, 0xFF, *rng.integers(0, 256, 3).tolist()):
            yield data[:at] + bytes([value]) + data[at + 1 :]


def test_damaged_arrays():
    lines = []
    for data in damaged(npy(OBJECT * 255)):
        try:
            decode_mask(np.frombuffer(data, np.uint8), "m.npy")
        except SampleError as error:
            lines.append(str(error))
    assert len(lines) > 100
    assert all(line.startswith("m.npy: ") and "\n" not in line for line in lines)
