"""bfloat16 on a CPU: some have instructions for it, others are slower with it than with float32."""

import logging

import torch

from castlit.utils.lightning import pl

logger = logging.getLogger(__name__)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU's convolutions in bfloat16 are fast. True where torch cannot tell."""
    # torch's compiler asks the same; builds without oneDNN have no such operator.
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def warn_if_slow(trainer: pl.Trainer) -> None:
    """Log a warning if the trainer computes in bfloat16 on a CPU that lacks it."""
    precision = str(trainer.precision)
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if trainer.is_global_zero and on_cpu and precision.startswith("bf16") and not cpu_has_bfloat16():
        logger.warning(
            "precision=%s: this CPU has no instructions for bfloat16, and is several times slower with it than with "
            "precision=32-true",
            precision,
        )
