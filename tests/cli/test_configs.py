"""Every config composes and resolves, and names only classes that exist."""

import functools

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from castlit.cli.config_dir import CONFIG_MODULE

COCO = ["data.root=/nowhere", "data.masks=/nowhere"]
FOLDER = ["data.images=/nowhere", "data.masks=/nowhere"]
METHODS = ["mocov1", "mocov2", "simclr", "byol", "simsiam", "mocov3", "densecl", "vicreg"]
SHARDS = ["data.urls='/nowhere/{000..099}.tar'"]


@functools.cache
def with_hydra(name, *overrides):
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose(name, overrides=["hydra.runtime.output_dir=/nowhere", *overrides], return_hydra_config=True)


def composed(name, *overrides):
    config = with_hydra(name, *overrides).copy()
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


def targets(node):
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node["_target_"]
        for key in node:
            yield from targets(node[key])
    elif isinstance(node, ListConfig):
        for item in node:
            yield from targets(item)


def options(repository, group):
    return sorted(path.stem for path in (repository / "conf" / group).glob("*.yaml"))


def pytest_generate_tests(metafunc):
    if "override" in metafunc.fixturenames:
        root = metafunc.config.rootpath
        groups = [
            "experiment",
            "method",
            "attention",
            "crop",
            "data",
            "budget",
            "trainer",
            "logger",
            "callbacks",
            "sweep",
        ]
        cases = [
            f"{'+' * (group in ('experiment', 'sweep'))}{group}={option}"
            for group in groups
            for option in options(root, group)
        ]
        metafunc.parametrize("override", cases)


def test_every_option_composes(override):
    paths = {"data=coco": COCO, "data=folder": FOLDER, "data=shards": SHARDS}.get(override, [])
    config = composed("train", override, *paths)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    found = list(targets(config))
    assert {"castlit.CASTModule", "castlit.optim.OptimizerRecipe", "pytorch_lightning.Trainer"} <= set(found)
    for target in found:
        assert callable(get_object(target)), target


@pytest.mark.parametrize(
    "data", [["data=scenes"], ["data=coco", *COCO], ["data=folder", *FOLDER], ["data=shards", *SHARDS]]
)
def test_experiments_with_every_data(repository, data):
    experiments = options(repository, "experiment")
    assert {*METHODS, *(f"cast_{name}" for name in METHODS), "mocov2_crop"} <= set(experiments)
    for experiment in experiments:
        config = composed("train", f"+experiment={experiment}", *(word for word in data if word != "data=scenes"))
        assert config.name == experiment
        # The recipe comes from the experiment, the budget from the data.
        assert config.method.backbone == ("tiny_resnet" if data == ["data=scenes"] else "resnet50")
        cast = experiment.startswith("cast_")
        assert (config.crop.min_coverage > 0) == (cast or experiment.endswith("_crop"))
        assert bool(config.attention) == cast


def test_small_machines(repository):
    """``budget=laptop`` goes with every experiment and all photographs; what is given wins; scenes keep their own."""
    for experiment in options(repository, "experiment"):
        full = composed("train", f"+experiment={experiment}", "data=folder", *FOLDER)
        small = composed("train", f"+experiment={experiment}", "data=folder", *FOLDER, "budget=laptop")
        OmegaConf.to_container(small, resolve=True, throw_on_missing=True)
        assert (small.method.backbone, small.optimizer.name, small.optimizer.warmup_epochs) == ("tiny_resnet", "sgd", 0)
        assert max(small.data.batch_size, small.method.get("queue_size", 0)) <= 40, "the smallest folder it is for"
        assert full.method.backbone == "resnet50"
        assert (small.threads, full.threads) == (1, None)
        assert "budget=laptop" in full.callbacks.run_log.advice, "the warning where a run will take days"
        same = ("attention.target", "attention.mode", "crop.min_coverage", "colours", "method._target_", "name")
        assert all(OmegaConf.select(small, key) == OmegaConf.select(full, key) for key in same)
    for data, words in {"coco": COCO, "shards": SHARDS}.items():
        assert composed("train", f"data={data}", *words, "budget=laptop").data.size == 96
    given = ["backbone=resnet18", "data.size=48", "data.batch_size=8", "method.queue_size=64", "trainer.max_epochs=2"]
    won = composed("train", "budget=laptop", "+experiment=cast_mocov2", *given, "data=folder", *FOLDER)
    for word in given:
        key, _, value = word.partition("=")
        assert str(OmegaConf.select(won, key)) == value
    evaluation = composed("evaluate", "+protocol=grounding", "checkpoint=x", "data=folder", *FOLDER, "budget=laptop")
    assert (evaluation.data.size, evaluation.data.batch_size, evaluation.threads) == (96, 16, 1)
    assert composed("train", "budget=laptop") == composed("train")


