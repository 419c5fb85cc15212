"""Find shards, and count and read their samples."""

import gzip
import io
import json
import shutil
import tarfile
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from castlit.data.io.folders import MARK
from castlit.data.shards import streams, tar_samples
from castlit.data.shards.counts import shard_counts
from castlit.data.shards.manifest import write_manifest
from castlit.data.shards.memory_source import samples_per_shard
from castlit.data.shards.records import make_record
from castlit.data.shards.streams import ShardError, count_samples, read_samples
from castlit.data.shards.unfinished import Progress
from castlit.data.shards.urls import find_shards
from castlit.utils.validation import InputError


def write_tar(path, members, mode="w"):
    Path(path).parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.fixture
def members():
    """Five samples, and members that webdataset skips."""
    found = [("__meta__", b"?"), ("README", b"no suffix")]
    for i in range(5):
        found += [(f"a/{i}.jpg", b"image" * i), (f"a/{i}.mask.png", b"mask" * 300), (f"a/{i}.json", b"{}")]
    return found


@pytest.fixture
def shard(tmp_path, members):
    return write_tar(tmp_path / "0.tar", members)


def keys(samples):
    return [sample["__key__"] for sample in samples]


class TestReading:
    @pytest.mark.parametrize("form", ["tar", "gz", "pipe", "file"])
    def test_read_any_part(self, tmp_path, members, shard, form):
        if form == "gz":
            shard = write_tar(tmp_path / "0.tar.gz", members, "w:gz")
        url = {"pipe": f"pipe:cat {shard}", "file": f"file://{shard}"}.get(form, shard)
        assert count_samples(url) == 5
        samples = list(read_samples(url))
        assert keys(samples) == [f"a/{i}" for i in range(5)]
        assert samples[2] == {
            "__key__": "a/2",
            "__url__": url,
            "jpg": b"image" * 2,
            "mask.png": b"mask" * 300,
            "json": b"{}",
        }
        for start in range(5):
            for stop in range(start + 1, 6):
                assert list(read_samples(url, start, stop)) == samples[start:stop]

    def test_local_start_sample(self, shard, monkeypatch):
        seen = []
        monkeypatch.setattr(streams, "tar_samples", lambda stream, url: seen.append(stream.tell()) or iter(()))
        with pytest.raises(ShardError):
            list(read_samples(shard, 4, 5))
        assert seen[0] > 4 * 2048

    def test_long_names_and_pax_headers(self, tmp_path):
        names = [f"{'long/' * 30}{'ü' * 60}{i}.jpg" for i in range(3)]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            path = tmp_path / f"{form}.tar"
            with tarfile.open(path, "w", format=form) as tar:
                for name in names:
                    tar.addfile(tarfile.TarInfo(name))
            assert count_samples(str(path)) == 3
            assert keys(read_samples(str(path), 2)) == [names[2][:-4]]


