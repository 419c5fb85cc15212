"""The transforms inside an albumentations pipeline, and their random state."""

import random
from typing import Any

import numpy as np


def nodes_of(transform: Any) -> list[Any]:  # noqa: ANN401 - albumentations has no usable types
    """The transform and its descendants. Only containers have any: ColorJitter also has a list named ``transforms``."""
    inner = getattr(transform, "transforms", None)
    if not isinstance(inner, (list, tuple)) or not hasattr(transform, "processors") or hasattr(transform, "apply"):
        return [transform]
    return [transform, *(node for child in inner for node in nodes_of(child))]


def is_transform(node: Any) -> bool:  # noqa: ANN401
    """Whether this is an albumentations transform, or a container of them."""
    return callable(getattr(node, "set_random_seed", None))


def seed_nodes(nodes: list[Any], rng: np.random.Generator) -> None:
    """Give every transform of a pipeline new random generators, seeded from ``rng`` and independent of the others.

    albumentations 2.0.8 repeats its draws in every worker, and ``Compose(seed=...)`` gives all its transforms one seed,
    so that their draws are equal.
    """
    for node, seed in zip(nodes, rng.integers(0, 2**63, len(nodes)).tolist(), strict=True):
        node.random_generator = np.random.default_rng(seed)
        node.py_random = random.Random(seed)
