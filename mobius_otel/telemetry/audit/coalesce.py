"""One record for many equal occurrences, so that a flood of refusals never becomes a flood of durable writes."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.audit.windows import expect
from mobius_otel.telemetry.safety import guarded

__all__ = ["Coalescer"]

K = TypeVar("K", bound=Hashable)


class Coalescer(Generic[K]):
    """Emits the first occurrence of a key at once, and the rest of its window as one with a count.

    A window's end is noticed within a second or so by a thread that runs while one is open, by a clock that says when
    it is moved (a method ``watch``) at once; and at the end of the process. When more keys than `max_sources` have a
    window open, the oldest one is ended early, so nothing goes uncounted.

    Args:
        emit: Called with a key and how many occurrences it stands for; what it raises is swallowed.
        window: Seconds that a key's occurrences are counted for.
        max_sources: How many keys may have a window open.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: `window` or `max_sources` is not above zero.

    Example:
        >>> from mobius_otel.clock import FrozenClock
        >>> clock, seen = FrozenClock(), []
        >>> coalescer = Coalescer(lambda key, count: seen.append((key, count)), window=60, clock=clock)
        >>> for _ in range(5):
        ...     coalescer.add("198.51.100.7")
        >>> _ = clock.advance(60)
        >>> seen
        [('198.51.100.7', 1), ('198.51.100.7', 4)]
    """

    def __init__(
        self,
        emit: Callable[[K, int], object],
        window: float = 60.0,
        max_sources: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        if not window > 0:
            raise ConfigurationError("window", window, "a number of seconds above zero")
        if max_sources < 1:
            raise ConfigurationError("max_sources", max_sources, "a whole number above zero")
        self._emit = emit
        self._window = window
        self._max_sources = max_sources
        self._clock = clock
        self._lock = threading.RLock()
        # Key -> when its window ends, and how many came since it was emitted; the oldest window first.
        self._open: OrderedDict[K, list[float]] = OrderedDict()
        self._next_end = math.inf
        watch = getattr(clock, "watch", None)
        self._look_after = math.inf if watch is not None else window
        if watch is not None:
            watch(self.flush)
        on_fork(self)

    def add(self, key: K) -> None:
        """Count one occurrence of `key`."""
        with self._lock:
            now = self._clock()
            found = self._open.get(key)
            if found is not None and now < self._next_end:  # a flood passes here
                found[1] += 1
                return
            due = self._ended(now)
            found = self._open.get(key)
            if found is not None:
                found[1] += 1
            else:
                if len(self._open) >= self._max_sources:
                    oldest, (_, count) = self._open.popitem(last=False)
                    due.append((oldest, int(count)))
                self._open[key] = [now + self._window, 0]
                self._next_end = min(self._next_end, now + self._window)
                due.append((key, 1))
                if len(self._open) == 1:  # the others end after it
                    expect(self, self._look_after)
        self._tell(due)

    def flush(self, *, everything: bool = False) -> float:
        """Emit the counts of windows that are over.

        Args:
            everything: Also of those that are not, for the end of a process.

        Returns:
            Seconds until the next window is over; infinite where none is open.
        """
        with self._lock:
            now = self._clock()
            due = self._ended(math.inf if everything else now)
            left = self._next_end - now
        self._tell(due)
        return left

    def _ended(self, now: float) -> list[tuple[K, int]]:
        due = []
        while self._open:
            key, (end, count) = next(iter(self._open.items()))
            if end > now:
                break
            del self._open[key]
            due.append((key, int(count)))
        self._next_end = next(iter(self._open.values()))[0] if self._open else math.inf
        return due

    def _tell(self, due: list[tuple[K, int]]) -> None:
        """Emit outside the lock: it may take long, and it may come back here."""
        for key, count in due:
            if count:
                with guarded("audit"):
                    self._emit(key, count)

    def __len__(self) -> int:
        return len(self._open)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._open = OrderedDict()  # the parent emits its own counts

    def __repr__(self) -> str:
        return f"Coalescer({len(self._open)} keys, window={self._window})"
