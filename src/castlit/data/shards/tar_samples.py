"""Group the members of a tar file into samples, by webdataset's rule: consecutive files with the same key are one.

The key is the path up to the first dot of the name, the suffix is the rest.
"""

import re
import tarfile
from collections.abc import Iterator
from typing import Any

from webdataset.tariterators import base_plus_ext

from castlit.data.io.folders import is_skipped

RawSample = dict[str, Any]
"""Members by suffix (``jpg``, ``mask.png``); webdataset's ``__key__`` and ``__url__``; and ``__left_out__``, reasons by
suffix."""

MAX_MEMBER = 2**30
"""Bytes of the largest member that is read."""

_MAX_TEXT = 2**20
"""Bytes of the longest name, or of a member's other attributes; tarfile reads them at once."""

_MAX_SKIPPED = 2**36
"""Bytes of the largest member that is skipped: a stream that has ended is read on, block by block."""

_TEXTS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)

_META = re.compile(r"__[^/]*__($|/)")


class TornSampleError(tarfile.TarError):
    """The files of a sample are not next to each other."""


class Header(tarfile.TarInfo):
    """A header with possible sizes: a compressed file of some kilobytes may have a name of gigabytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """Parse a header's block.

        Raises:
            tarfile.TarError: It is damaged, or has an impossible size; or it is missing, since whole files have an end
                mark: tarfile itself would take it for the end, and lose the rest.
        """
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the end mark
            if not buf:
                raise tarfile.ReadError("the end mark is missing: it is empty, cut short or damaged") from None
            raise tarfile.ReadError(f"{error}: it is no tar file, cut short or damaged") from None
        if not 0 <= header.size <= (_MAX_TEXT if header.type in _TEXTS else _MAX_SKIPPED):
            raise tarfile.ReadError(f"a header says {header.size} bytes")
        return header


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a file that was opened with :class:`Header`, without keeping them in memory.

    Raises:
        tarfile.TarError: The file is damaged.
    """
    if tar.offset == 0:
        return  # an empty archive: Python 3.10 cannot be asked again for its next member
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        # As an attribute: the next header would be one that was read before, for ever, or nearly endless zeros away.
        if member.size < 0 or tar.offset - member.offset > 2 * _MAX_SKIPPED:
            raise tarfile.ReadError(f"a header says {member.size} bytes")
        yield member


class SampleOrder:
    """Checks that the files of a sample are next to each other, as a stream of samples needs it."""

    def __init__(self) -> None:
        self._seen: dict[str, frozenset[str]] = {}

    def check(self, key: str, suffixes: frozenset[str]) -> None:
        """Note a sample of consecutive files.

        Raises:
            TornSampleError: It has been seen before, with other suffixes. (With the same ones it is another sample, as
                in joined tar files.)
        """
        before = self._seen.setdefault(key, suffixes)
        if before is not suffixes and before.isdisjoint(suffixes):
            raise TornSampleError(
                f"the files of sample {key} are apart: {', '.join(sorted(before))} and {', '.join(sorted(suffixes))}; "
                "each sample's files must follow one another, as tar --sort=name and castlit.make_shards write them"
            )


def sample_name(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Key and suffix of a member; None for what is no file of a sample.

    That is folders and devices, ``__meta__``, names without a dot, names that start with one, such as macOS's
    ``._a.jpg``, and what is in a folder that :func:`castlit.data.io.folders.is_skipped` names.
    """
    *folders, name = member.name.split("/")
    if not (member.isreg() or member.issym() or member.islnk()) or name.startswith(".") or _META.match(member.name):
        return None
    if any(is_skipped(folder) for folder in folders if folder not in (".", "..")):
        return None
    key, suffix = base_plus_ext(member.name)
    return None if key is None else (key, suffix.lower())


def tar_samples(stream: Any, url: str) -> Iterator[RawSample]:  # noqa: ANN401
    """Read the samples of a tar file, compressed or not, from a stream.

    Links, sparse members and those of more than :data:`MAX_MEMBER` are left out: a small file may hold gigabytes of
    zeros.

    Raises:
        TornSampleError: The files of a sample are not next to each other.
        ValueError: A sample has a file twice.
    """
    order = SampleOrder()
    sample: RawSample = {}
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=Header) as tar:
        for member in members(tar):
            found = sample_name(member)
            if found is None:
                continue
            key, suffix = found
            if sample.get("__key__") != key:
                if sample:
                    yield _checked(sample, order)
                sample = {"__key__": key, "__url__": url}
            left_out = sample.get("__left_out__", {})
            if suffix in sample or suffix in left_out:
                raise ValueError(f"{member.name}: duplicate file name in it")
            reason = _why_left_out(member)
            if reason:
                sample["__left_out__"] = {**left_out, suffix: reason}
            else:
                content = tar.extractfile(member)
                assert content is not None
                sample[suffix] = content.read()
    if sample:
        yield _checked(sample, order)


def _why_left_out(member: tarfile.TarInfo) -> str:
    if not member.isreg():
        return "is a link, whose file is not read: pack it with tar --dereference --hard-dereference"
    if member.issparse():
        return "is a sparse file"
    return f"has {member.size} bytes" if member.size > MAX_MEMBER else ""


def _checked(sample: RawSample, order: SampleOrder) -> RawSample:
    suffixes = frozenset(sample) - {"__key__", "__url__", "__left_out__"} | frozenset(sample.get("__left_out__", ()))
    order.check(sample["__key__"], suffixes)
    return sample
