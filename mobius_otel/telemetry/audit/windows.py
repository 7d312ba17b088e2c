"""The ends of windows: what is counted for one record is told when its window is over, and before the process ends."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import math
import threading
import time
from typing import Final, Protocol

from mobius_otel.forks import on_fork
from mobius_otel.telemetry.safety import guarded

__all__ = ["Counting", "expect", "tell_the_rest"]

_SHORTEST_LOOK: Final = 0.05
_LONGEST_LOOK: Final = 1.0
#: How long an end waits for what is being told just then.
_TELLING_SECONDS: Final = 3.0


class Counting(Protocol):
    """What counts occurrences that become one record."""

    def flush(self, *, everything: bool = False) -> float:
        """Record what was counted in windows that are over.

        Args:
            everything: Also in those that are not, for the end of a process.

        Returns:
            Seconds until the next window is over; infinite where none is open.
        """
        ...


class _Windows:
    """Who has a window open, and the thread that looks whether it is over; it ends when nobody has.

    Who counts is held for so long: also of a limiter that is gone nothing goes uncounted. The thread is one of the low
    level, for the reasons that the ledger's keeper has.
    """

    def __init__(self) -> None:
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        #: Held while something is told, so that an end does not come between.
        self._telling = threading.RLock()
        #: Held by the thread for as long as it runs.
        self._at_work = threading.Lock()
        #: Who counts, and when the next of its windows is over.
        self._open: dict[Counting, float] = {}
        self._at_exit = False

    def expect(self, each: Counting, seconds: float) -> None:
        with self._lock:
            self._open[each] = time.monotonic() + seconds
            if not self._at_exit:
                self._at_exit = True
                # Now and not at the import: what is registered last runs first, and providers are there by now.
                atexit.unregister(tell_the_rest)
                atexit.register(tell_the_rest)
        if seconds < math.inf:
            self._start()

    def tell_the_rest(self) -> None:
        held = self._telling.acquire(timeout=_TELLING_SECONDS)
        try:
            for each, due in self._opened():
                self._tell(each, due, everything=True)
        finally:
            if held:
                self._telling.release()

    def _opened(self) -> list[tuple[Counting, float]]:
        with self._lock:
            return list(self._open.items())

    def _tell(self, each: Counting, due: float, *, everything: bool = False) -> None:
        left = math.inf
        with guarded("audit"):
            left = each.flush(everything=everything)
        with self._lock:
            if self._open.get(each) is due:  # else another window was opened meanwhile
                if left < math.inf:
                    self._open[each] = time.monotonic() + left
                else:
                    del self._open[each]

    def _start(self) -> None:
        if not self._at_work.locked():
            with contextlib.suppress(RuntimeError):  # no thread can be had: the next occurrence, or the end, tells
                _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        if not self._at_work.acquire(blocking=False):
            return  # another one was quicker
        try:
            nap = threading.Event()  # made here: what makes threads cooperative may have come after the import
            while (pause := self._look()) < math.inf:
                nap.wait(min(max(pause, _SHORTEST_LOOK), _LONGEST_LOOK))
        finally:
            self._at_work.release()
        if any(due < math.inf for _, due in self._opened()):  # who opened one while this was about to end
            self._start()

    def _look(self) -> float:
        """Tell of what is over; return the seconds until the next is."""
        now = time.monotonic()
        for each, due in self._opened():
            if due <= now:
                with self._telling:
                    self._tell(each, due)
        return min((due for _, due in self._opened()), default=math.inf) - time.monotonic()

    def _after_fork_in_child(self) -> None:
        self._begin()  # the parent tells of its own


_windows = _Windows()


def expect(each: Counting, seconds: float) -> None:
    """Have what `each` counts told when its window is over, and at the end of the process at the latest.

    Args:
        each: Who has opened a window.
        seconds: How long that is; infinite: it is told of its end otherwise, as by a clock that says when it is moved.
    """
    _windows.expect(each, seconds)


def tell_the_rest() -> None:
    """Record everything that is being counted: at the end of the process, or of what is configured."""
    _windows.tell_the_rest()
