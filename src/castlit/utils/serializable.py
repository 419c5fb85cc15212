"""Objects that record their constructor's arguments as plain values, so that a checkpoint can rebuild them."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

from castlit.utils.moved import current_name
from castlit.utils.validation import InputError

Spec: TypeAlias = dict[str, Any]
"""A class and its arguments as plain values: ``{"_target_": "package.Class", "argument": value, ...}``."""

TARGET = "_target_"


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


def build(spec: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Make the object that a spec describes.

    It builds only classes that inherit :class:`Described`: a spec comes from a checkpoint file, which must not be able
    to call anything else.

    Raises:
        InputError: The class cannot be found, or does not inherit :class:`Described`.
    """
    target = current_name(str(spec.get(TARGET, "")))
    module_name, _, class_name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot find the class {target!r}: is the package that defines it installed?") from error
    if not (isinstance(cls, type) and issubclass(cls, Described)):
        raise InputError(
            f"{target!r} is not a class that castlit may build: it must inherit castlit.utils.serializable.Described"
        )
    return cls(**{name: _rebuilt(value) for name, value in spec.items() if name != TARGET})


def _rebuilt(value: object) -> object:
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    if isinstance(value, Mapping):
        return build(value) if TARGET in value else {key: _rebuilt(item) for key, item in value.items()}
    return value


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    # torch.load(weights_only=True) refuses subclasses such as numpy's float64.
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    spec = describe(value)
    if spec is None:
        raise TypeError(f"{type(value).__name__} is no plain value")
    return spec
