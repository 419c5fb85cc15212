"""The inputs of a protocol: parts of the checkpoint and the config, by the names of its parameters."""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from castlit.evaluation.network import Explain, Network
from castlit.interop import RANDOM, backbone_name, open_backbone
from castlit.module import CASTModule
from castlit.module.checkpoint_parts import reading
from castlit.module.explain import Explanation
from castlit.nn import batch_statistics, fresh_norms
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table
from castlit.resume.training_run import read_training_checkpoint
from castlit.utils.plain_file import DamagedFileError, read_plain
from castlit.utils.serializable import trusting
from castlit.utils.validation import InputError, as_list, require_int

Protocol = Callable[..., Results | Table]


class CheckpointUnderTest:
    """The checkpoint that is evaluated; each of its parts is loaded at its first use.

    Args:
        config: The config of ``castlit.evaluate``.
        key: The config's key of the checkpoint: ``checkpoint`` or ``compare``.
    """

    def __init__(self, config: DictConfig, key: str = "checkpoint") -> None:
        self.config, self.key = config, key
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def name(self) -> str:
        """The checkpoint as it was typed."""
        return str(self.config[self.key])

    @property
    def path(self) -> str:
        """The same with ``~`` as the home folder, which not every shell replaces behind ``checkpoint=``."""
        return str(Path(self.name).expanduser())

    @cached_property
    def trained_here(self) -> bool:
        """Whether it is a checkpoint of ``castlit.train``, whatever its suffix."""
        if not Path(self.path).is_file():
            return False
        try:
            content = read_plain(self.path, self.name)
        except (OSError, DamagedFileError):
            return False  # castlit.interop may read it, or reports what is wrong.
        settings = content.get(CASTModule.CHECKPOINT_HYPER_PARAMS_KEY) if isinstance(content, Mapping) else None
        return isinstance(settings, Mapping) and "method" in settings

    @cached_property
    def untrained_method(self) -> bool:
        """Whether it is ``random`` beside a checkpoint of ``castlit.train``: the same method, untrained."""
        if self.name != RANDOM or self.config.compare is None or not self._other.trained_here:
            return False
        # backbone= describes the first checkpoint: it may ask for another network than the method's.
        given = self.config.backbone if self.key == "checkpoint" else None
        return given is None or given == backbone_name(self._other.name, self._other.key)

    @property
    def has_method(self) -> bool:
        """Whether it has a method, whose score can be explained."""
        return self.trained_here or self.untrained_method

    @property
    def _other(self) -> "CheckpointUnderTest":
        """The one that it is compared with."""
        return CheckpointUnderTest(self.config, "compare" if self.key == "checkpoint" else "checkpoint")

    @cached_property
    def module(self) -> CASTModule:
        """The trained module, in evaluation mode, on the device; an untrained one for :attr:`untrained_method`.

        Raises:
            InputError: It is not a checkpoint of ``castlit.train``.
        """
        if self.untrained_method:
            return self._on_device(self._untrained())
        if not self.trained_here and (self.name == RANDOM or Path(self.path).is_file()):
            raise InputError(
                f"{self.key}={self.name}: this protocol explains what a method was trained on: give the .ckpt file of "
                "a run of castlit.train"
            )
        read_training_checkpoint(self.path, self.key)
        module = CASTModule.load_from_checkpoint(
            self.path, map_location="cpu", trust=self._trust, **self._given_settings()
        )
        return self._on_device(module)

    def _given_settings(self) -> dict[str, Any]:
        """The user's, in place of the checkpoint's; a checkpoint cannot hold a function of the user's."""
        given = [part for part in ("method", "attention") if part in self.config]
        return {part: instantiate(self.config[part], _convert_="all") for part in given}

    @property
    def _trust(self) -> list[str]:
        return [str(package) for package in as_list(self.config.get("trust") or ())]

    def _untrained(self) -> CASTModule:
        """The other checkpoint's method with new weights; torch's global random state does not change."""
        other = self._other
        saved = read_training_checkpoint(other.path, other.key)[CASTModule.CHECKPOINT_HYPER_PARAMS_KEY]
        known = inspect.signature(CASTModule.__init__).parameters
        with torch.random.fork_rng(devices=[]), reading(other.path, weights_only=True), trusting(self._trust):
            torch.manual_seed(self.config.seed)
            return CASTModule(**{**{key: saved[key] for key in saved if key in known}, **self._given_settings()})

    def _on_device(self, module: CASTModule) -> CASTModule:
        return module.eval().to(self.device, memory_format=torch.channels_last)

    @cached_property
    def backbone(self) -> nn.Module:
        """The backbone, in evaluation mode, on the device; see :func:`castlit.interop.open_backbone`."""
        name = self.config.backbone
        if self.untrained_method:
            return self.module.encoder.backbone.eval()  # type: ignore[union-attr]
        if self.key != "checkpoint":
            # backbone= describes the first checkpoint; it holds for the second too, if that does not name its backbone.
            name = backbone_name(self.name, self.key) or name or backbone_name(str(self.config.checkpoint))
        if name is None and self.trained_here and backbone_name(self.name, self.key) is None:
            return self.module.encoder.backbone.eval()  # type: ignore[union-attr]
        backbone: nn.Module = open_backbone(self.name, name, self.config.seed, self.key)
        return backbone.to(self.device).to(memory_format=torch.channels_last)

    @property
    def explain(self) -> Explain:
        """Computes features and CAMs, see :meth:`castlit.CASTModule.explain`."""
        module = self.module
        norms = fresh_norms(module)
        if not norms:
            return module.explain

        def explain(images: Tensor, masks: Tensor, *keys: Tensor) -> Explanation:
            # As in the validation before training.
            with batch_statistics(module, len(images), norms):
                return module.explain(images, masks, *keys)

        return explain

    @property
    def network(self) -> Network:
        """Name, backbone and explanation, for a protocol that compares two checkpoints."""
        return Network(self.name, self.backbone, self.explain if self.has_method else None)


