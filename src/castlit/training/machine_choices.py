"""What ``auto`` means in a training's configuration: it depends on the machine."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from castlit.utils.gpu import GPU

_COLOURS_ON_DEVICE = (None, "moco_v1", "moco_v2")
"""Those that the device can apply; see ``data.photometric``."""


def choices(config: DictConfig, gpu: GPU | None) -> dict[str, Any]:
    """The values of the keys that are ``auto``, by key.

    Args:
        config: Of ``castlit.train``.
        gpu: The GPU to train on; None: a CPU, whose numbers stay those of float32.
    """
    colours = OmegaConf.select(config, "data.colours")
    possible: dict[str, Any] = {
        "trainer.precision": "32-true" if gpu is None else "bf16-mixed" if gpu.bfloat16 else "16-mixed",
        # All batches have one size, so the search for the fastest convolutions pays off.
        "trainer.benchmark": gpu is not None and not OmegaConf.select(config, "trainer.deterministic"),
        "float32_matmul_precision": "highest" if gpu is None else "high",
        "data.photometric": "cpu" if gpu is None or colours not in _COLOURS_ON_DEVICE else "device",
    }
    return {key: value for key, value in possible.items() if OmegaConf.select(config, key) == "auto"}


def with_choices(config: DictConfig, gpu: GPU | None) -> DictConfig:
    """Return a copy of the configuration in which no key is ``auto``."""
    chosen = config.copy()
    for key, value in choices(config, gpu).items():
        OmegaConf.update(chosen, key, value)
    return chosen


def choices_line(config: DictConfig, gpu: GPU | None) -> str | None:
    """The line that says what was chosen, in the words that would choose it; None if nothing was."""
    words = [f"{key}={str(value).lower()}" for key, value in choices(config, gpu).items()]
    return f"Chosen for {'a CPU' if gpu is None else gpu.name}: {' '.join(words)}" if words else None
