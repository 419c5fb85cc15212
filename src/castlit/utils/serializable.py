"""Objects that record their constructor's arguments as plain values, so that a checkpoint can rebuild them."""

import importlib
import inspect
import numbers
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from operator import attrgetter
from types import ModuleType
from typing import Any, TypeAlias

from castlit.utils.moved import current_name
from castlit.utils.validation import InputError

Spec: TypeAlias = dict[str, Any]
"""A class and its arguments as plain values: ``{"_target_": "package.Class", "argument": value, ...}``."""

TARGET = "_target_"

_trusted: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())
"""Packages that a spec may import."""


class Described:
    """Mixin that records the constructor's arguments for :func:`describe`.

    ``__new__`` records them, so subclasses need no code for it.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Described":  # noqa: ANN401
        """Record the arguments and create the object."""
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", (args, kwargs))
        return self


def describe(instance: object) -> Spec | None:
    """Return the spec from which :func:`build` makes an equal, fresh object.

    Returns:
        The spec; ``None`` if the object does not inherit :class:`Described`, or an argument is no plain value, such as
        a network built elsewhere.
    """
    if not isinstance(instance, Described):
        return None
    cls = type(instance)
    args, kwargs = instance._arguments
    signature = inspect.signature(cls.__init__)
    bound = signature.bind(instance, *args, **kwargs)
    bound.apply_defaults()
    spec: Spec = {TARGET: f"{cls.__module__}.{cls.__qualname__}"}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL and value:
            return None  # Positional varargs have no names.
        try:
            if kind is inspect.Parameter.VAR_KEYWORD:
                spec.update({key: _plain(item) for key, item in value.items()})
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                spec[name] = _plain(value)
        except TypeError:
            return None
    return spec


@contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """Within the context, :func:`build` may import these packages and modules.

    Args:
        packages: Names, such as ``my_method``.
    """
    before = _trusted.set((*_trusted.get(), *packages))
    try:
        yield
    finally:
        _trusted.reset(before)


def build(spec: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Make the object that a spec describes.

    A spec comes from a checkpoint file, which must not be able to run code of its choice. So it names a class that
    inherits :class:`Described`, in a module of castlit, or one that this process has imported already, or one that the
    user trusts (:func:`trusting`). No other module is imported, and nothing else is called.

    Raises:
        InputError: The class cannot be found there, does not inherit :class:`Described`, or does not take these
            arguments.
    """
    target = current_name(str(spec.get(TARGET, "")))
    cls = _find(target)
    if not (isinstance(cls, type) and issubclass(cls, Described)):
        raise InputError(
            f"{target!r} is not a class that castlit may build: it must inherit castlit.utils.serializable.Described"
        )
    arguments = {str(name): _rebuilt(value) for name, value in spec.items() if name != TARGET}
    try:
        inspect.signature(cls.__init__).bind(None, **arguments)
    except TypeError as error:
        raise InputError(f"{target}: {error}: the checkpoint is of another version of castlit, or damaged") from error
    try:
        return cls(**arguments)
    except InputError:
        raise
    except Exception as error:  # values of other types than the class expects
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{target} cannot be built as the checkpoint says ({what})") from error


def _find(target: str) -> object:
    """The class of this full name; it may be inside another one."""
    parts = target.split(".")
    if len(parts) < 2 or not all(map(str.isidentifier, parts)):
        raise InputError(f"cannot find the class {target!r}: that is no full name of a class")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        with suppress(AttributeError):
            return attrgetter(".".join(parts[count:]))(_module(name))
    if _may_import(target):
        raise InputError(f"cannot find the class {target!r}: is the package that defines it installed?")
    raise InputError(
        f"cannot find the class {target!r} in what is imported, and a checkpoint may import castlit only: if you trust "
        f"it, import {parts[0]} first, or give trust={parts[0]}"
    )


def _module(name: str) -> ModuleType | None:
    """The module, if it is imported already or may be; None if there is none."""
    if not _may_import(name):
        return sys.modules.get(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise InputError(f"cannot import {name}, which the checkpoint names: {error}") from error


def _may_import(name: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in ("castlit", *_trusted.get()))


def _rebuilt(value: object) -> object:
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    if isinstance(value, Mapping):
        return build(value) if TARGET in value else {key: _rebuilt(item) for key, item in value.items()}
    return value


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    # torch.load(weights_only=True) refuses NumPy's numbers and strings.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    spec = describe(value)
    if spec is None:
        raise TypeError(f"{type(value).__name__} is no plain value")
    return spec
