"""What a folder was trained with, so that no other training goes on in it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from castlit.saliency.deepusps.settings import Settings
from castlit.utils.atomic_write import write_whole
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

STATE = "state.json"
"""What a training was begun with."""

NETWORK = "network.pt"
"""What it came to; where it is, nothing is left to do."""


def claim(folder: Path, settings: Mapping[str, Any], images: str, count: int, finished: bool) -> None:
    """Note in a folder what it is for; or check that it is for the same.

    Args:
        folder: Made where there is none.
        settings: All that decides what is learned, as values that survive JSON.
        images: Tells these images from others.
        count: How many there are.
        finished: Its network is trained: then other images are no mistake, it can be applied to them.

    Raises:
        InputError: The folder holds another training, or something that cannot be read.
        OSError: It cannot be written to.
    """
    path = folder / STATE
    if not path.exists():
        content = {"settings": dict(settings), "images": images, "count": count}
        write_whole(path, json.dumps(content, indent=1).encode(), lasting=True)
        return
    before, seen, number = _read(folder)
    other = [key for key in settings if before.get(key) != settings[key]]
    if other:
        was = " ".join(f"{key}={before.get(key)}" for key in other)
        now = " ".join(f"{key}={settings[key]}" for key in other)
        raise InputError(
            f"{folder} was trained with {was}, and this run has {now}: give another output, or remove that folder to "
            "train anew"
        )
    if seen != images and finished:
        logger.warning(
            "The network of %s was trained on other images (%d) than these: it is applied as it is", folder, number
        )
    elif seen != images:
        raise InputError(
            f"{folder} was trained on {number} other images than these {count}: give another output, or remove that "
            "folder to train anew"
        )


def settings_of(folder: Path) -> Settings:
    """With which settings the training in a folder was begun; its backbone is to start from no other weights.

    Raises:
        InputError: There is none.
    """
    if not (folder / STATE).is_file():
        raise InputError(f"{folder} holds no training of deepusps ({STATE})")
    values = _read(folder)[0]
    return Settings.of({**values, "backbone": {"name": values["backbone"]["name"], "weights": None}})


def _read(folder: Path) -> tuple[dict[str, Any], str, int]:
    path = folder / STATE
    try:
        found = json.loads(path.read_text())
        return dict(found["settings"]), str(found["images"]), int(found["count"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read: remove {folder} to train anew") from None
