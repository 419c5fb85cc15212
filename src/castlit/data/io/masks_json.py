"""``masks.json``: what castlit writes beside the masks that it makes, and reads where it finds it."""

import json
from pathlib import Path
from typing import Any

from castlit.utils.validation import InputError

MASKS_FILE = "masks.json"

PROGRAM = "castlit.make_masks"


def read_masks_file(folder: Path) -> dict[str, Any] | None:
    """What is known of how the masks in a folder were made.

    The folder above is asked, too: masks of several folders of images lie in as many folders below one.

    Args:
        folder: Of masks.

    Returns:
        The contents of ``masks.json``: ``quality``, ``method``, ``castlit`` and so on; None where there is none, or one
        that castlit did not write.

    Raises:
        InputError: The folder's own ``masks.json`` cannot be read, or is no JSON.
    """
    own = _read(folder / MASKS_FILE, strict=True)
    return own if own is not None else _read(folder.absolute().parent / MASKS_FILE, strict=False)


def describe_masks(found: dict[str, Any]) -> str:
    """A line that tells of masks what ``masks.json`` does."""
    line = f"quality={found.get('quality')} ({found.get('method')}), made by castlit {found.get('castlit')}"
    return line if found.get("complete") else f"{line}, not all of them yet"


def _read(path: Path, *, strict: bool) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if not strict:
            return None
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path}: cannot be read ({why}); it tells how the masks beside it were made: run castlit.make_masks "
            "again, or remove it"
        ) from None
    return found if isinstance(found, dict) and found.get("made_by") == PROGRAM else None
