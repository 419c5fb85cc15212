"""Write shards from folders and train on them; mistakes end in one line."""

import csv
import json
import shlex
import sys
import tarfile

import numpy as np
import pytest
import webdataset
from hydra import compose, initialize_config_module
from PIL import Image

from castlit.cli.app import CONFIG_MODULE, program
from castlit.cli.overrides import quote_path, refuse_expanded
from castlit.data import ShardsDataModule
from castlit.data.shards.streams import read_samples
from castlit.data.shards.urls import find_shards
from castlit.make_shards import make_shards
from castlit.train import train
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
        from castlit.data.index.file_source import FileSource

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


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("data.urls=/d/{000..099}.tar", "data.urls='/d/{000..099}.tar'"),
        ("data.urls={000..099}.tar", "data.urls='{000..099}.tar'"),
        ("data.urls=[/a/{0..1}.tar, /b.tar]", "data.urls=['/a/{0..1}.tar', /b.tar]"),
        ("data.urls=http://h/{a,b}.tar", "data.urls='http://h/{a,b}.tar'"),
        ("data.urls=pipe:curl -s http://h/{0..9}.tar", "data.urls='pipe:curl -s http://h/{0..9}.tar'"),
        ("data.urls=/a{0..1},/b{0..1}", "data.urls='/a{0..1}','/b{0..1}'"),
        ("data.urls=/it's/{0..1}.tar", r"data.urls='/it\'s/{0..1}.tar'"),
        ("data.images=2007", "data.images='2007'"),
        ("+output=007", "+output='007'"),
        ("checkpoint=1.0", "checkpoint='1.0'"),
        ("data.images=/home/jürgen/a (1)", "data.images='/home/jürgen/a (1)'"),
        ("+hydra.run.dir=/it's=here", r"+hydra.run.dir='/it\'s=here'"),
        ("data.masks=~/masks&more", "data.masks='~/masks&more'"),
    ],
)
def test_paths_are_quoted(typed, given):
    assert quote_path(typed) == given
    assert quote_path(given) == given


@pytest.mark.parametrize(
    "typed",
    [
        "data=shards",
        "-m",
        "--help",
        "a={b:1,c:2}",
        "a={b:{c:1,d:2}}",
        "a={b=1,c=2}",
        "a=/x/{1.tar",
        "a=[{b:1}]",
        "data.size=32",
        "data.images=/photos, with commas",
        "data.images=/a,/b",
        "data.images=[/ü,/b]",
        "data.images=/a/${oc.env:HOME}/b",
        "name=ü",
    ],
)
def test_other_words_are_unchanged(typed):
    assert quote_path(typed) == typed
    refuse_expanded([typed, typed])


def test_folders_to_training(run_line, mini, tmp_path):
    """The commands of the manual, then the commands that they print."""
    command = f"python -m castlit.make_shards images={mini}/train2017 masks={mini}/masks/train2017 output=shards"
    written = run_line(f"{command} samples_per_shard=25", tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["shards"], "no folder of Hydra's"
    recommended = written.stdout.splitlines()[-1].strip()
    assert recommended == (
        "python -m castlit.train +experiment=cast_mocov2 data=shards "
        f'data.urls="{tmp_path}/shards/{{000000..000004}}.tar"'
    )
    more = [*TINY, "data.batch_size=24", "data.val_count=24", "hydra.run.dir=run"]
    result = run_line(f"{recommended} {' '.join(more)}", tmp_path)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 4
    assert np.isfinite(summary["metrics"]["train/attention"]["end"])
    evaluation = next(line for line in result.stdout.splitlines() if "castlit.evaluate" in line)
    assert f"data.urls='{tmp_path}/shards/{{000000..000004}}.tar'" in shlex.split(evaluation)
