"""The quality that trains a network on the images, then applies it."""

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from castlit.saliency.algorithms.registry import METHODS_VERSION, SIDE
from castlit.saliency.deepusps.settings import FUSED, Settings, file_digest
from castlit.saliency.deepusps.state import NETWORK, settings_of
from castlit.saliency.pipeline.one_mask import Outcome, Recipe
from castlit.saliency.pipeline.scan import MaskState, scan
from castlit.saliency.pipeline.shard import Shard
from castlit.utils.validation import InputError, require_bool, require_number

DEEPUSPS = "deepusps"

_MAPS = ("crf", "fused")
"""Settings of the maps, not of the training."""

_HARDWARE = ("workers", "accelerator", "precision")


class DeepUSPSMethod:
    """The settings of ``quality=deepusps``, checked, and its work.

    Args:
        given: ``network``, the folder of a finished training to apply; or None, to train on the images. Then ``crf``,
            ``fused``, ``workers``, ``accelerator`` and ``precision`` of
            :func:`castlit.saliency.deepusps.phases.train_deepusps`, and the fields of
            :class:`castlit.saliency.deepusps.settings.Settings`.

    Raises:
        InputError: A setting does not exist or is out of range.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.hardware = {key: given[key] for key in _HARDWARE if key in given}
        crf, fused = require_bool("deepusps.crf", given.get("crf", True)), given.get("fused", FUSED)
        self.maps: dict[str, Any] = {"crf": crf, "fused": require_number("deepusps.fused", fused, 0, 1)}
        self.settings = {key: value for key, value in given.items() if key not in (*_HARDWARE, *_MAPS, "network")}
        self.folder = None if given.get("network") is None else Path(given["network"]).expanduser()
        self._checked = Settings.of(self.settings) if self.folder is None else settings_of(self.folder)

    @property
    def side(self) -> int:
        """The default of the longer side at which maps are made: at least the network's."""
        return max(SIDE, self._checked.size)

    @property
    def facts(self) -> dict[str, Any]:
        """The settings that determine the maps."""
        if self.folder is not None:
            network = {"network": file_digest("deepusps.network", self.folder / NETWORK), **self.maps}
            return {**network, "version": METHODS_VERSION} if self.maps["fused"] else network
        return {**self._checked.plain(), **self.maps, "version": METHODS_VERSION}

    @property
    def digest(self) -> str:
        """Identifies the maps of this training."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:8]

    def check(self) -> None:
        """Check, before the long work, that the network can be built.

        Raises:
            InputError: There is no such backbone, or the weights do not fit it.
        """
        if self.folder is None:
            _phases().new_network(self._checked)

    def worker(
        self, recipe: Recipe, shard: Shard, workers: int, count: int, overwrite: bool
    ) -> Callable[[Iterator[str]], Iterator[Outcome]]:
        """Train, if that is not done, and return the function that makes masks of ``count`` names.

        Args:
            recipe: What is done with each image.
            shard: The images of this run; the training uses all images.
            workers: Processes; 0 works in this process.
            count: Number of masks to make.
            overwrite: Train again.

        Raises:
            InputError: No image can be learned from, or the folder cannot be written.
        """
        # Imported when needed, as the phases below: the other qualities load no torch.
        from castlit.saliency.pipeline.apply_network import apply_network

        folder = recipe.output / f".{DEEPUSPS}"
        scratch = folder / f"predictor{shard.suffix}.pickle"
        accelerator = self.hardware.get("accelerator", "auto")
        if self.folder is not None:
            predictor = _phases().load_deepusps(self.folder, **self.maps, accelerator=accelerator)
            return lambda names: apply_network(recipe, predictor, names, min(workers, count), scratch)
        found = scan(recipe.images, recipe.output, recipe.made, Shard())
        paths = [recipe.images / image.name for image in found if image.state != MaskState.CLASHES]
        hardware = {
            **self.hardware,
            "workers": workers if self.hardware.get("workers") is None else self.hardware["workers"],
        }
        try:
            if overwrite and (folder / "training").exists():
                shutil.rmtree(folder / "training")
            predictor = _phases().train_deepusps(paths, folder / "training", **self.maps, **hardware, **self.settings)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written to ({error.strerror}): free it, then run the same command again"
            ) from None
        return lambda names: apply_network(recipe, predictor, names, min(workers, count), scratch)


def _phases() -> ModuleType:
    """The training's module, which imports torch and Lightning."""
    return importlib.import_module("castlit.saliency.deepusps.phases")
