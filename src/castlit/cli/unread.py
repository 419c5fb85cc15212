"""Keys that the user adds with a plus and that nothing reads: Hydra adds any, so that a typing error would be lost."""

import logging
import re
from collections.abc import Sequence
from importlib.resources import files

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from castlit.cli.launch import is_first_process
from castlit.utils.validation import InputError, did_you_mean

logger = logging.getLogger(__name__)

_BUDGET = "budget"
"""Its keys are values that others refer to; no class gets them, which would refuse those that it does not know."""


def refuse_unread(config: DictConfig) -> None:
    """Refuse ``+sed=1`` and ``+budget.lrr=1``, which are nearly a key; warn about ``+tag=1``, which is recorded only.

    Keys that go to a class, and groups, are checked by those.

    Args:
        config: The composed config.

    Raises:
        InputError: A key that was added is nearly one that there is, and no value refers to it.
    """
    hydra = HydraConfig.get()
    added = re.compile(r"\++([\w.]+)(?:@[\w.]*)?=")
    typed = [found[1] for found in map(added.match, hydra.overrides.task) if found is not None]
    conf = files("castlit.conf")
    file = conf / f"{hydra.job.config_name}.yaml"
    if not typed or not file.is_file():  # --config-name names one of the user's
        return
    primary = OmegaConf.create(file.read_text("utf-8"))
    known = {folder.name for folder in conf.iterdir() if folder.is_dir()}
    known |= {str(key) for key in (*primary, *hydra.runtime.choices)}
    # Those of the user's own configurations.
    known |= {key for key in map(str, config) if not _is_only_typed(config, key, typed)}
    texts = [OmegaConf.to_yaml(config, resolve=False), OmegaConf.to_yaml(hydra, resolve=False)]
    for key in typed:
        top, _, inner = key.partition(".")
        if top == _BUDGET and inner:
            name, others = key, {f"{top}.{each}" for each in map(str, config[top])} - set(typed)
        else:
            name, others = top, known
        if name in others or _is_referred_to(name, texts):
            continue
        hint = did_you_mean(name, sorted(others))
        if hint:
            raise InputError(f"+{key}: nothing reads a key {name}{hint}; all keys: add --cfg job")
        if is_first_process():
            logger.warning("+%s: nothing reads a key %s; it is only recorded", key, name)


def _is_only_typed(config: DictConfig, top: str, typed: Sequence[str]) -> bool:
    """Whether everything under a key comes from the command line."""
    if not any(key.partition(".")[0] == top for key in typed):
        return False
    return all(any(f"{leaf}.".startswith(f"{key}.") for key in typed) for leaf in _leaves(config, top))


def _leaves(config: DictConfig, key: str, above: str = "") -> list[str]:
    name = above + key
    if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
        return [name]
    value = config[key]
    if not isinstance(value, DictConfig) or not value:
        return [name]
    return [leaf for inner in value for leaf in _leaves(value, str(inner), f"{name}.")]


def _is_referred_to(key: str, texts: Sequence[str]) -> bool:
    pattern = re.compile(rf"\$\{{[^{{}}]*\b{re.escape(key)}\b")
    return any(pattern.search(text) for text in texts)
