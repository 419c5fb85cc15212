"""The GPU that a training would use, and what it can do."""

from typing import NamedTuple

import torch


class GPU(NamedTuple):
    """A GPU."""

    name: str
    bfloat16: bool
    """Whether it computes in bfloat16 itself; older ones emulate it, slowly."""


def find_gpu(accelerator: str = "auto") -> GPU | None:
    """Return the first CUDA device; None if there is none, or if Lightning's ``accelerator`` names another device."""
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return None
    return GPU(torch.cuda.get_device_name(0), torch.cuda.is_bf16_supported(including_emulation=False))
