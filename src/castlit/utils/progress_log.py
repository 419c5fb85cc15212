"""How far long work has come: a bar on a terminal, elsewhere a line in the log now and then."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from castlit.utils.progress import progress

FIRST_LINE_S, EVERY_S = 10, 60

logger = logging.getLogger(__name__)


class Pace:
    """A progress bar with images/s and the time left, or lines in the log.

    Args:
        title: What is being done.
        total: How many there are to do.
        clock: Seconds that only grow.
        what: What is counted.

    Example:
        >>> with Pace("Making masks", 2) as pace:
        ...     pace.advance()
        ...     pace.advance()
        >>> pace.done
        2
    """

    def __init__(
        self, title: str, total: int, clock: Callable[[], float] = time.perf_counter, what: str = "images"
    ) -> None:
        self.title, self.total, self.done = title, total, 0
        self._clock, self._what = clock, what
        self._bar = progress(title)
        self._task = self._bar.add_task("", total=total, rate="")
        self._first = self._last = self._next_line = clock()

    def __enter__(self) -> "Pace":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    @property
    def rate(self) -> float | None:
        """Images per second since the first was done, so without what it takes to begin; None before the second."""
        seconds = self._last - self._first
        return (self.done - 1) / seconds if self.done > 1 and seconds > 0 else None

    def advance(self) -> None:
        """Count one."""
        self._last = self._clock()
        if self.done == 0:
            self._first, self._next_line = self._last, self._last + FIRST_LINE_S
        self.done += 1
        rate = self.rate
        self._bar.update(self._task, advance=1, rate="" if rate is None else f"{rate:.1f} {self._what}/s")
        if self._bar.disable and self._last >= self._next_line and rate is not None:
            self._next_line = self._last + EVERY_S
            left = timedelta(seconds=round((self.total - self.done) / rate))
            share = f"{self.done:,} of {self.total:,} ({self.done / self.total:.1%})"
            logger.info("%s: %s, %.1f %s/s, %s left", self.title, share, rate, self._what, left)
