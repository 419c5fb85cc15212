"""Names of a package that are imported when they are first used, so that importing the package is quick (PEP 562)."""

import importlib
import sys
from collections.abc import Mapping
from importlib.util import find_spec


def lazy_attribute(package: str, name: str, homes: Mapping[str, str]) -> object:
    """Import what a package offers by a name: for its ``__getattr__``.

    Args:
        package: The package's full name.
        name: The attribute.
        homes: The module below the package that defines each of its names. Modules and packages directly below it need
            no entry.

    Raises:
        AttributeError: The package has no such name.
    """
    if name in homes:
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)  # the next use does not come here
        return found
    if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
        return importlib.import_module(f"{package}.{name}")
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
