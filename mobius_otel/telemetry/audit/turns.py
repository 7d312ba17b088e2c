"""Threads that write at once: one works for all that wait, and each gets its turn.

A plain lock would do for correctness. But a thread that lets go of one takes it again before another is awake, for as
long as the interpreter lets it run: some records would wait a hundred times longer than others. Here the turn is handed
on, and the records of those who wait go into one transaction, so that they share its cost, an fsync above all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from mobius_otel.errors import AuditUnavailable

__all__ = ["Fairness", "Turns", "Waiting"]

_AT_ONCE: Final = 512
_LOOK_SECONDS: Final = 5.0


class Fairness:
    """Lets other threads run that do the same, after each piece of work (``with``).

    A thread that computes keeps the interpreter for 5 ms, while others that wait for it do not even reach the queue.
    """

    __slots__ = ("_inside",)

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def __enter__(self) -> None:
        self._inside.add(threading.get_ident())

    def __exit__(self, *exception: object) -> None:
        try:
            # Who sleeps here is inside still: it is about to wait for the interpreter, and others have to see it.
            if len(self._inside) > 1:
                time.sleep(0)
        finally:
            self._inside.discard(threading.get_ident())

    def renew(self) -> None:
        """Start anew, in a forked child."""
        self._inside = set()


class Waiting:
    """Something that a thread wants to have done.

    Args:
        what: What is to be written; None: a turn of its own.
    """

    __slots__ = ("done", "error", "gate", "leads", "thread", "what")

    def __init__(self, what: Any) -> None:
        self.what = what
        self.done: Any = None
        self.error: AuditUnavailable | None = None
        self.leads = False
        self.gate: Any = None
        self.thread = threading.get_ident()


class Turns:
    """Hands the turn from thread to thread, in the order of their coming.

    Args:
        work: Does what is waiting: sets ``done`` or ``error`` of each.
    """

    def __init__(self, work: Callable[[list[Waiting]], None]) -> None:
        self._work = work
        self.renew()

    def renew(self) -> None:
        """Start anew, in a forked child."""
        self._mutex = threading.Lock()
        self._queue: deque[Waiting] = deque()
        self._leader: Waiting | None = None

    def do(self, what: Any) -> Any:
        """Have `what` done, by this thread or another; return its ``done``.

        Raises:
            AuditUnavailable: Its ``error``; or this thread was interrupted by a signal while it did the same.
        """
        mine = Waiting(what)
        try:
            if self._come(mine):
                # Where nobody was before, nobody waits.
                self._work([mine] if mine.gate is None else self._take())
        finally:
            if mine.leads:
                self._hand_on()
        if mine.error is not None:
            raise mine.error
        return mine.done

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the turn for a block.

        Raises:
            AuditUnavailable: This thread was interrupted by a signal while it held the turn.
        """
        mine = Waiting(None)
        try:
            self._come(mine)
            with self._mutex, contextlib.suppress(ValueError):
                self._queue.remove(mine)
            yield
        finally:
            if mine.leads:
                self._hand_on()

    def _come(self, mine: Waiting) -> bool:
        """Wait for the turn, or until another thread has done it; return whether it is this thread's turn."""
        with self._mutex:
            leader = self._leader
            if leader is None:
                self._leader, mine.leads = mine, True
                return True
            if leader.thread == mine.thread or any(other.thread == mine.thread for other in self._queue):
                raise AuditUnavailable("a signal interrupted the thread while it was recording")
            mine.gate = threading.Lock()
            mine.gate.acquire()
            self._queue.append(mine)
        try:
            while not mine.gate.acquire(timeout=_LOOK_SECONDS):
                self._look(mine)
        except BaseException:
            with self._mutex, contextlib.suppress(ValueError):
                self._queue.remove(mine)
            raise
        return mine.leads

    def _look(self, mine: Waiting) -> None:
        """Take the turn of a thread that ended without handing it on."""
        with self._mutex:
            leader = self._leader
            if leader is not None and not any(one.ident == leader.thread for one in threading.enumerate()):
                self._leader, mine.leads = mine, True
                mine.gate.release()

    def _take(self) -> list[Waiting]:
        """Take what waits, as far as somebody who wants a turn of his own."""
        with self._mutex:
            found: list[Waiting] = []
            while self._queue and self._queue[0].what is not None and len(found) < _AT_ONCE:
                found.append(self._queue.popleft())
            return found

    def _hand_on(self) -> None:
        with self._mutex:
            following = self._leader = self._queue[0] if self._queue else None
            if following is not None:
                following.leads = True
                following.gate.release()

    def tell(self, done: list[Waiting]) -> None:
        """Wake the threads whose work is done."""
        for one in done:
            if one.gate is not None and not one.leads:
                one.gate.release()
