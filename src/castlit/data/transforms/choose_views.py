"""Which of the makers of views a data module uses, from its arguments."""

from collections.abc import Mapping
from typing import Any

from castlit.data.transforms.both_views import BothViews
from castlit.data.transforms.two_pipelines import TwoPipelines
from castlit.data.transforms.views import TwoViews, ViewOptions
from castlit.utils.validation import InputError

_OF_THE_CROP = ("min_coverage", "scale", "ratio", "law")
_OF_BOTH_BOXES = {"constraint": "saliency", "region": "own"}


def choose_views(size: int, views: Mapping[str, Any] | None, options: ViewOptions, defer: bool) -> BothViews:
    """Make views by castlit's own crops, or by the pipelines in ``views``.

    Args:
        size: Side of the views in pixels.
        views: ``{"query": ..., "key": ...}``, see :class:`TwoPipelines`; None for castlit's own crops.
        options: Those that were given.
        defer: See :class:`TwoViews`.

    Raises:
        InputError: An argument is out of range, or does not go with ``views``.
    """
    if views is None:
        return TwoViews(size, defer=defer, **options)
    if not isinstance(views, Mapping) or set(views) != {"query", "key"}:
        got = f"the keys {', '.join(map(str, views)) or 'of nothing'}" if isinstance(views, Mapping) else repr(views)
        raise InputError(f"views must have the pipelines query and key, got {got}")
    for name in _OF_THE_CROP:
        if name in options:
            raise InputError(f"{name} belongs to the crops in views: give it to their SaliencyCrop")
    for name, only in _OF_BOTH_BOXES.items():
        given = options.get(name, only)
        if given != only:
            raise InputError(
                f"{name}={given} needs both boxes in one image, which views do not have: use {name}={only}"
            )
    return TwoPipelines(
        size, views["query"], views["key"], colours=options.get("colours"), flip=options.get("flip", 0.0), defer=defer
    )
