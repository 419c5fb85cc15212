"""Records beside a folder's masks: ``masks.json`` and ``failed.csv``."""

import csv
import shutil
import tempfile
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from castlit.data.io.masks_json import MASKS_FILE, PROGRAM
from castlit.saliency.pipeline.shard import Shard
from castlit.utils.atomic_write import atomic_path
from castlit.utils.csv_cells import safe_cells
from castlit.utils.json_files import load_json, write_json
from castlit.utils.validation import InputError

FOLDER = ".make_masks"
"""Contains a folder for each shard, with its record."""

PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless")


def shard_folder(output: Path, shard: Shard) -> Path:
    """The folder of a shard's record."""
    return output / FOLDER / shard.folder_name


class Records:
    """Keeps ``masks.json`` up to date while several shards write into one folder.

    Each shard has its own record. After every change it rewrites ``masks.json`` from all records.

    Args:
        output: The masks' folder.
        shard: This run's.
        facts: ``quality``, ``method`` and ``settings`` of this run.
        packages: Packages whose versions are recorded.
    """

    def __init__(self, output: Path, shard: Shard, facts: dict[str, Any], packages: tuple[str, ...] = PACKAGES) -> None:
        self.output, self.shard = output, shard
        self.facts = {
            **facts,
            "castlit": version("castlit"),
            "versions": {name: _version(name) for name in packages},
        }
        self.folder = shard_folder(output, shard)

    def check(self) -> None:
        """Check that the existing records have this run's settings.

        Raises:
            InputError: Masks were made here with other settings, or a record cannot be read.
        """
        for path, record in self._all():
            if any(record.get(key) != self.facts[key] for key in ("quality", "method", "settings")):
                raise InputError(
                    f"{self.output} contains masks with {_settings_text(record, self.facts)} and this run has "
                    f"{_settings_text(self.facts, record)}: give another output, or overwrite=true "
                    f"({path.relative_to(self.output)})"
                )

    def remove_outdated(self) -> None:
        """Remove records of another number of shards or with other settings."""
        for path, record in self._all(broken=True):
            same = all(record.get(key) == self.facts[key] for key in ("quality", "method", "settings"))
            if not same or not path.parent.name.endswith(f"_of_{self.shard.total}"):
                path.unlink(missing_ok=True)

    def write(self, counts: dict[str, int], *, complete: bool, **more: object) -> None:
        """Write this shard's record.

        Args:
            counts: ``images``, ``made``, ``skipped`` and ``failed``.
            complete: Whether the shard is finished.
            **more: Further entries.

        Raises:
            OSError: It cannot be written.
        """
        record = {**self.facts, "counts": counts, "complete": complete, **more}
        write_json(self.folder / "record.json", record, lasting=True)
        before: dict[str, Any] = {}
        # Read again after writing: another shard may have written between. So the last writer has read all records.
        while (found := self._summary()) != before:
            write_json(self.output / MASKS_FILE, found, lasting=True, writer=str(self.shard))
            before = found

    def missing(self) -> int:
        """Number of shards that are not finished."""
        return self.shard.total - sum(bool(record["complete"]) for record in self._summary()["shards"].values())

    def _summary(self) -> dict[str, Any]:
        shards = {}
        total: Counter[str] = Counter()
        for path, record in self._all(broken=True):
            number, _, of = path.parent.name.partition("_of_")
            if of == str(self.shard.total) and record:
                shards[f"{number}/{of}"] = {key: value for key, value in record.items() if key not in self.facts}
                total.update(record["counts"])
        complete = len(shards) == self.shard.total and all(shard["complete"] for shard in shards.values())
        return {"made_by": PROGRAM, **self.facts, "counts": dict(total), "complete": complete, "shards": shards}

    def _all(self, *, broken: bool = False) -> list[tuple[Path, dict[str, Any]]]:
        """All records, in the order of the shards."""
        found = []
        for path in (self.output / FOLDER).glob("*_of_*/record.json"):
            try:
                record = load_json(path.read_bytes())
                if not isinstance(record, dict):
                    raise ValueError("it is no record")
            except FileNotFoundError:
                continue  # another shard has just removed it
            except ValueError as error:
                if not broken:
                    raise InputError(f"{path}: cannot be read ({error}): remove it, or give overwrite=true") from None
                record = {}
            found.append((path, record))
        return sorted(found, key=lambda item: (len(item[0].parent.name), item[0]))


class Failures:
    """``failed.csv``: the images without a mask to train with, and why. Kept on disk, not in memory.

    Args:
        path: The file; removed if there are no failures.
    """

    SHOWN = 5

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.first: list[str] = []
        """The first few, for messages."""
        # A file without a name disappears with the process.
        self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by close()
            "w+", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(("image", "reason"))

    def add(self, name: str, reason: str) -> None:
        """Add an image."""
        self.count += 1
        if self.count <= self.SHOWN:
            self.first.append(f"{name} ({reason})")
        self._rows.writerow(safe_cells((name, reason)))

    @property
    def summary(self) -> str:
        """The first few, and the number of the others."""
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")

    def write(self) -> None:
        """Write ``failed.csv``.

        Raises:
            OSError: It cannot be written.
        """
        if self.count == 0:
            self.path.unlink(missing_ok=True)
            return
        self._file.seek(0)
        with (
            atomic_path(self.path) as part,
            part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            shutil.copyfileobj(self._file, file)

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()


def _settings_text(record: dict[str, Any], other: dict[str, Any]) -> str:
    """A record's quality and settings, as the user types them; of a network's, those that differ from another's."""
    mine, others = _flat(record), _flat(other)
    return " ".join(f"{key}={value}" for key, value in mine.items() if "." not in key or value != others.get(key))


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    settings = record.get("settings")
    found: dict[str, Any] = {"quality": record.get("quality")}
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": each for name, each in value.items() if not isinstance(each, dict)}
        else:
            found[key] = value
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
