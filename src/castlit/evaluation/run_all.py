"""``+protocol=all``: run every protocol whose data are given, and write one report."""

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

from castlit.cli.config_dir import CONFIG_MODULE, search_override
from castlit.cli.errors import explain_error
from castlit.cli.overrides import quoted
from castlit.cli.protocols import protocols
from castlit.evaluation.mask_origin import NoGroundTruthError
from castlit.evaluation.report import Section, write_report
from castlit.evaluation.run import run_protocol
from castlit.reporting.results import Results, Table
from castlit.utils.lightning import rank_zero_only
from castlit.utils.validation import InputError, as_list, require_choice

logger = logging.getLogger(__name__)

ALL = "all"

_OWN_DATA = ("data", "crop", "views", "loader", "budget")
"""Groups and keys of the data; ignored for the scenes and for protocols with their own data set."""

_CONFIG_DIR = "command-line"
"""Hydra's name for the folder of ``--config-dir`` among the sources of configs."""


def evaluate_all(
    config: DictConfig,
    output: Path,
    roots: Mapping[str, str | None],
    uses: Mapping[str, str | None],
    skip: Sequence[str] | str = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Results | Table]:
    """Run every protocol whose data are given, and write ``report.html``.

    Protocols that need none of the data sets use the command line's ``data=``. The report lists the error of a protocol
    that fails; the others still run.

    Args:
        config: The config of ``castlit.evaluate``.
        output: The run's folder; each protocol writes to a subfolder.
        roots: Folders of data sets, by name; None if there is none.
        uses: The data set that a protocol needs, by the protocol's name; None if it needs none.
        skip: Protocols to leave out.
        settings: Keys of single protocols, by name, such as ``{voc07: {variant: pool_2x2}}``.

    Returns:
        The results of each protocol.

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
    sections = []
    for name in names:
        reason = _skip_reason(name, roots, uses, left_out)
        logger.info("%s: %s", name, reason or "running")
        if reason:
            sections.append(Section(name, not_run=reason))
            continue
        root = uses[name]
        overrides = _overrides(own_data=root is not None or name == "scenes")
        if root is not None:
            overrides.append(f"++data.root={quoted(str(roots[root]))}")
        sections.append(_run(name, overrides, (settings or {}).get(name, {}), output / name))
    if not any(section.results is not None or section.failed for section in sections):
        raise InputError(f"nothing to run: {'; '.join(f'{section.name} {section.not_run}' for section in sections)}")
    file = output / "report.html"
    _report(file, checkpoint, sections)
    failed = [f"{section.name} ({section.failed})" for section in sections if section.failed]
    if failed:
        raise InputError(f"of the protocols, these failed, and {file} has the others: {'; '.join(failed)}")
    return {section.name: section.results for section in sections if section.results is not None}


@rank_zero_only
def _report(file: Path, checkpoint: str, sections: Sequence[Section]) -> None:
    size = write_report(file, checkpoint, sections)
    print(f"Written to {file} ({size / 1e6:.1f} MB)")
    for section in sections:
        if section.not_run:
            print(f"  not run: {section.name}: {section.not_run}")


def _skip_reason(
    name: str, roots: Mapping[str, str | None], uses: Mapping[str, str | None], skip: Sequence[str]
) -> str:
    """The reason not to run a protocol; empty if there is none."""
    if name in skip:
        return "left out by protocol.skip"
    if name not in uses:
        return "not listed in protocol.uses"
    root = uses[name]
    if root is not None and not roots.get(root):
        return f"needs protocol.roots.{root}=FOLDER"
    return ""


def _run(name: str, overrides: list[str], settings: Mapping[str, Any], folder: Path) -> Section:
    start = time.perf_counter()
    try:
        config = _composed([f"+protocol={name}", *overrides])
        for key, value in settings.items():
            known = [k for k in map(str, config.protocol) if not k.startswith("_")]
            require_choice(f"protocol.settings.{name}", key, known)
            config.protocol[key] = value
        if "compare" not in inspect.signature(get_method(config.protocol._target_)).parameters:
            config.compare = None
        evaluated = run_protocol(config, folder)
    except NoGroundTruthError as error:
        return Section(name, not_run=str(error))
    except Exception as error:
        line = explain_error(error)
        if line is None:  # A mistake of ours: it is logged, and the other protocols still run.
            logger.exception("%s failed", name)
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Section(name, failed=line)
    seconds = time.perf_counter() - start
    return Section(name, evaluated.results, evaluated.published, seconds, folder, masks=evaluated.masks)


def _overrides(own_data: bool) -> list[str]:
    """The command line's overrides, without those of ``+protocol=all`` and of data that the protocol does not use."""
    overrides: list[str] = list(HydraConfig.get().overrides.task)
    keys = ("protocol", *(_OWN_DATA if own_data else ()))
    return [word for word in overrides if word.lstrip("+~").partition("=")[0].partition(".")[0] not in keys]


def _composed(overrides: list[str]) -> DictConfig:
    own = [source.path for source in HydraConfig.get().runtime.config_sources if source.provider == _CONFIG_DIR]
    if own:
        overrides = [*overrides, search_override(own)]
    with _fresh_hydra(), initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return compose("evaluate", overrides)


@contextmanager
def _fresh_hydra() -> Iterator[None]:
    """Clear Hydra's global state within the context, as ``initialize_config_module`` requires."""
    instance: Any = GlobalHydra.instance()
    kept = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        instance.clear()
        instance.hydra = kept
