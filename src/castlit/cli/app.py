"""What all programs share: Hydra, and one clear line for a mistake of the user's."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from castlit.cli.config_dir import CONFIG_MODULE, split_config_dir
from castlit.cli.errors import explain_error, full_errors, one_line
from castlit.cli.flags import refuse_unknown_flags
from castlit.cli.help import asks_for_help, help_text
from castlit.cli.overrides import for_hydra, paths_from_here, refuse_expanded, refuse_mistakes
from castlit.cli.refused import leave_no_trace
from castlit.cli.streams import accept_any_name
from castlit.cli.suggestions import hydras_disk_error, hydras_refusal, optunas_refusal, suggest_override
from castlit.cli.sweeps import SweepError, in_sweep, job_ends_sweep, refuse_without_sweep
from castlit.cli.unread import refuse_unread
from castlit.utils.paths import display_path, shown_from
from castlit.utils.quiet import lightning_on_stderr
from castlit.utils.validation import InputError

Task = Callable[[DictConfig], Any]

_JOB_FAILED = "a job of the sweep failed"
_HYDRAS_JOB_FAILED = "Error executing job with overrides: "


class UserError(CompactHydraException):
    """A mistake of the user's, reported in one line."""


def program(config_name: str, task: Task, prepare: Callable[[list[str]], list[str]] | None = None) -> None:
    """Run a task as a program: compose its config from the command line and call it, once or for each job of a sweep.

    A mistake of the user's ends the program with one line on standard error and exit code 1. With
    ``HYDRA_FULL_ERROR=1`` in the environment, every error ends it with its full traceback.

    Paths that are numbers or hold braces (``data.urls=/data/{000..099}.tar``) need no quotes; see
    :mod:`castlit.cli.overrides`.

    Args:
        config_name: The primary config in ``castlit.conf``.
        task: Called with the composed config.
        prepare: Changes the words of the command line before Hydra parses them.
    """
    hydras_words = _HeldBack()

    def run(config: DictConfig) -> Any:  # noqa: ANN401
        with shown_from(Path(HydraConfig.get().runtime.cwd)):  # hydra.job.chdir=true has left it
            refuse_without_sweep()
            refuse_unread(config)
            return task(config)

    def guarded(config: DictConfig) -> Any:  # noqa: ANN401
        hydras_words.show(but=_HYDRAS_JOB_FAILED)  # of the job before, which has said why
        accept_any_name()  # again: Hydra has opened its log
        if full_errors():
            return run(config)
        try:
            return run(config)
        except Exception as error:
            line = explain_error(error)
            if line is None:
                raise
            leave_no_trace()
            if in_sweep() and not (isinstance(error, SweepError) and job_ends_sweep()):
                # The sweep runs its other jobs, and fails at its end.
                overrides = " ".join(HydraConfig.get().overrides.task)
                print(f"error: {line} (job {HydraConfig.get().job.num}: {overrides})", file=sys.stderr)
                raise UserError(f"{_JOB_FAILED}: {line}") from None
            print(f"error: {line}", file=sys.stderr)
            sys.exit(1)
        finally:
            if in_sweep():
                hydras_words.hold_after_a_job()

    accept_any_name()
    # A full disk, or a name that is no text, must not print the traceback of a line of the log.
    logging.raiseExceptions = full_errors()
    try:
        refuse_unknown_flags(config_name, sys.argv[1:])
        refuse_expanded(sys.argv[1:])
        own = split_config_dir(sys.argv[1:])[0]
        refuse_mistakes(sys.argv[1:], any_group=own is not None)
        if own is not None and not Path(own).is_dir():
            raise InputError(f"--config-dir {own} does not exist: give the folder of your configurations")
        sys.argv[1:] = for_hydra(paths_from_here(sys.argv[1:]))
        if prepare is not None:
            sys.argv[1:] = prepare(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    lightning_on_stderr()
    main: Callable[[], Any]
    if asks_for_help(sys.argv[1:]):
        main = partial(print, help_text(config_name, sys.argv[1:]), flush=True)
    else:
        main = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=config_name)(guarded)
    if not full_errors():
        hydras_words.hold()
    try:
        main()
    except SystemExit as stop:
        held = hydras_words.held
        failed = held if stop.code else None
        refusal = failed and hydras_refusal(failed)
        disk = failed and not hydras_words.after_a_job and hydras_disk_error(failed)
        searched = failed and optunas_refusal(failed)
        if disk:
            hydras_words.drop()
            with suppress(OSError, ValueError):  # it is full, or Hydra has no run yet
                leave_no_trace()
            print(f"error: {disk}", file=sys.stderr)
        elif searched:
            hydras_words.drop()
            print(f"error: {searched}", file=sys.stderr)
        elif refusal:
            hydras_words.drop()
            if not (hydras_words.after_a_job and _JOB_FAILED in refusal):
                # Hydra's advice for a misspelt key is to add it with a plus.
                line = suggest_override(config_name, sys.argv[1:], refusal) or one_line(refusal)
                print(f"error: {line}", file=sys.stderr)
        raise
    except BrokenPipeError:
        # The reader of a pipe, such as head after --help, has had enough. Python's flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if hydras_words.held is None:
            print("error: standard output was closed: send it to a file to run without a reader", file=sys.stderr)
        sys.exit(1)
    finally:
        hydras_words.show()


class _HeldBack:
    """Holds back what is printed on standard error, to show it later or never."""

    def __init__(self) -> None:
        self.after_a_job = False
        self._buffer: io.StringIO | None = None
        self._stream: TextIO | None = None

    def __reduce__(self) -> tuple[type["_HeldBack"], tuple[()]]:
        # Launchers send the task to other processes, which have nothing to hold back.
        return _HeldBack, ()

    @property
    def held(self) -> str | None:
        """What it holds back; None if it does no more."""
        return None if self._buffer is None else self._buffer.getvalue()

    def hold(self) -> None:
        """From now on."""
        self._buffer, self._stream = io.StringIO(), sys.stderr
        sys.stderr = self._buffer

    def hold_after_a_job(self) -> None:
        """From now on: Hydra repeats the line of a job that failed. Not in the processes of a launcher."""
        if self._stream is not None and self.held is None:
            self.after_a_job = True
            self.hold()

    def drop(self) -> None:
        """Forget what was printed, and hold nothing back any more."""
        if self._buffer is not None:
            self._buffer, sys.stderr = None, self._stream

    def show(self, but: str | None = None) -> None:
        """Print what was held back, except lines with a certain beginning, and hold nothing back any more."""
        text = self.held
        if text is not None:
            self.drop()
            lines = text.splitlines(keepends=True)
            sys.stderr.writelines(line for line in lines if but is None or not line.startswith(but))


def output_dir() -> Path:
    """Return this run's folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def this_python() -> str:
    """Return the command of the Python that runs this; ``make train`` does not put its .venv on the path."""
    on_path = shutil.which("python")
    if on_path is not None and Path(on_path).absolute() == Path(sys.executable).absolute():
        return "python"
    return display_path(Path(sys.executable))
