"""Write checkpoints atomically, and read them."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from castlit.interop.open_file import folder_advice
from castlit.utils import lightning_internals as lightning
from castlit.utils.atomic_write import disk_error
from castlit.utils.lightning import fabric
from castlit.utils.plain_file import DamagedFileError, read_plain
from castlit.utils.validation import InputError

logger = logging.getLogger(__name__)

_SUFFIX = ".partial"

Checkpoint = dict[str, Any]


class AtomicCheckpointIO(fabric.plugins.TorchCheckpointIO):
    """Writes to a partial file beside the checkpoint, syncs it to the disk, and renames it.

    Lightning's own writes to the system's temporary folder and moves. Across disks a move is a copy: a process that is
    killed during it has overwritten its last good checkpoint with half of a new one.
    """

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, loc: storage,  # noqa: ANN401 - Lightning's default
        weights_only: bool | None = True,
    ) -> Checkpoint:
        """Read a checkpoint; None means True, where Lightning would run what a URL's file brings along."""
        return super().load_checkpoint(path, map_location, weights_only is not False)

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Write a checkpoint; remote paths are left to Lightning."""
        if storage_options is not None or not lightning.is_local(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        partial = _partial(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException as error:
            # A full disk, or an interrupt: the partial file is useless.
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            beneath = disk_error(error)
            if beneath is None:
                raise
            # torch reports a full disk as an inconsistency of its archive.
            # The partial file's name says nothing to users; a folder that cannot be made does.
            named = beneath.filename if beneath.filename not in (None, str(partial)) else str(target)
            raise type(beneath)(beneath.errno, beneath.strerror, named) from error
        _sync_folder(target.parent)


def keep_as(path: Path, other: Path) -> None:
    """Give a checkpoint a second name, which it keeps when the first is overwritten; on some disks, by a copy.

    Args:
        path: The checkpoint.
        other: The second name, in the same folder; replaced atomically.
    """
    partial = _partial(other)
    try:
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
        partial.replace(other)
    except OSError as error:
        partial.unlink(missing_ok=True)
        logger.warning("%s cannot be kept as %s (%s)", path, other.name, error.strerror)


def remove_partial(folder: str | Path) -> None:
    """Remove the partial files of runs that were killed while they wrote into this folder."""
    for path in Path(folder).glob(f".*.ckpt.*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def read_checkpoint(path: str | Path, name: str, kind: str) -> Checkpoint:
    """Read a checkpoint's plain values and tensors; nothing in the file is executed.

    Args:
        path: The checkpoint.
        name: What messages call it, such as ``resume=last.ckpt``.
        kind: What messages call the training it is to be of, such as ``castlit's training``.

    Raises:
        DamagedFileError: It is damaged, or incomplete.
        InputError: No such file, or not a checkpoint that Lightning wrote.
    """
    if Path(path).is_dir():
        raise InputError(f"{name}: {folder_advice(Path(path))}")
    if not Path(path).is_file():
        raise InputError(f"{name}: no such file; give the .ckpt file of a training run")
    checkpoint = read_plain(path, name)
    if not isinstance(checkpoint, dict) or "loops" not in checkpoint:
        raise InputError(f"{name}: not a checkpoint of {kind}")
    _require(checkpoint, name, state_dict=dict, loops=dict)
    return checkpoint


def require_resumable(checkpoint: Checkpoint, name: str) -> None:
    """Check that a checkpoint holds what a training needs to continue.

    Args:
        checkpoint: From :func:`read_checkpoint`.
        name: What messages call it.

    Raises:
        DamagedFileError: It does not, as where only the weights were saved.
    """
    _require(checkpoint, name, global_step=int, optimizer_states=list, lr_schedulers=list)
    try:
        epochs_done(checkpoint)
    except (KeyError, TypeError):
        raise DamagedFileError(f"{name}: damaged, or of another version: its loops are incomplete") from None


def _require(checkpoint: Checkpoint, name: str, **kinds: type) -> None:
    wrong = [key for key, kind in kinds.items() if not isinstance(checkpoint.get(key), kind)]
    if wrong:
        raise DamagedFileError(f"{name}: damaged, or of another version: it has no {' and no '.join(wrong)}")


def epochs_done(checkpoint: Checkpoint) -> int:
    """Return the number of epochs a checkpoint has finished; its own ``epoch`` is one more after the fit's end."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
