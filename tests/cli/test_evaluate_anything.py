"""The inputs that ``castlit.evaluate`` passes to a protocol, and the table of results."""

import inspect
import io
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from hydra import compose, initialize_config_module
from hydra.utils import get_method
from omegaconf import OmegaConf
from rich.console import Console

import castlit
from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.protocols import WITHOUT_CHECKPOINT, protocols
from castlit.evaluation.inputs import CheckpointUnderTest, open_parameters, protocol_inputs, published_rows
from castlit.reporting import html
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import TableWithIntervals
from castlit.reporting.tables import metrics_table
from castlit.utils.validation import InputError

HERE = Path("run")


def config(**given):
    return OmegaConf.create({"checkpoint": "random", "backbone": None, "compare": None, "seed": 3, **given})


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint as Lightning writes it."""
    module = castlit.CASTModule(castlit.methods.MoCo("tiny_resnet", queue_size=8, dim=4))
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "loops": {},
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 0,
    }
    torch.save(content, tmp_path / "last.ckpt")
    return str(tmp_path / "last.ckpt")


def test_protocol_inputs():
    def protocol(backbone, device, name, seed, root, count=3): ...

    bound = partial(protocol, root="/data", count=5)
    assert open_parameters(bound) == {"backbone", "device", "name", "seed"}
    handed = protocol_inputs(bound, config(backbone="resnet18"), HERE)
    assert set(handed) == {"backbone", "device", "name", "seed"}
    device = CheckpointUnderTest(config()).device
    assert (handed["name"], handed["seed"], handed["device"].type) == ("random", 3, device.type)
    assert not handed["backbone"].training
    assert handed["backbone"](torch.zeros(1, 3, 64, 64, device=handed["device"])).shape == (1, 512, 2, 2)
    # A checkpoint that the protocol does not request is not opened.
    assert protocol_inputs(lambda: {}, config(checkpoint="/no/such"), HERE) == {}


def test_explain_needs_castlit_checkpoint(checkpoint, tmp_path):
    def must(explain): ...

    def may(explain=None): ...

    images, masks = torch.randn(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    for protocol in (must, may):
        features, cam = protocol_inputs(protocol, config(checkpoint=checkpoint), HERE)["explain"](images, masks)
        assert (features.shape, cam.shape) == ((2, 128), (2, 8, 8))
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "other.pth")
    for other in ("random", str(tmp_path / "other.pth")):
        assert protocol_inputs(may, config(checkpoint=other), HERE) == {}
        with pytest.raises(InputError, match=r"checkpoint="):
            protocol_inputs(must, config(checkpoint=other), HERE)


def test_castlit_checkpoint_by_any_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(checkpoint).rename(tmp_path / "cast.pth")
    for name in ("~/cast.pth", str(tmp_path / "cast.pth")):
        subject = CheckpointUnderTest(config(checkpoint=name))
        assert subject.has_method, name


def test_compare_input(checkpoint):
    def protocol(compare=None): ...

    assert protocol_inputs(protocol, config(), HERE) == {"compare": None}
    compared = protocol_inputs(protocol, config(compare=checkpoint), HERE)["compare"]
    assert compared.name == checkpoint
    assert compared.explain is not None
    with pytest.raises(InputError, match=r"compare=.*one checkpoint at a time"):
        protocol_inputs(lambda backbone: {}, config(compare=checkpoint), HERE)
    with pytest.raises(InputError, match=r"compare=/no/such.ckpt: no such file"):
        protocol_inputs(protocol, config(compare="/no/such.ckpt"), HERE)


def test_backbone_of_compared_network(checkpoint, tmp_path):
    def channels(**given):
        network = protocol_inputs(lambda compare: {}, config(**given), HERE)["compare"]
        return network.backbone(torch.zeros(1, 3, 64, 64, device=CheckpointUnderTest(config()).device)).shape[1]

    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r18.pth")
    assert channels(checkpoint=checkpoint, compare="random") == 128
    assert channels(checkpoint=str(tmp_path / "r18.pth"), compare="random") == 512
    assert channels(checkpoint=checkpoint, compare=str(tmp_path / "r18.pth"), backbone="tiny_resnet") == 512
    assert channels(backbone="resnet18", compare="random") == 512
    assert channels(backbone="resnet18", compare=checkpoint) == 128


ROWS = [PublishedRow("CAST", {"map": 73.1, "ap": 54.2}, "a paper, unverified")]


def shown(table, width=140):
    console = Console(width=width, soft_wrap=True, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_published_figures_in_table():
    flat = shown(metrics_table("x.ckpt", {"map": 12.5, "own": 0.25}, ROWS))
    map_line = next(line for line in flat.splitlines() if " map " in line)
    assert "12.5" in map_line
    assert "73.1" in map_line
    assert "CAST [published *]" in flat
    assert "published, not run here: a paper, unverified" in flat
    rows = shown(metrics_table("x.ckpt", {"mine": {"map": 12.5}, "other": {"map": 1.5, "ap": 2.5}}, ROWS))
    line = next(line for line in rows.splitlines() if "CAST [published *]" in line)
    assert "73.1" in line
    assert "54.2" in line


def test_intervals_and_narrow_terminals():
    """Half widths stand below the metrics; on a narrow terminal the columns' names are broken, numbers are not."""
    metrics = {f"a_long_name_{i}": 0.1 + i / 100 for i in range(9)}
    table = TableWithIntervals({"mine": metrics}, {"mine": {"a_long_name_3": (0.12, 0.14)}})
    for width in (200, 60):
        text = shown(metrics_table("x.ckpt", table), width)
        for value in metrics.values():
            assert f"{value:.3f}" in text
        assert text.count("± 0.010") == 1
        assert "95 % interval" in text
        assert ("a_long_name_3" in text) == (width == 200)
    assert "± 0.010" in html.table(table).replace("\n", " ")


def test_published_rows_of_protocol(monkeypatch):
    def protocol(): ...

    assert published_rows(protocol) == []
    monkeypatch.setattr(sys.modules[__name__], "PUBLISHED", ROWS, raising=False)
    assert published_rows(partial(protocol)) == ROWS


def test_protocols_that_need_a_checkpoint():
    """The checkpoint is asked for before a protocol's function can be."""
    assert {"scenes", "grounding", "saliency"} <= set(protocols())
    without = set()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        for name in protocols():
            target = compose("evaluate", [f"+protocol={name}"]).protocol._target_
            if not {"backbone", "explain", "config", "name"} & set(inspect.signature(get_method(target)).parameters):
                without.add(target)
    assert without == set(WITHOUT_CHECKPOINT)
