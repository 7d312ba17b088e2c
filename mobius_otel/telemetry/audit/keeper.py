"""The thread that brings what lies in a ledger's tail into its database, off every request's path."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import threading
import time
import weakref
from types import BuiltinFunctionType
from typing import Final, Protocol

from mobius_otel.telemetry.safety import guarded

__all__ = ["Keeper", "Kept"]

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()
_PAUSE_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 10.0


class Kept(Protocol):
    """What has a tail."""

    def bring_in(self) -> bool:
        """Bring in what lies in the tail; return whether nothing has to be tried again. Never raises."""
        ...


class Keeper:
    """Wakes a moment after something was left in the tail; ends when nothing is for ten seconds.

    It is a daemon: an orderly exit of the interpreter brings in what it did not, any other end leaves that in the tail.
    Only while something lies there is the ledger held, so that one that nobody else holds is let go.

    Its thread is one of the low level: ``Thread.start`` waits until it runs, which while an interpreter ends is never,
    and a signal handler that raises may leave such a thread half begun. Whoever appends asks whether it is at work.

    Where gevent or eventlet made threads cooperative it is a greenlet, and its locks may be older than that: to wait in
    one would stop them all. So it does not wait there, but ends, and the next that appends begins another.
    """

    __slots__ = ("__weakref__", "_asleep", "_at_work", "_lock", "_over", "serves")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Free once it is woken. An event's own lock would stay taken where a signal handler raises in it.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        #: Held by the thread for as long as it runs.
        self._at_work = threading.Lock()
        self._over = False
        #: Whose tail it is about to bring in.
        self.serves: Kept | None = None
        _keepers.add(self)

    def is_due(self) -> bool:
        """Return whether nobody is about to bring in what lies in the tail."""
        return self.serves is None or not self._at_work.locked()

    def wake(self, ledger: Kept) -> None:
        """Have what lies in the tail of `ledger` brought in soon."""
        with self._lock:
            self.serves, self._over = ledger, False
            self._rouse()
            if not self._at_work.locked():
                with contextlib.suppress(RuntimeError):  # no thread can be had: it stays in the tail
                    _thread.start_new_thread(self._run, ())

    def end(self) -> None:
        """End the thread: the ledger is closed."""
        with self._lock:
            self.serves, self._over = None, True
            self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake
            self._asleep.release()

    def _run(self) -> None:
        if not self._at_work.acquire(blocking=False):
            return  # another one was quicker
        sleep = time.sleep  # a thread that began before threads became cooperative stays what it is
        try:
            while not self._over and (self._is_woken() or not self._has_ended()):
                sleep(_PAUSE_SECONDS)
                ledger, self.serves = self.serves, None  # from here on, whoever appends wakes it again
                while ledger is not None and not self._done(ledger):
                    sleep(_RETRY_SECONDS)
                ledger = None
        finally:
            with contextlib.suppress(RuntimeError):
                self._at_work.release()
        if (ledger := self.serves) is not None:  # who left something there while this was about to end
            self.wake(ledger)

    def _is_woken(self) -> bool:
        cooperative = type(_thread.start_new_thread) is not BuiltinFunctionType
        return self._asleep.acquire(blocking=False) if cooperative else self._asleep.acquire(timeout=_IDLE_SECONDS)

    @staticmethod
    def _done(ledger: Kept) -> bool:
        with guarded("audit"):
            return ledger.bring_in()
        return True

    def _has_ended(self) -> bool:
        with self._lock:
            return self._asleep.locked() and self.serves is None


def _at_exit() -> None:
    """Leave no tail behind where the interpreter ends in good order and nobody closed the ledger."""
    for keeper in list(_keepers):
        ledger, keeper.serves = keeper.serves, None
        if ledger is not None:
            with guarded("audit"):
                ledger.bring_in()


atexit.register(_at_exit)
