"""Stop signals: recorded at once, handled at a step from which the run can resume."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Any
"""What ``signal.getsignal`` returns."""

PATIENCE_S = 8.0
"""After a signal, a run that waits for a batch ends after this time; it may never come."""

PATIENCE_OF_MANY_S = 20.0
"""Likewise with several processes, where the checkpoint is lost; schedulers kill after 30 s."""


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


class StoppedWaiting(Stopped):
    """A signal ended the run while it waited for a batch, between two steps."""


_waiting_since: float | None = None


@contextmanager
def waiting_for_batch() -> Iterator[None]:
    """Mark that the main thread waits for a batch: :class:`StopSignals` ends a wait that is too long."""
    global _waiting_since
    _waiting_since = time.monotonic()
    try:
        yield
    finally:
        _waiting_since = None


class StopSignals:
    """Records SIGTERM, SIGINT and other signals that had a handler, while a run trains.

    A second Ctrl-C raises :class:`Stopped` at once. Ignored signals stay ignored. Where the run still waits for a batch
    some seconds after the signal, :class:`StoppedWaiting` is raised there: no step would come to handle the signal.

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
        self._overdue = False

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
        if number == signal.SIGINT and again and not self._overdue:
            raise Stopped(number)
        if self._overdue:
            self._overdue = False
            if _waiting_since is not None:
                raise StoppedWaiting(number)
            return
        if not again:
            # Not a Thread: its start takes locks that the interrupted code may hold.
            _thread.start_new_thread(self._end_wait, (number,))
        if number == signal.SIGINT:
            # Not print: the handler may interrupt one.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nStopping after this step; again: at once.\n")

    def _end_wait(self, number: int) -> None:
        """In a thread: signal again, until the first one is handled, where the wait for a batch is too long."""
        from castlit.utils.distributed import world_size  # programs that do not train need no torch

        arrived = time.monotonic()
        patience = PATIENCE_S if world_size() == 1 else PATIENCE_OF_MANY_S
        while self.received is not None and self._covered:
            since = _waiting_since
            if since is not None and time.monotonic() - max(since, arrived) > patience:
                self._overdue = True
                # To the main thread, whose wait it interrupts.
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            time.sleep(0.2)


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
