"""What all programs share: Hydra, and one clear line for a mistake of the user's."""

import io
import logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from castlit.cli.config_dir import composable, split_config_dir
from castlit.cli.help import asks_for_help, help_text
from castlit.cli.missing import explain_missing
from castlit.cli.overrides import for_hydra, paths_from_here, refuse_expanded, refuse_mistakes
from castlit.cli.refused import leave_no_trace
from castlit.cli.streams import accept_any_name
from castlit.cli.unread import refuse_unread
from castlit.utils.atomic_write import FULL
from castlit.utils.paths import display_path, shown_from
from castlit.utils.quiet import lightning_on_stderr
from castlit.utils.validation import InputError, did_you_mean

CONFIG_MODULE = "castlit.conf"

# Error classes by name: castlit.cli imports neither Lightning nor torch.
_MISCONFIGURATION = "lightning_fabric.utilities.exceptions.MisconfigurationException"
_WORKER = "DataLoader worker (pid"  # torch's words for a loader process that has died
_BACKEND = "torch.distributed.DistBackendError"

Task = Callable[[DictConfig], Any]


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
            refuse_unread(config)
            return task(config)

    def guarded(config: DictConfig) -> Any:  # noqa: ANN401
        hydras_words.show()
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
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                # The sweep runs its other jobs, and fails at its end.
                overrides = " ".join(HydraConfig.get().overrides.task)
                print(f"error: {line} (job {HydraConfig.get().job.num}: {overrides})", file=sys.stderr)
                raise UserError(f"a job of the sweep failed: {line}") from None
            print(f"error: {line}", file=sys.stderr)
            sys.exit(1)

    accept_any_name()
    # A full disk, or a name that is no text, must not print the traceback of a line of the log.
    logging.raiseExceptions = full_errors()
    try:
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
        refusal = None if not stop.code or held is None else _refusal(held)
        if refusal is not None:
            hydras_words.drop()
            # Hydra's advice for a misspelt key is to add it with a plus.
            line = suggest_override(config_name, sys.argv[1:], refusal) or _one_line(refusal)
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

    def drop(self) -> None:
        """Forget what was printed, and hold nothing back any more."""
        if self._buffer is not None:
            self._buffer, sys.stderr = None, self._stream

    def show(self) -> None:
        """Print what was held back, and hold nothing back any more."""
        text = self.held
        if text is not None:
            self.drop()
            sys.stderr.write(text)


def full_errors() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def _of_other_processes(error: RuntimeError) -> bool:
    # gloo raises plain RuntimeErrors; those of a timeout do not even contain its name.
    return _is_a(error, _BACKEND) or any(word in str(error) for word in ("gloo", "pair closure"))


def _of_a_dead_loader(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):
        return _WORKER in str(error)
    # The process died before torch looked at it, while it sent a batch.
    if not isinstance(error, (ConnectionError, EOFError)):
        return False
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any("multiprocessing" in file for file in files[-1:]) and any("dataloader" in file for file in files)


def _is_a(error: BaseException, name: str) -> bool:
    """Whether the error is of the class with this full name, without importing the package that defines it."""
    return any(f"{cls.__module__}.{cls.__qualname__}" == name for cls in type(error).__mro__)


def explain_error(error: BaseException) -> str | None:
    """Return one line for the user's mistake; ``None`` for a mistake of ours, which needs its traceback."""
    if isinstance(error, InstantiationException):
        cause = _innermost(error)
        key = str(error).rpartition("full_key: ")[2].strip()
        if cause is error:
            return _one_line(str(error))
        line = explain_error(cause) or f"{type(cause).__name__}: {_one_line(str(cause))}"
        return f"{key}: {line}" if key and key != "instantiate" else line
    if isinstance(error, (MissingMandatoryValue, InterpolationToMissingValueError)):
        return explain_missing(error)
    if isinstance(error, (InputError, HydraException, OmegaConfBaseException)) or _is_a(error, _MISCONFIGURATION):
        return _one_line(str(error))
    if isinstance(error, RuntimeError) and _of_other_processes(error):
        return f"another process of this run has died or does not answer ({_one_line(str(error)).rpartition('] ')[2]})"
    if _of_a_dead_loader(error):
        what = _one_line(str(error)).rstrip(".")
        what = what if _WORKER in what else f"a loader process has died ({what or type(error).__name__})"
        return f"{what}; was the memory full? Set fewer workers, a smaller batch_size, or data.workers=0 to see why"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
        return _one_line(str(error))
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.strerror}: a file cannot be written"
    return None


