"""Which run ``resume=last`` goes on with: settled before Hydra makes a folder, so that the run goes on in its own."""

import os
import time
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only
from yaml import YAMLError  # type: ignore[import-untyped]

from castlit.cli.app import CONFIG_MODULE
from castlit.cli.config_dir import composable, split_config_dir
from castlit.cli.overrides import quoted
from castlit.utils.paths import shown
from castlit.utils.validation import InputError

LAST = "last"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
"""Where a run's folder holds it."""

# What makes two runs the same one, and what of that may differ: how long it is, and what it runs on, may.
_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val")
_KIND = ("name", "seed", "colours", "channels_last", "module", "data", *(f"trainer.{key}" for key in _TRAINER))
_MAY_DIFFER = ("data.workers", "data.cache", "callbacks.self_masks.path")


def wanted(resume: object) -> str | None:
    """What to resume, of what the user gave for ``resume``; a job that SLURM started again goes on by itself.

    Raises:
        InputError: It is neither null, nor ``last``, nor a path.
    """
    if resume is None:
        return LAST if os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0") else None
    if not isinstance(resume, str) or not resume:
        raise InputError(f"resume must be null, last, or the path of a .ckpt file; got {resume!r}")
    return resume


def go_on_in_its_folder(arguments: list[str]) -> list[str]:
    """Add the folder of the newest run of the same kind to a command line that says ``resume=last``.

    Where there is none, where the user names a folder (``hydra.run.dir``), and for sweeps, whose jobs have folders of
    their own, the command line stays as it is: then the run looks for ``last.ckpt`` in the folder it is given.

    Args:
        arguments: The words of the command line.
    """
    given = dict(argument.lstrip("+").partition("=")[::2] for argument in arguments if "=" in argument)
    resume = given.get("resume", "null").strip("'\"")
    last = wanted(None if resume in ("null", "") else resume) == LAST
    special = any(word.startswith("-") for word in split_config_dir(arguments)[1]) or "hydra.mode" in given
    if not last or special or "hydra.run.dir" in given:
        return arguments
    config, root = _composed(arguments)
    if config is None:
        return arguments  # Hydra will say why.
    folder = _newest(config, root)
    if folder is None:
        return arguments
    return [*arguments, f"hydra.run.dir={quoted(str(folder))}"]


def _composed(arguments: list[str]) -> tuple[DictConfig | None, Path]:
    """The config that the words give, and the folder below which runs have theirs."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = compose("train", composable(arguments), return_hydra_config=True)
        pattern: Any = OmegaConf.to_container(config.hydra.run, resolve=False)
        config.output_dir = None  # it has none yet
        return config, Path(str(pattern["dir"]).partition("${")[0])
    except (HydraException, OmegaConfBaseException):
        return None, Path()


def _newest(config: DictConfig, root: Path) -> Path | None:
    """The folder of the newest run of this kind."""
    mine = _kind(config)
    other: tuple[Path, list[str]] | None = None
    for checkpoint in sorted(root.glob(f"*/*/{CHECKPOINT}"), key=_modified, reverse=True):
        folder = checkpoint.parents[1]
        try:
            its = _kind(OmegaConf.load(folder / "config.yaml"))
        except (OSError, YAMLError, OmegaConfBaseException):
            continue
        if its == mine:
            return folder
        if other is None and its.get("name") == mine.get("name"):
            other = folder, sorted(key for key in {*its, *mine} if its.get(key) != mine.get(key))
    if other is not None:
        some = ", ".join(other[1][:3]) + (" ..." if len(other[1]) > 3 else "")
        _say(f"resume=last: {shown(other[0])} is not this run, they differ in {some}")
    return None


def _kind(config: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a file holds
    """All that must be equal, by key."""
    found: dict[str, Any] = {}
    # How a run makes its own masks is no matter to one that does not.
    own_masks = ("callbacks.self_masks",) if OmegaConf.select(config, "data.masks") == "self" else ()
    for part in (*_KIND, *own_masks):
        value = OmegaConf.select(config, part)
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        _flatten(part, plain, found)
    return {key: value for key, value in found.items() if key not in _MAY_DIFFER}


def _flatten(key: str, value: Any, found: dict[str, Any]) -> None:  # noqa: ANN401
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            _flatten(f"{key}.{name}", inner, found)
    else:
        found[key] = value


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


@rank_zero_only
def _say(line: str) -> None:
    print(line)
