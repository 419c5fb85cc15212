"""The quality that trains a network on the images before it makes their masks."""

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from castlit.saliency.algorithms.registry import SIDE
from castlit.saliency.deepusps.settings import Settings, file_digest
from castlit.saliency.deepusps.state import NETWORK, settings_of
from castlit.saliency.pipeline.apply_network import apply_network
from castlit.saliency.pipeline.one_mask import Outcome, Recipe
from castlit.saliency.pipeline.survey import Share, State, survey
from castlit.utils.validation import InputError

TRAINED = "deepusps"
"""Its name."""

_HOW = ("workers", "accelerator", "precision")


class Training:
    """What the user says of the training, checked.

    Args:
        given: ``network``, the folder of a training that has come to its end, to be applied as it is; or None. Then
            ``crf``, ``workers``, ``accelerator`` and ``precision`` of
            :func:`castlit.saliency.deepusps.phases.train_deepusps`, and the fields of
            :class:`castlit.saliency.deepusps.settings.Settings`.

    Raises:
        InputError: One of them does not exist, or is out of range.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.how = {key: given[key] for key in _HOW if key in given}
        self.crf = given.get("crf", True)
        if not isinstance(self.crf, bool):
            raise InputError(f"deepusps.crf must be true or false, got {self.crf!r}")
        self.settings = {key: value for key, value in given.items() if key not in (*_HOW, "crf", "network")}
        self.network = None if given.get("network") is None else Path(given["network"]).expanduser()
        self._checked = Settings.of(self.settings) if self.network is None else settings_of(self.network)

    @property
    def side(self) -> int:
        """The longer side at which maps are made, where the user does not say: no smaller than the network's."""
        return max(SIDE, self._checked.size)

    @property
    def facts(self) -> dict[str, Any]:
        """What decides how maps look."""
        if self.network is not None:
            return {"network": file_digest("deepusps.network", self.network / NETWORK), "crf": self.crf}
        return {**self._checked.plain(), "crf": self.crf}

    @property
    def mark(self) -> str:
        """Tells maps of this training from those of another."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:8]

    def check(self) -> None:
        """Build the network, to find out whether that is possible.

        Raises:
            InputError: There is no such backbone, or the weights do not fit it.
        """
        if self.network is None:
            _phases().new_network(self._checked)

    def worker(
        self, recipe: Recipe, share: Share, workers: int, count: int, anew: bool
    ) -> Callable[[Iterator[str]], Iterator[Outcome]]:
        """Train, unless that was done before, and return what makes masks of ``count`` names.

        Args:
            recipe: What is done to each image.
            share: Which of them are done here; a training learns from all.
            workers: Processes; 0 works here.
            count: How many masks are to be made.
            anew: Forget what was trained before.

        Raises:
            InputError: Nothing can be learned, or not be kept.
        """
        folder = recipe.output / f".{TRAINED}"
        scratch = folder / f"predictor{share.suffix}.pickle"
        accelerator = self.how.get("accelerator", "auto")
        if self.network is not None:
            predictor = _phases().load_deepusps(self.network, crf=self.crf, accelerator=accelerator)
            return lambda names: apply_network(recipe, predictor, names, min(workers, count), scratch)
        found = survey(recipe.images, recipe.output, recipe.made, Share())
        paths = [recipe.images / seen.name for seen in found if seen.state != State.CLASHES]
        how = {**self.how, "workers": workers if self.how.get("workers") is None else self.how["workers"]}
        try:
            if anew and (folder / "training").exists():
                shutil.rmtree(folder / "training")
            predictor = _phases().train_deepusps(paths, folder / "training", crf=self.crf, **how, **self.settings)
        except OSError as error:
            raise InputError(f"{folder} cannot be written to ({error.strerror}): the same command goes on") from None
        return lambda names: apply_network(recipe, predictor, names, min(workers, count), scratch)


def _phases() -> ModuleType:
    """Only when it is needed, as the other qualities need no Lightning."""
    return importlib.import_module("castlit.saliency.deepusps.phases")
