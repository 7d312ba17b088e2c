"""The denials of one limiter: how many, whose, and when that is told.

A flood of refusals must not become a flood of durable writes: the first denial is told at once, the others of
its window in one record when the window is over, with a count and the keys that were denied most.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["BATCH", "Denials", "Sketch", "Told"]

#: How many denials, and the keys that were denied most in the whole window, each with how often at least.
Told = tuple[int, list[tuple[Hashable, int]]]
#: How many keys are counted at once.
BATCH: Final = 128
#: Keys that a sketch counts, and that a record names.
_SIZE: Final = 64
_TOLD: Final = 10
_NO_WINDOW: Final = -(2**63)


class Sketch:
    """The most frequent of any number of keys, in bounded memory.

    Space-saving (Metwally, Agrawal, El Abbadi 2005) in the form of Misra and Gries, which batches can be merged
    into (Agarwal et al. 2012): of N occurrences a key is counted at least its number less N / (size + 1), and
    never more often than it came; one with more than that many occurrences is always there.

    Args:
        size: How many keys are counted.

    Example:
        >>> sketch = Sketch(size=2)
        >>> sketch.add(["a", "b", "a", "c", "a"])
        >>> sketch.top(1)
        [('a', 2)]
    """

    __slots__ = ("_counts", "_size")

    def __init__(self, size: int = _SIZE) -> None:
        self._size = size
        self._counts: Counter[Hashable] = Counter()

    def add(self, keys: list[Hashable]) -> None:
        """Count `keys`."""
        counts, different = self._counts, set(keys)
        least = 0
        if len(different) == 1:  # one key that is denied again and again is the usual flood
            counts[keys[0]] += len(keys)
        elif len(different) == len(keys) > self._size and different.isdisjoint(counts):
            least = 1  # so many new ones, once each: more than there is room for, and each of them cuts itself off
        else:
            counts.update(keys)
        if len(counts) > self._size:
            least = sorted(counts.values(), reverse=True)[self._size]
        if least and counts:
            self._counts = Counter({key: count - least for key, count in counts.items() if count > least})

    def top(self, number: int) -> list[tuple[Hashable, int]]:
        """Return the most frequent keys, each with how often it came at least."""
        return Counter(self._counts).most_common(number)

    def __len__(self) -> int:
        return len(self._counts)


class Denials:
    """Counts denials and says when somebody is to be told of them.

    Args:
        window: Nanoseconds for which denials become one record.
        now: Returns the time in nanoseconds.

    Example:
        >>> denials = Denials(window=60, now=lambda: 70)
        >>> [denials.add("client-42", at) for at in (5, 6, 7)]
        [[(1, [('client-42', 1)])], [], []]
        >>> denials.flush()
        [(2, [('client-42', 3)])]
    """

    __slots__ = ("_before", "_count", "_lock", "_sketch", "_window", "due", "keys", "now")

    def __init__(self, window: int, now: Callable[[], int]) -> None:
        self._window = window
        self.now = now
        #: Denied keys that are not counted yet; appending to it needs no lock.
        self.keys: list[Hashable] = []
        self.begin()

    def begin(self) -> None:
        """Forget everything, for a new process."""
        self._lock = threading.Lock()
        self.keys.clear()
        #: When the window is over that denials are counted for, in nanoseconds.
        self.due = _NO_WINDOW
        self._count = 0
        self._sketch = Sketch()
        self._before = Sketch()

    def add(self, key: Hashable, now: int) -> list[Told]:
        """Count a denial of `key` at `now`, in nanoseconds; return what is to be told, mostly nothing."""
        self.keys.append(key)
        return self.fold(now) if now >= self.due or len(self.keys) >= BATCH else []

    def fold(self, now: int) -> list[Told]:
        """Count :attr:`keys`: at a window's end, and when there are :data:`BATCH`; return what is to be told."""
        with self._lock:
            if now < self.due or not self.keys:
                self._gather()
                return []
            newest = self.keys.pop()
            told = self._over()
            self._sketch.add([newest])
            self.due = now + self._window
            return [*told, (1, [(newest, 1)])]

    def flush(self, *, everything: bool = False) -> list[Told]:
        """Return what is to be told of a window that is over.

        Args:
            everything: Also of one that is not, for the end of a process.
        """
        with self._lock:
            if everything or self.now() >= self.due:
                return self._over()
            self._gather()
            return []

    def left(self) -> float:
        """Return the nanoseconds until the window is over; infinite where none is open."""
        due = self.due
        return math.inf if due == _NO_WINDOW else due - self.now()

    def top(self, number: int) -> list[tuple[Hashable, int]]:
        """Return the keys that were denied most in this window and the one before."""
        with self._lock:
            self._gather()
            both = Counter(dict(self._sketch.top(_SIZE)))
            both.update(dict(self._before.top(_SIZE)))
        return both.most_common(number)

    def _gather(self) -> None:
        batch = self.keys[:]
        del self.keys[: len(batch)]  # what came meanwhile stays
        self._count += len(batch)
        self._sketch.add(batch)

    def _over(self) -> list[Told]:
        """End the window; return what is to be told of it."""
        self._gather()
        told = [(self._count, self._sketch.top(_TOLD))] if self._count else []
        if self.due != _NO_WINDOW:
            self._before, self._sketch = self._sketch, Sketch()
        self._count, self.due = 0, _NO_WINDOW
        return told
