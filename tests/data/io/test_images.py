import io

import cv2
import numpy as np
import pytest
from PIL import Image

from castlit.data.io.images import decode_image, read_image
from castlit.data.io.masks import read_mask
from castlit.utils.validation import InputError

GREY_TABLE = [value for level in range(256) for value in (level, level, level)]


def photo(height=40, width=60):
    """Red left half, blue right half, green top stripe: every orientation looks different."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (220, 20, 20)
    image[:, width // 2 :] = (20, 20, 220)
    image[: height // 4] = (20, 200, 20)
    return image


def close(a, b, tolerance=12):
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).mean() < tolerance


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.jpg", "RGB", {"quality": 95}),
        ("a.jpeg", "CMYK", {"quality": 95}),
        ("a.png", "RGB", {}),
        ("a.png", "RGBA", {}),
        ("a.png", "P", {}),
        ("a.webp", "RGB", {"lossless": True}),
        ("a.bmp", "RGB", {}),
        ("a.jpg", "RGB", {"quality": 95, "progressive": True}),
    ],
)
def test_colour_images(tmp_path, name, mode, options):
    picture = Image.fromarray(photo())
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / name, **options)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert close(image, photo())


def test_grey_and_sixteen_bit_images(tmp_path):
    grey = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(np.dstack([grey, 255 - grey]), "LA").save(tmp_path / "la.png")
    Image.fromarray(grey > 100).save(tmp_path / "1.png")
    expected = np.repeat(grey[..., None], 3, 2)
    assert np.array_equal(read_image(tmp_path / "8.png"), expected)
    assert close(read_image(tmp_path / "16.png"), expected, 1)
    assert np.array_equal(read_image(tmp_path / "la.png"), expected)
    assert np.array_equal(read_image(tmp_path / "1.png"), (expected > 100) * np.uint8(255))


def save_rotated(image, path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


UPRIGHT = {  # how a viewer shows pixels stored under each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation(tmp_path, orientation, suffix):
    path = tmp_path / f"photo{suffix}"
    save_rotated(photo(), path, orientation)
    image = read_image(path)
    upright = np.ascontiguousarray(UPRIGHT[orientation](photo()))
    assert close(image, upright)

    # A mask of the upright image is not turned.
    shown = (upright[..., 0] > 127).astype(np.uint8)
    Image.fromarray(shown * 255).save(tmp_path / "shown.png")
    assert np.array_equal(read_mask(tmp_path / "shown.png", path, image.shape[:2]), shown)

    # A mask of the stored pixels has their aspect ratio, and is turned with the image.
    if orientation >= 5:
        stored = (photo()[..., 0] > 127).astype(np.uint8)
        Image.fromarray(stored * 255).save(tmp_path / "stored.png")
        assert np.array_equal(read_mask(tmp_path / "stored.png", path, image.shape[:2]), shown)
        Image.fromarray(stored * 255).resize((30, 20), Image.NEAREST).save(tmp_path / "small.png")
        small = read_mask(tmp_path / "small.png", path, image.shape[:2])
        assert (small != shown).mean() < 0.05


def test_sideways_mask_without_exif(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    Image.fromarray(np.eye(60, 40, dtype=np.uint8) * 255).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m.png: the mask is 40 x 60, which cannot show an image of 60 x 40"):
        read_mask(tmp_path / "m.png", tmp_path / "a.png", (40, 60))


def half():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 5:25] = 1
    return mask


def mask_files(folder):
    """The same mask in all supported formats."""
    mask = half()
    Image.fromarray(mask * 255).save(folder / "grey.png")
    Image.fromarray(mask).save(folder / "zero_one.png")
    Image.fromarray(mask.astype(bool)).save(folder / "one_bit.png")
    Image.fromarray(np.where(mask, 129, 128).astype(np.uint8)).save(folder / "threshold.png")
    Image.fromarray(np.where(mask, 33000, 32800).astype(np.uint16)).save(folder / "sixteen.png")
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, 2)).save(folder / "rgb.png")
    Image.fromarray(np.dstack([mask * 255] * 3 + [np.full_like(mask, 255)])).save(folder / "rgba.png")
    Image.fromarray(np.dstack([mask * 255, np.full_like(mask, 255)]), "LA").save(folder / "la.png")
    Image.fromarray(mask * 255).save(folder / "jpeg.jpg", quality=95)
    Image.fromarray(mask * 255).resize((120, 80), Image.NEAREST).save(folder / "larger.png")
    labels = Image.fromarray(mask * np.uint8(5), "P")
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 40, 0, 30] + [9] * 750)
    labels.save(folder / "palette.png")
    void = mask * np.uint8(5)
    void[0] = 255
    labels = Image.fromarray(void, "P")
    labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 40, 0, 30] + [224, 224, 192] * 250)
    labels.save(folder / "void.png")
    reversed_grey = Image.fromarray(1 - mask, "P")
    reversed_grey.putpalette([255, 255, 255, 0, 0, 0])
    reversed_grey.save(folder / "grey_palette.png")
    soft = Image.fromarray(np.where(mask, 200, 60).astype(np.uint8), "P")
    soft.putpalette(GREY_TABLE)
    soft.save(folder / "soft_palette.png")
    return sorted(path.name for path in folder.iterdir())


def test_mask_formats(tmp_path):
    names = mask_files(tmp_path)
    assert len(names) == 14
    for name in names:
        mask = read_mask(tmp_path / name, tmp_path / "none", (40, 60))
        assert mask.dtype == np.uint8, name
        assert np.array_equal(mask, half()), name


def test_square_masks_fit_any_image(tmp_path):
    square = np.zeros((432, 432), np.uint8)
    square[:, :216] = 255
    Image.fromarray(square).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png", tmp_path / "none", (100, 300))
    assert mask[:, :150].all()
    assert not mask[:, 150:].any()


def test_uniform_masks(tmp_path):
    for level, expected in ((0, 0), (255, 1), (1, 1), (100, 0)):
        Image.fromarray(np.full((5, 5), level, np.uint8)).save(tmp_path / "m.png")
        assert (read_mask(tmp_path / "m.png", tmp_path / "none", (5, 5)) == expected).all()


def damaged_files(folder):
    folder.mkdir()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("<html>404 not found</html>")
    (folder / "folder.jpg").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("cut.jpg", "cut.png", "cut.webp"):
        Image.fromarray(noise).save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    palette = Image.fromarray(noise[..., 0], "P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(folder / "cut_palette.png")
    data = (folder / "cut_palette.png").read_bytes()
    (folder / "cut_palette.png").write_bytes(data[: len(data) // 2])
    (folder / "header.png").write_bytes(data[:26])
    (folder / "start.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9")
    return ["missing.jpg", *(path.name for path in folder.iterdir())]


def test_damaged_files(tmp_path):
    for name in damaged_files(tmp_path / "bad"):
        path = tmp_path / "bad" / name
        with pytest.raises(InputError, match=name):
            read_image(path)
        with pytest.raises(InputError, match=name):
            read_mask(path, path, (64, 64))


def jpeg_of(**options):
    file = io.BytesIO()
    Image.fromarray(photo(160, 240)).save(file, "jpeg", quality=95, **options)
    return file.getvalue()


MOVIE = np.random.default_rng(0).integers(0, 255, 300_000, np.uint8).tobytes()  # without the byte of a marker

TAILS = {
    "few bytes": (jpeg_of() + bytes(1000), True),
    "motion photograph": (jpeg_of() + MOVIE, True),
    "motion photograph, progressive": (jpeg_of(progressive=True) + MOVIE, True),
    "two pictures": (jpeg_of() + jpeg_of(), True),
    "cut": (jpeg_of()[:-500], False),
    "cut by a byte": (jpeg_of()[:-1], False),
    "cut, progressive": (jpeg_of(progressive=True)[:-500], False),
    "cut, with a thumbnail": (jpeg_of(comment=jpeg_of())[:-500], False),
    "second half zeros": (jpeg_of()[:1500] + bytes(1500), False),
    "second half many zeros": (jpeg_of(comment=jpeg_of())[:-1500] + bytes(300_000), False),
    "second half a page": (jpeg_of()[:1500] + b"<p>404</p>" * 150, False),
}


@pytest.mark.parametrize("reduction", [1, 2, 8])
@pytest.mark.parametrize("name", TAILS)
def test_ends_of_jpegs(name, reduction):
    data, good = np.frombuffer(TAILS[name][0], np.uint8), TAILS[name][1]
    if good:
        expected = cv2.resize(photo(160, 240), None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
        assert close(decode_image(data, "a.jpg", reduction), expected)
    else:
        with pytest.raises(InputError, match=r"a.jpg: the JPEG is cut short"):
            decode_image(data, "a.jpg", reduction)
