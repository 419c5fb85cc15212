"""Where the masks come from that a protocol measures against: a reader must know whether they are ground truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from castlit.data import ArraySource
from castlit.data.index.file_source import FileSource
from castlit.data.io.masks_json import describe_masks, read_masks_file
from castlit.data.io.source import Source
from castlit.utils.lightning import pl
from castlit.utils.paths import display_path
from castlit.utils.validation import InputError


class NoGroundTruthError(InputError):
    """The masks are castlit's own saliency maps: there is nothing to measure against."""


def protocol_masks(arguments: Mapping[str, Any]) -> str | None:
    """Describe the masks that a protocol with these arguments uses: its data's, or those of ``make_from``.

    Args:
        arguments: By name; a data module after ``setup``.
    """
    data, folder = arguments.get("data"), arguments.get("make_from")
    if data is not None:
        return mask_origin(data)
    return None if folder is None else _of_folder(Path(folder).expanduser() / "masks")


def mask_origin(data: pl.LightningDataModule) -> str | None:
    """Describe the masks of a data module's validation images; None if it has none, or no images to read one by one.

    Args:
        data: After ``setup``.
    """
    sources = getattr(data, "sources", None)
    return None if sources is None else _origin(sources[1])


def require_ground_truth(sources: tuple[Source, ...]) -> None:
    """Check that none of the sources' masks are castlit's own.

    Raises:
        NoGroundTruthError: They are.
    """
    for source in sources:
        if isinstance(source, FileSource) and source.masks is not None and source.masks_json is not None:
            raise NoGroundTruthError(
                f"data.masks={display_path(source.masks)} are saliency maps that castlit made "
                f"({describe_masks(source.masks_json)}), no ground truth: give masks that were drawn by hand, or "
                "remove the masks.json beside them if these were"
            )


def _origin(source: Source) -> str | None:
    if isinstance(source, FileSource):
        if source.masks is None:
            return None if source.mask_store is None else "the run's own saliency maps, no ground truth"
        if source.masks.is_file():
            return f"{display_path(source.masks)}: the annotated objects"
        return _of_folder(source.masks)
    if isinstance(source, ArraySource):
        return "exact, of the built-in scenes"
    return "those in the shards"


def _of_folder(masks: Path) -> str:
    made = read_masks_file(masks)
    if made is not None:
        return f"{display_path(masks)}: saliency maps, {describe_masks(made)}; no ground truth"
    return f"{display_path(masks)}: as given, castlit did not make them"
