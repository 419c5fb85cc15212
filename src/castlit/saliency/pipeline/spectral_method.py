"""The quality that finds objects in the features of an encoder of the user's."""

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from castlit.saliency.algorithms.registry import METHODS_VERSION, SIDE
from castlit.saliency.deepusps.settings import file_digest
from castlit.saliency.pipeline.one_mask import Outcome, Recipe
from castlit.saliency.pipeline.shard import Shard
from castlit.saliency.spectral.settings import SpectralSettings
from castlit.utils.validation import InputError

SPECTRAL = "spectral"


class SpectralMethod:
    """The settings of ``quality=spectral``, checked, and its work.

    Args:
        checkpoint: The encoder: whatever :func:`castlit.interop.open_backbone` opens.
        given: ``backbone``, its name, where the checkpoint does not say it; and the fields of
            :class:`castlit.saliency.spectral.settings.SpectralSettings`.

    Raises:
        InputError: There is no checkpoint, or a setting does not exist or is out of range.
    """

    side = SIDE
    """The default of the longer side at which maps are made."""

    def __init__(self, checkpoint: str | Path | None, given: Mapping[str, Any]) -> None:
        if checkpoint is None:
            raise InputError(
                "quality=spectral finds objects in an encoder's features: give checkpoint=, a run's "
                "checkpoints/last.ckpt, weights of another program, or a name such as torchvision/resnet50"
            )
        self.checkpoint = checkpoint
        self.backbone: str | None = given.get("backbone")
        if self.backbone is not None and not isinstance(self.backbone, str):
            raise InputError(f"spectral.backbone must be a backbone's name, or null; got {self.backbone!r}")
        self.settings = SpectralSettings.of({key: value for key, value in given.items() if key != "backbone"})
        self._predictor: Callable[..., Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The settings that determine the maps; the checkpoint by a digest of its content."""
        encoder = {"checkpoint": self._digest(), "backbone": self.backbone}
        return {**encoder, **self.settings.plain(), "methods": METHODS_VERSION}

    @property
    def digest(self) -> str:
        """Identifies the maps of these settings and this checkpoint."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:8]

    def check(self) -> None:
        """Open the encoder before anything is written.

        Raises:
            InputError: The checkpoint cannot be read, or its network has no such layer or does not take the size.
        """
        # Imported when needed, since it imports torch, which the qualities without a network do not load.
        opened: ModuleType = importlib.import_module("castlit.saliency.spectral.open")
        self._predictor = opened.open_predictor(self.checkpoint, self.backbone, self.settings)

    def worker(
        self, recipe: Recipe, shard: Shard, workers: int, count: int, overwrite: bool
    ) -> Callable[[Iterator[str]], Iterator[Outcome]]:
        """Return the function that makes masks of ``count`` names; :meth:`check` must have been called.

        Args:
            recipe: What is done with each image.
            shard: The images of this run.
            workers: Processes; 0 works in this process.
            count: Number of masks to make.
            overwrite: Not used: nothing is kept but the masks.
        """
        from castlit.saliency.pipeline.apply_network import apply_network

        predictor = self._predictor
        assert predictor is not None
        scratch = recipe.output / f".{SPECTRAL}{shard.suffix}.pickle"
        return lambda names: apply_network(recipe, predictor, names, min(workers, count), scratch)

    def _digest(self) -> str:
        if str(self.checkpoint) == "random":
            return "random"
        path = Path(self.checkpoint).expanduser()
        if not path.is_file():
            from castlit.interop.cached import cached_weights

            cached = cached_weights(self.checkpoint, "checkpoint")
            path = path if cached is None else cached.file
        return file_digest("checkpoint", path)
