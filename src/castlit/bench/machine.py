"""The machine of a measurement."""

import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from castlit.utils.cores import available_cores

PACKAGES = ("castlit", "torch", "torchvision", "pytorch-lightning", "numpy", "opencv-python-headless", "pillow")
PEERS = ("albumentations", "lightly")
"""Listed where they are installed."""


def machine() -> dict[str, object]:
    """Processor, cores, accelerator and versions of this machine, in plain values."""
    import torch  # not at the top: studies report their machine when all is done

    return {
        "cpu": _processor(),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in (*PACKAGES, *filter(find_spec, PEERS))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
