"""castlit: contrastive pretraining that learns to look at the objects (CAST, CVPR 2021)."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from castlit import attention, callbacks, crops, data, evaluation, interop, methods, nn
    from castlit.module import CASTModule

try:
    __version__ = version("castlit")
except PackageNotFoundError:  # torch.hub takes a clone as it is.
    __version__ = "0+not.installed"
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
]


def __getattr__(name: str) -> object:
    # Subpackages are imported when first used: `import castlit` stays quick.
    if name == "CASTModule":
        return importlib.import_module("castlit.module").CASTModule
    if name in __all__:
        return importlib.import_module(f"castlit.{name}")
    raise AttributeError(f"module 'castlit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
