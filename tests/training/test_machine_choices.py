"""``auto`` means what suits the machine; a given value wins. The GPUs are stand-ins."""

from types import SimpleNamespace

import pytest
import torch

from castlit.data import ScenesDataModule
from castlit.training.build import build
from castlit.training.machine_choices import choices, choices_line, with_choices
from castlit.utils.gpu import GPU, find_gpu
from castlit.utils.validation import InputError
from support.configs import composed

NEW, OLD = GPU("NVIDIA New", bfloat16=True), GPU("NVIDIA Old", bfloat16=False)
ON_GPU = {"trainer.benchmark": True, "float32_matmul_precision": "high", "data.photometric": "device"}
ON_CPU = {"trainer.benchmark": False, "float32_matmul_precision": "highest", "data.photometric": "cpu"}


@pytest.mark.parametrize(
    ("gpu", "words", "expected"),
    [
        (NEW, [], {"trainer.precision": "bf16-mixed", **ON_GPU}),
        (NEW, ["trainer=ddp"], {"trainer.precision": "bf16-mixed", **ON_GPU}),
        (
            NEW,
            ["trainer.deterministic=true"],
            {"trainer.precision": "bf16-mixed", **ON_GPU, "trainer.benchmark": False},
        ),
        (NEW, ["colours=null"], {"trainer.precision": "bf16-mixed", **ON_GPU}),
        (
            NEW,
            ["colours={_target_: my.colours}"],
            {"trainer.precision": "bf16-mixed", **ON_GPU, "data.photometric": "cpu"},
        ),
        (OLD, [], {"trainer.precision": "16-mixed", **ON_GPU}),
        (None, [], {"trainer.precision": "32-true", **ON_CPU}),
    ],
)
def test_choices(tmp_path, gpu, words, expected):
    config = composed(tmp_path, *words)
    assert choices(config, gpu) == expected
    chosen = with_choices(config, gpu)
    assert choices(chosen, gpu) == {}
    assert chosen.trainer.precision == expected["trainer.precision"]
    assert chosen.data.photometric == expected["data.photometric"]
    assert config.trainer.precision == "auto", "the run's config.yaml says auto, so that resume=last finds it anywhere"


def test_given_values_win(tmp_path):
    words = [
        "trainer.precision=32-true",
        "trainer.benchmark=false",
        "float32_matmul_precision=highest",
        "data.photometric=cpu",
    ]
    config = composed(tmp_path, *words)
    assert choices(config, NEW) == {}
    assert with_choices(config, NEW) == config
    assert choices_line(config, NEW) is None


@pytest.mark.parametrize(
    ("device", "colours", "deferred"),
    [("cuda", "moco_v2", True), ("cuda", None, False), ("cuda", lambda x, rng: x, False), ("cpu", "moco_v2", False)],
)
def test_colours_without_config(device, colours, deferred):
    data = ScenesDataModule(train_count=4, val_count=4, size=32, scene_size=36, photometric="auto", colours=colours)
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, num_devices=1)
    data.setup()
    assert data.views.defer == deferred


def test_line(tmp_path):
    config = composed(tmp_path, "trainer.precision=32-true")
    assert choices_line(config, NEW) == (
        "Chosen for NVIDIA New: trainer.benchmark=true float32_matmul_precision=high data.photometric=device"
    )
    assert choices_line(config, None).startswith("Chosen for a CPU: trainer.benchmark=false")


@pytest.mark.parametrize(("accelerator", "found"), [("auto", True), ("gpu", True), ("cuda", True), ("cpu", False)])
def test_find_gpu(monkeypatch, accelerator, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA New")
    # Emulated bfloat16 does not count.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert find_gpu(accelerator) == (GPU("NVIDIA New", False) if found else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_gpu(accelerator) is None


def test_build_uses_them(tmp_path, monkeypatch):
    words = ["trainer.accelerator=cpu", "data.train_count=4", "data.val_count=4", "data.batch_size=2"]
    monkeypatch.setattr("castlit.training.build.find_gpu", lambda accelerator: NEW)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        _, data, trainer = build(composed(tmp_path, *words))
        assert trainer.precision == "bf16-mixed"
        assert data.views.defer
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("high", True)
        monkeypatch.undo()
        _, data, trainer = build(composed(tmp_path, *words))
        assert trainer.precision == "32-true"
        assert not data.views.defer
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("highest", False)
        with pytest.raises(InputError, match="float32_matmul_precision must be one of highest, high, medium"):
            build(composed(tmp_path, *words, "float32_matmul_precision=low"))
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]
