"""Lock the folder of a shard of the masks; remove it again if no mask was made."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from castlit.utils.locking import output_folder_lock


@contextmanager
def output_lock(folder: Path, output: Path) -> Iterator[None]:
    """Within the context, no other process makes the same masks.

    Args:
        folder: Holds the records of this shard.
        output: The masks' folder, as the user gave it.

    Raises:
        InputError: Another process makes them, or the output cannot be written.
    """
    new = not output.exists()
    with output_folder_lock(folder, output, f"output={output}: another process is making these masks"):
        try:
            yield
        finally:
            if not any(folder.glob("*.json")):
                # The user's mistake ended it before it did anything: remove the empty folders.
                with suppress(OSError):
                    (folder / ".running").unlink()
                    for empty in (folder, folder.parent, *([output] if new else [])):
                        empty.rmdir()
