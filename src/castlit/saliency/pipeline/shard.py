"""Parts of a folder's images, for several machines."""

import re
from typing import NamedTuple

from castlit.utils.validation import InputError


class Shard(NamedTuple):
    """The part of the images that a run makes masks for: number ``number``, from 1, of ``total``."""

    number: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """Read ``"3/16"``; None means all images.

        Raises:
            InputError: The text has another form, or there is no such shard.
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d+)/(\d+)", str(text))
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"shard must be i/n with 1 <= i <= n, such as 1/16, or null; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """As the user types it."""
        return f"{self.number}/{self.total}"

    @property
    def folder_name(self) -> str:
        """For a folder of its files."""
        return f"{self.number}_of_{self.total}"

    @property
    def suffix(self) -> str:
        """For the names of its files; empty if it is everything."""
        return "" if self.total == 1 else f"_{self.folder_name}"
