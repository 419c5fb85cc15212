"""Where the masks come from that a protocol measures against: a reader must know whether they are ground truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from castlit.data import ArraySource
from castlit.data.index.file_source import FileSource
from castlit.data.io.masks_json import describe_masks, read_masks_file
from castlit.data.io.source import Source
from castlit.data.shards.memory_source import MemorySource
from castlit.saliency.pipeline.signature import Signature, find_signature, read_signature
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
        folder = source.masks if isinstance(source, FileSource) else None
        masks = "the masks in the shards" if folder is None else f"data.masks={display_path(folder)}"
        for made, mark in ((_noted(source), "remove the masks.json beside them"), (_signed(source), "save them anew")):
            if made:
                raise NoGroundTruthError(
                    f"{masks} are saliency maps that castlit made ({made}), no ground truth: give masks that were "
                    f"drawn by hand, or {mark} if these were"
                )


def _origin(source: Source) -> str | None:
    if isinstance(source, FileSource):
        if source.masks is None:
            return None if source.mask_store is None else "the run's own saliency maps, no ground truth"
        if source.masks.is_file():
            return f"{display_path(source.masks)}: the annotated objects"
        return _told(display_path(source.masks), _noted(source) or _signed(source))
    if isinstance(source, ArraySource):
        return "exact, of the built-in scenes"
    return _told("those in the shards", _signed(source))


def _of_folder(masks: Path) -> str:
    noted = read_masks_file(masks)
    made = _signature_of(next(masks.rglob("*.png"), None)) if noted is None else describe_masks(noted)
    return _told(display_path(masks), made)


def _told(masks: str, made: str) -> str:
    origin = f"saliency maps, {made}; no ground truth" if made else "as given, castlit did not make them"
    return f"{masks}: {origin}"


def _noted(source: Source) -> str:
    """How castlit made a source's masks, by their ``masks.json``; empty if there is none."""
    noted = source.masks_json if isinstance(source, FileSource) else None
    return "" if noted is None else describe_masks(noted)


def _signed(source: Source) -> str:
    """Likewise by the signature in the first mask, which copies and shards have, too."""
    if isinstance(source, FileSource):
        return _signature_of(next(filter(None, map(source.mask_path, range(len(source)))), None))
    if isinstance(source, MemorySource):
        mask = next((record.mask for record in source.records if record.mask is not None), None)
        return "" if mask is None else _words(find_signature(mask.data))
    return ""


def _signature_of(path: Path | None) -> str:
    try:
        return "" if path is None else _words(read_signature(path))
    except OSError:
        return ""


def _words(signature: Signature | None) -> str:
    return "" if signature is None else f"{signature.made}, made by castlit"
