"""What is evaluated: a checkpoint, and what a protocol may ask of it by the names of its parameters."""

import inspect
import pickle
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from castlit.evaluation.protocol import Explain, Network
from castlit.interop import RANDOM, backbone_name, open_backbone
from castlit.module import CASTModule
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table
from castlit.resume.read_checkpoint import read_checkpoint
from castlit.utils.validation import InputError, require_int

Protocol = Callable[..., Results | Table]


class Subject:
    """The checkpoint of a command line; each of its parts is opened when it is asked for.

    Args:
        config: That of ``castlit.evaluate``.
        key: Under which the checkpoint was given: ``checkpoint`` or ``compare``.
    """

    def __init__(self, config: DictConfig, key: str = "checkpoint") -> None:
        self.config, self.key = config, key
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def name(self) -> str:
        """The checkpoint as it was typed."""
        return str(self.config[self.key])

    @cached_property
    def trained_here(self) -> bool:
        """Whether it is a checkpoint of castlit's training, with a method whose score can be explained."""
        if not self.name.endswith(".ckpt"):
            return False
        try:
            content = torch.load(self.name, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
            return False  # castlit.interop may know more, or says what is wrong.
        return isinstance(content, Mapping) and "method" in content.get(CASTModule.CHECKPOINT_HYPER_PARAMS_KEY, {})

    @cached_property
    def module(self) -> CASTModule:
        """The whole network, ready on its device.

        Raises:
            InputError: It is no checkpoint of castlit's training.
        """
        if not self.trained_here and (self.name == RANDOM or Path(self.name).is_file()):
            raise InputError(
                f"{self.key}={self.name}: this protocol explains what a method was trained on: give the .ckpt file of "
                "a run of castlit.train"
            )
        read_checkpoint(self.name, self.key)
        # As in training, unless the user says otherwise; a function of the user's own cannot be in a checkpoint.
        look = {"attention": instantiate(self.config.attention, _convert_="all")} if "attention" in self.config else {}
        module = CASTModule.load_from_checkpoint(self.name, map_location="cpu", weights_only=True, **look)
        return module.eval().to(self.device, memory_format=torch.channels_last)

    @cached_property
    def backbone(self) -> nn.Module:
        """Its backbone, in evaluation mode, ready on its device; see :func:`castlit.interop.open_backbone`."""
        name = self.config.backbone
        if self.key != "checkpoint":
            # backbone= is about the first; of two, the second is of the same kind where it does not tell its own.
            name = backbone_name(self.name, self.key) or name or backbone_name(str(self.config.checkpoint))
        if name is None and self.trained_here and backbone_name(self.name, self.key) is None:
            return self.module.encoder.backbone.eval()  # type: ignore[union-attr]
        backbone: nn.Module = open_backbone(self.name, name, self.config.seed, self.key)
        return backbone.to(self.device).to(memory_format=torch.channels_last)

    @property
    def explain(self) -> Explain:
        """What its method answers about where it looks, see :meth:`castlit.CASTModule.explain`."""
        return self.module.explain

    @property
    def network(self) -> Network:
        """All of it, for a protocol that compares two."""
        return Network(self.name, self.backbone, self.explain if self.trained_here else None)


def published_rows(protocol: Protocol) -> list[PublishedRow]:
    """What the protocol's module lists as ``PUBLISHED``."""
    function = protocol.func if isinstance(protocol, partial) else protocol
    rows: list[PublishedRow] = getattr(sys.modules[function.__module__], "PUBLISHED", [])
    return rows


def asked_for(protocol: Protocol) -> set[str]:
    """The names of a protocol's parameters that its config leaves open."""
    given = protocol.keywords if isinstance(protocol, partial) else {}
    return set(inspect.signature(protocol).parameters) - set(given)


def hand_over(protocol: Protocol, config: DictConfig, output: Path) -> dict[str, Any]:
    """What a protocol asks for by name.

    ``backbone`` (in evaluation mode, on its device), ``device``, ``output`` (the run's folder), ``name`` (the
    checkpoint as typed), ``seed``, ``explain`` (of a checkpoint of castlit's training; a protocol that has a default
    for it gets that with other checkpoints), ``compare`` (a :class:`castlit.evaluation.protocol.Network`, or None),
    and ``config`` (all of it, for what evaluates by other protocols).

    Args:
        protocol: Of which the config has bound what it says.
        config: That of ``castlit.evaluate``.
        output: The run's folder.

    Raises:
        InputError: The checkpoint does not open; or ``compare`` is given to a protocol that compares nothing.
    """
    wanted, subject = asked_for(protocol), Subject(config)
    if config.compare is not None and not {"compare", "config"} & wanted:
        raise InputError(f"compare={config.compare}: this protocol looks at one checkpoint at a time")
    handed: dict[str, Any] = {}
    if "explain" in wanted:
        required = inspect.signature(protocol).parameters["explain"].default is inspect.Parameter.empty
        if required or subject.trained_here:
            handed["explain"] = subject.explain
    if "backbone" in wanted:
        handed["backbone"] = subject.backbone
    if "device" in wanted:
        handed["device"] = subject.device
    if "output" in wanted:
        handed["output"] = output
    if "name" in wanted:
        handed["name"] = subject.name
    if "seed" in wanted:
        handed["seed"] = require_int("seed", config.seed, 0, 2**32 - 1)
    if "config" in wanted:
        handed["config"] = config
    if "compare" in wanted:
        handed["compare"] = None if config.compare is None else Subject(config, "compare").network
    return handed
