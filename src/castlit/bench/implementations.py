"""The implementations of a training step that the benchmark compares."""

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch

from castlit.attention import AttentionLoss
from castlit.bench.fits import castlit_trainer, default_trainer, fit
from castlit.bench.loops import RECIPE, BareMoCo, Batch, PublishedCAST
from castlit.methods import MoCo
from castlit.module import CASTModule
from castlit.utils.validation import require_choice, require_int

WARM_UP = 1
"""Steps at the start of a run that are not timed."""

IMPLEMENTATIONS = ("moco", "published", "cast", "cast_masked_features", "lightning_moco", "lightly_moco")
"""moco, published: loops without Lightning. cast, cast_masked_features, lightning_moco: CASTModule with the trainer of
``castlit.train``. lightly_moco: another library's MoCo, with Lightning's default trainer."""


def installed_implementations() -> tuple[str, ...]:
    """Those that can run here; says so if lightly is not installed."""
    if find_spec("lightly") is not None:
        return IMPLEMENTATIONS
    print("lightly_moco is left out, because lightly is not installed: pip install lightly", file=sys.stderr)
    return IMPLEMENTATIONS[:-1]


class Settings:
    """The settings that all implementations share.

    Args:
        backbone: Name of the backbone.
        size: Side of the images in pixels.
        batch_size: Images in a batch.
        queue_size: Keys in the queue.
        precision: ``"32"``, or ``"bf16"`` for autocast.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, backbone: str, size: int, batch_size: int, queue_size: int, precision: str, device: str) -> None:
        self.backbone, self.device = backbone, device
        self.size = require_int("size", size, 16)
        self.batch_size = require_int("batch_size", batch_size, 2)
        self.queue_size = require_int("queue_size", queue_size, 1)
        self.precision = require_choice("precision", str(precision), ("32", "bf16"))  # YAML reads 32 as a number

    @property
    def autocast(self) -> bool:
        """Whether the step runs in bfloat16."""
        return self.precision == "bf16"

    def clock(self) -> float:
        """The time in seconds: of the processor where one thread does the work, of the wall otherwise.

        Other programs on the machine do not change the processor's time.
        """
        if self.device == "cpu" and torch.get_num_threads() == 1:
            return time.process_time()
        return now(self.device)

    def method(self) -> MoCo:
        """A new method on the device; all implementations start from the same weights."""
        torch.manual_seed(0)
        method = MoCo(self.backbone, queue_size=self.queue_size)
        return method.to(self.device).to(memory_format=torch.channels_last)

    def batches(self, count: int) -> list[Batch]:
        """Noise with a square object: the time of a step does not depend on the images."""
        torch.manual_seed(1)
        mask = torch.zeros(self.batch_size, 1, self.size, self.size, dtype=torch.uint8)
        mask[:, :, : self.size // 2, : self.size // 2] = 1
        shape = (self.batch_size, 3, self.size, self.size)
        made = []
        for _ in range(count):
            query, key = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2))
            batch = {"query": query, "key": key, "query_mask": mask, "key_mask": mask}
            made.append({name: x.to(self.device) for name, x in batch.items()})
        return made


def timed_training(name: str, settings: Settings) -> Callable[[list[Batch]], float]:
    """Return a function that trains on batches and returns the seconds of all but the first :data:`WARM_UP`."""
    if name in ("moco", "published"):
        loop = (BareMoCo if name == "moco" else PublishedCAST)(settings.method(), settings.autocast)

        def run(batches: list[Batch]) -> float:
            loop.run(batches[:WARM_UP])
            start = settings.clock()
            loop.run(batches[WARM_UP:])
            return settings.clock() - start

        return run
    if name == "lightly_moco":
        from castlit.bench.lightly_moco import LightlyMoCo

        torch.manual_seed(0)
        peer = LightlyMoCo(settings.backbone, settings.queue_size).to(memory_format=torch.channels_last)
        return lambda batches: fit(peer, default_trainer, batches, WARM_UP, settings.clock, settings.autocast)
    key = "masked_features" if name == "cast_masked_features" else "masked_image"
    attention = None if name == "lightning_moco" else AttentionLoss(key=key)
    module = CASTModule(settings.method(), attention, RECIPE)
    return lambda batches: fit(module, castlit_trainer, batches, WARM_UP, settings.clock, settings.autocast)


def now(device: str) -> float:
    """The time in seconds, after the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
