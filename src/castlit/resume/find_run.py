"""Find the run that ``resume=last`` continues, before Hydra makes a folder: the run continues in its own."""

import sys
import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from castlit.cli.config_dir import CONFIG_MODULE, composable, split_config_dir
from castlit.cli.launch import is_first_process
from castlit.cli.overrides import quoted
from castlit.resume.request import LAST, LAST_CHECKPOINT, PREVIOUS, requested
from castlit.utils.moved import current_name
from castlit.utils.paths import display_path
from castlit.utils.plain_yaml import read_plain_yaml
from castlit.utils.serializable import TARGET

# The keys that must be equal in two configs of the same run. Its length and hardware may differ.
_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val")
_SAME = (
    "name",
    "seed",
    "weights",
    "colours",
    "channels_last",
    "module",
    "data",
    *(f"trainer.{key}" for key in _TRAINER),
)
_AUTO = "auto"
"""Chosen for the machine."""

_MAY_DIFFER = ("data.workers", "data.cache", "callbacks.self_masks.path")


def reuse_run_folder(arguments: list[str]) -> list[str]:
    """Add the folder of the newest run of the same kind to a command line that says ``resume=last``.

    What is ``auto`` here, and was chosen by hand there, continues as it was: the command line gets that value, too.

    The command line is unchanged if there is none, if it names a folder (``hydra.run.dir``), and for sweeps, which give
    each job a folder: then the run looks for ``last.ckpt`` in the folder that it gets.

    Args:
        arguments: The words of the command line.
    """
    given = dict(argument.lstrip("+").partition("=")[::2] for argument in arguments if "=" in argument)
    resume = given.get("resume", "null").strip("'\"")
    last = requested(None if resume in ("null", "") else resume) == LAST
    special = any(word.startswith("-") for word in split_config_dir(arguments)[1]) or "hydra.mode" in given
    if not last or special or "hydra.run.dir" in given:
        return arguments
    config, root = _composed(arguments)
    if config is None:
        return arguments  # Hydra will report the error.
    found = _newest(config, root)
    if found is None:
        return arguments
    folder, chosen = found
    return [
        *arguments,
        f"hydra.run.dir={quoted(str(folder))}",
        *(f"{key}={quoted(value)}" for key, value in chosen.items()),
    ]


def _composed(arguments: list[str]) -> tuple[DictConfig | None, Path]:
    """The config that the arguments compose, and the folder above all runs' folders."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = compose("train", composable(arguments), return_hydra_config=True)
        pattern: Any = OmegaConf.to_container(config.hydra.run, resolve=False)
        config.output_dir = None  # not known yet
        return config, Path(str(pattern["dir"]).partition("${")[0])
    except (HydraException, OmegaConfBaseException):
        return None, Path()


def _newest(config: DictConfig, root: Path) -> tuple[Path, dict[str, str]] | None:
    """The folder of the newest run whose config has the same settings, and its values of those that are auto here."""
    mine = _settings(config)
    other: tuple[Path, list[str]] | None = None
    found = (*root.glob(f"*/*/{LAST_CHECKPOINT}"), *root.glob(f"*/*/{LAST_CHECKPOINT.with_name(PREVIOUS)}"))
    folders = dict.fromkeys(path.parents[1] for path in sorted(found, key=_modified, reverse=True))
    for folder in folders:
        its = _settings_of(folder / "config.yaml")
        if its is None:
            continue
        chosen = {
            key: its[key]
            for key, value in mine.items()
            if value == _AUTO and isinstance(its.get(key), str) and its[key] != _AUTO
        }
        if its == {**mine, **chosen}:
            return folder, chosen
        if other is None and its.get("name") == mine.get("name"):
            other = folder, sorted(key for key in {*its, *mine} - set(chosen) if its.get(key) != mine.get(key))
    if other is not None and is_first_process():
        some = ", ".join(other[1][:3]) + (" ..." if len(other[1]) > 3 else "")
        print(f"resume=last: {display_path(other[0])} is another run, they differ in {some}")
    return None


def _settings_of(path: Path) -> dict[str, Any] | None:
    """The settings of a run; None, with a warning, where its configuration is damaged."""
    try:
        read_plain_yaml(path)  # refuses values without end
        config = OmegaConf.load(path)
        missing = [key for key in ("module", "data") if not OmegaConf.is_dict(OmegaConf.select(config, key))]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        return _settings(config)
    except FileNotFoundError:
        return None  # no run of castlit.train
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        why = " ".join(str(error).split())
        if is_first_process():
            print(f"resume=last: {display_path(path)} is damaged ({why}): this run is left out", file=sys.stderr)
        return None


def _settings(config: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a file holds
    """The values that must be equal, by key."""
    found: dict[str, Any] = {}
    # The settings of self-made masks only matter to runs that make them.
    own_masks = ("callbacks.self_masks",) if OmegaConf.select(config, "data.masks") == "self" else ()
    for part in (*_SAME, *own_masks):
        value = OmegaConf.select(config, part)
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        _flatten(part, plain, found)
    if own_masks:
        found.setdefault("callbacks.self_masks.method", "contracam")  # runs of castlit 0.2 have no such key
    for view in ("query", "key"):
        transforms = OmegaConf.select(config, f"data.views.{view}")
        if OmegaConf.is_dict(transforms):
            found[f"data.views.{view}"] = list(transforms)  # their order counts, too
    return {key: value for key, value in found.items() if key not in _MAY_DIFFER}


def _flatten(key: str, value: Any, found: dict[str, Any]) -> None:  # noqa: ANN401
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            _flatten(f"{key}.{name}", inner, found)
    else:
        # A run of an earlier version may name a class that has moved.
        found[key] = current_name(value) if key.endswith(f".{TARGET}") and isinstance(value, str) else value


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
