"""``shards.json``: the number of samples in each shard of a folder."""

import uuid
from pathlib import Path
from typing import Any

from castlit.utils.json_files import load_json, write_json

MANIFEST = "shards.json"
FORMAT = 1
"""Increase it when the format of ``shards.json`` changes: older ones are ignored."""


def write_manifest(folder: Path, counts: dict[str, int]) -> None:
    """Write ``shards.json`` for the shards of a folder: names and numbers of samples."""
    shards = {name: {"samples": n, "bytes": (folder / name).stat().st_size} for name, n in counts.items()}
    save_counts(folder / MANIFEST, shards)


def save_counts(file: Path, shards: dict[str, Any], file_format: int = FORMAT) -> None:
    """Write atomically: a reader finds the new file or the old one."""
    write_json(file, {"format": file_format, "shards": shards}, writer=uuid.uuid4().hex)


def parse_counts(data: bytes, file_format: int = FORMAT) -> dict[str, Any]:
    """The shards in a file written by :func:`save_counts`; empty for any other content."""
    try:
        content = load_json(data)
        shards = content["shards"] if content["format"] == file_format else {}
        return {name: entry for name, entry in shards.items() if isinstance(entry["samples"], int)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
