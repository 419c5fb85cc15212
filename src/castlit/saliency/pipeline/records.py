"""What is kept beside the masks of a folder: ``masks.json``, and the list of what failed."""

import csv
import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from castlit.data.io.masks_json import MASKS_FILE, PROGRAM
from castlit.saliency.pipeline.survey import Share
from castlit.utils.atomic_write import part_of, write_whole
from castlit.utils.validation import InputError

FOLDER = ".make_masks"
"""Holds a folder for each share of the work, with what that share knows."""

PACKAGES = ("numpy", "scipy", "scikit-image", "opencv-python-headless")


def share_folder(output: Path, share: Share) -> Path:
    """The folder for what a share knows."""
    return output / FOLDER / f"{share.this}_of_{share.of}"


class Records:
    """Keeps ``masks.json`` right, whatever number of shares write into one folder at once.

    Each share has a file of its own, and after every change of it makes ``masks.json`` anew from all that are there.

    Args:
        output: The masks' folder.
        share: This run's part.
        facts: ``quality``, ``method`` and ``settings`` of this run.
        packages: Whose versions are noted.
    """

    def __init__(self, output: Path, share: Share, facts: dict[str, Any], packages: tuple[str, ...] = PACKAGES) -> None:
        self.output, self.share = output, share
        self.facts = {
            **facts,
            "castlit": version("castlit"),
            "versions": {name: _version(name) for name in packages},
        }
        self.folder = share_folder(output, share)

    def refuse_others(self) -> None:
        """See that what other runs wrote here goes with this one.

        Raises:
            InputError: Masks were made here with other settings; or a record cannot be read.
        """
        for path, record in self._all():
            if any(record.get(key) != self.facts[key] for key in ("quality", "method", "settings")):
                raise InputError(
                    f"{self.output} holds masks with quality={record.get('quality')} {_told(record.get('settings'))} "
                    f"and this run has quality={self.facts['quality']} {_told(self.facts['settings'])}: give another "
                    f"output, or overwrite=true ({path.relative_to(self.output)})"
                )

    def forget_others(self) -> None:
        """Forget what shares knew that the work is no longer cut into, or that had other settings."""
        for path, record in self._all(broken=True):
            same = all(record.get(key) == self.facts[key] for key in ("quality", "method", "settings"))
            if not same or not path.parent.name.endswith(f"_of_{self.share.of}"):
                path.unlink(missing_ok=True)

    def write(self, counts: dict[str, int], *, complete: bool, **more: object) -> None:
        """Note what this share has done.

        Args:
            counts: ``images``, ``made``, ``skipped`` and ``failed``.
            complete: Whether it has come to its end.
            **more: Whatever else is of interest.

        Raises:
            OSError: It cannot be written.
        """
        record = {**self.facts, "counts": counts, "complete": complete, **more}
        write_whole(self.folder / "record.json", _json(record), lasting=True)
        before: dict[str, Any] = {}
        # Whoever writes last has looked after that, and so seen what everybody else had written.
        while (found := self._summary()) != before:
            write_whole(self.output / MASKS_FILE, _json(found), lasting=True, writer=self.share.words)
            before = found

    def missing(self) -> int:
        """How many shares have not come to their end."""
        return self.share.of - sum(bool(shard["complete"]) for shard in self._summary()["shards"].values())

    def _summary(self) -> dict[str, Any]:
        shards = {}
        total: Counter[str] = Counter()
        for path, record in self._all(broken=True):
            this, _, of = path.parent.name.partition("_of_")
            if of == str(self.share.of) and record:
                shards[f"{this}/{of}"] = {key: value for key, value in record.items() if key not in self.facts}
                total.update(record["counts"])
        complete = len(shards) == self.share.of and all(shard["complete"] for shard in shards.values())
        return {"made_by": PROGRAM, **self.facts, "counts": dict(total), "complete": complete, "shards": shards}

    def _all(self, *, broken: bool = False) -> list[tuple[Path, dict[str, Any]]]:
        """All records, in the order of the shares."""
        found = []
        for path in (self.output / FOLDER).glob("*_of_*/record.json"):
            try:
                record = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # another share has just forgotten it
            except ValueError as error:
                if not broken:
                    raise InputError(f"{path}: cannot be read ({error}): remove it, or give overwrite=true") from None
                record = {}
            found.append((path, record))
        return sorted(found, key=lambda item: (len(item[0].parent.name), item[0]))


class Failures:
    """``failed.csv``: the images without a mask to train with, and why. Not kept in memory, however many there are.

    Args:
        path: Where to write it; without failures, no list is left there.
    """

    SHOWN = 5

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.first: list[str] = []
        """The first few, as a message tells them."""
        # Without a name, so that nothing is left of it, whatever happens.
        self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed by close()
            "w+", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(("image", "reason"))

    def add(self, name: str, reason: str) -> None:
        """Note an image."""
        self.count += 1
        if self.count <= self.SHOWN:
            self.first.append(f"{name} ({reason})")
        self._rows.writerow((name, reason))

    @property
    def words(self) -> str:
        """The first few, and how many more there are."""
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")

    def write(self) -> None:
        """Put the list where it belongs.

        Raises:
            OSError: It cannot be written.
        """
        if self.count == 0:
            self.path.unlink(missing_ok=True)
            return
        part = part_of(self.path)
        self._file.seek(0)
        try:
            with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                shutil.copyfileobj(self._file, file)
            os.replace(part, self.path)  # noqa: PTH105
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Let go of what was noted."""
        self._file.close()


def _told(settings: object) -> str:
    pairs = settings.items() if isinstance(settings, dict) else ()
    return " ".join(f"{key}={value}" for key, value in pairs if not isinstance(value, dict))


def _json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2) + "\n").encode()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