def published_rows(protocol: Protocol) -> list[PublishedRow]:
    """The list ``PUBLISHED`` of the protocol's module, or none."""
    function = protocol.func if isinstance(protocol, partial) else protocol
    rows: list[PublishedRow] = getattr(sys.modules[function.__module__], "PUBLISHED", [])
    return rows


def open_parameters(protocol: Protocol) -> set[str]:
    """The names of a protocol's parameters that its config does not set."""
    given = protocol.keywords if isinstance(protocol, partial) else {}
    return set(inspect.signature(protocol).parameters) - set(given)


def protocol_inputs(protocol: Protocol, config: DictConfig, output: Path) -> dict[str, Any]:
    """The arguments for a protocol's open parameters, by name; other parts of the checkpoint are not loaded.

    ``backbone`` (in evaluation mode, on its device), ``device``, ``output`` (the run's folder), ``name`` (the
    checkpoint as typed), ``seed``, ``explain`` (for checkpoints of ``castlit.train``; for others, a protocol uses its
    default), ``compare`` (a :class:`castlit.evaluation.network.Network`, or None), and ``config`` (the full one, for a
    protocol that runs others).

    Args:
        protocol: A function, with the config's values bound.
        config: The config of ``castlit.evaluate``.
        output: The run's folder.

    Raises:
        InputError: The checkpoint cannot be loaded; or ``compare`` is given to a protocol that has no such parameter.
    """
    wanted, checkpoint = open_parameters(protocol), CheckpointUnderTest(config)
    if config.compare is not None and not {"compare", "config"} & wanted:
        raise InputError(f"compare={config.compare}: this protocol looks at one checkpoint at a time")
    inputs: dict[str, Any] = {}
    if "explain" in wanted:
        required = inspect.signature(protocol).parameters["explain"].default is inspect.Parameter.empty
        if required or checkpoint.has_method:
            inputs["explain"] = checkpoint.explain
    if "backbone" in wanted:
        inputs["backbone"] = checkpoint.backbone
    if "device" in wanted:
        inputs["device"] = checkpoint.device
    if "output" in wanted:
        inputs["output"] = output
    if "name" in wanted:
        inputs["name"] = checkpoint.name
    if "seed" in wanted:
        inputs["seed"] = require_int("seed", config.seed, 0, 2**32 - 1)
    if "config" in wanted:
        inputs["config"] = config
    if "compare" in wanted:
        inputs["compare"] = None if config.compare is None else CheckpointUnderTest(config, "compare").network
    return inputs
