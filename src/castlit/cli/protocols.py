"""What ``castlit.evaluate`` must be given, by the protocol's name: no protocol is imported to tell."""

from importlib.resources import files

from omegaconf import DictConfig, OmegaConf

from castlit.cli.config_dir import CONFIG_MODULE
from castlit.cli.missing import require_complete
from castlit.utils.validation import InputError

WITHOUT_CHECKPOINT = ("castlit.evaluation.evaluate_saliency",)
"""The protocols of castlit that evaluate no checkpoint."""


def protocols() -> list[str]:
    """The names of all protocols."""
    options = (files(CONFIG_MODULE) / "protocol").iterdir()
    return sorted(option.name.removesuffix(".yaml") for option in options if option.name.endswith(".yaml"))


def require_protocol(config: DictConfig) -> None:
    """Check that a protocol and what it reads are given.

    Args:
        config: The config of ``castlit.evaluate``.

    Raises:
        InputError: A key must be given.
    """
    if OmegaConf.is_missing(config, "protocol"):
        raise InputError(f"which protocol? Add one of {', '.join(f'+protocol={name}' for name in protocols())}")
    require_complete(config, "protocol")
    target = str(config.protocol.get("_target_")) if isinstance(config.protocol, DictConfig) else ""
    # A protocol of the user's may need none.
    if target.startswith("castlit.") and target not in WITHOUT_CHECKPOINT:
        require_complete(config, "checkpoint")
