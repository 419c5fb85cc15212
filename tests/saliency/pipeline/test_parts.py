"""Quality, signatures, preview, records and progress log."""

import base64
import html
import io
import json
import logging
import re
import threading
import zlib
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from castlit.saliency.pipeline.folder import make_masks
from castlit.saliency.pipeline.preview import strip
from castlit.saliency.pipeline.preview_sampler import PreviewSampler
from castlit.saliency.pipeline.quality import Quality, measure_quality
from castlit.saliency.pipeline.records import Failures, Records
from castlit.saliency.pipeline.shard import Shard
from castlit.saliency.pipeline.signature import Signature, read_signature, sign
from castlit.utils.progress_log import EVERY_S, FIRST_LINE_S, ProgressLog
from castlit.utils.validation import InputError


class TestQuality:
    def test_against_a_loop(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (17, 23, 3)).astype(np.uint8)
        image[:9] //= 2
        levels = rng.integers(0, 256, (17, 23)).astype(np.uint8)
        levels[:9] //= 2
        levels[9:] |= 128
        places = [(y, x) for y in range(17) for x in range(23)]
        inside = [at for at in places if levels[at] > 128]
        outside = [at for at in places if levels[at] <= 128]
        counts = [Counter(tuple(image[at] // 32) for at in where) for where in (inside, outside)]
        shared = sum(min(counts[0][c] / len(inside), counts[1][c] / len(outside)) for c in counts[0])
        edge = [(y, x) for y in range(17) for x in (0, 22)] + [(y, x) for x in range(23) for y in (0, 16)]
        found = measure_quality(image, levels)
        assert found.area == len(inside) / len(places)
        values = [levels[at] / 255 for at in places]
        assert found.grey == pytest.approx(sum(4 * m * (1 - m) for m in values) / len(values), abs=1e-6)
        assert 0 < shared < 1
        assert found.overlap == pytest.approx(shared)
        assert found.border == pytest.approx(sum(levels[at] > 128 for at in edge) / len(edge))
        assert found.badness == max((found.grey + found.overlap) / 2, found.border)

    @given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    def test_badness_range(self, area, grey, overlap, border):
        assert 0 <= Quality(area, grey, overlap, border).badness <= 1

    def test_flaws(self):
        block = np.zeros((60, 60), np.uint8)
        block[15:45, 10:50] = 255
        image = np.repeat(block[..., None], 3, 2)
        good = measure_quality(image, block)
        assert (good.flaw, good.badness) == ("", 0)
        frame = np.full((60, 60), 255, np.uint8)
        frame[10:-10, 10:-10] = 0
        dot = np.zeros((60, 60), np.uint8)
        dot[30:33, 30:33] = 255
        flaws = {
            "tiny": (dot, 0.9),
            "nearly everything": (255 - dot, 0.9),
            "covers the border": (frame, 1),
            "undecided": (block // 5 + 100, 0.45),
        }
        for flaw, (levels, badness) in flaws.items():
            found = measure_quality(np.repeat(levels[..., None], 3, 2), levels)
            assert found.flaw == flaw
            assert badness <= found.badness <= 1
        plain = measure_quality(np.full((60, 60, 3), 90, np.uint8), block)
        assert (plain.flaw, plain.overlap, plain.badness) == ("same colours as the background", 1, 0.5)
        assert measure_quality(image, block * 0).flaw == "nothing"
        assert measure_quality(image, block * 0).badness == 1


class TestSignature:
    QUALITY = Quality(0.25, 0.125, 1 / 3, 1.0)

    def png(self, levels):
        return bytes(cv2.imencode(".png", levels)[1])

    @given(st.text(max_size=60))
    def test_round_trip_keeps_the_image(self, tmp_path_factory, made):
        path = tmp_path_factory.mktemp("s") / "x.png"
        levels = np.arange(60, dtype=np.uint8).reshape(6, 10)
        path.write_bytes(sign(self.png(levels), Signature(made, self.QUALITY)))
        assert read_signature(path) == Signature(made, self.QUALITY)
        assert np.array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), levels)
        with Image.open(path) as image:
            image.load()  # checks the checksums
            assert json.loads(image.text["castlit"])["made"] == made

    def test_unsigned_pngs(self, tmp_path):
        path = tmp_path / "x.png"
        plain = self.png(np.zeros((4, 4), np.uint8))
        signed = sign(plain, Signature("m", self.QUALITY))
        for data in (
            plain,
            signed.replace(b"castlit", b"Comment"),
            signed.replace(b"area", b"era "),
            b"text",
            signed[:50],
        ):
            path.write_bytes(data)
            assert read_signature(path) is None
        for nothing in (b"", bytes(5000)):
            path.write_bytes(nothing)
            with pytest.raises(FileNotFoundError):
                read_signature(path)


class TestPreviewSampler:
    def offered(self, count, names):
        sampler = PreviewSampler(count)
        for i in names:
            sampler.offer(f"{i:04d}", Quality(0.1, 1 - i / 1000, 0.5, 0))
        return sampler

    def test_worst_and_random_halves(self):
        names = list(range(1000))
        sampler = self.offered(48, names)
        assert [sample.name for sample in sampler.worst] == [f"{i:04d}" for i in range(24)]
        drawn = [sample.name for sample in sampler.drawn]
        assert len(drawn) == 24
        assert drawn == sorted(drawn), "worst first"
        assert min(map(int, drawn)) >= 24
        assert 300 < np.mean([int(name) for name in drawn]) < 700
        again = self.offered(48, np.random.default_rng(0).permutation(1000).tolist())
        assert (again.worst, again.drawn) == (sampler.worst, sampler.drawn)

    @pytest.mark.parametrize("count", [0, 1, 2, 5])
    def test_small_counts(self, count):
        for available in (0, 1, 3, 50):
            sampler = self.offered(count, range(available))
            names = [sample.name for sample in sampler.worst + sampler.drawn]
            assert len(set(names)) == len(names) == min(count, available)


class TestPreview:
    @pytest.fixture
    def page(self, tmp_path, blot):
        for i in range(9):
            image, _ = blot((90, 120), (10 + 3 * i, 20, 90, 70 - 4 * i), (60, 140, 70), (200, 60, 50), seed=i)
            path = tmp_path / "photos" / f"<{i}> & co.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "photos" / "black.png")
        make_masks(tmp_path / "photos", tmp_path / "masks", workers=0, preview=6)
        return tmp_path / "masks" / "preview.html"

    def test_page_is_self_contained(self, page):
        text = page.read_text()
        pictures = re.findall(r'src="([^"]*)"', text)
        assert len(pictures) == 6
        for picture in pictures:
            kind, _, data = picture.partition(",")
            assert kind == "data:image/jpeg;base64"
            with Image.open(io.BytesIO(base64.b64decode(data))) as strip:
                assert strip.size == (3 * 120 + 8, 90)
        assert "http" not in text
        assert "width=device-width" in text
        assert "10 images, 9 made, 1 failed" in text
        names = [html.unescape(name) for name in re.findall(r"<figcaption>(.*?): \d", text)]
        assert len(names) == 6
        assert all(re.fullmatch(r"<\d> & co\.jpg", name) for name in names), "failed images are not shown"
        badness = [read_signature(page.parent / f"{name[:-4]}.png").quality.badness for name in names]
        assert badness[:3] == sorted(badness[:3], reverse=True)
        assert badness[3:] == sorted(badness[3:], reverse=True)
        assert min(badness[:3]) >= max(badness[3:]), "the worst come first"
        assert "without labels" in text
        assert page.stat().st_size < 100_000

    def test_restart_shows_the_same_samples(self, page):
        before = page.read_text()
        for path in sorted(page.parent.glob("*.png"))[::2]:
            path.unlink()
        make_masks(page.parents[1] / "photos", page.parent, workers=0, preview=6)
        assert page.read_text().partition("<h2>")[2] == before.partition("<h2>")[2]

    def test_image_removed_later(self, tmp_path, page):
        first = html.unescape(re.search(r"<figcaption>(.*?): \d", page.read_text())[1])
        make_masks(tmp_path / "photos", tmp_path / "masks", workers=0, preview=0)
        photo = tmp_path / "photos" / first
        photo.write_bytes(bytes(photo.stat().st_size))  # as after a power cut
        make_masks(tmp_path / "photos", tmp_path / "masks", workers=0, preview=6)
        assert len(re.findall("<img", page.read_text())) == 5

    def test_strip(self):
        image = np.full((4, 6, 3), 100, np.uint8)
        levels = np.repeat([[0, 128, 129, 255, 255, 255]], 4, 0).astype(np.uint8)
        found = strip(image, levels)
        assert found.shape == (4, 26, 3)
        assert np.array_equal(found[:, :6], image)
        assert (found[:, 20:] == np.where(levels > 128, 255, 0)[..., None]).all()
        cold, hot = found[0, 10].astype(int), found[0, 15].astype(int)
        assert hot[0] > cold[0], "red is high"
        assert (found[:, 6:10] == 255).all()


FACTS = {"quality": "fast", "method": "RBD", "settings": {"side": 64}}
COUNTS = {"images": 3, "made": 2, "skipped": 1, "failed": 0}


class TestRecords:
    def test_concurrent_shards_lose_nothing(self, tmp_path):
        shards = [Records(tmp_path, Shard(i + 1, 8), FACTS) for i in range(8)]

        def write(records):
            for done in range(6):
                records.write({**COUNTS, "made": done}, complete=done == 5)

        threads = [threading.Thread(target=write, args=(records,)) for records in shards]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = json.loads((tmp_path / "masks.json").read_text())
        assert found["complete"] is True
        assert found["counts"] == {"images": 24, "made": 40, "skipped": 8, "failed": 0}
        assert len(found["shards"]) == 8
        assert not list(tmp_path.rglob("*.part"))

    def test_broken_record(self, tmp_path):
        records = Records(tmp_path, Shard(), FACTS)
        records.write(COUNTS, complete=False)
        (records.folder / "record.json").write_text("{")
        with pytest.raises(InputError, match=r"record\.json: cannot be read .*overwrite=true"):
            records.check()
        records.remove_outdated()
        records.check()

    def test_failures(self, tmp_path):
        path = tmp_path / "failed.csv"
        failures = Failures(path)
        failures.write()
        assert not path.exists()
        for i in range(7):
            failures.add(f"{i}.jpg", 'bad, "so" bad')
        failures.write()
        assert len(path.read_text().splitlines()) == 8
        assert path.read_text().splitlines()[1] == '0.jpg,"bad, ""so"" bad"'
        assert failures.summary.startswith('0.jpg (bad, "so" bad), 1.jpg')
        assert failures.summary.endswith(" and 2 more")
        failures.close()
        none = Failures(path)
        none.write()
        none.close()
        assert list(tmp_path.iterdir()) == []


class TestProgressLog:
    def test_lines_without_a_terminal(self, caplog):
        now = 0.0
        with caplog.at_level("INFO"), ProgressLog("Making masks", 1000, clock=lambda: now) as log:
            for _ in range(1000):
                now += 0.5
                log.advance()
        assert log.rate == pytest.approx(2)
        lines = [record.getMessage() for record in caplog.records]
        assert lines[0] == "Making masks: 21 of 1,000 (2.1%), 2.0 images/s, 0:08:10 left"
        assert len(lines) == 1 + int((500 - FIRST_LINE_S - 0.5) // EVERY_S)

    def test_items_in_blocks(self, caplog):
        now = 0.0
        with caplog.at_level("INFO"), ProgressLog("Indexing", 1000, clock=lambda: now) as log:
            for _ in range(4):
                now += 25
                log.advance(250)
        assert log.rate == pytest.approx(10)
        lines = [record.getMessage() for record in caplog.records]
        assert lines == ["Indexing: 500 of 1,000 (50.0%), 10.0 images/s, 0:00:50 left"]

    def test_on_a_terminal_to_files_only(self, caplog, tmp_path, monkeypatch):
        now = 0.0
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        root, file = logging.getLogger(), logging.FileHandler(tmp_path / "run.log")
        root.addHandler(file)
        try:
            with caplog.at_level("INFO"), ProgressLog("Making masks", 30, clock=lambda: now) as log:
                for _ in range(30):
                    now += 1
                    log.advance()
        finally:
            root.removeHandler(file)
            file.close()
        assert not caplog.records
        assert (tmp_path / "run.log").read_text() == "Making masks: 11 of 30 (36.7%), 1.0 images/s, 0:00:19 left\n"

    def test_rate_needs_two_images(self):
        with ProgressLog("", 3) as log:
            assert log.rate is None
            log.advance()
            assert log.rate is None


def test_signature_chunk():
    """The checksum covers type and content, as in the PNG specification."""
    png = bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1])
    signed = sign(png, Signature("x", Quality(0, 0, 0, 0)))
    length = int.from_bytes(signed[33:37], "big")
    body = signed[37 : 41 + length]
    assert body.startswith(b"tEXtcastlit\0")
    assert int.from_bytes(signed[41 + length : 45 + length], "big") == zlib.crc32(body)
    assert signed[45 + length :] == png[33:]
