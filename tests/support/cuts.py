"""Callbacks that end a run, or its process, or copy its folder, where the tests want it."""

import os
import shutil
import signal
from pathlib import Path

import pytorch_lightning as pl
import torch


class SignalAt(pl.Callback):
    """Sends a signal in a hook, the ``count``-th time it is called.

    Args:
        hook: Name of the hook.
        count: Which call of it.
        name: Name of the signal.
        group: Send it to all processes of this one's group, as terminals and schedulers do.
    """

    def __init__(self, hook, count=1, name="SIGKILL", group=False):
        self.left, self.number, self.group = count, getattr(signal, name), group
        setattr(self, hook, self._send)

    def _send(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            if self.group:
                os.killpg(os.getpgid(0), self.number)
            else:
                os.kill(os.getpid(), self.number)


class KillWhileWriting(pl.Callback):
    """Kills the process within the ``count``-th write of a checkpoint: in the middle of it, or before it is renamed."""

    def __init__(self, count, middle):
        self.left, self.middle = count, middle
        self._save, self._fsync = torch.save, os.fsync
        torch.save = self._write
        os.fsync = self._sync

    def _write(self, checkpoint, file):
        self.left -= 1
        self._save(checkpoint, file)
        if self.left == 0 and self.middle:
            file.flush()
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def _sync(self, descriptor):
        self._fsync(descriptor)
        if self.left == 0 and not self.middle:
            os.kill(os.getpid(), signal.SIGKILL)


class Poison(pl.Callback):
    """Puts a NaN into a batch."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            batch["query"][0, 0, 0, 0] = float("nan")


class FakeHandler(pl.Callback):
    """Has its own idea of a signal, as submitit has: writes a file, and ends the process or not."""

    def __init__(self, path, name="SIGUSR2", code=None):
        self.path, self.code = Path(path), code
        signal.signal(getattr(signal, name), self._handle)

    def _handle(self, number, frame):
        self.path.write_text(str(number))
        if self.code is not None:
            raise SystemExit(self.code)


class KillWhileMasking(pl.Callback):
    """Kills the process when it is about to write the ``count``-th of the masks that it makes for itself."""

    def __init__(self, count):
        from castlit.data.io.mask_store import MaskStore

        self.left, self._write = count, MaskStore.write
        cut = self

        def write(self, *arguments):
            cut.left -= 1
            if cut.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            cut._write(self, *arguments)

        MaskStore.write = write


class PowerCut(Exception):
    """Ends a run at once."""


class CutPower(pl.Callback):
    """Cuts the power in a hook, the ``count``-th time it is called."""

    def __init__(self, hook, count):
        self.left = count
        setattr(self, hook, self._cut)

    def _cut(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            raise PowerCut


class KeepDisk(pl.Callback):
    """Copies the run's folder in a hook, the ``count``-th time it is called: what a power cut would leave."""

    def __init__(self, folder, copy, hook, count):
        self.folder, self.copy, self.left = folder, copy, count
        setattr(self, hook, self._keep)

    def _keep(self, *_, **__):
        self.left -= 1
        if self.left == 0:
            shutil.copytree(self.folder, self.copy)
