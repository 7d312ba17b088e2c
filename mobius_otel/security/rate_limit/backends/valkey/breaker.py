"""The circuit breaker of one server.

It opens at the first failure: from then on nobody waits for the server. One thread, and never more than one,
tries the server on nobody's time and closes the breaker as soon as that succeeds; at once, then in growing steps.
A server that fails again soon after it came back is first tried later and later, so that one that answers every
second time is lost and found a few times a minute and not a hundred times a second.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable

from mobius_otel.forks import on_fork

__all__ = ["Breaker"]

_FIRST, _LONGEST = 0.05, 2.0  # seconds between two tries
_STABLE, _LONGEST_REST = 10.0, 10.0


class Breaker:
    """Keeps callers from a server that does not answer.

    Args:
        probe: Tries the server; it raises where that fails. A method: its object is not kept alive.

    Attributes:
        why: The class of the error that opened the breaker; None while it is closed.
    """

    __slots__ = ("__weakref__", "_closed_at", "_lock", "_probe", "_rest", "_stop", "why")

    def __init__(self, probe: Callable[[], object]) -> None:
        self._probe = weakref.WeakMethod(probe)
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self.why: str | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._rest = 0.0  # before the first try
        self._closed_at = -_STABLE

    def trip(self, why: str) -> None:
        """Open it, and begin to try the server.

        Args:
            why: The class of the error.
        """
        with self._lock:
            if self.why is not None or self._stop.is_set():
                return
            self.why = why
            stable = time.monotonic() - self._closed_at >= _STABLE
            rest = self._rest = 0.0 if stable else min(max(self._rest * 2, _FIRST), _LONGEST_REST)
        try:
            threading.Thread(target=_try, args=(weakref.ref(self), self._stop, rest), daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is about to end: ask the server itself next time
            self.why = None

    def stop(self) -> None:
        """Try no more; the breaker stays as it is."""
        self._stop.set()

    def _tried(self) -> bool:
        """Try the server once; return whether that is the end of trying."""
        probe = self._probe()
        if probe is not None:
            try:
                probe()
            except Exception:
                return False
            with self._lock:
                self.why = None
                self._closed_at = time.monotonic()
        return True

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"Breaker({'closed' if self.why is None else f'open: {self.why}'})"


def _try(found: weakref.ref[Breaker], stop: threading.Event, rest: float) -> None:
    delay = 0.0
    while not stop.wait(rest * random.uniform(0.8, 1.2)):  # noqa: S311 - spread, not secrecy
        breaker = found()
        if breaker is None or breaker._tried():
            return
        del breaker  # nobody is kept alive by waiting
        rest = delay = min(max(delay * 2, _FIRST), _LONGEST)
