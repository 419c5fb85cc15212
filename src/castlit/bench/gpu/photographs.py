"""JPEGs in COCO's folders, for a training that reads files."""

from pathlib import Path

from castlit.bench.data import make_photographs

VALIDATION = 32


def make_coco(folder: Path, count: int) -> tuple[Path, Path]:
    """Write 640 × 480 photographs of the built-in scenes and their masks as ``data=coco`` reads them.

    Args:
        folder: An empty one.
        count: Number of training photographs; the first :data:`VALIDATION` of them validate, too.

    Returns:
        ``data.root`` and ``data.masks``.
    """
    made, root = folder / "made", folder / "coco"
    made.mkdir(parents=True)
    make_photographs(made, count)
    for kind, target in (("images", root), ("masks", root / "masks")):
        files = sorted((made / kind).iterdir())
        for split, chosen in (("train2017", files), ("val2017", files[:VALIDATION])):
            (target / split).mkdir(parents=True, exist_ok=True)
            for file in chosen:
                (target / split / file.name).hardlink_to(file)
    return root, root / "masks"
