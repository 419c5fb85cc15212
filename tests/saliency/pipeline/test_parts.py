"""The parts of work on a folder: figures, signatures, choices, the preview, records, pace."""

import base64
import html
import io
import json
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
from castlit.saliency.pipeline.preview_sampler import Choice
from castlit.saliency.pipeline.quality import Figures, judge
from castlit.saliency.pipeline.records import Failures, Records
from castlit.saliency.pipeline.signature import Signature, read_signature, sign
from castlit.saliency.pipeline.survey import Share
from castlit.utils.progress_log import EVERY_S, FIRST_LINE_S, Pace
from castlit.utils.validation import InputError


class TestFigures:
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
        found = judge(image, levels)
        assert found.area == len(inside) / len(places)
        values = [levels[at] / 255 for at in places]
        assert found.grey == pytest.approx(sum(4 * m * (1 - m) for m in values) / len(values), abs=1e-6)
        assert 0 < shared < 1
        assert found.overlap == pytest.approx(shared)
        assert found.border == pytest.approx(sum(levels[at] > 128 for at in edge) / len(edge))
        assert found.doubt == max((found.grey + found.overlap) / 2, found.border)

    @given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    def test_doubt_is_a_share(self, area, grey, overlap, border):
        assert 0 <= Figures(area, grey, overlap, border).doubt <= 1

    def test_doubts(self):
        block = np.zeros((60, 60), np.uint8)
        block[15:45, 10:50] = 255
        image = np.repeat(block[..., None], 3, 2)
        good = judge(image, block)
        assert (good.words, good.doubt) == ("", 0)
        frame = np.full((60, 60), 255, np.uint8)
        frame[10:-10, 10:-10] = 0
        dot = np.zeros((60, 60), np.uint8)
        dot[30:33, 30:33] = 255
        oddities = {
            "tiny": (dot, 0.9),
            "nearly everything": (255 - dot, 0.9),
            "all around": (frame, 1),
            "undecided": (block // 5 + 100, 0.45),
        }
        for words, (levels, doubt) in oddities.items():
            found = judge(np.repeat(levels[..., None], 3, 2), levels)
            assert found.words == words
            assert doubt <= found.doubt <= 1
        plain = judge(np.full((60, 60, 3), 90, np.uint8), block)
        assert (plain.words, plain.overlap, plain.doubt) == ("of the same colours as the rest", 1, 0.5)
        assert judge(image, block * 0).words == "nothing"
        assert judge(image, block * 0).doubt == 1


class TestSignature:
    FIGURES = Figures(0.25, 0.125, 1 / 3, 1.0)

    def png(self, levels):
        return bytes(cv2.imencode(".png", levels)[1])

    @given(st.text(max_size=60))
    def test_it_comes_back_and_the_picture_stays(self, tmp_path_factory, made):
        path = tmp_path_factory.mktemp("s") / "x.png"
        levels = np.arange(60, dtype=np.uint8).reshape(6, 10)
        path.write_bytes(sign(self.png(levels), Signature(made, self.FIGURES)))
        assert read_signature(path) == Signature(made, self.FIGURES)
        assert np.array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), levels)
        with Image.open(path) as image:
            image.load()  # with the checksums
            assert json.loads(image.text["castlit"])["made"] == made

    def test_pngs_without_one(self, tmp_path):
        path = tmp_path / "x.png"
        plain = self.png(np.zeros((4, 4), np.uint8))
        signed = sign(plain, Signature("m", self.FIGURES))
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


