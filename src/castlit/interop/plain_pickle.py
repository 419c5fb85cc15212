"""Read a pickle of arrays and plain values, and refuse any code."""

import codecs
import importlib
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import NumpyVersion

# numpy.core before numpy 2.0.
MULTIARRAY: Any = importlib.import_module(
    "numpy._core.multiarray" if NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core.multiarray"
)


def _latin1(text: str, encoding: str) -> bytes:
    """``codecs.encode`` as protocol 2 pickles use it for bytes; refuses other encodings."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return codecs.encode(text, "latin1")


# The names in a pickle of numpy arrays.
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
        """Return only the classes of arrays and plain containers; everything else could be code."""
        try:
            return _ARRAYS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it needs {module}.{name}") from None


def read_plain_pickle(path: Path) -> Any:  # noqa: ANN401
    """Read a pickle of numpy arrays, numbers, strings and containers of these, such as detectron2's weights.

    Raises:
        pickle.UnpicklingError: The file is no pickle, or needs anything else; nothing in it was executed.
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # A damaged pickle can raise anything.
            raise pickle.UnpicklingError(f"damaged: {type(error).__name__}") from error
