"""A run over a folder: what is to be made, what becomes of it, and what is written down."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from castlit.data.io.folders import IMAGE_SUFFIXES
from castlit.saliency.pipeline.one_mask import NOTHING, Outcome, Recipe, mask_name
from castlit.saliency.pipeline.preview_sampler import Choice
from castlit.saliency.pipeline.records import Failures, Records
from castlit.saliency.pipeline.survey import Share, State, survey
from castlit.utils.bytes_array import BytesArray, decode, encode
from castlit.utils.progress_log import Pace
from castlit.utils.validation import InputError


@dataclass
class Made:
    """What a run did. Every image is in exactly one of ``made``, ``skipped`` and ``failed``."""

    images: int = 0
    made: int = 0
    """Masks that were not there before."""
    skipped: int = 0
    """Masks that were there already, made with the same settings."""
    failed: int = 0
    """Images without a mask to train with."""
    rate: float | None = None
    """Images per second, all processes together, without their start; None where fewer than two were looked at."""
    workers: int = 0
    failures: str = ""
    """The first few that failed, and why."""
    failed_list: Path | None = None
    """The list of all of them."""
    preview: Path | None = None
    missing: int = 0
    """Shards that have not been run, or not to their end."""

    @property
    def counts(self) -> dict[str, int]:
        """For ``masks.json``."""
        return {"images": self.images, "made": self.made, "skipped": self.skipped, "failed": self.failed}


class Run:
    """The state of a run over a folder.

    Args:
        recipe: What is done to each image.
        share: Which of them.
        records: Where it is noted.
        choice: Of masks to look at.
        overwrite: Whether masks that are there are made again.
    """

    def __init__(self, recipe: Recipe, share: Share, records: Records, choice: Choice, overwrite: bool) -> None:
        self.recipe, self.share, self.records, self.choice, self.overwrite = recipe, share, records, choice, overwrite
        self.made = Made()
        self.failures = Failures(recipe.output / f"failed{share.suffix}.csv")

    def look(self) -> BytesArray:
        """Find out what is there. Writes nothing.

        Returns:
            The names of the images whose masks are to be made, packed.

        Raises:
            InputError: There are no images; or there are masks that this run must not write over.
        """
        foreign = 0
        first = ""

        def to_make() -> Iterator[bytes]:
            nonlocal foreign, first
            for seen in survey(self.recipe.images, self.recipe.output, self.recipe.made, self.share):
                self.made.images += 1
                if seen.state == State.CLASHES:
                    self._fail(seen.name, f"would share its mask with {seen.detail}: rename one of them")
                elif seen.state == State.TO_MAKE or self.overwrite:
                    yield encode(seen.name)
                elif seen.state == State.FOREIGN:
                    foreign += 1
                    first = first or f"{self.recipe.output / mask_name(seen.name)}, {seen.detail}"
                elif seen.signature is not None and seen.signature.figures.area == 0:
                    self._fail(seen.name, NOTHING)
                elif seen.signature is not None:
                    self.made.skipped += 1
                    self.choice.offer(seen.name, seen.signature.figures)

        todo = BytesArray.collect(to_make())
        if self.made.images == 0:
            part = f"shard={self.share.words} of " if self.share.of > 1 else ""
            suffixes = ", ".join(IMAGE_SUFFIXES)
            raise InputError(f"{part}images={self.recipe.images} holds no images ({suffixes}), at any depth")
        if foreign:
            raise InputError(
                f"{foreign} masks are there that this run would not make the same (first: {first}; this run has "
                f"{self.recipe.made}): give another output, or overwrite=true"
            )
        return todo

    def begin(self, todo: BytesArray) -> None:
        """Note that this run has begun, and remove the masks that it makes again: so all that are there are its own.

        Raises:
            InputError: Nothing can be written.
        """
        try:
            self.recipe.output.mkdir(parents=True, exist_ok=True)
            self.records.forget_others()
            self.records.write(self.made.counts, complete=False)
            for name in _texts(todo) if self.overwrite else ():
                (self.recipe.output / mask_name(name)).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"output={self.recipe.output} cannot be written to ({error.strerror})") from None

    def go_through(self, todo: BytesArray, work: Callable[[Iterator[str]], Iterator[Outcome]]) -> None:
        """Do the work, and count what becomes of it.

        Raises:
            InputError: Nothing can be written any more.
        """
        with Pace("Making masks", len(todo)) as pace:
            for outcome in work(_texts(todo)):
                if outcome.stop:
                    raise InputError(
                        f"{outcome.failure}; {self.made.made} masks were made: make room, and the same command goes on"
                    )
                if outcome.failure:
                    self._fail(outcome.name, outcome.failure)
                elif outcome.figures is not None:
                    self.made.made += 1
                    self.choice.offer(outcome.name, outcome.figures)
                pace.advance()
        self.made.rate = pace.rate

    def end(self, *, complete: bool) -> None:
        """Write down what was done.

        Raises:
            OSError: It cannot be written, though all masks were.
        """
        rate = self.made.rate and round(self.made.rate, 2)
        if not complete:
            with suppress(OSError):
                self.failures.write()
                self.records.write(self.made.counts, complete=False, images_per_second=rate)
            return
        self.failures.write()
        self.records.write(self.made.counts, complete=True, images_per_second=rate)
        self.made.failures = self.failures.words
        self.made.failed_list = self.failures.path if self.failures.count else None
        self.made.missing = self.records.missing()

    def _fail(self, name: str, reason: str) -> None:
        self.made.failed += 1
        self.failures.add(name, reason)


def _texts(names: BytesArray) -> Iterator[str]:
    return (decode(names[i]) for i in range(len(names)))
