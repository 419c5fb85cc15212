"""Find image and mask among the members of a shard's sample, and decode them."""

from typing import NamedTuple

import numpy as np

from castlit.data.io.bad_samples import BadSamples
from castlit.data.io.errors import EmptyMaskError, SampleError
from castlit.data.io.image_header import Encoded
from castlit.data.io.images import open_image
from castlit.data.io.mask_fit import Mask, fit_mask
from castlit.data.io.masks import MaskKind, decode_mask
from castlit.data.io.source import Item
from castlit.data.shards.tar_samples import RawSample
from castlit.utils.json_files import load_json

IMAGES = ("jpg", "jpeg", "webp", "bmp", "tif", "tiff", "png")
"""Suffixes of the image, in order of preference."""

MASKS = ("mask.png", "mask.npy", *(f"mask.{suffix}" for suffix in IMAGES[:-1]), "seg.png", "png", "npy")
"""Suffixes of the mask, in order of preference, without that of the image."""

AUTO = "auto"


class Member(NamedTuple):
    """One file of a sample."""

    suffix: str
    data: bytes


class Record(NamedTuple):
    """A sample before decoding."""

    number: int
    """Its number among all samples of the shards."""
    url: str
    key: str
    original: str
    """The file that it was made from; empty if the shard does not say."""
    image: Member | None
    mask: Member | None
    unmasked: bool
    """Whether it has no mask on purpose."""
    note: str = ""
    """What else it has, if image or mask are missing."""

    def name(self, member: Member | None = None) -> str:
        """Its name in messages, or that of one of its members."""
        suffix = "" if member is None else f".{member.suffix}"
        return f"{self.url}: {self.key}{suffix}" + (f" ({self.original})" if self.original else "")


def make_record(sample: RawSample, number: int, masks: str | None) -> Record:
    """Pick image and mask from a sample's members.

    Args:
        sample: Sample of webdataset.
        number: Its number among all samples.
        masks: The mask's suffix; ``"auto"`` takes the first of :data:`MASKS`; None takes no mask.
    """
    image = _first(sample, IMAGES)
    mask = None
    if masks is not None:
        wanted = MASKS if masks == AUTO else (masks,)
        mask = _first(sample, tuple(suffix for suffix in wanted if image is None or suffix != image.suffix))
    metadata = _metadata(sample.get("json", b""))
    original = metadata.get("image")
    return Record(
        number,
        sample["__url__"],
        sample["__key__"],
        original if isinstance(original, str) else "",
        image,
        mask,
        # make_shards writes "mask": null for a sample without a mask.
        unmasked=masks is None or (mask is None and "mask" in metadata and metadata["mask"] is None),
        note="" if image and mask else _note(sample),
    )


class RecordReader:
    """Makes images with masks from records, and applies ``on_bad``.

    Args:
        threshold: Fraction of a mask's full level above which a pixel is salient, in [0, 1].
        bad: Handles bad samples.
        mask_kind: What the pixels of masks mean, see :func:`castlit.data.io.masks.decode_mask`.
    """

    def __init__(self, threshold: float, bad: BadSamples, mask_kind: MaskKind = "auto") -> None:
        self.threshold, self.bad, self.mask_kind = threshold, bad, mask_kind

    def read(self, record: Record) -> Item:
        """The image (a JPEG or PNG is not decoded yet) and its mask; None for a mask that is bad or was left out.

        Raises:
            SampleError: It has no image; or the mask is bad, and ``on_bad`` is not ``"unconstrained"``.
        """
        if record.image is None:
            raise SampleError(f"{record.name()}: has no image (.{', .'.join(IMAGES)}){record.note}")
        name, data = _open(record, record.image)
        image = open_image(data, name)
        if record.unmasked:
            return Item(image, None)
        try:
            return Item(image, self._mask(record, data, (image.shape[0], image.shape[1])))
        except SampleError as error:
            if self.bad.on_bad != "unconstrained":
                raise
            self.bad.handle(record.number, error, mask=True, image=record.name())
            return Item(image, None)

    def give_up(self, record: Record, error: SampleError) -> None:
        """Log that this sample is left out, once.

        Raises:
            SampleError: ``on_bad`` is ``"error"``.
        """
        self.bad.handle(record.number, error, mask=False, image=record.name())

    def _mask(self, record: Record, image: Encoded, shape: tuple[int, int]) -> Mask:
        if record.mask is None:
            raise SampleError(f"{record.name()}: has no mask{record.note}")
        name, data = _open(record, record.mask)
        mask = fit_mask(decode_mask(data, name, self.threshold, self.mask_kind), name, shape, image)
        if not mask.any():
            raise EmptyMaskError(f"{name}: nothing is salient")
        return mask


def _first(sample: RawSample, suffixes: tuple[str, ...]) -> Member | None:
    return next((Member(suffix, sample[suffix]) for suffix in suffixes if suffix in sample), None)


def _note(sample: RawSample) -> str:
    """What a sample has beside the usual files: files that were left out, and names with dots."""
    left_out = [f".{suffix} {reason}" for suffix, reason in sample.get("__left_out__", {}).items()]
    dotted = [suffix for suffix in sample if "." in suffix and suffix.rpartition(".")[2] in (*IMAGES, "npy")]
    dotted = [suffix for suffix in dotted if suffix not in MASKS]
    if dotted:
        left_out.append(
            f"it has {_listed(dotted)}: a sample's name ends at its first dot, so rename such files, or give "
            "masks= the suffix of its mask"
        )
    return "".join(f"; {each}" for each in left_out)


def _listed(suffixes: list[str]) -> str:
    more = f" and {len(suffixes) - 2} more" if len(suffixes) > 2 else ""
    return " and ".join(f".{suffix}" for suffix in suffixes[:2]) + more


def _metadata(data: bytes) -> dict[str, object]:
    """A sample's json member; empty if there is none, or, in shards of other programs, no dictionary."""
    try:
        metadata = load_json(data) if data else {}
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _open(record: Record, member: Member) -> tuple[str, Encoded]:
    name = record.name(member)
    if not member.data:
        raise SampleError(f"{name}: the file is empty")
    return name, np.frombuffer(member.data, np.uint8)
