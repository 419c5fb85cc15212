"""The settings of a DeepUSPS training, checked before the work starts."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from castlit.data.io.images import file_state
from castlit.saliency.algorithms.registry import HANDCRAFTED
from castlit.utils.validation import InputError, did_you_mean, require_choice, require_int, require_number

FUSED = 0.75
"""Weight of the map of ``quality=fused`` beside the network's, unless another is given."""


@dataclass(frozen=True)
class Settings:
    """All settings that determine the result; another value is another training.

    Args:
        methods: The handcrafted methods to learn from, of :data:`castlit.saliency.algorithms.registry.HANDCRAFTED`.
        backbone: ``name``, see :func:`castlit.nn.build_backbone`, and ``weights``, see
            :func:`castlit.interop.load_into`; without weights it starts from scratch.
        width: Channels of the network's decoder, a multiple of 8.
        size: Side in pixels of the squares that images are resized to. Networks are trained on views of three quarters
            of it.
        batch_size: Images in a step.
        rounds: Number of refinements of each method's targets.
        epochs: Passes over the images in each round.
        final_epochs: Passes over the images in phase 2.
        max_steps: Fewer epochs are trained where these would take more steps; None: no limit.
        lr: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        momentum: Weight of the old targets in the new ones, in [0, 1].
        train_images: Maximum number of images to learn from, a random sample; None: all.
        seed: Seed of all random numbers.

    Raises:
        InputError: A value is out of range.
    """

    methods: Sequence[str] = tuple(HANDCRAFTED)
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "tiny_resnet", "weights": None})
    width: int = 32
    size: int = 96
    batch_size: int = 16
    rounds: int = 1
    epochs: int = 40
    final_epochs: int = 120
    max_steps: int | None = 4000
    lr: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.7
    train_images: int | None = 2500
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.methods, str) or not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(f"deepusps.methods must be a list of different methods, got {self.methods!r}")
        for method in self.methods:
            require_choice("deepusps.methods", method, HANDCRAFTED)
        if not isinstance(self.backbone, Mapping) or set(self.backbone) - {"name", "weights"}:
            raise InputError(f"backbone must have name and weights, got {self.backbone!r}")
        for name, low in (
            ("batch_size", 1),
            ("epochs", 1),
            ("final_epochs", 1),
            ("rounds", 0),
            ("seed", 0),
            ("size", 32),
            ("width", 8),
        ):
            require_int(f"deepusps.{name}", getattr(self, name), low)
        if self.width % 8:
            raise InputError(f"deepusps.width must be a multiple of 8, got {self.width}")
        for name in ("max_steps", "train_images"):
            if getattr(self, name) is not None:
                require_int(f"deepusps.{name}", getattr(self, name), 1)
        require_number("deepusps.lr", self.lr, above=0)
        require_number("deepusps.weight_decay", self.weight_decay, low=0)
        require_number("deepusps.momentum", self.momentum, 0, 1)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Settings":
        """Settings from a mapping.

        Raises:
            InputError: A setting does not exist or is out of range.
        """
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError(f"deepusps.{name} is no setting{did_you_mean(name, known)}")
        return cls(**given)

    @property
    def backbone_name(self) -> str:
        """The backbone's name."""
        return str(self.backbone.get("name", "tiny_resnet"))

    @property
    def view(self) -> int:
        """Side in pixels of the views that networks are trained on."""
        return self.size * 3 // 4

    @property
    def weights(self) -> str | None:
        """The file of the backbone's weights; None: it starts from scratch."""
        path = self.backbone.get("weights")
        return None if path is None else str(path)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, to compare with those of another run."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        digest = None if self.weights is None else file_digest("backbone.weights", Path(self.weights).expanduser())
        return {**values, "methods": list(self.methods), "backbone": {"name": self.backbone_name, "weights": digest}}


def digest_of(images: Sequence[Path], *facts: object) -> str:
    """A digest of a set of images, by their names and sizes below their common folder, and of other facts.

    A file that cannot be read has the size -1: training leaves it out.
    """
    top = os.path.commonpath([path.parent for path in images])
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    for path in images:
        digest.update(os.fsencode(f"{path.relative_to(top)}\0{file_state(str(path))[0]}\n"))
    return digest.hexdigest()


def file_digest(key: str, path: Path) -> str:
    """A digest of a file's content; ``key`` is the config key of the path, for the message."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{key}={path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()
