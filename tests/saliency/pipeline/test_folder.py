"""Masks of folders: made, skipped, refused and failed."""

import csv
import functools
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from castlit.data import SaliencyDataModule
from castlit.data.io.masks import read_mask
from castlit.saliency.algorithms.registry import METHODS, METHODS_VERSION, SIDE, shrink
from castlit.saliency.pipeline.folder import make_masks
from castlit.saliency.pipeline.one_mask import NOTHING, Recipe, make_mask, mask_size
from castlit.saliency.pipeline.signature import read_signature, sign
from castlit.utils.atomic_write import ALONE, part_of
from castlit.utils.thread_pool import AHEAD, in_threads
from castlit.utils.validation import InputError

HEIGHT, WIDTH = 60, 90


@pytest.fixture
def scene(blot):
    """An image with a red block, upper left of the centre."""
    return blot((HEIGHT, WIDTH), (20, 12, 45, 40), (60, 140, 70), (200, 60, 50))


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)


@pytest.fixture
def photos(tmp_path, blot):
    """Six photographs in two folders."""
    for i in range(6):
        place = (15 + 5 * i, 12, 45 + 5 * i, 40)
        image, _ = blot((HEIGHT, WIDTH), place, (60, 140, 70), (200, 60, 50), seed=i)
        save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.{'png' if i == 4 else 'jpg'}", image)
    return tmp_path


def made(folder, **options):
    return make_masks(folder / "photos", folder / "masks", **{"workers": 0, **options})


def masks(folder):
    return sorted(str(path.relative_to(folder / "masks")) for path in (folder / "masks").rglob("*.png"))


