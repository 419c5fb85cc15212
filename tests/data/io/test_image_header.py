"""The size in a file's header is that of the pixels that OpenCV decodes, or it is not told."""

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from castlit.data.io.errors import SampleError
from castlit.data.io.image_header import orientation, upright_size
from castlit.data.io.images import EncodedImage, open_image
from castlit.data.io.masks import read_mask
from castlit.evaluation.frozen import ImageList

PIXELS = np.zeros((20, 30, 3), np.uint8)


def saved(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def saved_palette():
    file = io.BytesIO()
    image = Image.fromarray(PIXELS[..., 0], "P")
    image.putpalette([0, 0, 0, 250, 0, 0])
    image.save(file, "png")
    return file.getvalue()


def exif(value, order=">", kind=3, count=1, before=()):
    """EXIF data with an orientation, after other tags."""
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, 7) for tag in before]
    place = struct.pack(f"{order}I" if kind == 4 else f"{order}Hxx", value)
    entries.append(struct.pack(f"{order}HHI", 0x0112, kind, count) + place)
    head = {">": b"MM\0*", "<": b"II*\0"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


def segment(content, kind=0xE1):
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def jpeg(*segments, at=2):
    data = saved("jpeg", quality=90)
    return data[:at] + b"".join(segments) + data[at:]


def png(content, before=b"IDAT"):
    data = saved("png")
    at = data.index(before) - 4
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    return data[:at] + chunk + data[at:]


def text_profile():
    """EXIF data as ImageMagick writes them, which OpenCV does not read."""
    raw = b"Exif\0\0" + exif(6)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{raw.hex()}\n", zip=True)
    return saved("png", pnginfo=info)


def app1(value, **options):
    return segment(b"Exif\0\0" + exif(value, **options))


FILES = {
    "plain.jpg": (jpeg(), 1),
    "plain.png": (saved("png"), 1),
    **{
        f"{value}{order}.jpg": (jpeg(app1(value, order=order)), value)
        for value, order in itertools.product(range(1, 9), "<>")
    },
    **{f"{value}.png": (png(exif(value)), value) for value in range(1, 9)},
    "after pixels.png": (png(exif(6), b"IEND"), 6),
    "text profile.png": (text_profile(), 1),
    "long, big endian.jpg": (jpeg(app1(6, kind=4)), 1),
    "long, little endian.jpg": (jpeg(app1(6, kind=4, order="<")), 6),
    "other tags.jpg": (jpeg(app1(8, before=(0x010F, 0x0110))), 8),
    "first of two.jpg": (jpeg(app1(6), app1(1)), 6),
    "second of two.jpg": (jpeg(app1(1), app1(6)), 1),
    "after XMP.jpg": (jpeg(segment(b"http://ns.adobe.com/xap/1.0/\0xxxx"), app1(5)), 5),
    "after the frame.jpg": (jpeg(app1(6), at=saved("jpeg", quality=90).index(b"\xff\xda")), 6),
    "filled.jpg": (jpeg(b"\xff\xff"), 1),
    "nonsense.jpg": (jpeg(app1(99)), 1),
    "cut short.jpg": (jpeg(segment((b"Exif\0\0" + exif(6))[:20])), 1),
    "thumbnail.jpg": (jpeg(segment(b"Exif\0\0" + exif(6) + saved("jpeg"))), 6),
    "comment.jpg": (jpeg(segment(b"\xff\xc0 no frame", 0xFE)), 1),
    "progressive.jpg": (saved("jpeg", progressive=True), 1),
}


@pytest.mark.parametrize("name", FILES)
def test_size_and_orientation(name):
    data = np.frombuffer(FILES[name][0], np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB).shape
    assert upright_size(data) == decoded[:2]
    assert orientation(data) == FILES[name][1]
    opened = open_image(data, name)
    assert isinstance(opened, EncodedImage)
    assert opened.shape == opened.decode().shape == decoded


@pytest.mark.parametrize("kind", ["webp", "tiff", "bmp"])
@pytest.mark.parametrize("value", [None, 6])
def test_other_formats_are_decoded(tmp_path, kind, value):
    """PIL tells other sizes of rotated TIFFs than the decoded ones."""
    tags = Image.Exif()
    if value is not None:
        tags[0x0112] = value
    data = saved(kind, exif=tags)
    assert upright_size(np.frombuffer(data, np.uint8)) is None
    (tmp_path / f"a.{kind}").write_bytes(data)
    image = ImageList([str(tmp_path / f"a.{kind}")]).read(0).image
    assert isinstance(image, np.ndarray)
    assert image.shape == ((20, 30, 3) if value is None or kind == "bmp" else (30, 20, 3))


def test_no_size():
    for data in (b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(9), b"", b"x" * 99):
        assert upright_size(np.frombuffer(data, np.uint8)) is None
    for name, (good, _) in FILES.items():
        for length in range(0, 300, 7):
            upright_size(np.frombuffer(good[:length], np.uint8)), name


def test_header_and_pixels_disagree():
    """Rather one clear line than crops at wrong places."""
    data = np.frombuffer(jpeg(), np.uint8)
    with pytest.raises(SampleError, match=r"a.jpg: its header says 20 x 30, but its pixels are 30 x 20: save it again"):
        EncodedImage(data, "a.jpg", (30, 20)).decode()


@pytest.mark.parametrize("name", ["plain.jpg", "6.png", "palette.png"])
def test_more_pixels_than_pil_takes(tmp_path, monkeypatch, name):
    """PIL refuses images of more than 179 megapixels; here, its limit is as low as the image."""
    data = saved_palette() if name == "palette.png" else FILES[name][0]
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    image = ImageList([str(tmp_path / name)]).read(0).image
    assert image.decode().shape == image.shape
    assert not read_mask(tmp_path / name, tmp_path / name, image.shape[:2]).any()
