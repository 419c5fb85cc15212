"""Read a pickle that holds arrays and plain values, and nothing that runs."""

import codecs
import importlib
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import NumpyVersion

# Before 2.0, numpy called this numpy.core.
MULTIARRAY: Any = importlib.import_module(
    "numpy._core.multiarray" if NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core.multiarray"
)


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of Python 2's protocol make bytes with, for that encoding alone."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return codecs.encode(text, "latin1")


# numpy's own way to write arrays.
_ARRAYS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): getattr(MULTIARRAY, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Only what arrays and plain containers are made of; everything else could be code."""
        try:
            return _ARRAYS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it needs {module}.{name}") from None


def read_plain_pickle(path: Path) -> Any:  # noqa: ANN401
    """Read a pickle of numpy arrays, numbers, strings and containers of these, as detectron2 writes its weights.

    Raises:
        pickle.UnpicklingError: The file is no pickle, or asks for anything else; nothing of it was run.
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # A damaged pickle can raise anything.
            raise pickle.UnpicklingError(f"damaged: {type(error).__name__}") from error
