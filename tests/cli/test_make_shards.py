"""Write shards from folders and train on them; mistakes end in one line."""

import csv
import itertools
import json
import multiprocessing
import os
import shlex
import signal
import sys
import tarfile
import time
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pytest
import webdataset
from hydra import compose, initialize_config_module
from PIL import Image

from castlit.cli.app import program
from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.next_training import shows_accelerator
from castlit.data import FileSource, ShardsDataModule
from castlit.data.shards import write
from castlit.data.shards.streams import read_samples
from castlit.data.shards.unfinished import read_progress
from castlit.data.shards.urls import find_shards
from castlit.make_shards import make_shards
from castlit.train import train
from castlit.utils.locking import run_lock
from castlit.utils.validation import InputError

TINY = [
    "method.backbone=tiny_resnet",
    "method.queue_size=64",
    "data.size=32",
    "data.batch_size=8",
    "data.workers=0",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
]


def photo(path, seed=0, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)


def mask(path, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.zeros(size, np.uint8)
    levels[10:30, 5:25] = 255
    if path.suffix == ".npy":
        np.save(path, levels / np.float32(255))
    else:
        Image.fromarray(levels).save(path)


@pytest.fixture
def photos(tmp_path):
    """Ten photographs with masks, in several formats and folders."""
    for i in range(10):
        name = f"{'ab'[i % 2]}/{i}"
        photo(tmp_path / "photos" / f"{name}.{'JPG' if i == 3 else 'png' if i == 4 else 'jpg'}", i)
        mask(tmp_path / "masks" / f"{name}.{'npy' if i == 5 else 'png'}")
    return tmp_path


def made(folder, **options):
    """Run the program with the defaults of its config and return its result."""
    given = {"images": folder / "photos", "masks": folder / "masks", "output": folder / "shards", **options}
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        words = [f"{key}={'null' if value is None else value}" for key, value in given.items()]
        return make_shards(compose("make_shards", words))


def contents(folder):
    """The members of all shards, by image name and suffix."""
    found = {}
    for url in find_shards("urls", str(folder)):
        with tarfile.open(url) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for name in files:
            key, _, suffix = name.partition(".")
            found[json.loads(files[f"{key}.json"])["image"], suffix] = files[name]
    return found


class TestWriting:
    def test_contents_of_shards(self, photos, capsys):
        made(photos, samples_per_shard=4)
        shards = photos / "shards"
        assert sorted(path.name for path in shards.iterdir()) == [
            "000000.tar",
            "000001.tar",
            "000002.tar",
            "data_report.csv",
            "shards.json",
        ]
        entries = json.loads((shards / "shards.json").read_text())["shards"]
        assert [entry["samples"] for entry in entries.values()] == [4, 4, 2]
        found = contents(shards)
        assert len(found) == 30
        for (name, suffix), data in found.items():
            original = photos / "photos" / name
            if suffix.startswith("mask."):
                assert data == (photos / "masks" / name).with_suffix(suffix[4:]).read_bytes()
            elif suffix != "json":
                assert data == original.read_bytes()
                assert suffix == original.suffix[1:].lower()
        told = capsys.readouterr().out
        assert "10 samples in 3 shards" in told
        assert f'data=shards data.urls="{shards}/{{000000..000002}}.tar"' in told

    def test_order_depends_on_seed(self, photos):
        for name, options in {"one": {}, "two": {}, "other": {"seed": 1}, "sorted": {"shuffle": "false"}}.items():
            made(photos, output=photos / name, **options)
        one, two, other, in_order = (photos / name / "000000.tar" for name in ("one", "two", "other", "sorted"))
        assert one.read_bytes() == two.read_bytes() != other.read_bytes()
        assert contents(one.parent) == contents(other.parent)
        names = list(dict.fromkeys(name for name, _ in contents(in_order.parent)))
        assert names == sorted(names)

    def test_files_are_those_of_webdataset(self, photos):
        made(photos)
        shard = photos / "shards" / "000000.tar"
        samples = list(read_samples(str(shard)))
        with (photos / "theirs.tar").open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
            for sample in samples:
                tar.write(sample)
        assert len(samples) == 10
        assert shard.read_bytes() == (photos / "theirs.tar").read_bytes()

    def test_annotations_become_masks(self, photos):
        images = [{"id": i, "file_name": f"{'ab'[i % 2]}/{i}.jpg", "height": 40, "width": 50} for i in (0, 1, 2)]
        square = [{"image_id": i, "segmentation": [[5, 10, 25, 10, 25, 30, 5, 30]]} for i in (0, 1, 2)]
        (photos / "instances.json").write_text(json.dumps({"images": images, "annotations": square}))
        made(photos, masks=photos / "instances.json", on_bad="drop")
        data = ShardsDataModule(str(photos / "shards"), size=32, workers=0)
        assert len(data.sources[1]) == 3
        for i in range(3):
            seen = data.sources[1].read(i).mask != 0
            assert seen[12:28, 7:23].all()
            assert 380 < seen.sum() < 460

    def test_bad_files(self, photos, capsys):
        (photos / "masks" / "a" / "2.png").unlink()
        (photos / "photos" / "b" / "7.jpg").write_bytes(b"no image")
        with pytest.raises(InputError, match="2 of 10 images cannot be used"):
            made(photos)
        made(photos, output=photos / "drop", on_bad="drop")
        assert {name for name, _ in contents(photos / "drop")}.isdisjoint({"a/2.jpg", "b/7.jpg"})
        assert "8 samples in 1 shards" in capsys.readouterr().out
        made(photos, output=photos / "free", on_bad="unconstrained")
        assert "9 samples in 1 shards" in (told := capsys.readouterr().out)
        assert "1 images left out; 1 without a mask, listed in data_report.csv" in told
        assert json.loads(contents(photos / "free")["a/2.jpg", "json"]) == {"image": "a/2.jpg", "mask": None}
        # Training needs no on_bad for these shards.
        data = ShardsDataModule(str(photos / "free"), size=32, batch_size=9, workers=0)
        (batch,) = data.train_dataloader()
        assert (~batch["query_mask"].flatten(1).bool().any(1)).sum() == 1
        with (photos / "free" / "data_report.csv").open() as file:
            assert {row["problem"] for row in csv.DictReader(file)} == {"mask missing", "image unreadable"}

    def test_label_maps(self, photos, capsys):
        for path in (photos / "masks").rglob("*.png"):
            Image.fromarray(np.asarray(Image.open(path)) // 255 * np.uint8(13)).save(path)
        (photos / "masks" / "b" / "5.npy").unlink()
        mask(photos / "masks" / "b" / "5.png")
        with pytest.raises(
            InputError, match=r"9 of 10 images .*mask is a label map: .* \(mask_kind=labels, colours or"
        ):
            made(photos)
        made(photos, mask_kind="labels", on_bad="drop")
        assert "data.mask_kind=labels" in capsys.readouterr().out
        data = ShardsDataModule(str(photos / "shards"), size=32, workers=0, mask_kind="labels")
        assert [int(data.sources[1].read(i).mask.sum()) for i in range(9)] == [400] * 9

    def test_images_alone(self, photos, capsys):
        made(photos, masks=None)
        assert "data.masks=null" in capsys.readouterr().out
        assert {suffix for _, suffix in contents(photos / "shards")} == {"jpg", "png", "json"}
        assert len(next(iter(ShardsDataModule(str(photos / "shards"), size=32, workers=0).train_dataloader()))) == 5

    def test_file_unreadable_while_writing(self, photos, monkeypatch):
        paths = FileSource.image_path
        monkeypatch.setattr(
            FileSource, "image_path", lambda self, index: paths(self, index) if index else photos / "gone.jpg"
        )
        with pytest.raises(InputError, match=r"gone\.jpg: cannot be read"):
            made(photos, samples_per_shard=2)
        left = sorted(path.name for path in (photos / "shards").iterdir())
        assert not any(name.endswith(".part") or name == "shards.json" for name in left)
        made(photos, output=photos / "drop", on_bad="drop")
        assert json.loads((photos / "drop" / "shards.json").read_text())["shards"]["000000.tar"]["samples"] == 9


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(folder):
    with (folder / "data_report.csv").open() as file:
        return sorted((row["image"], row["problem"]) for row in csv.DictReader(file))


class TestInterrupted:
    """A killed command leaves a marked folder, which training refuses and the same command completes."""

    SETTINGS: ClassVar = {"samples_per_shard": 2, "on_bad": "drop"}

    @pytest.fixture
    def whole(self, photos):
        """What an uninterrupted command writes; one photograph can be indexed, but not read."""
        (photos / "masks" / "a" / "2.png").unlink()
        made(photos, output=photos / "whole", **self.SETTINGS)
        return files_of(photos / "whole")

    @staticmethod
    def until(photos, reads):
        """Run the command in a process that waits for ever at a read; kill it."""

        def run():
            before = write._members
            count = itertools.count()
            write._members = lambda *given: before(*given) if next(count) < reads else time.sleep(600)
            made(photos, **TestInterrupted.SETTINGS)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        while (found := read_progress(photos / "shards")) is None or len(found.shards) < max(0, (reads - 2) // 2):
            assert process.is_alive()
            time.sleep(0.02)
        process.kill()
        process.join()
        return found

    @pytest.mark.parametrize("reads", [1, 5, 7])
    def test_the_same_command_continues(self, photos, whole, reads):
        found = self.until(photos, reads)
        shards = photos / "shards"
        assert (shards / "unfinished.json").is_file()
        assert not (shards / "shards.json").exists()
        times = {name: (shards / name).stat().st_mtime_ns for name in found.shards}
        if times:
            for pattern in (str(shards), f"{shards}/000000.tar", f"file://{shards}/{{000000..000000}}.tar"):
                data = ShardsDataModule(pattern, size=32, workers=0)
                with pytest.raises(InputError, match=r"/shards is unfinished \(unfinished.json\): run the"):
                    data.setup()
            report = (shards / "data_report.csv").read_bytes() + b"train,b/x.jpg,,bad during training,odd,left out\n"
            (shards / "data_report.csv").write_bytes(report)
            with pytest.raises(
                InputError, match="holds the unfinished shards of another command, or of files that have"
            ):
                made(photos, **{**self.SETTINGS, "seed": 1})
            assert (shards / "data_report.csv").read_bytes() == report
            (shards / "data_report.csv").write_bytes(report.rpartition(b"train,b/x")[0])
        written = made(photos, **self.SETTINGS)
        assert {name: (shards / name).stat().st_mtime_ns for name in times} == times
        assert files_of(shards) == whole
        assert list(written.counts.values()) == [2, 2, 2, 2, 1]
        assert len(ShardsDataModule(str(shards), size=32, workers=0).sources[1]) == 9
        with pytest.raises(InputError, match="already holds shards"):
            made(photos, **self.SETTINGS)

    def test_changed_files(self, photos, whole):
        self.until(photos, 7)
        mask(photos / "masks" / "b" / "9.png")
        with pytest.raises(InputError, match="of files that have changed since: give a new folder, or empty this one"):
            made(photos, **self.SETTINGS)

    def test_other_images_of_the_same_names(self, photos, whole):
        self.until(photos, 7)
        image = photos / "photos" / "a" / "8.jpg"
        image.write_bytes(image.read_bytes() + b"\0")
        with pytest.raises(InputError, match="of files that have changed since: give a new folder, or empty this one"):
            made(photos, **self.SETTINGS)

    def test_a_mistake_keeps_the_report(self, photos, whole):
        self.until(photos, 7)
        report = (photos / "shards" / "data_report.csv").read_bytes()
        assert b"a/2.jpg" in report
        with pytest.raises(FileNotFoundError):
            made(photos, images=photos / "imagse", **self.SETTINGS)
        assert (photos / "shards" / "data_report.csv").read_bytes() == report

    def test_files_that_became_bad(self, photos, monkeypatch, whole):
        """The report of the first part is kept, and nothing is in it twice."""
        read, gone = FileSource.image_path, iter(("b/7.jpg", "a/8.jpg"))
        lost = {next(gone)}
        monkeypatch.setattr(
            FileSource, "image_path", lambda self, i: photos / "gone" if self.entry(i).image in lost else read(self, i)
        )
        self.until(photos, 8)
        lost.add(next(gone))
        made(photos, **self.SETTINGS)
        rows = rows_of(photos / "shards")
        assert rows == sorted(set(rows))
        assert ("a/2.jpg", "mask missing") in rows
        assert ("b/7.jpg", "bad during training") in rows
        contained = {name for name, _ in contents(photos / "shards")}
        assert "b/7.jpg" not in contained
        assert (("a/8.jpg", "bad during training") in rows) == ("a/8.jpg" not in contained)

    def test_an_error_on_the_way(self, photos, whole, monkeypatch):
        """A full disk, for instance: the same command continues there, too."""
        before, calls = write._write, itertools.count()

        def full(*given):
            if next(calls) == 3:
                raise InputError("full")
            return before(*given)

        monkeypatch.setattr(write, "_write", full)
        with pytest.raises(InputError, match="full"):
            made(photos, **self.SETTINGS)
        assert len(read_progress(photos / "shards").shards) == 3
        made(photos, **self.SETTINGS)
        assert files_of(photos / "shards") == whole

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1, "shards": [], "position": 0}'])
    def test_damaged_mark(self, photos, whole, content):
        """Nothing is overwritten on its word."""
        self.until(photos, 7)
        (photos / "shards" / "unfinished.json").write_text(content)
        with pytest.raises(InputError, match=r"already holds shards \(000000.tar\)"):
            made(photos, **self.SETTINGS)
        with pytest.raises(InputError, match="is unfinished"):
            find_shards("urls", str(photos / "shards"))

    @pytest.mark.parametrize("content", [None, b"", b"cut"])
    def test_damaged_shards(self, photos, whole, content):
        """A disk that lost power may have only a part of a file that was complete."""
        self.until(photos, 7)
        shard = photos / "shards" / "000000.tar"
        shard.unlink()
        if content is not None:
            shard.write_bytes(content)
        with pytest.raises(InputError, match=r"000000.tar is missing or cut short, and unfinished.json lists it"):
            made(photos, **self.SETTINGS)

    def test_stopped(self, photos, whole, monkeypatch, capfd):
        """A scheduler's SIGTERM: a line, its exit code, and the same command continues."""
        before, calls = write._write, itertools.count()

        def stop(*given):
            if next(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return before(*given)

        monkeypatch.setattr(write, "_write", stop)
        with pytest.raises(SystemExit) as stopped:
            made(photos, **self.SETTINGS)
        assert stopped.value.code == 128 + signal.SIGTERM
        assert capfd.readouterr().err == "SIGTERM: stopped. The same command continues from here\n"
        assert len(read_progress(photos / "shards").shards) == 2
        made(photos, **self.SETTINGS)
        assert files_of(photos / "shards") == whole

    def test_parts_of_a_killed_process(self, photos, whole):
        self.until(photos, 7)
        (photos / "shards" / "000099.tar.part").write_bytes(b"half")
        made(photos, **self.SETTINGS)
        assert files_of(photos / "shards") == whole

    def test_two_at_once(self, photos):
        with run_lock_elsewhere(photos / "shards"), pytest.raises(InputError, match="another process is writing these"):
            made(photos)

    @pytest.mark.parametrize("place", ["photos", "photos/a/shards", "masks/shards"])
    def test_shards_among_the_images(self, photos, place):
        with pytest.raises(InputError, match=r"is inside (images|masks)=.*: give a folder outside of it"):
            made(photos, output=photos / place)
        assert not list(photos.rglob("unfinished.json"))

    def test_mistakes_leave_no_trace(self, photos):
        with pytest.raises(FileNotFoundError):
            made(photos, images="/no/such")
        assert {path.name for path in (photos / "shards").iterdir()} <= {"data_report.csv"}


@contextmanager
def run_lock_elsewhere(folder):
    """Another process holds the folder's lock: this one would get its own again."""
    ready, done = (multiprocessing.get_context("fork").Event() for _ in range(2))

    def hold():
        with run_lock(folder):
            ready.set()
            done.wait(60)

    process = multiprocessing.get_context("fork").Process(target=hold)
    process.start()
    assert ready.wait(60)
    try:
        yield
    finally:
        done.set()
        process.join()


def told(monkeypatch, capfd, folder, name, task, words):
    """The single error line of a failing program."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", [f"castlit.{name}", *words])
    with pytest.raises(SystemExit) as stop:
        program(name, task)
    assert stop.value.code == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class TestMistakes:
    @pytest.fixture
    def shards(self, photos):
        made(photos, samples_per_shard=4)
        return photos

    def test_writing(self, monkeypatch, capfd, shards):
        good = {"images": shards / "photos", "masks": shards / "masks", "output": shards / "new"}
        for changed, words in {
            ("images", None): "images must be given: add images=",
            ("masks", None): "masks must be given: add masks=",
            ("output", None): "output must be given: add output=",
            ("images", "/no/such"): "images=/no/such does not exist",
            ("output", shards / "shards"): "already holds shards (000000.tar)",
            ("output", shards / "masks" / "a" / "0.png"): "is a file: give a folder",
            ("samples_per_shard", 0): "samples_per_shard must be at least 1",
            ("on_bad", "drp"): "did you mean 'drop'?",
            ("threshold", 2): "threshold must be at most 1",
        }.items():
            given = {**good, changed[0]: changed[1]}
            arguments = [f"{key}={value}" for key, value in given.items() if value is not None]
            assert words in told(monkeypatch, capfd, shards, "make_shards", make_shards, arguments)
        assert not (shards / "outputs").exists()

    def test_training(self, monkeypatch, capfd, shards):
        url = shards / "shards"
        cut = url / "000001.tar"
        for arguments, words in {
            (): "data.urls must be given",
            (f"data.urls={url}/{{000000..000003}}.tar",): "000003.tar does not exist",
            (f"data.urls={url}/*.tgz",): "matches nothing",
            (f"data.urls={url}/000000.tar", f"data.urls={url}/000001.tar"): "put the pattern in quotes",
            (f"data.urls={url}", "data.on_bad=drp"): "did you mean 'drop'?",
        }.items():
            given = ["data=shards", "trainer.fast_dev_run=true", *TINY, *arguments]
            assert words in told(monkeypatch, capfd, shards, "train", train, given)
        cut.write_bytes(cut.read_bytes()[:3000])
        given = ["data=shards", "trainer.fast_dev_run=true", *TINY, f"data.urls={url}"]
        assert "000001.tar: cannot be read as a tar file" in told(monkeypatch, capfd, shards, "train", train, given)


def test_folders_to_training(run_line, mini, tmp_path):
    """The commands of the manual, then the commands that they print."""
    command = f"python -m castlit.make_shards images={mini}/train2017 masks={mini}/masks/train2017 output=shards"
    written = run_line(f"{command} samples_per_shard=25", tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["shards"], "no folder of Hydra's"
    recommended = written.stdout.splitlines()[-1].strip()
    assert recommended == (
        "python -m castlit.train +experiment=cast_mocov2_evidence data=shards "
        f'data.urls="{tmp_path}/shards/{{000000..000004}}.tar"' + " budget=laptop" * (not shows_accelerator())
    )
    more = [*TINY, "data.batch_size=24", "data.val_count=24", "hydra.run.dir=run"]
    result = run_line(f"{recommended} {' '.join(more)}", tmp_path)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4
    assert np.isfinite(summary["metrics"]["train/attention"]["end"])
    evaluation = next(line for line in result.stdout.splitlines() if "castlit.evaluate" in line)
    assert f"data.urls='{tmp_path}/shards/{{000000..000004}}.tar'" in shlex.split(evaluation)
