"""One run over a folder of images."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from castlit.data.io.folders import IMAGE_SUFFIXES
from castlit.saliency.pipeline.one_mask import NOTHING, Outcome, Recipe, mask_name
from castlit.saliency.pipeline.preview_sampler import PreviewSampler
from castlit.saliency.pipeline.records import Failures, Records
from castlit.saliency.pipeline.scan import MaskState, scan
from castlit.saliency.pipeline.shard import Shard
from castlit.utils.bytes_array import BytesArray, decode, encode
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError


@dataclass
class RunSummary:
    """What a run did. Every image counts as one of ``made``, ``skipped`` and ``failed``."""

    images: int = 0
    made: int = 0
    """New masks."""
    skipped: int = 0
    """Masks that existed, made with the same settings."""
    failed: int = 0
    """Images without a mask to train with."""
    rate: float | None = None
    """Images per second of all processes together, not counting their start-up; None for fewer than two images."""
    workers: int = 0
    failures: str = ""
    """The first few failures with their reasons."""
    failed_list: Path | None = None
    """The file that lists all failures."""
    preview: Path | None = None
    missing: int = 0
    """Shards that are not finished."""

    @property
    def counts(self) -> dict[str, int]:
        """For ``masks.json``."""
        return {"images": self.images, "made": self.made, "skipped": self.skipped, "failed": self.failed}


class Run:
    """The state of a run over a folder.

    Args:
        recipe: What is done with each image.
        shard: The images of this run.
        records: The folder's records.
        sampler: Chooses the masks for the preview.
        overwrite: Whether existing masks are made again.
    """

    def __init__(
        self, recipe: Recipe, shard: Shard, records: Records, sampler: PreviewSampler, overwrite: bool
    ) -> None:
        self.recipe, self.shard, self.records, self.overwrite = recipe, shard, records, overwrite
        self.sampler = sampler
        self.summary = RunSummary()
        self.failures = Failures(recipe.output / f"failed{shard.suffix}.csv")

    def scan(self) -> BytesArray:
        """Find the images and their masks. Writes nothing.

        Returns:
            The names of the images whose masks are to be made.

        Raises:
            InputError: There are no images, or there are masks that this run must not overwrite.
        """
        foreign = 0
        first = ""

        def to_make() -> Iterator[bytes]:
            nonlocal foreign, first
            for image in scan(self.recipe.images, self.recipe.output, self.recipe.made, self.shard):
                self.summary.images += 1
                if image.state == MaskState.CLASHES:
                    self._fail(image.name, f"would share its mask with {image.detail}: rename one of them")
                elif image.state == MaskState.TO_MAKE or self.overwrite:
                    yield encode(image.name)
                elif image.state == MaskState.FOREIGN:
                    foreign += 1
                    first = first or f"{self.recipe.output / mask_name(image.name)}, {image.detail}"
                elif image.signature is not None and image.signature.quality.area == 0:
                    self._fail(image.name, NOTHING)
                elif image.signature is not None:
                    self.summary.skipped += 1
                    self.sampler.offer(image.name, image.signature.quality)

        todo = BytesArray.collect(to_make())
        if self.summary.images == 0:
            part = f"shard={self.shard} of " if self.shard.total > 1 else ""
            suffixes = ", ".join(IMAGE_SUFFIXES)
            raise InputError(f"{part}images={self.recipe.images} holds no images ({suffixes}), at any depth")
        if foreign:
            raise InputError(
                f"{foreign} masks exist that were made otherwise (first: {first}; this run has "
                f"{self.recipe.made}): give another output, or overwrite=true"
            )
        return todo

    def begin(self, todo: BytesArray) -> None:
        """Record the start of this run and, with ``overwrite``, remove the masks that it makes again.

        Raises:
            InputError: Nothing can be written.
        """
        try:
            self.recipe.output.mkdir(parents=True, exist_ok=True)
            self.records.remove_outdated()
            self.records.write(self.summary.counts, complete=False)
            for name in _texts(todo) if self.overwrite else ():
                (self.recipe.output / mask_name(name)).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"output={self.recipe.output} cannot be written to ({error.strerror})") from None

    def make(self, todo: BytesArray, work: Callable[[Iterator[str]], Iterator[Outcome]]) -> None:
        """Make the masks and count the outcomes.

        Raises:
            InputError: The disk is full or read-only.
        """
        with ProgressLog("Making masks", len(todo)) as log:
            for outcome in work(_texts(todo)):
                if outcome.stop:
                    raise InputError(
                        f"{outcome.failure}; {self.summary.made} masks were made: free some space, then run the same "
                        "command again"
                    )
                if outcome.failure:
                    self._fail(outcome.name, outcome.failure)
                elif outcome.quality is not None:
                    self.summary.made += 1
                    self.sampler.offer(outcome.name, outcome.quality)
                log.advance()
        self.summary.rate = log.rate

    def end(self, *, complete: bool) -> None:
        """Write the records.

        Raises:
            OSError: They cannot be written.
        """
        rate = self.summary.rate and round(self.summary.rate, 2)
        if not complete:
            with suppress(OSError):
                self.failures.write()
                self.records.write(self.summary.counts, complete=False, images_per_second=rate)
            return
        self.failures.write()
        self.records.write(self.summary.counts, complete=True, images_per_second=rate)
        self.summary.failures = self.failures.summary
        self.summary.failed_list = self.failures.path if self.failures.count else None
        self.summary.missing = self.records.missing()

    def _fail(self, name: str, reason: str) -> None:
        self.summary.failed += 1
        self.failures.add(name, reason)


def _texts(names: BytesArray) -> Iterator[str]:
    return (decode(names[i]) for i in range(len(names)))
