"""The settings a folder was trained with, so that no other training continues in it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from castlit.saliency.deepusps.settings import Settings
from castlit.utils.json_files import load_json, write_json
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

STATE = "state.json"
"""The settings and images of a training."""

NETWORK = "network.pt"
"""The trained network; if it exists, the training is finished."""


def check_state(folder: Path, settings: Mapping[str, Any], images: str, count: int, finished: bool) -> None:
    """Write a folder's state, or check that it is the same.

    Args:
        folder: Created if needed.
        settings: All settings that determine the result, as JSON values.
        images: A digest of the images.
        count: Number of images.
        finished: Whether the network is trained; then it can be applied to other images.

    Raises:
        InputError: The folder contains another training, or a file that cannot be read.
        OSError: The folder cannot be written.
    """
    path = folder / STATE
    if not path.exists():
        content = {"settings": dict(settings), "images": images, "count": count}
        write_json(path, content, lasting=True)
        return
    before, seen, number = _read(folder)
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        was = " ".join(f"{key}={before.get(key)}" for key in other)
        now = " ".join(f"{key}={settings[key]}" for key in other)
        raise InputError(
            f"{folder} was trained with {was}, and this run has {now}: give another output, or remove that folder to "
            "train again"
        )
    if seen != images and finished:
        logger.warning(
            "The network of %s was trained on other images (%d) than these; it is applied unchanged", folder, number
        )
    elif seen != images:
        raise InputError(
            f"{folder} was trained on {number} other images than these {count}: give another output, or remove that "
            "folder to train again"
        )


def settings_of(folder: Path) -> Settings:
    """The settings of the training in a folder, without the backbone's initial weights.

    Raises:
        InputError: There is no training.
    """
    if not (folder / STATE).is_file():
        raise InputError(f"{folder} contains no training of deepusps ({STATE})")
    values = _read(folder)[0]
    return Settings.of({**values, "backbone": {"name": values["backbone"]["name"], "weights": None}})


def _read(folder: Path) -> tuple[dict[str, Any], str, int]:
    path = folder / STATE
    try:
        found = load_json(path.read_bytes())
        return dict(found["settings"]), str(found["images"]), int(found["count"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read: remove {folder} to train again") from None