@pytest.fixture
def served(tmp_path):
    """The folder over HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset needs curl")
def test_over_http(served, tmp_path, shard):
    url = f"{served}/0.tar"
    assert keys(read_samples(url, 3)) == ["a/3", "a/4"]
    assert shard_counts([url], None).tolist() == [5]
    write_manifest(tmp_path, {"0.tar": 7})
    assert shard_counts([url], None).tolist() == [7], "from the manifest"
    with pytest.raises(ShardError, match=r"/1\.tar: cannot be read"):
        list(read_samples(f"{served}/1.tar"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset needs curl")
@pytest.mark.parametrize(("mark", "refused"), [(b"<html>no such file</html>", False), (None, True)])
def test_unfinished_over_http(served, tmp_path, shard, mark, refused):
    Progress("key", {}, 0).save(tmp_path)
    if mark is not None:  # a server that answers with a page
        (tmp_path / MARK).write_bytes(mark)
    if refused:
        with pytest.raises(InputError, match=rf"{served} is unfinished \({MARK}\): complete the shards"):
            shard_counts([f"{served}/0.tar"], None)
    else:
        assert shard_counts([f"{served}/0.tar"], None).tolist() == [5]


class TestDamage:
    """Every error is one line that names the shard."""

    @pytest.mark.parametrize("cut", [0, 100, 700, 1536, 3000, 7000])
    def test_truncated(self, tmp_path, shard, cut):
        path = tmp_path / "cut.tar"
        path.write_bytes((tmp_path / "0.tar").read_bytes()[:cut])
        with pytest.raises(ShardError, match=r"cut\.tar: cannot be read as a tar file"):
            count_samples(str(path))
        with pytest.raises(ShardError, match=r"cut\.tar: (cannot be read|ends after)"):
            list(read_samples(str(path), 0, 5))

    def test_damaged_in_the_middle(self, tmp_path, shard):
        data = bytearray((tmp_path / "0.tar").read_bytes())
        at = data.index(b"a/3.jpg")
        data[at : at + 512] = bytes(range(256)) * 2
        path = tmp_path / "damaged.tar"
        path.write_bytes(data)
        for read in (count_samples, lambda path: list(read_samples(path, 1, 5))):
            with pytest.raises(ShardError, match=r"damaged\.tar: .*header: it is no tar file, cut short or damaged"):
                read(str(path))

    @pytest.mark.parametrize("content", [b"no tar at all" * 100, b"\x1f\x8b no gzip", b"<html>" * 500])
    def test_not_a_tar_file(self, tmp_path, content):
        path = tmp_path / "0.tar"
        path.write_bytes(content)
        for use in (count_samples, lambda url: list(read_samples(url, 1, 2))):
            with pytest.raises(ShardError, match=r"0\.tar: cannot be read as a tar file") as caught:
                use(str(path))
            assert "\n" not in str(caught.value)

    def test_truncated_gzip(self, tmp_path, members):
        path = tmp_path / "0.tar.gz"
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            info = tarfile.TarInfo("a.jpg")
            info.size = 9000
            tar.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(9000)))
        path.write_bytes(gzip.compress(data.getvalue())[:4000])
        with pytest.raises(ShardError, match=r"0\.tar\.gz: cannot be read"):
            count_samples(str(path))

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            ("false", r"cannot be read: the command failed \(exit code 1\)"),
            ("exit 0", r"cannot be read as a tar file \(the end mark is missing: it is empty"),
            ("cat {} && exit 3", r"cannot be read: the command failed \(exit code 3\)"),
            ("head -c 1000 {}", r"cannot be read as a tar file \(unexpected end of data\)"),
            ("head -c 1000 {}; exit 4", r"cannot be read: the command failed \(exit code 4\)"),
            ("no-such-command 2>/dev/null", r"cannot be read: the command failed \(exit code 127\)"),
            ("head -c 1000 {}; kill -9 $$", r"cannot be read: the command failed \(exit code -9\)"),
        ],
    )
    def test_failing_command(self, shard, command, reason):
        url = f"pipe:{command.format(shard)}"
        with pytest.raises(ShardError, match=reason) as caught:
            count_samples(url)
        assert str(caught.value).startswith(f"{url}: ")
        with pytest.raises(ShardError, match=r"cannot be read|ends after"):
            list(read_samples(url, 0, 9))

    def test_duplicate_names(self, tmp_path):
        shard = write_tar(tmp_path / "0.tar", [("a.jpg", b"1"), ("a.jpg", b"2")])
        with pytest.raises(ShardError, match=r"0\.tar: .*duplicate file name"):
            list(read_samples(shard))


def header(name, kind=b"0", length=0, real=0):
    """A header's block; ``real`` is the full size of a sparse member with its data at the end."""
    info = tarfile.TarInfo(name)
    info.size, info.type = length, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if kind == b"S":
        # Where the only piece of data is, its length, and the full size.
        block[386:410] = b"%011o\0%011o\0" % (real - 1, 1)
        block[483:495] = b"%011o\0" % real
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def sparse(path, size):
    """A tar file of GNU's format with a sparse member of this size, and two ordinary samples around it."""

    content = b"".join(
        [
            *(header("a.jpg", length=1), b"1".ljust(512, b"\0")),
            *(header("b.jpg", b"S", 1, size), b"x".ljust(512, b"\0")),
            *(header("c.jpg", length=1), b"2".ljust(512, b"\0")),
            bytes(1024),
        ]
    )
    path.write_bytes(content)
    return str(path)


