"""A refused command leaves no trace: the folder of an earlier run stays as it was, a new one is removed.

Hydra writes the command's configuration into the run's folder before the program can look at it.
"""

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from castlit.cli.own_folder import own_folder
from castlit.utils.locking import LOCK

_before: dict[Path, bytes] = {}
"""Hydra's files of earlier runs."""

_logs: dict[Path, int] = {}
"""Sizes of their logs."""

_folders: set[Path] = set()
"""The runs' folders that were there."""

_missing: list[Path] = []
"""The run's folder and those above it that were not there, the innermost first."""

_accepted = False


class NoteEarlierRuns(Callback):
    """Notes Hydra's files in the folder of a run, or of a sweep's runs, before Hydra overwrites them."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Note those of one folder."""
        self._note(config, "hydra.run.dir", "")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Note those of all folders below."""
        self._note(config, "hydra.sweep.dir", "**/")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401
        """Each job of a sweep is accepted or refused for itself."""
        global _accepted
        _accepted = False

    def _note(self, config: DictConfig, key: str, below: str) -> None:
        HydraConfig.instance().set_config(config)  # the folder's pattern may refer to it, as where Hydra reads it
        subfolder, root = config.hydra.output_subdir, Path(str(OmegaConf.select(config, key))).absolute()
        _require_writable(root, key)
        _missing[:] = [each for each in (root, *root.parents) if not each.exists()]
        there = root.is_dir()
        own = own_folder(config, key, root)
        if there and own == root:
            _folders.add(root)
        root = own
        if subfolder is None:
            return
        for file in root.glob(f"{below}{subfolder}/*.yaml"):
            _folders.add(file.parent.parent)
            with suppress(OSError):  # Hydra will report it, where it writes there
                _before[file] = file.read_bytes()
        for log in root.glob(f"{below}*.log"):
            _logs[log] = log.stat().st_size
        if not below:
            _require_same_program(root / subfolder / "hydra.yaml", config.hydra.job.config_name, key)


def _require_writable(folder: Path, key: str) -> None:
    """End the program with one line where a run's folder cannot be made or written to: Hydra would print a traceback.

    Hydra reports an error of its callbacks as a warning, and continues.
    """
    above = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=above) as file:
            file.write(b"castlit")
            file.flush()
    except OSError as error:
        print(f"error: {folder} cannot be written to ({error.strerror}): choose another {key}", file=sys.stderr)
        sys.exit(1)


def _require_same_program(file: Path, name: str, key: str) -> None:
    """End the program with one line where a run of another program is in its folder: their files have the same names.

    Args:
        file: The earlier run's ``hydra.yaml``.
        name: Of this program's configuration.
        key: Of the folder.
    """
    try:
        earlier = OmegaConf.select(OmegaConf.load(file), "hydra.job.config_name")
    except Exception:  # no earlier run, or a damaged file, which will be replaced
        return
    if isinstance(earlier, str) and earlier != name:
        folder = file.parent.parent
        print(f"error: {folder} has a run of castlit.{earlier}: choose another {key}", file=sys.stderr)
        sys.exit(1)


def accept() -> None:
    """The command is accepted: from here on, :func:`leave_no_trace` does nothing."""
    global _accepted
    _accepted = True


def leave_no_trace() -> None:
    """Restore Hydra's files and logs of an earlier run in this run's folder; remove a new folder with nothing else."""
    config = HydraConfig.get()
    # Where Hydra itself failed, it has forgotten the folder already.
    place = config.run.dir if OmegaConf.is_missing(config.runtime, "output_dir") else config.runtime.output_dir
    folder, subfolder = Path(place).absolute(), config.output_subdir
    if _accepted or subfolder is None:
        return
    if folder in _folders:
        for file in (folder / subfolder).glob("*.yaml"):
            if file in _before:
                file.write_bytes(_before[file])
            elif file.is_file():
                file.unlink()
        for log in folder.glob("*.log"):
            if log in _logs and log.is_file():
                os.truncate(log, _logs[log])
            elif log.is_file():
                log.unlink()
        with suppress(OSError):
            (folder / subfolder).rmdir()
    elif config.mode == RunMode.RUN and all(_is_trace(each, subfolder) for each in folder.iterdir()):
        shutil.rmtree(folder)
        with suppress(OSError):  # where another run is in it
            for above in _missing[1:]:
                above.rmdir()


def _is_trace(path: Path, subfolder: str) -> bool:
    """Whether Hydra, the lock or a log made it, in a folder that was not there before."""
    return path.name in (subfolder, LOCK) or path.suffix == ".log"