class TestChoice:
    def offered(self, count, names):
        choice = Choice(count)
        for i in names:
            choice.offer(f"{i:04d}", Figures(0.1, 1 - i / 1000, 0.5, 0))
        return choice

    def test_half_the_worst_and_half_by_chance_in_any_order(self):
        names = list(range(1000))
        choice = self.offered(48, names)
        assert [sample.name for sample in choice.worst] == [f"{i:04d}" for i in range(24)]
        drawn = [sample.name for sample in choice.drawn]
        assert len(drawn) == 24
        assert drawn == sorted(drawn), "worst first"
        assert min(map(int, drawn)) >= 24
        assert 300 < np.mean([int(name) for name in drawn]) < 700
        again = self.offered(48, np.random.default_rng(0).permutation(1000).tolist())
        assert (again.worst, again.drawn) == (choice.worst, choice.drawn)

    @pytest.mark.parametrize("count", [0, 1, 2, 5])
    def test_few(self, count):
        for there in (0, 1, 3, 50):
            choice = self.offered(count, range(there))
            names = [sample.name for sample in choice.worst + choice.drawn]
            assert len(set(names)) == len(names) == min(count, there)


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

    def test_it_needs_nothing_beside_it_and_is_whole(self, page):
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
        names = [html.unescape(name) for name in re.findall(r"<figcaption>(.*?)<br>", text)]
        assert len(names) == 6
        assert all(re.fullmatch(r"<\d> & co\.jpg", name) for name in names), "none that failed"
        doubts = [read_signature(page.parent / f"{name[:-4]}.png").figures.doubt for name in names]
        assert doubts[:3] == sorted(doubts[:3], reverse=True)
        assert doubts[3:] == sorted(doubts[3:], reverse=True)
        assert min(doubts[:3]) >= max(doubts[3:]), "the worst come first"
        assert "without labels" in text
        assert page.stat().st_size < 100_000

    def test_a_restarted_run_shows_the_same(self, page):
        before = page.read_text()
        for path in sorted(page.parent.glob("*.png"))[::2]:
            path.unlink()
        make_masks(page.parents[1] / "photos", page.parent, workers=0, preview=6)
        assert page.read_text().partition("<h2>")[2] == before.partition("<h2>")[2]

    def test_an_image_that_is_gone(self, tmp_path, page):
        first = html.unescape(re.search(r"<figcaption>(.*?)<br>", page.read_text())[1])
        make_masks(tmp_path / "photos", tmp_path / "masks", workers=0, preview=0)
        (tmp_path / "photos" / first).write_bytes(b"")
        make_masks(tmp_path / "photos", tmp_path / "masks", workers=0, preview=6)
        assert len(re.findall("<img", page.read_text())) == 5

    def test_heat_and_cut(self):
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
    def test_shares_that_write_at_once_lose_nothing(self, tmp_path):
        shares = [Records(tmp_path, Share(i + 1, 8), FACTS) for i in range(8)]

        def write(records):
            for done in range(6):
                records.write({**COUNTS, "made": done}, complete=done == 5)

        threads = [threading.Thread(target=write, args=(records,)) for records in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = json.loads((tmp_path / "masks.json").read_text())
        assert found["complete"] is True
        assert found["counts"] == {"images": 24, "made": 40, "skipped": 8, "failed": 0}
        assert len(found["shards"]) == 8
        assert not list(tmp_path.rglob("*.part"))

    def test_a_record_that_cannot_be_read(self, tmp_path):
        records = Records(tmp_path, Share(), FACTS)
        records.write(COUNTS, complete=False)
        (records.folder / "record.json").write_text("{")
        with pytest.raises(InputError, match=r"record\.json: cannot be read .*overwrite=true"):
            records.refuse_others()
        records.forget_others()
        records.refuse_others()

    def test_failures_are_a_list_only_where_there_are_any(self, tmp_path):
        path = tmp_path / "failed.csv"
        failures = Failures(path)
        failures.write()
        assert not path.exists()
        for i in range(7):
            failures.add(f"{i}.jpg", 'bad, "so" bad')
        failures.write()
        assert len(path.read_text().splitlines()) == 8
        assert path.read_text().splitlines()[1] == '0.jpg,"bad, ""so"" bad"'
        assert failures.words.startswith('0.jpg (bad, "so" bad), 1.jpg')
        assert failures.words.endswith(" and 2 more")
        failures.close()
        none = Failures(path)
        none.write()
        none.close()
        assert list(tmp_path.iterdir()) == []


class TestPace:
    def test_lines_where_there_is_no_terminal(self, caplog):
        now = 0.0
        with caplog.at_level("INFO"), Pace("Making masks", 1000, clock=lambda: now) as pace:
            for _ in range(1000):
                now += 0.5
                pace.advance()
        assert pace.rate == pytest.approx(2)
        lines = [record.getMessage() for record in caplog.records]
        assert lines[0] == "Making masks: 21 of 1,000 (2.1%), 2.0 images/s, 0:08:10 left"
        assert len(lines) == 1 + int((500 - FIRST_LINE_S - 0.5) // EVERY_S)

    def test_no_rate_before_the_second(self):
        with Pace("", 3) as pace:
            assert pace.rate is None
            pace.advance()
            assert pace.rate is None


def test_the_chunk_is_whole():
    """The checksum is over type and content, as the PNG specification has it."""
    png = bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1])
    signed = sign(png, Signature("x", Figures(0, 0, 0, 0)))
    length = int.from_bytes(signed[33:37], "big")
    body = signed[37 : 41 + length]
    assert body.startswith(b"tEXtcastlit\0")
    assert int.from_bytes(signed[41 + length : 45 + length], "big") == zlib.crc32(body)
    assert signed[45 + length :] == png[33:]
