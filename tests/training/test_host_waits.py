"""The host never waits for the device within a step: rehearsed without a GPU, on the ``meta`` device.

The trainings are those of castlit.train, with its default callbacks, progress bar and logger. A value that is read back
raises; see support/host_traffic.py.
"""

import itertools
import signal

import pytest
import pytorch_lightning as pl
import torch

from castlit.attention import AttentionLoss
from castlit.attention.keys import KEYS
from castlit.attention.targets import TARGETS
from castlit.training.build import build
from support.configs import composed
from support.host_traffic import CopiesToDevice

METHODS = ["mocov1", "mocov2", "simclr", "byol", "simsiam", "mocov3", "densecl", "vicreg"]
ATTENTION = [
    *({"key": key, "target": target} for key, target in itertools.product(KEYS, TARGETS)),
    {"cam": "signed"},
    {"target": "evidence", "subtract": "masked_keys"},
]
SETTINGS = [
    "trainer.strategy={_target_: support.host_traffic.MetaStrategy}",
    "trainer.log_every_n_steps=20",
    "trainer.max_epochs=2",
    "data.train_count=40",
    "data.val_count=4",
    "data.batch_size=2",
    "data.size=32",
    "data.scene_size=36",
    "data.workers=0",
    "method.backbone={_target_: support.networks.two_convolutions}",
]


class Enough(Exception):
    """Ends a training before its epoch ends, where metrics are read."""


class Rehearsal(pl.Callback):
    """Takes a step with each kind of attention loss, after two to warm up, and records each step's copies."""

    def __init__(self):
        self.copies, self.steps = CopiesToDevice(), {}
        self.left = [(str(settings), AttentionLoss(**settings).to("meta")) for settings in ATTENTION]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx >= 2:
            pl_module.attention = self.left[0][1]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx >= 2:
            self.steps[self.left.pop(0)[0]] = list(self.copies.found)
        self.copies.found.clear()
        if not self.left:
            raise Enough


@pytest.fixture
def handlers():
    """Puts back the signal handlers; Lightning leaves its own after an error while it handles an error."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("method", METHODS)
def test_step(method, tmp_path):
    colours = ["data.photometric=device"] if method == "mocov2" else []  # they do not depend on the method
    module, data, trainer = build(composed(tmp_path, f"+experiment=cast_{method}", *SETTINGS, *colours))
    rehearsal = Rehearsal()
    trainer.callbacks.append(rehearsal)
    try:
        with rehearsal.copies:
            trainer.fit(module, data)
    except (Enough, NotImplementedError):  # Lightning moves its metrics to the CPU after any error
        if rehearsal.left:
            raise
    # Two views as bytes, their masks and colours, and the images' numbers.
    shapes = [(2,), *[(2, 1, 32, 32)] * 2, *[(2, 3, 32, 32)] * 2, *[(2, 10)] * (2 if colours else 0)]
    for settings, copies in rehearsal.steps.items():
        assert sorted(shape for _, shape, _ in copies) == shapes, (settings, copies)
        assert {name for name, _, _ in copies} == {"aten._to_copy.default"}, (settings, copies)
        assert {dtype for _, shape, dtype in copies if len(shape) == 4} == {torch.uint8}, (settings, copies)

    module.eval()
    images = torch.empty(2, 3, 32, 32, device="meta")
    losses = [AttentionLoss(**settings).to("meta") for settings in ATTENTION]
    with CopiesToDevice() as copies:
        for module.attention in losses:
            explanation = module.explain(images, images[:, :1].byte())
            assert explanation.cam.device.type == explanation.features.device.type == "meta"
        assert module.find_objects(images, iterations=2).shape == (2, 32, 32)
    assert not copies.found
