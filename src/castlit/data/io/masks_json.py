"""``masks.json``: how castlit made a folder of masks; written beside them, and read if present."""

from pathlib import Path
from typing import Any

from castlit.utils.json_files import load_json
from castlit.utils.validation import InputError

MASKS_FILE = "masks.json"

PROGRAM = "castlit.make_masks"

_TRAINING = "castlit.train"  # with masks=self


def read_masks_file(folder: Path) -> dict[str, Any] | None:
    """Read how the masks in a folder were made.

    The parent folder is checked too: ``castlit.make_masks`` writes one file for several folders of masks.

    Args:
        folder: Folder of masks.

    Returns:
        The contents of ``masks.json`` (``made_by``, ``method``, ``castlit`` and so on); None if there is no such file,
        or castlit did not write it.

    Raises:
        InputError: The folder's own ``masks.json`` cannot be read, or is no JSON.
    """
    own = _read(folder / MASKS_FILE, strict=True)
    return own if own is not None else _read(folder.absolute().parent / MASKS_FILE, strict=False)


def describe_masks(content: dict[str, Any]) -> str:
    """One line for the log about masks with this ``masks.json``."""
    by = f"made by castlit {content.get('castlit')}"
    if content["made_by"] == _TRAINING:
        return f"masks=self after {content.get('epoch')} epochs, {by}"
    line = f"quality={content.get('quality')} ({content.get('method')}), {by}"
    return line if content.get("complete") else f"{line}, incomplete so far"


def _read(path: Path, *, strict: bool) -> dict[str, Any] | None:
    try:
        content = load_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if not strict:
            return None
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path}: cannot be read ({why}); it says how the masks beside it were made: run castlit.make_masks "
            "again, or remove it"
        ) from None
    return content if isinstance(content, dict) and content.get("made_by") in (PROGRAM, _TRAINING) else None
