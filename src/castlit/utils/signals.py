"""Stop signals: recorded at once, handled at a step from which the run can resume."""

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Any
"""What ``signal.getsignal`` returns."""


class Stopped(SystemExit):
    """A signal ended the run; exit code 128 + its number, as a shell reports it.

    Args:
        number: The signal.
        code: Another exit code.
    """

    def __init__(self, number: int, code: int | None = None) -> None:
        super().__init__(128 + number if code is None else code)
        self.number = number

    @property
    def name(self) -> str:
        """The signal's name."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


class StopSignals:
    """Records SIGTERM, SIGINT and other signals that had a handler, while a run trains.

    A second Ctrl-C raises :class:`Stopped` at once. Ignored signals stay ignored.

    Example:
        >>> signals = StopSignals()
        >>> signals.remember([signal.SIGTERM])
        >>> signals.take_over()
        >>> signals.received is None
        True
        >>> signals.give_back()
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal that is not handled yet; the code that handles it sets this to None."""
        self._owners: dict[int, Handler] = {}
        self._covered: dict[int, Handler] = {}
        self._process = os.getpid()

    def remember(self, numbers: Iterable[int]) -> None:
        """Record the current handlers of these signals, before a trainer installs its own."""
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread() and not self._covered:
            self._owners = {number: signal.getsignal(number) for number in numbers}

    def take_over(self) -> None:
        """Record signals from now on."""
        if self._covered:
            return
        self._process = os.getpid()
        for number, owner in self._owners.items():
            if owner != signal.SIG_IGN:
                self._covered[number] = signal.signal(number, self._note)

    def missed(self, number: int) -> None:
        """Record a signal that another handler caught before ``take_over``."""
        if self._owners.get(number) != signal.SIG_IGN:
            self.received = self.received or number

    def give_back(self) -> None:
        """Restore the handlers that ``take_over`` replaced, except where they were replaced again."""
        for number, handler in self._covered.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._covered.clear()

    def owner(self, number: int) -> Handler | None:
        """Another handler of a signal, such as submitit's; None without one."""
        owner = self._owners.get(number)
        return owner if callable(owner) and owner is not signal.default_int_handler else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, self.received or number
        if os.getpid() != self._process:
            # A forked loader process: the parent still needs its batch, and then ends it.
            if again:
                os._exit(128 + number)
            return
        if number == signal.SIGINT and again:
            raise Stopped(number)
        if number == signal.SIGINT:
            # Not print: the handler may interrupt one.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nStopping after this step; again: at once.\n")


@contextmanager
def stoppable(*numbers: int) -> Iterator[None]:
    """Within the context, signals raise :class:`Stopped` at once: for work that can stop anywhere.

    Args:
        numbers: The signals; by default Ctrl-C and SIGTERM.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers or (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def defer_signals() -> None:
    """In a loader process: ignore Ctrl-C and the first SIGTERM; end at the second one.

    Terminals and schedulers signal all processes of a job, and the training process needs its loaders until it has
    saved.
    """
    seen = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)
        seen = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, note)
