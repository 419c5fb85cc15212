"""Which of one's own images are tested on, and whose background each gets."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.folders import MASK_SUFFIXES
from castlit.evaluation.frozen import ImageList
from castlit.utils.validation import InputError


class Job(NamedTuple):
    """What to make of one image."""

    image: str
    mask: str
    split: str
    place: str
    """Of the results, below each variant's split."""
    donors: tuple[str, ...] = ()
    """Where the backgrounds of MIXED come from: places."""


def plan(
    top: Path,
    images: ImageList,
    masks: list[str],
    classes: list[str],
    usable: NDArray[np.bool_],
    val_share: float,
    seed: int,
) -> list[Job]:
    """Split the usable images, class by class, and draw the backgrounds.

    Args:
        top: Folder of the images.
        images: All of them, with labels.
        masks: The mask of each.
        classes: The classes' names.
        usable: (N,) whether an image is not left out.
        val_share: Share of each class that is tested on; two images at least are, and one is trained on.
        seed: Of all draws.

    Raises:
        InputError: A class has fewer than three usable images.
    """
    assert images.labels is not None
    # Its class and path, and the whole old name: a.jpg and a.png are two images.
    places = [f"{Path(images.path(i)).relative_to(top).as_posix()}.png" for i in range(len(images))]
    split = np.full(len(images), "train")
    val: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        mine = np.flatnonzero((images.labels == label) & usable)
        if len(mine) < 3:
            raise InputError(f"class {name} has {len(mine)} usable images: three at least are needed; see left_out.csv")
        count = int(np.clip(round(val_share * len(mine)), 2, len(mine) - 1))
        val.append(np.random.default_rng((seed, 0, label)).permutation(mine)[:count])
        split[val[-1]] = "val"
    jobs = []
    for i in np.flatnonzero(usable).tolist():
        donors: tuple[str, ...] = ()
        if split[i] == "val":
            label = int(images.labels[i])
            rng = np.random.default_rng((seed, 1, i))
            kinds = (label, int(rng.integers(len(classes))), (label + 1) % len(classes))
            # Never its own: that would be the original, without its surroundings.
            donors = tuple(places[int(rng.choice(val[kind][val[kind] != i]))] for kind in kinds)
        jobs.append(Job(images.path(i), masks[i], str(split[i]), places[i], donors))
    return jobs


def mask_of(top: Path, image: str) -> str:
    """The mask of an image, at the same path below ``masks`` as the image has below ``images``.

    Raises:
        InputError: There is none.
    """
    inside = Path(image).relative_to(top / "images")
    places = [(top / "masks" / inside).with_suffix(suffix) for suffix in MASK_SUFFIXES]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{places[0]}: no such file; each image needs its mask there")
    return str(found)
