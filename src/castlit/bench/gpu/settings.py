"""The sizes of the GPU benchmark."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from castlit.utils.validation import require_choice, require_int


@dataclass(frozen=True)
class GPUSettings:
    """What all parts share; plain values, as they pass to each part's process as JSON.

    Attributes:
        backbone: Name of the backbone.
        size: Side of the images in pixels.
        batch_size: Images in a batch.
        queue_size: Keys in the queue.
        precision: ``"bf16"`` or ``"32"``.
        steps: Steps of the real training.
        photographs: Number of JPEGs that are made for it.
    """

    backbone: str = "resnet50"
    size: int = 224
    batch_size: int = 256
    queue_size: int = 65536
    precision: str = "bf16"
    steps: int = 300
    photographs: int = 2048

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is out of range.
        """
        require_int("size", self.size, 16)
        require_int("batch_size", self.batch_size, 4)
        require_int("queue_size", self.queue_size, 1)
        require_choice("precision", self.precision, ("bf16", "32"))
        require_int("steps", self.steps, 4)
        require_int("photographs", self.photographs, self.batch_size)

    @property
    def device(self) -> str:
        """``"cuda"``, or ``"cpu"`` for a rehearsal."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def lightning_precision(self) -> str:
        """The trainer's word for the precision."""
        return "bf16-mixed" if self.precision == "bf16" else "32-true"

    def as_plain(self) -> dict[str, Any]:
        """The values for JSON."""
        return asdict(self)
