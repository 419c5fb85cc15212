"""Checkpoints that are either the old one or the new one, whenever the process is killed."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.cloud_io import _is_local_file_protocol

_SUFFIX = ".partial"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, to the disk, and then renames.

    Lightning's own writes to the system's temporary folder and moves: where that is another disk, moving is copying,
    and a run that is killed meanwhile has overwritten its last good checkpoint by half a new one.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Write a checkpoint; other places than this machine's disks are left to Lightning."""
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}{_SUFFIX}")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            # A full disk, or an interrupt: what is there is of no use.
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def remove_partial(folder: str | Path) -> None:
    """Remove what runs left behind that were killed while they wrote into this folder."""
    for path in Path(folder).glob(f".*.ckpt.*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