def failed(folder, name="failed.csv"):
    with (folder / "masks" / name).open(newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def notes(folder):
    return json.loads((folder / "masks" / "masks.json").read_text())


class TestMasks:
    def test_size_and_path(self, photos):
        done = made(photos)
        assert done.counts == {"images": 6, "made": 6, "skipped": 0, "failed": 0}
        assert masks(photos) == ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
        assert sorted(path.name for path in (photos / "masks").iterdir()) == [
            ".make_masks",
            "a",
            "b",
            "masks.json",
            "preview.html",
        ]
        image = np.asarray(Image.open(photos / "photos" / "a" / "4.png"))
        expected = np.rint(METHODS["fast"](image) * 255)
        with Image.open(photos / "masks" / "a" / "4.png") as mask:
            assert (mask.mode, mask.size) == ("L", (WIDTH, HEIGHT))
            assert np.array_equal(np.asarray(mask), expected)

    def test_quality_and_side(self, photos, scene):
        large = cv2.resize(scene[0], (400, 300))
        save(photos / "photos" / "large.png", large)
        for path in (photos / "photos").rglob("[0-9]*.*"):
            path.unlink()
        for quality in ("fast", "fused"):
            make_masks(photos / "photos", photos / quality, quality, side=100, workers=0, preview=0)
            values = np.rint(METHODS[quality](shrink(large, 100)) * 255).astype(np.uint8)
            expected = cv2.resize(values, (400, 300), interpolation=cv2.INTER_LINEAR)
            assert np.array_equal(cv2.imread(photos / quality / "large.png", cv2.IMREAD_UNCHANGED), expected)

    @pytest.mark.parametrize("kind", ["grey", "cmyk", "alpha", "sixteen", "turned", "huge_jpeg", "huge_png", "strip"])
    def test_image_formats(self, tmp_path, scene, kind):
        image, inside = scene
        path = tmp_path / "photos" / f"x.{'png' if kind in ('alpha', 'sixteen', 'huge_png', 'strip') else 'jpg'}"
        path.parent.mkdir()
        size = (HEIGHT, WIDTH)
        if kind == "grey":
            image = np.where(inside, 230, 40).astype(np.uint8)
        elif kind == "cmyk":
            image = Image.fromarray(image).convert("CMYK")
        elif kind == "alpha":
            image = np.dstack([image, np.full(size, 200, np.uint8)])
        elif kind == "turned":
            tags = Image.Exif()
            tags[0x0112] = 6
            save(path, Image.fromarray(image).transpose(Image.Transpose.ROTATE_90), quality=95, exif=tags)
        elif kind.startswith("huge"):
            image = np.repeat(np.repeat(image, 111, 0), 111, 1)
            size = (683, 1024)
        elif kind == "strip":
            image = np.full((3, 10000, 3), 90, np.uint8)
            image[:, 4000:6000] = (250, 20, 20)
            size = (3, 10000)
        if kind == "sixteen":
            cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257)
        elif kind != "turned":
            save(path, image, **({"quality": 95} if path.suffix == ".jpg" else {"compress_level": 1}))
        assert made(tmp_path).counts == {"images": 1, "made": 1, "skipped": 0, "failed": 0}
        found = cv2.imread(tmp_path / "masks" / "x.png", cv2.IMREAD_UNCHANGED)
        assert found.shape == size
        # As the data module reads it: upright, with the object in its place.
        shape = (10000, 3)[::-1] if kind == "strip" else (6660, 9990) if kind.startswith("huge") else (HEIGHT, WIDTH)
        mask = read_mask(tmp_path / "masks" / "x.png", path, shape)
        if kind == "strip":
            truth = np.zeros(shape, bool)
            truth[:, 4000:6000] = True
        else:
            truth = cv2.resize(inside.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        overlap = (truth & (mask > 0)).sum() / (truth | (mask > 0)).sum()
        assert overlap > 0.6

    def test_mask_side(self, photos, scene):
        save(photos / "photos" / "large.png", cv2.resize(scene[0], (300, 200)))
        made(photos, mask_side=150)
        assert cv2.imread(photos / "masks" / "large.png", cv2.IMREAD_UNCHANGED).shape == (100, 150)
        assert cv2.imread(photos / "masks" / "a" / "0.png", cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)

    @pytest.mark.parametrize("size", [(1, 1), (1, 10000), (3, 9000), (5000, 40), (4000, 6000), (100, 2000)])
    def test_mask_size_keeps_the_aspect_ratio(self, size):
        height, width = mask_size(size, 1024)
        assert height <= size[0]
        assert width <= size[1]
        assert height / width == pytest.approx(size[0] / size[1], rel=0.05)
        assert max(height, width) <= max(1024, 16 * max(size) / min(size) + 1)


class TestRecords:
    def test_masks_json(self, photos):
        made(photos, side=64)
        found = notes(photos)
        assert (found["quality"], found["method"], found["complete"]) == ("fast", "RBD and MC", True)
        assert found["settings"] == {"side": 64, "mask_side": 1024, "methods": METHODS_VERSION}
        assert found["counts"] == {"images": 6, "made": 6, "skipped": 0, "failed": 0}
        assert set(found["versions"]) == {"numpy", "scipy", "scikit-image", "opencv-python-headless"}
        assert all(found["versions"].values())

    def test_signature(self, photos):
        made(photos, side=64)
        signature = read_signature(photos / "masks" / "a" / "0.png")
        assert signature.made == f"quality=fast side=64 mask_side=1024 methods={METHODS_VERSION}"
        levels = cv2.imread(photos / "masks" / "a" / "0.png", cv2.IMREAD_UNCHANGED)
        assert signature.quality.area == (levels > 128).mean()

    def test_data_module_reads_and_reports_masks(self, photos, caplog):
        made(photos)
        data = SaliencyDataModule(photos / "photos", photos / "masks", size=32, batch_size=6, workers=0)
        with caplog.at_level("INFO"):
            (batch,) = data.train_dataloader()
        assert batch["query_mask"].flatten(1).any(1).all()
        assert "quality=fast (RBD and MC), made by castlit" in caplog.text
        assert len(data.sources[0].index.orphans) == 0
        assert data.masks_made["quality"] == "fast"
        assert data.masks_made["complete"] is True

    def test_subfolder_of_masks(self, photos):
        made(photos)
        data = SaliencyDataModule(photos / "photos" / "a", photos / "masks" / "a", size=32, workers=0)
        assert data.masks_made["method"] == "RBD and MC"

    def test_broken_masks_json(self, photos):
        made(photos)
        (photos / "masks" / "masks.json").write_text("{")
        data = SaliencyDataModule(photos / "photos", photos / "masks", size=32, workers=0)
        with pytest.raises(InputError, match=r"masks\.json: cannot be read .* or remove it"):
            data.setup("fit")
        (photos / "masks" / "masks.json").write_text('["of somebody else"]')
        assert data.masks_made is None


class TestResume:
    def test_finished_masks_are_skipped(self, photos):
        made(photos)
        target = photos / "masks" / "a" / "2.png"
        before = {path: path.stat().st_mtime_ns for path in (photos / "masks").rglob("*.png") if path != target}
        complete = target.read_bytes()
        target.unlink()
        part_of(target, ALONE).write_bytes(complete[:100])  # as after a kill
        (photos / "masks" / "b" / "3.png").write_bytes(b"")  # as after a power cut
        done = made(photos)
        assert done.counts == {"images": 6, "made": 2, "skipped": 4, "failed": 0}
        assert target.read_bytes() == complete
        assert not list((photos / "masks").rglob("*.part"))
        changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
        assert changed == {photos / "masks" / "b" / "3.png"}
        assert notes(photos)["counts"] == done.counts

    def test_new_images_are_added(self, photos, scene):
        made(photos)
        save(photos / "photos" / "c" / "new.jpg", scene[0])
        assert made(photos).counts == {"images": 7, "made": 1, "skipped": 6, "failed": 0}

    @pytest.mark.parametrize("change", [{"quality": "fused"}, {"side": 64}, {"mask_side": 64}])
    def test_other_settings_are_refused(self, photos, change):
        made(photos)
        with pytest.raises(InputError, match=r"contains masks with quality=fast .*overwrite=true"):
            made(photos, **change)
        # Without the records, the masks' signatures are checked.
        for path in (photos / "masks").rglob("record.json"):
            path.unlink()
        with pytest.raises(InputError, match=r"6 masks .*a/0\.png, made with quality=fast side=.*overwrite=true"):
            made(photos, **change)

    def test_masks_of_others_are_kept(self, photos):
        mine = np.full((5, 5), 255, np.uint8)
        save(photos / "masks" / "b" / "1.png", mine)
        with pytest.raises(InputError, match=r"1 masks .*b/1\.png, not made by castlit\.make_masks"):
            made(photos)
        assert masks(photos) == ["b/1.png"]
        assert [path.name for path in (photos / "masks").iterdir()] == ["b"], "no records beside masks of others"
        assert made(photos, overwrite=True).made == 6
        assert cv2.imread(photos / "masks" / "b" / "1.png", cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)

    def test_masks_of_other_images_are_kept(self, photos, scene):
        made(photos)
        before = (photos / "masks" / "a" / "2.png").read_bytes()
        save(photos / "photos" / "a" / "2.jpg", scene[0], quality=99)
        with pytest.raises(InputError, match=r"1 masks .*a/2\.png, made of another image of this name"):
            made(photos)
        assert (photos / "masks" / "a" / "2.png").read_bytes() == before
        assert made(photos, overwrite=True).made == 6

    def test_masks_of_castlit_0_2_are_kept(self, photos):
        """Their signatures do not have the image's size."""
        made(photos)
        path = photos / "masks" / "a" / "0.png"
        found = read_signature(path)
        assert found.image_bytes == (photos / "photos" / "a" / "0.jpg").stat().st_size
        plain = cv2.imencode(".png", cv2.imread(path, cv2.IMREAD_UNCHANGED))[1].tobytes()
        path.write_bytes(sign(plain, found._replace(image_bytes=None)))
        assert made(photos).skipped == 6

    def test_overwrite(self, photos):
        made(photos)
        done = made(photos, side=64, overwrite=True)
        assert done.counts == {"images": 6, "made": 6, "skipped": 0, "failed": 0}
        assert (
            read_signature(photos / "masks" / "a" / "0.png").made
            == f"quality=fast side=64 mask_side=1024 methods={METHODS_VERSION}"
        )
        assert notes(photos)["settings"]["side"] == 64
        assert made(photos, side=64).skipped == 6


class TestShards:
    def test_shards_are_disjoint_and_complete(self, photos):
        seen = []
        for i in (2, 1, 3):
            done = made(photos, shard=f"{i}/3")
            seen.append(masks(photos))
            assert done.counts == {"images": 2, "made": 2, "skipped": 0, "failed": 0}
            assert done.missing == 3 - len(seen)
            assert notes(photos)["complete"] == (len(seen) == 3)
            assert (photos / "masks" / f"preview_{i}_of_3.html").is_file()
        assert [len(names) for names in seen] == [2, 4, 6]
        assert notes(photos)["counts"] == {"images": 6, "made": 6, "skipped": 0, "failed": 0}
        assert list(notes(photos)["shards"]) == ["1/3", "2/3", "3/3"]
        # One run over all images skips all, and its record replaces the others.
        assert made(photos).skipped == 6
        assert list(notes(photos)["shards"]) == ["1/1"]

    def test_other_settings_in_another_shard(self, photos):
        made(photos, shard="1/2")
        with pytest.raises(InputError, match="overwrite=true"):
            made(photos, shard="2/2", side=64)
        # Made again with other settings, one shard after the other.
        made(photos, shard="2/2", side=64, overwrite=True)
        assert notes(photos)["settings"]["side"] == 64
        assert notes(photos)["complete"] is False
        with pytest.raises(InputError, match=r"3 masks .* made with quality=fast side="):
            made(photos, shard="1/2", side=64)
        made(photos, shard="1/2", side=64, overwrite=True)
        assert notes(photos)["complete"] is True

    @pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3"])
    def test_invalid_shards(self, photos, shard):
        with pytest.raises(InputError, match="shard must be i/n with 1 <= i <= n"):
            made(photos, shard=shard)

    def test_empty_shard(self, photos):
        with pytest.raises(InputError, match=r"shard=9/9 of images=.* holds no images"):
            made(photos, shard="9/9")


class TestFailures:
    @pytest.fixture
    def bad(self, photos, scene):
        top = photos / "photos"
        save(top / "uniform.png", np.full((40, 40, 3), 77, np.uint8))
        save(top / "pixel.png", np.full((1, 1, 3), 200, np.uint8))
        (top / "empty.jpg").write_bytes(b"")
        (top / "cut.jpg").write_bytes((top / "a" / "0.jpg").read_bytes()[:400])
        (top / "text.png").write_bytes(b"<html>")
        save(top / "twin.jpg", scene[0])
        save(top / "twin.png", scene[0])
        return photos

    def test_failures_are_listed(self, bad):
        done = made(bad)
        assert done.counts == {"images": 13, "made": 6, "skipped": 0, "failed": 7}
        reasons = failed(bad)
        assert reasons == {
            "uniform.png": NOTHING,
            "pixel.png": NOTHING,
            "empty.jpg": "the file is empty",
            "cut.jpg": "the JPEG is cut short",
            "text.png": "is not an image that can be decoded",
            "twin.jpg": "would share its mask with twin.png: rename one of them",
            "twin.png": "would share its mask with twin.jpg: rename one of them",
        }
        assert done.failed_list == bad / "masks" / "failed.csv"
        assert len(done.failures.split(" and ")) == 2
        assert done.failures.endswith("and 2 more")
        # Readable images have a mask, black if nothing is salient; the data module handles both.
        assert set(masks(bad)) - {"pixel.png", "uniform.png"} == {f"{'ab'[i % 2]}/{i}.png" for i in range(6)}
        assert not cv2.imread(bad / "masks" / "uniform.png", cv2.IMREAD_UNCHANGED).any()
        data = SaliencyDataModule(
            bad / "photos", bad / "masks", size=32, batch_size=16, workers=0, on_bad="unconstrained", val_count=1
        )
        (batch,) = data.train_dataloader()
        assert len(batch["query"]) == 10
        assert batch["query_mask"].flatten(1).any(1).sum() == 6

    def test_failures_are_tried_again(self, bad, scene):
        made(bad)
        before = failed(bad)
        done = made(bad)
        assert done.counts == {"images": 13, "made": 0, "skipped": 6, "failed": 7}
        assert failed(bad) == before
        for name in ("empty.jpg", "cut.jpg", "text.png"):
            save(bad / "photos" / name, scene[0])
        for name in ("uniform.png", "pixel.png", "twin.png"):
            (bad / "photos" / name).unlink()
        assert made(bad).counts == {"images": 10, "made": 4, "skipped": 6, "failed": 0}
        assert not (bad / "masks" / "failed.csv").exists()

    def test_overwrite_removes_masks_of_failed_images(self, photos):
        made(photos)
        (photos / "photos" / "a" / "0.jpg").write_bytes(b"no more")
        assert made(photos, overwrite=True).failed == 1
        assert "a/0.png" not in masks(photos)

    def test_method_raises(self, photos, monkeypatch):
        def fails_on_one(image):
            if image[25, 18, 0] > 130:  # only in the image with the leftmost block
                raise ZeroDivisionError("too far left")
            return METHODS["mc"](image)

        monkeypatch.setitem(METHODS, "fast", fails_on_one)
        assert made(photos).counts == {"images": 6, "made": 5, "skipped": 0, "failed": 1}
        assert failed(photos) == {"a/0.jpg": "no map can be made of it (ZeroDivisionError: too far left)"}

    def test_method_returns_nan(self, photos, monkeypatch):
        monkeypatch.setitem(METHODS, "fast", lambda image: np.full(image.shape[:2], np.nan, np.float32))
        assert made(photos).failed == 6
        assert "outside [0, 1]" in next(iter(failed(photos).values()))
        assert masks(photos) == []


class TestInvalid:
    def test_empty_folder(self, tmp_path):
        (tmp_path / "photos").mkdir()
        with pytest.raises(InputError, match="holds no images"):
            made(tmp_path)
        assert not (tmp_path / "masks").exists()

    @pytest.mark.parametrize("output", ["photos", "photos/masks", ".", "photos/../photos/a"])
    def test_nested_folders(self, photos, output):
        with pytest.raises(InputError, match="separate folder"):
            make_masks(photos / "photos", photos / output, workers=0)

    def test_nested_through_a_link(self, photos):
        (photos / "link").symlink_to(photos / "photos" / "a")
        with pytest.raises(InputError, match="separate folder"):
            make_masks(photos / "photos", photos / "link", workers=0)

    def test_output_is_a_file(self, photos):
        (photos / "masks").write_text("")
        with pytest.raises(InputError, match="is a file: give a folder"):
            made(photos)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"quality": "fats"}, "did you mean 'fast'"),
            ({"side": 0}, "side must be at least 16"),
            ({"mask_side": "big"}, "mask_side must be a whole number"),
            ({"workers": -1}, "workers must be at least 0"),
            ({"preview": 1.5}, "preview must be a whole number"),
            ({"overwrite": "no"}, "overwrite must be true or false, got 'no'"),
        ],
    )
    def test_arguments(self, photos, options, words):
        with pytest.raises(InputError, match=words):
            made(photos, **options)
        assert not (photos / "masks").exists()


def test_in_threads(photos):
    """Threads, as for a network on an accelerator, give the same masks and read ahead no further than AHEAD."""
    made(photos)
    recipe = Recipe(
        photos / "photos",
        photos / "threads",
        f"quality=fast side={SIDE} mask_side=1024 methods={METHODS_VERSION}",
        SIDE,
        1024,
    )
    (photos / "photos" / "a" / "bad.jpg").write_bytes(b"")
    taken = []

    def names():
        for name in [*masks(photos), "a/bad.jpg"]:
            taken.append(name)
            yield f"{name[:-4]}.{'png' if name == 'a/4.png' else 'jpg'}"

    outcomes = []
    for outcome in in_threads(functools.partial(make_mask, recipe, METHODS["fast"]), names(), 1):
        outcomes.append(outcome)
        assert len(taken) <= len(outcomes) + AHEAD
    assert [outcome.failure for outcome in outcomes] == [""] * 6 + ["the file is empty"]
    for name in masks(photos):
        assert (photos / "threads" / name).read_bytes() == (photos / "masks" / name).read_bytes()
