"""Settings: checks and digests."""

import json

import pytest

from castlit.saliency.deepusps.settings import Settings, digest_of
from castlit.utils.validation import InputError


def test_defaults_match_the_config():
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from castlit.cli.config_dir import CONFIG_MODULE

    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = compose("make_masks", ["images=a", "output=b"])
    given = OmegaConf.to_container(config.deepusps, resolve=True)
    for key in ("network", "crf", "fused", "accelerator", "precision"):
        del given[key]
    assert Settings.of(given).plain() == Settings().plain()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "deepusps.epoch is no setting (did you mean 'epochs'?)"),
        ({"methods": []}, "deepusps.methods must be a list of different methods"),
        ({"methods": ["rbd", "rbd"]}, "deepusps.methods must be a list of different methods"),
        ({"methods": "rbd"}, "deepusps.methods must be a list of different methods"),
        ({"methods": ["rdb"]}, "rdb"),
        ({"width": 12}, "deepusps.width must be a multiple of 8"),
        ({"size": 16}, "deepusps.size"),
        ({"epochs": 0}, "deepusps.epochs"),
        ({"momentum": 1.5}, "deepusps.momentum"),
        ({"lr": 0}, "deepusps.lr"),
        ({"train_images": 0}, "deepusps.train_images"),
        ({"backbone": {"nmae": "resnet18"}}, "backbone must have name and weights"),
        ({"backbone": {"name": "resnet18", "weights": "/no/such/file"}}, "backbone.weights=/no/such/file"),
    ],
)
def test_invalid_settings(given, message):
    with pytest.raises(InputError) as error:
        Settings.of(given).plain()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_json_values_identify_weights_by_content(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"1")
    (tmp_path / "b.pt").write_bytes(b"1")
    (tmp_path / "c.pt").write_bytes(b"2")
    a, b, c = (Settings(backbone={"name": "resnet18", "weights": str(tmp_path / f"{x}.pt")}).plain() for x in "abc")
    assert json.loads(json.dumps(a)) == a == b != c


def test_digest_ignores_folder(tmp_path):
    for top in ("here", "there"):
        for name in ("a/1.jpg", "b/2.jpg"):
            (tmp_path / top / name).parent.mkdir(parents=True)
            (tmp_path / top / name).write_bytes(name.encode())
    here, there = ([tmp_path / top / name for name in ("a/1.jpg", "b/2.jpg")] for top in ("here", "there"))
    assert digest_of(here) == digest_of(there)
    assert digest_of(here) != digest_of(here, 96)
    broken = here[0].with_name("broken.png")
    broken.symlink_to(tmp_path / "nowhere")
    assert digest_of([*here, broken]) not in (digest_of(here), digest_of([*here, here[0]]))
    there[1].write_bytes(b"longer than before")
    assert digest_of(here) != digest_of(there)
