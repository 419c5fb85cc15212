"""Signals that ask a run to stop: noted at once, obeyed where the run can be continued from."""

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
        """What the signal is called."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name


class StopSignals:
    """Takes over SIGTERM and SIGINT, and whatever other signals somebody has a handler for, while a run trains.

    A second Ctrl-C does not wait: it raises :class:`Stopped` on the spot. Signals that are ignored stay so.

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
        """The first signal that came and was not obeyed yet: whoever obeys it sets this to None."""
        self._owners: dict[int, Handler] = {}
        self._covered: dict[int, Handler] = {}
        self._process = os.getpid()

    def remember(self, numbers: Iterable[int]) -> None:
        """Note whose signals these are now, before a trainer puts its own handlers over them."""
        # Nobody but the main thread is told.
        if threading.current_thread() is threading.main_thread() and not self._covered:
            self._owners = {number: signal.getsignal(number) for number in numbers}

    def take_over(self) -> None:
        """Note signals from now on."""
        if self._covered:
            return
        self._process = os.getpid()
        for number, owner in self._owners.items():
            if owner != signal.SIG_IGN:
                self._covered[number] = signal.signal(number, self._note)

    def missed(self, number: int) -> None:
        """Note a signal that somebody else caught before ``take_over``."""
        if self._owners.get(number) != signal.SIG_IGN:
            self.received = self.received or number

    def give_back(self) -> None:
        """Put the handlers back that ``take_over`` found, where nobody has come before."""
        for number, handler in self._covered.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._covered.clear()

    def owner(self, number: int) -> Handler | None:
        """Who else wants to be told of a signal, such as submitit; None where nobody had asked to."""
        owner = self._owners.get(number)
        return owner if callable(owner) and owner is not signal.default_int_handler else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, self.received or number
        if os.getpid() != self._process:
            # A forked loader process: its parent still wants the batch, and then tells it to end.
            if again:
                os._exit(128 + number)
            return
        if number == signal.SIGINT and again:
            raise Stopped(number)
        if number == signal.SIGINT:
            # Not print: a handler may come in the middle of one.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nStopping after this step; again: at once.\n")


@contextmanager
def stoppable(*numbers: int) -> Iterator[None]:
    """Within the context, signals raise :class:`Stopped` on the spot: for what needs no step to be finished.

    Args:
        numbers: Which; by default Ctrl-C and SIGTERM.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in numbers or (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def be_patient() -> None:
    """In a loader process: leave it to the training process what Ctrl-C means, and end at a second SIGTERM only.

    Terminals and schedulers signal all processes of a job. The training process needs its loaders to reach a point
    where it can save.
    """
    seen = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)
        seen = True

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, note)
