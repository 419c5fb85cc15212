"""Where the masks come from that a protocol measures against: a reader must know whether they are ground truth."""

import pytorch_lightning as pl

from castlit.data import ArraySource
from castlit.data.index.file_source import FileSource
from castlit.data.io.masks_json import describe_masks
from castlit.data.io.source import Source
from castlit.utils.paths import display_path
from castlit.utils.validation import InputError


class NoGroundTruthError(InputError):
    """The masks are castlit's own saliency maps: there is nothing to measure against."""


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
        place = display_path(source.masks)
        if source.masks_json is not None:
            return f"{place}: saliency maps, {describe_masks(source.masks_json)}; no ground truth"
        if source.masks.is_file():
            return f"{place}: the annotated objects"
        return f"{place}: as given, castlit did not make them"
    if isinstance(source, ArraySource):
        return "exact, of the built-in scenes"
    return "those in the shards"
