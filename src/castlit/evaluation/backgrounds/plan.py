"""Plan the variants: the split of the images, and the background of each mixed image."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from castlit.data.io.folders import MASK_SUFFIXES
from castlit.evaluation.frozen import ImageList
from castlit.utils.validation import InputError


class Job(NamedTuple):
    """The variants to make of one image."""

    image: str
    mask: str
    split: str
    place: str
    """Path of the results, below each variant's split."""
    donors: tuple[str, ...] = ()
    """Places of the images whose backgrounds MIXED use."""


def plan(
    top: Path,
    images: ImageList,
    masks: list[str],
    classes: list[str],
    usable: NDArray[np.bool_],
    val_share: float,
    seed: int,
) -> list[Job]:
    """Split the usable images of each class, and sample the backgrounds.

    Args:
        top: Folder of the images.
        images: All of them, with labels.
        masks: The mask of each.
        classes: The classes' names.
        usable: (N,) whether an image can be used.
        val_share: Fraction of each class to test on; at least two test images and one training image.
        seed: Seed of the split and the backgrounds.

    Raises:
        InputError: A class has fewer than three usable images.
    """
    assert images.labels is not None
    # The full file name: a.jpg and a.png are two images.
    places = [f"{Path(images.path(i)).relative_to(top).as_posix()}.png" for i in range(len(images))]
    split = np.full(len(images), "train")
    val: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        mine = np.flatnonzero((images.labels == label) & usable)
        if len(mine) < 3:
            raise InputError(f"class {name} has {len(mine)} usable images: at least three are needed; see left_out.csv")
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
            # Never the image's own background: that would be the original.
            donors = tuple(places[int(rng.choice(val[kind][val[kind] != i]))] for kind in kinds)
        jobs.append(Job(images.path(i), masks[i], str(split[i]), places[i], donors))
    return jobs


def refuse_shared(images: ImageList, masks: list[str]) -> None:
    """Check that each image has its own mask: a.jpg and a.png would share one.

    Raises:
        InputError: Two images have the same one.
    """
    seen: dict[str, int] = {}
    for i, mask in enumerate(masks):
        first = seen.setdefault(mask, i)
        if first != i:
            raise InputError(f"{images.path(first)} and {images.path(i)} have the same mask: rename one of them")


def mask_of(top: Path, image: str) -> str:
    """Return the mask of an image: same path below ``masks`` as the image's below ``images``.

    Raises:
        InputError: There is none.
    """
    inside = Path(image).relative_to(top / "images")
    places = [(top / "masks" / inside).with_suffix(suffix) for suffix in MASK_SUFFIXES]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{places[0]}: no such file; each image needs its mask there")
    return str(found)
