"""``resume=last`` finds the newest run of the same kind, whatever else lies in ``outputs``."""

import os

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from castlit.resume.find_run import reuse_run_folder

ARGUMENTS = ["+experiment=cast_mocov2", "resume=last"]


@pytest.fixture(scope="module")
def settings():
    """The configuration that a run of ARGUMENTS writes."""
    GlobalHydra.instance().clear()
    with initialize_config_module("castlit.conf", version_base="1.3"):
        config = compose("train", ARGUMENTS)
    config.output_dir = "somewhere"
    config.callbacks = {}
    return OmegaConf.to_yaml(config, resolve=True).encode()


def make_run(root, name, content, age):
    folder = root / "outputs" / "2026-01-01" / name
    (folder / "checkpoints").mkdir(parents=True)
    last = folder / "checkpoints" / "last.ckpt"
    last.touch()
    os.utime(last, (1e9 - age, 1e9 - age))
    if content is not None:
        (folder / "config.yaml").write_bytes(content)
    return folder


DAMAGED = {
    "not UTF-8": "name: café".encode("latin-1"),
    "half a file": b"name: cast_mocov2\nseed: 0\nmodule:\n  method:\n    _target_: castlit.meth",
    "cut in a word": b"name: cast_moc",
    "empty": b"",
    "bytes": bytes(range(256)),
    "zeros": b"\0" * 500,
    "a list": b"- 1\n- 2\n",
    "no YAML": b"a:\n\t- b: : :",
    "an alias without end": b"module: &a {b: *a}\ndata: {}\n",
    "brackets without end": b"module: " + b"[" * 10_000,
    "unknown reference": b"module: {a: '${no.such.key}'}\ndata: {}\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_configuration(tmp_path, monkeypatch, capsys, settings, content):
    monkeypatch.chdir(tmp_path)
    good = make_run(tmp_path, "good", settings, age=100)
    make_run(tmp_path, "damaged", content, age=0)
    found = reuse_run_folder(ARGUMENTS)
    told = capsys.readouterr()
    assert found == [*ARGUMENTS, f"hydra.run.dir='{good.relative_to(tmp_path)}'"]
    (line,) = told.err.splitlines()
    assert line.startswith("resume=last: outputs/2026-01-01/damaged/config.yaml is damaged (")
    assert line.endswith("): this run is left out")
    assert told.out == ""


def test_folder_of_another_program(tmp_path, monkeypatch, capsys, settings):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "other", None, age=0)
    assert reuse_run_folder(ARGUMENTS) == ARGUMENTS
    assert capsys.readouterr() == ("", "")


def test_run_without_its_last_checkpoint(tmp_path, monkeypatch, capsys, settings):
    monkeypatch.chdir(tmp_path)
    for name, age in (("older", 100), ("newer", 0)):
        last = make_run(tmp_path, name, settings, age) / "checkpoints" / "last.ckpt"
    last.rename(last.with_name("previous.ckpt"))
    assert reuse_run_folder(ARGUMENTS)[-1] == "hydra.run.dir='outputs/2026-01-01/newer'"


def test_run_of_another_kind(tmp_path, monkeypatch, capsys, settings):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "other", settings.replace(b"seed: 0", b"seed: 1"), age=0)
    assert reuse_run_folder(ARGUMENTS) == ARGUMENTS
    assert (
        "outputs/2026-01-01/other is another run, they differ in data.scene_seed, data.seed, seed"
        in capsys.readouterr().out
    )


def test_choices_of_the_run_continue(tmp_path, monkeypatch, settings):
    # Runs of castlit 0.1 had no auto; and a value may have been given.
    monkeypatch.chdir(tmp_path)
    earlier = OmegaConf.create(settings.decode())
    assert (earlier.trainer.precision, earlier.data.photometric) == ("auto", "auto")
    earlier.trainer.precision, earlier.data.photometric = "32-true", "cpu"
    make_run(tmp_path, "earlier", OmegaConf.to_yaml(earlier).encode(), age=0)
    chosen = reuse_run_folder(ARGUMENTS)[len(ARGUMENTS) :]
    assert chosen == [
        "hydra.run.dir='outputs/2026-01-01/earlier'",
        "data.photometric='cpu'",
        "trainer.precision='32-true'",
    ]
    given = [*ARGUMENTS, "trainer.precision=bf16-mixed"]
    assert reuse_run_folder(given) == given, "another run"


def test_transforms_in_another_order(tmp_path, monkeypatch, capsys, settings):
    words = [*ARGUMENTS, "views=albumentations", "+views.query.grey={_target_: albumentations.ToGray}"]
    config = OmegaConf.create(settings.decode())
    crop = {"size": config.data.size, "_target_": "castlit.crops.SaliencyCrop", **config.crop}
    crop = {key: value for key, value in crop.items() if key not in ("constraint", "region")}
    grey = {"_target_": "albumentations.ToGray"}
    config.data = {key: value for key, value in config.data.items() if key not in config.crop}
    config.data.update({"flip": 0.5, "constraint": "saliency", "region": "own"})
    monkeypatch.chdir(tmp_path)
    for name, query, age in (("same", {"crop": crop, "grey": grey}, 9), ("other", {"grey": grey, "crop": crop}, 0)):
        config.data.views = {"query": query, "key": {"crop": crop}}
        make_run(tmp_path, name, OmegaConf.to_yaml(config).encode(), age)
    found = reuse_run_folder(words)
    assert found == [*words, "hydra.run.dir='outputs/2026-01-01/same'"], capsys.readouterr().out


def test_self_masks_of_a_run_before_methods(tmp_path, monkeypatch, capsys):
    """castlit 0.2 had ContraCAM alone, and no key for it: only a run with ContraCAM continues it."""
    monkeypatch.chdir(tmp_path)
    words = [*ARGUMENTS, "data=folder", "data.images=images", "data.masks=self"]
    GlobalHydra.instance().clear()
    with initialize_config_module("castlit.conf", version_base="1.3"):
        config = compose("train", words)
    config.output_dir = "somewhere"
    OmegaConf.set_struct(config, False)
    del config.callbacks.self_masks["method"]
    old = make_run(tmp_path, "old", OmegaConf.to_yaml(config, resolve=True).encode(), age=0)
    assert reuse_run_folder(words) == words
    assert "is another run, they differ in callbacks.self_masks.method" in capsys.readouterr().out
    words.append("callbacks.self_masks.method=contracam")
    assert reuse_run_folder(words) == [*words, f"hydra.run.dir='{old.relative_to(tmp_path)}'"]
