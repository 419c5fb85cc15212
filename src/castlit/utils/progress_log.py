"""Progress of long work: a line in the log every minute, and a bar on a terminal."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from castlit.utils.log_lines import log_line
from castlit.utils.progress import progress

FIRST_LINE_S, EVERY_S = 10, 60

logger = logging.getLogger(__name__)


class ProgressLog:
    """A progress bar with images/s and the time left, and lines in the log; without a terminal, lines in the output.

    Args:
        title: Name of the work.
        total: Number of items.
        clock: A monotonic clock in seconds.
        what: Name of the items.

    Example:
        >>> with ProgressLog("Making masks", 2) as log:
        ...     log.advance()
        ...     log.advance()
        >>> log.done
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
        self._with_first = 1

    def __enter__(self) -> "ProgressLog":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    @property
    def rate(self) -> float | None:
        """Items per second after the first ones, which include the start-up; None before others are done."""
        seconds, done = self._last - self._first, self.done - self._with_first
        return done / seconds if done > 0 and seconds > 0 else None

    def advance(self, count: int = 1) -> None:
        """Count items that are done.

        Args:
            count: Since the last call.
        """
        self._last = self._clock()
        if self.done == 0:
            self._first, self._next_line, self._with_first = self._last, self._last + FIRST_LINE_S, count
        self.done += count
        rate = self.rate
        self._bar.update(self._task, advance=count, rate="" if rate is None else f"{rate:.1f} {self._what}/s")
        if self._last >= self._next_line and rate is not None:
            self._next_line = self._last + EVERY_S
            left = timedelta(seconds=round((self.total - self.done) / rate))
            done = f"{self.done:,} of {self.total:,} ({self.done / self.total:.1%})"
            line = f"{self.title}: {done}, {rate:.1f} {self._what}/s, {left} left"
            log_line(logger, line, console=self._bar.disable)