class TestOddMembers:
    def test_sparse_members_are_not_read(self, tmp_path):
        """They would fill the memory with zeros."""
        shard = sparse(tmp_path / "0.tar", 3_000_000_000)
        with tarfile.open(shard) as tar:
            assert [(member.name, member.size, member.issparse()) for member in tar][1] == (
                "b.jpg",
                3_000_000_000,
                True,
            )
        tracemalloc.start()
        assert count_samples(shard) == 3
        samples = list(read_samples(shard))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()
        assert samples[1] == {"__key__": "b", "__url__": shard, "__left_out__": {"jpg": "is a sparse file"}}
        assert [sample.get("jpg") for sample in samples] == [b"1", None, b"2"]

    def test_large_members_are_not_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tar_samples, "MAX_MEMBER", 1000)
        shard = write_tar(
            tmp_path / "0.tar.gz", [("a.jpg", bytes(1001)), ("a.json", b"{}"), ("b.jpg", bytes(1000))], "w:gz"
        )
        first, second = read_samples(shard)
        assert (first["__left_out__"], first["json"]) == ({"jpg": "has 1001 bytes"}, b"{}")
        assert len(second["jpg"]) == 1000

    @pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, b"g", b"X"])
    @pytest.mark.parametrize("mode", ["", "gz"])
    def test_long_names_are_not_read(self, tmp_path, kind, mode):
        """A compressed file of 100 kB may have a name of 100 MB, or more than the memory holds."""
        size = 100_000_000
        blocks = header("a", kind, size), bytes(size), header("a.jpg", length=1), b"1".ljust(512, b"\0"), bytes(1024)
        shard = tmp_path / "0.tar"
        with gzip.open(shard, "wb", 1) if mode else shard.open("wb") as file:
            file.writelines(blocks)
        self.refused(str(shard), "a header says 100000000 bytes")

    @pytest.mark.parametrize("size", [-512, -1024, -(10**6)])
    @pytest.mark.parametrize("form", ["header", "attribute"])
    def test_negative_sizes_end(self, tmp_path, size, form):
        """After such a member comes one that was read before, for ever."""
        blocks = [header("a.jpg", length=1), b"1".ljust(512, b"\0")]
        if form == "header":
            block = bytearray(header("b.jpg"))
            block[124:136] = (size % 256**12 | 255 << 88).to_bytes(12, "big")  # as GNU's tar writes large numbers
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            blocks.append(bytes(block))
        else:
            text = f"size={size}\n"
            text = f"{len(text) + 3} {text}".encode()
            blocks += [header("b", tarfile.XHDTYPE, len(text)), text.ljust(512, b"\0"), header("b.jpg")]
        (tmp_path / "0.tar").write_bytes(b"".join([*blocks, bytes(1024)]))
        shard = str(tmp_path / "0.tar")
        for read in (count_samples, lambda url: list(read_samples(url, 0, 9))):  # newer Pythons end there
            with pytest.raises(ShardError, match=rf"^{shard}: (cannot be read as a tar file|ends after 1 samples)"):
                read(shard)

    def test_names_in_names(self, tmp_path):
        """tarfile calls itself for each long name."""
        name = header("a", tarfile.GNUTYPE_LONGNAME, 1) + b"b".ljust(512, b"\0")
        (tmp_path / "0.tar").write_bytes(header("a.jpg") + 5000 * name + header("b.jpg") + bytes(1024))
        self.refused(str(tmp_path / "0.tar"), "recursion")

    @staticmethod
    def refused(shard, reason):
        tracemalloc.start()
        for read in (count_samples, lambda url: list(read_samples(url)), lambda url: list(read_samples(url, 1))):
            with pytest.raises(ShardError, match=rf"^{shard}: cannot be read as a tar file \(.*({reason})"):
                read(shard)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()

    def test_files_of_macos(self, tmp_path, members):
        """Its archives have a file ._x beside each file x, and before it."""
        names = [(name, data) for name, data in members if name.startswith("a/")]
        odd = []
        for name, data in names:
            folder, _, last = name.rpartition("/")
            odd += [(f"{folder}/._{last}", b"Mac"), (f"__MACOSX/{name}", b"Mac"), (name, data), ("a/.DS_Store", b"")]
        shard = write_tar(tmp_path / "0.tar", [("._a", b"Mac"), *odd])
        (tmp_path / "._0.tar").write_bytes(b"Mac")
        for pattern in (str(tmp_path), f"{tmp_path}/*.tar", f"{tmp_path}/*"):
            assert find_shards("urls", pattern) == [shard]
        assert count_samples(shard) == 5
        plain = write_tar(tmp_path / "plain" / "0.tar", names)
        for start in range(5):
            assert [{**sample, "__url__": ""} for sample in read_samples(shard, start)] == [
                {**sample, "__url__": ""} for sample in read_samples(plain, start)
            ]

    @pytest.mark.parametrize("suffix", ["png", "mask.png", "json"])
    @pytest.mark.parametrize("form", ["tar", "pipe"])
    def test_files_of_a_sample_apart(self, tmp_path, suffix, form):
        """All images, and then all masks: each mask would be a sample, and be taken for an image."""
        parts = [(f"{key}.{kind}", b"") for kind in ("jpg", suffix) for key in "abc"]
        shard = write_tar(tmp_path / "0.tar", parts)
        url = f"pipe:cat {shard}" if form == "pipe" else shard
        message = rf"0\.tar: the files of sample a are apart: jpg and {suffix}; each sample's files must follow one"
        with pytest.raises(ShardError, match=message):
            count_samples(url)
        with pytest.raises(ShardError, match=message):
            list(read_samples(url))
        first = "a" if form == "pipe" else "b"  # a file is opened at its second sample
        with pytest.raises(ShardError, match=message.replace("sample a", f"sample {first}")):
            list(read_samples(url, 1))

    @pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
    @pytest.mark.parametrize("form", ["file", "pipe"])
    def test_cut_short_wherever_it_is(self, tmp_path, suffix, form):
        """Cut between two members or within a header, a stream gave fewer samples, and nobody was told."""
        whole, cut = tmp_path / f"whole.{suffix}", tmp_path / "cut.tar"
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}[suffix]
        with tarfile.open(whole, mode) as tar:
            for name in ("0.jpg", "0.mask.png", "1.jpg", "1.mask.png"):
                member = tarfile.TarInfo(name)
                member.size = 700
                tar.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(700)))
        data = whole.read_bytes()
        url = str(cut) if form == "file" else f"pipe:cat {cut}"
        for end in range(len(data) // 12, len(data), len(data) // (24 if form == "file" else 6)):
            cut.write_bytes(data[:end])
            for read in (count_samples, lambda url: len(list(read_samples(url)))):
                try:
                    assert read(url) == 2
                except ShardError as error:
                    assert "\n" not in str(error)  # noqa: PT017

    def test_links_are_told(self, tmp_path):
        """Two links were no sample, one link left its image without a mask for no reason."""
        with tarfile.open(tmp_path / "0.tar", "w") as tar:
            for name, kind in (("0.jpg", tarfile.SYMTYPE), ("0.mask.png", tarfile.LNKTYPE)):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, "elsewhere"
                tar.addfile(member)
        (sample,) = read_samples(str(tmp_path / "0.tar"))
        assert count_samples(str(tmp_path / "0.tar")) == 1
        note = make_record(sample, 0, "auto").note
        assert ".jpg is a link" in note
        assert ".mask.png is a link, whose file is not read: pack it with tar --dereference" in note

    def test_skipped_folders(self, tmp_path):
        """Those that are skipped on a disk."""
        thumbnails = [("@eaDir/a.jpg", b""), ("./x/@eaDir/a.jpg/THUMB.jpg", b""), (".cache/a.jpg", b"")]
        shard = write_tar(tmp_path / "0.tar", [*thumbnails, ("./y/../b.jpg", b"")])
        assert count_samples(shard) == len(list(read_samples(shard))) == 1

    @pytest.mark.parametrize("form", ["file", "pipe"])
    def test_endless_member(self, tmp_path, form):
        """The rest of a stream that has ended was skipped for ever."""
        member = tarfile.TarInfo("0.jpg")
        member.pax_headers = {"size": "99999999999999"}
        with tarfile.open(tmp_path / "0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(member)
        shard = f"{tmp_path}/0.tar"
        with pytest.raises(ShardError, match="a header says 99999999999999 bytes"):
            list(read_samples(shard if form == "file" else f"pipe:cat {shard}"))

    def test_joined_shards(self, tmp_path):
        """The same names twice, but whole samples."""
        sample = [("0.jpg", b""), ("0.mask.png", b"")]
        shard = write_tar(tmp_path / "0.tar", [*sample, ("1.jpg", b""), *sample])
        assert count_samples(shard) == 3
        assert keys(read_samples(shard)) == ["0", "1", "0"]


class TestFinding:
    def test_patterns(self, tmp_path):
        paths = [tmp_path / f"{i:02d}.tar" for i in range(12)]
        for path in paths:
            path.touch()
        expected = [str(path) for path in paths]
        assert find_shards("urls", f"{tmp_path}/{{00..11}}.tar") == expected
        assert find_shards("urls", [f"{tmp_path}/{{00..05}}.tar", f"{tmp_path}/{{06..11}}.tar"]) == expected
        assert find_shards("urls", f"{tmp_path}/0?.tar") == expected[:10]
        assert find_shards("urls", str(tmp_path)) == expected
        assert find_shards("urls", tmp_path) == expected
        assert find_shards("urls", [tmp_path / "00.tar"]) == expected[:1]
        assert find_shards("urls", "http://host/{a,b}.tar::pipe:cat x") == [
            "http://host/a.tar",
            "http://host/b.tar",
            "pipe:cat x",
        ]

    def test_mistakes(self, tmp_path):
        (tmp_path / "00.tar").touch()
        with pytest.raises(FileNotFoundError, match=r"urls: .*/01\.tar does not exist \(and 1 more of the 3 shards\)"):
            find_shards("urls", f"{tmp_path}/{{00..02}}.tar")
        for pattern, words in {
            f"{tmp_path}/*.tgz": r"matches nothing: there is no \*\.tgz in",
            f"{tmp_path}/{{00..": "Unbalanced",
            "s3://bucket/0.tar": "webdataset opens no s3: URLs",
            "": "must be a pattern",
        }.items():
            with pytest.raises(InputError, match=words):
                find_shards("urls", pattern)
        with pytest.raises(InputError, match="listed twice"):
            find_shards("urls", [f"{tmp_path}/00.tar", str(tmp_path)])


class TestCounting:
    @pytest.fixture
    def counted(self, monkeypatch):
        """The shards that were counted."""
        seen = []

        def count(url):
            seen.append(url)
            return count_samples(url)

        monkeypatch.setattr("castlit.data.shards.counts.count_samples", count)
        return seen

    def test_cache(self, tmp_path, shard, members, counted):
        other = write_tar(tmp_path / "1.tar", members[:5])
        urls, cache = [shard, other, f"pipe:cat {shard}"], tmp_path / "cache"
        for _ in range(2):
            assert shard_counts(urls, cache).tolist() == [5, 1, 5]
        assert sorted(counted) == sorted(urls)
        write_tar(other, members)
        assert shard_counts(urls, cache).tolist() == [5, 5, 5]
        assert counted[3:] == [other]

    def test_manifest(self, tmp_path, shard, members, counted):
        write_manifest(tmp_path, {"0.tar": 7})
        assert shard_counts([shard], None).tolist() == [7]
        assert counted == []
        write_tar(shard, members + [(f"b.{i}", bytes(10000)) for i in range(2)])
        assert shard_counts([shard], None).tolist() == [6]

    @pytest.mark.parametrize(
        "content",
        [b"", b"[]", b"[" * 100_000, b'{"format": 99, "shards": {}}', b'{"format": 1, "shards": {"0.tar": 3}}'],
    )
    def test_invalid_manifest_or_cache(self, tmp_path, shard, counted, content):
        (tmp_path / "shards.json").write_bytes(content)
        (tmp_path / "shard_counts.json").write_bytes(content)
        assert shard_counts([shard], tmp_path).tolist() == [5]
        assert json.loads((tmp_path / "shard_counts.json").read_text())["format"] == 2

    def test_unwritable_cache(self, tmp_path, shard, caplog):
        (tmp_path / "file").touch()
        assert shard_counts([shard], tmp_path / "file").tolist() == [5]
        assert "cannot be saved" in caplog.text


def test_samples_per_shard():
    assert samples_per_shard(np.array([10, 10, 10]), 6).tolist() == [2, 2, 2]
    assert samples_per_shard(np.array([1, 10, 10]), 11).tolist() == [1, 5, 5]
    assert samples_per_shard(np.array([3, 4]), 100).tolist() == [3, 4]
    many = samples_per_shard(np.full(1000, 50), 100)
    assert many.sum() == 100
    assert (many > 0).sum() <= 16
    assert many[0] > 0
    assert many[-1] > 0
    assert samples_per_shard(np.full(1000, 1), 900).sum() == 900
