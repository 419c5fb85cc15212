"""castlit: contrastive pretraining that learns to look at the objects (CAST, CVPR 2021)."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castlit import attention, callbacks, crops, data, evaluation, interop, methods, nn, optim, saliency
    from castlit.module import CASTModule

    __version__: str

# When imported, albumentations asks the network for a newer version, unless this is set.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__all__ = [
    "CASTModule",
    "__version__",
    "attention",
    "callbacks",
    "crops",
    "data",
    "evaluation",
    "interop",
    "methods",
    "nn",
    "optim",
    "saliency",
]


def __getattr__(name: str) -> object:
    # Subpackages are imported when first used: programs import castlit, and answer --help without torch.
    if name == "__version__":
        return _version()
    if name == "CASTModule":
        return importlib.import_module("castlit.module").CASTModule
    if name in __all__:
        return importlib.import_module(f"castlit.{name}")
    raise AttributeError(f"module 'castlit' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("castlit")
    except PackageNotFoundError:  # torch.hub takes a clone as it is.
        return "0+not.installed"


def __dir__() -> list[str]:
    return __all__