def test_budgets_have_the_same_keys(repository):
    def keys(node, prefix=""):
        for key, value in node.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, DictConfig) else [f"{prefix}{key}"]

    found = {
        name: set(keys(OmegaConf.load(repository / "conf" / "budget" / f"{name}.yaml")))
        for name in options(repository, "budget")
    }
    assert set(found) == {"laptop", "photographs", "scenes"}
    assert all(each == found["laptop"] for each in found.values())


@pytest.mark.parametrize("name", METHODS)
def test_control_matches_cast(name):
    cast = composed("train", f"+experiment=cast_{name}")
    attention = "simclr" if name == "simclr" else "cast"
    control = composed("train", f"+experiment={name}", f"attention={attention}", "crop=saliency", f"name=cast_{name}")
    assert control == cast


@pytest.mark.parametrize("name", [*METHODS, "mocov2_evidence", "mocov2_fast"])
def test_attention_of_experiments(name):
    """What the command line chooses replaces the experiment's attention, and leaves no key of it behind."""
    assert composed("train", f"+experiment=cast_{name}", "attention=none").attention == {}
    evidence = composed("train", f"+experiment=cast_{name}", "attention=evidence").attention
    assert evidence == composed("train", "+experiment=cast_mocov2_evidence").attention
    assert (evidence.target, evidence.cam, evidence.weight) == ("evidence", "signed", 3.0)
    paper = composed("train", f"+experiment=cast_{name}").attention
    assert paper.weight == (1.0 if name == "simclr" else 3.0)
    assert paper.key == ("masked_features" if name == "mocov2_fast" else "masked_image")
    assert (paper.target == "evidence") == (name == "mocov2_evidence")


@pytest.mark.parametrize("protocol", ["scenes", "grounding", "saliency", "all"])
def test_protocols_compose(protocol):
    config = composed("evaluate", f"+protocol={protocol}", "checkpoint=x.ckpt")
    assert callable(get_object(config.protocol._target_))


def test_paper_recipe():
    config = composed("train", "+experiment=cast_mocov2", "data=coco", *COCO)
    assert config.method.queue_size == 65536
    assert config.method.momentum == 0.999
    assert config.method.temperature == 0.2
    assert config.method.mlp is True
    assert config.method.dim == 128
    assert config.attention.weight == 3.0
    assert config.attention.mode == "paper"
    assert config.crop.min_coverage == 0.2
    assert config.crop.scale == [0.2, 1.0]
    assert config.trainer.max_epochs == 200
    assert config.data.batch_size == 256
    assert config.optimizer.weight_decay == 1e-4


def test_mocov1_settings():
    config = composed("train", "+experiment=cast_mocov1")
    assert config.method.mlp is False
    assert config.method.temperature == 0.07
    assert config.data.colours == "moco_v1"


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "decay", "warmup"),
    [
        ("mocov2", "sgd", 0.03, 1e-4, 0),
        ("simclr", "lars", 0.3, 1e-6, 10),
        ("byol", "lars", 0.2, 1e-6, 10),
        ("simsiam", "sgd", 0.05, 1e-4, 0),
        ("mocov3", "lars", 0.3, 1e-6, 10),
        ("densecl", "sgd", 0.3, 1e-4, 0),
        ("vicreg", "lars", 0.2, 1e-6, 10),
    ],
)
def test_optimisers_on_photographs(name, optimizer, rate, decay, warmup):
    found = composed("train", f"+experiment=cast_{name}", "data=coco", *COCO).optimizer
    assert (found.name, found.lr, found.weight_decay, found.warmup_epochs) == (optimizer, rate, decay, warmup)
    on_scenes = composed("train", f"+experiment=cast_{name}").optimizer
    assert (on_scenes.name, on_scenes.lr, on_scenes.warmup_epochs) == ("sgd", 0.06, 0)


def test_sizes_of_newer_methods():
    def method(name):
        return composed("train", f"+experiment=cast_{name}", "data=coco", *COCO).method

    v3, dense, vicreg = method("mocov3"), method("densecl"), method("vicreg")
    assert (v3.dim, v3.hidden, v3.temperature, v3.momentum, v3.momentum_schedule) == (256, 4096, 1.0, 0.99, "cosine")
    assert (dense.dim, dense.queue_size, dense.temperature, dense.dense_weight) == (128, 65536, 0.2, 0.5)
    assert (vicreg.dim, vicreg.hidden) == (8192, 8192)
    assert (vicreg.invariance, vicreg.variance, vicreg.covariance) == (25, 25, 1)
