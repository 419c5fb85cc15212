"""Everything that the given data allow, one protocol after the other, and one report: ``+protocol=all``."""

import inspect
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from castlit.cli.app import CONFIG_MODULE, explain_error
from castlit.cli.overrides import quoted
from castlit.evaluate import protocols, run_protocol
from castlit.evaluation.report import Part, write_report
from castlit.reporting.results import Results, Table
from castlit.utils.validation import InputError, as_list, require_choice

logger = logging.getLogger(__name__)

ALL = "all"

_OWN_DATA = ("data", "crop", "loader", "budget")
"""Groups and keys that say which data; protocols with a root of their own, and the scenes, take theirs."""


def evaluate_all(
    config: DictConfig,
    output: Path,
    roots: Mapping[str, str | None],
    uses: Mapping[str, str | None],
    skip: Sequence[str] | str = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Results | Table]:
    """Run every protocol whose data are given, and write ``report.html``.

    Protocols that need no root of their own run on the command line's own ``data=``. What fails is told in the report
    with its reason, and the others go on.

    Args:
        config: That of ``castlit.evaluate``.
        output: The run's folder; each protocol gets one of its own in it.
        roots: Folders of data sets, by name; None where there is none.
        uses: Which of them a protocol needs, by the protocol's name; None: none of them.
        skip: Protocols to leave out.
        settings: Keys of single protocols, by name, such as ``{voc07: {variant: pool_2x2}}``.

    Returns:
        What each protocol gave.

    Raises:
        InputError: A protocol is not known; nothing ran; or, after all others ran, one failed.
    """
    names = [name for name in protocols() if name != ALL]
    left_out = [require_choice("protocol.skip", name, names) for name in as_list(skip)]
    for name, given in (settings or {}).items():
        require_choice("protocol.settings", name, names)
        if not isinstance(given, Mapping):
            raise InputError(f"protocol.settings={{{name}: {given}}}: give its keys, such as {{{name}: {{size: 224}}}}")
    checkpoint = str(config.checkpoint)
    parts = []
    for name in names:
        why = _why_not(name, roots, uses, left_out)
        logger.info("%s: %s", name, why or "running")
        if why:
            parts.append(Part(name, not_run=why))
            continue
        root = uses[name]
        words = _words(own_data=root is not None or name == "scenes")
        if root is not None:
            words.append(f"++data.root={quoted(str(roots[root]))}")
        parts.append(_run(name, words, (settings or {}).get(name, {}), output / name))
    if not any(part.results is not None or part.failed for part in parts):
        raise InputError(f"nothing to run: {'; '.join(f'{part.name} {part.not_run}' for part in parts)}")
    file = output / "report.html"
    _report(file, checkpoint, parts)
    failed = [f"{part.name} ({part.failed})" for part in parts if part.failed]
    if failed:
        raise InputError(f"of the protocols, these failed, and {file} has the others: {'; '.join(failed)}")
    return {part.name: part.results for part in parts if part.results is not None}


@rank_zero_only
def _report(file: Path, checkpoint: str, parts: Sequence[Part]) -> None:
    size = write_report(file, checkpoint, parts)
    print(f"Written to {file} ({size / 1e6:.1f} MB)")
    for part in parts:
        if part.not_run:
            print(f"  not run: {part.name}: {part.not_run}")


def _why_not(name: str, roots: Mapping[str, str | None], uses: Mapping[str, str | None], skip: Sequence[str]) -> str:
    """The reason not to try it; empty where there is none."""
    if name in skip:
        return "left out by protocol.skip"
    if name not in uses:
        return "not listed in protocol.uses"
    root = uses[name]
    if root is not None and not roots.get(root):
        return f"needs protocol.roots.{root}=FOLDER"
    return ""


def _run(name: str, words: list[str], settings: Mapping[str, Any], folder: Path) -> Part:
    start = time.perf_counter()
    try:
        config = _composed([f"+protocol={name}", *words])
        for key, value in settings.items():
            known = [k for k in map(str, config.protocol) if not k.startswith("_")]
            require_choice(f"protocol.settings.{name}", key, known)
            config.protocol[key] = value
        if "compare" not in inspect.signature(get_method(config.protocol._target_)).parameters:
            config.compare = None
        evaluated = run_protocol(config, folder)
    except Exception as error:
        told = explain_error(error)
        if told is None:  # A mistake of ours: the others should not suffer for it, but it must not go unseen.
            logger.exception("%s failed", name)
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Part(name, failed=told)
    return Part(name, evaluated.results, evaluated.published, time.perf_counter() - start, folder)


def _words(own_data: bool) -> list[str]:
    """The command line's overrides, without those that are for this protocol alone."""
    words: list[str] = list(HydraConfig.get().overrides.task)
    keys = ("protocol", *(_OWN_DATA if own_data else ()))
    return [word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] not in keys]


def _composed(words: list[str]) -> DictConfig:
    with _hydra_aside(), initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("evaluate", words)


@contextmanager
def _hydra_aside() -> Iterator[None]:
    """Within the context, Hydra is as before this program began."""
    instance: Any = GlobalHydra.instance()
    kept = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance.clear()
        instance.hydra = kept