def _refusal(printed: str) -> str | None:
    """The words in which Hydra refuses a command; None if something else was printed."""
    words, _, rest = printed.partition("Set the environment variable HYDRA_FULL_ERROR=1")
    return words if rest and "Traceback" not in words else None


def suggest_override(config_name: str, arguments: list[str], refusal: str) -> str | None:
    """Return a line on the first override whose option or key does not exist, with the nearest one; or ``None``.

    Args:
        config_name: The primary config.
        arguments: The words of the command line.
        refusal: Hydra's words, which name the key.
    """
    there = re.search(r"An item is already at '([^']+)'", refusal)
    if there is not None:
        return f"{there[1]} is a key of the config already: leave the plus before it out"
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        option = _suggest_option(arguments)
        if option is not None:
            return option
        groups = [group for group in GlobalHydra.instance().config_loader().list_groups("") if group != "hydra"]
        try:
            # With the user's choices of groups, which add keys.
            chosen = [word for word in composable(arguments) if _chooses(*word.partition("=")[:2])]
            known = set(_keys(compose(config_name, chosen)))
        except HydraException:
            known = set(_keys(compose(config_name)))
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key[:1] in "-+~" or key in known or "@" in key or "/" in key or key.startswith("hydra."):
            continue
        if f"Could not override '{key}'" not in refusal:
            continue
        if key in groups:
            return f"{key} is a group without a default: type +{key}={value}"
        hint = did_you_mean(key, sorted(known)) or did_you_mean(f"+{key}", [f"+{group}" for group in groups])
        return f"{key} is not a key of the config{hint}; all keys: add --cfg job"
    return None


def _suggest_option(arguments: list[str]) -> str | None:
    """A line on the first group whose option does not exist; None if the user gave a folder of configs."""
    if split_config_dir(arguments)[0] is not None:
        return None
    for argument in arguments:
        group, _, option = argument.lstrip("+").partition("=")
        options = GlobalHydra.instance().config_loader().get_group_options(group)
        if options and re.fullmatch(r"\w+", option) and option != "null" and option not in options:
            near = did_you_mean(option, options)
            if near:
                return f"{group} has no option {option}{near}"
            return f"{group} has no option {option}: choose one of {', '.join(options)}"
    return None


def _chooses(key: str, equals: str) -> bool:
    """Whether an override chooses a group's option, adds a key, or adds a folder of configs.

    Other overrides stay out of the composition: a mistyped one would make it fail.
    """
    if not equals:
        return False
    if "." in key:
        return key == "hydra.searchpath"
    return key.startswith("+") or bool(GlobalHydra.instance().config_loader().get_group_options(key))


def output_dir() -> Path:
    """Return this run's folder."""
    return Path(HydraConfig.get().runtime.output_dir)


def this_python() -> str:
    """Return the command of the Python that runs this; ``make train`` does not put its .venv on the path."""
    on_path = shutil.which("python")
    if on_path is not None and Path(on_path).absolute() == Path(sys.executable).absolute():
        return "python"
    return display_path(Path(sys.executable))


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, config):
        name = prefix + key
        keys.append(name)
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            keys += _keys(config[key], f"{name}.")
    return keys


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None and isinstance(error, InstantiationException):
        error = error.__cause__
    return error


def _one_line(text: str) -> str:
    return " ".join(text.split())
