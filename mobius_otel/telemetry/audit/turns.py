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
from collections.abc import Callable
from itertools import islice, takewhile
from typing import Any, Final, TypeVar

from mobius_otel.errors import AuditUnavailable

__all__ = ["Fairness", "Interrupted", "Turns", "Waiting"]

R = TypeVar("R")
_AT_ONCE: Final = 512
_LOOK_SECONDS: Final = 0.25


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
        mine = threading.get_ident()
        try:
            # Who sleeps here is inside still: it is about to wait for the interpreter, and others have to see it.
            if len(self._inside) > 1 and mine in self._inside:
                time.sleep(0)
        finally:
            self._inside.discard(mine)

    def waited(self) -> None:
        """Note that this thread waited, and let others run, anyway."""
        self._inside.discard(threading.get_ident())

    def renew(self) -> None:
        """Start anew, in a forked child."""
        self._inside = set()


class Interrupted(AuditUnavailable):
    """It was this thread that could not go on: it was recording already, or had no stack left. The ledger works."""


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

    def again(self) -> None:
        """Forget a try that failed."""
        self.error, self.leads, self.gate, self.thread = None, False, None, threading.get_ident()

    @property
    def over(self) -> bool:
        """Whether it is done, or failed."""
        return self.done is not None or self.error is not None


class Turns:
    """Hands the turn from thread to thread, in the order of their coming.

    A signal handler may raise between any two steps of this. So the turn itself is a lock that a ``with`` statement
    holds, which CPython gives back whatever is raised; who leads and who waits says only whose turn it should be. A
    thread that waits looks now and then whether anybody works, and takes the turn that nobody has.

    Args:
        work: Does what is waiting: sets ``done`` or ``error`` of each, or raises what interrupted this thread.
    """

    def __init__(self, work: Callable[[list[Waiting]], None]) -> None:
        self._work = work
        self.renew()

    def renew(self) -> None:
        """Start anew, in a forked child."""
        self._mutex = threading.RLock()  # a signal handler may come back here
        self._turn = threading.Lock()
        self._worker = 0  # the thread that holds it, as long as it is held
        self._queue: deque[Waiting] = deque()
        self._leader: Waiting | None = None

    def do(self, mine: Waiting) -> Any:
        """Have something done, by this thread or another; return its ``done``.

        Raises:
            AuditUnavailable: Its ``error``; or this thread was interrupted by a signal while it did the same.
        """
        try:
            if self._come(mine):
                with self._turn:
                    self._worker = mine.thread
                    if mine.gate is None:  # where nobody was before, nobody waits
                        self._work([mine])
                    elif not mine.over:
                        self._lead(mine)
        finally:
            self._leave(mine)
        if mine.error is not None:
            raise mine.error
        return mine.done

    def alone(self, function: Callable[[], R]) -> R:
        """Call `function` while nobody else works; return what it returns.

        Raises:
            AuditUnavailable: This thread was interrupted by a signal while it held the turn.
        """
        mine = Waiting(None)
        try:
            self._come(mine)
            with self._turn:
                self._worker = mine.thread
                return function()
        finally:
            self._leave(mine)

    def is_mine(self) -> bool:
        """Return whether this thread has the turn: what asks was called by a signal's handler, or by a finalizer."""
        return self._worker == threading.get_ident() and self._turn.locked()

    def _lead(self, mine: Waiting) -> None:
        waiting = self._waiting()
        if mine not in waiting:  # who wants a turn of his own stands before it
            waiting = [mine]
        self._work(waiting)
        self._tell(waiting)

    def _come(self, mine: Waiting) -> bool:
        """Wait for the turn, or until another thread has done it; return whether it is this thread's turn."""
        if self.is_mine():
            raise Interrupted("a signal interrupted the thread while it was recording")
        with self._mutex:
            # A leader of this thread that does not work was interrupted: by what was raised, or by what comes here.
            if self._leader is None or self._leader.thread == mine.thread:
                self._leader, mine.leads = mine, True
                return True
            mine.gate = threading.Lock()
            mine.gate.acquire()
            self._queue.append(mine)
        while not (mine.gate.acquire(timeout=_LOOK_SECONDS) or self._look(mine)):
            pass
        return mine.leads

    def _look(self, mine: Waiting) -> bool:
        """Look whether anybody works; return whether there is nothing to wait for any more."""
        with self._mutex:
            if not (mine.leads or mine.over or self._turn.locked()):
                self._leader, mine.leads = mine, True
                with contextlib.suppress(ValueError):
                    self._queue.remove(mine)
                self._queue.appendleft(mine)
            if mine.over:  # by somebody who was interrupted before he could say so
                with contextlib.suppress(ValueError):
                    self._queue.remove(mine)
            return mine.leads or mine.over

    def _waiting(self) -> list[Waiting]:
        """Return what waits, as far as somebody who wants a turn of his own."""
        with self._mutex:
            found = list(islice(self._queue, _AT_ONCE))
        return [one for one in takewhile(lambda one: one.what is not None, found) if not one.over]

    def _tell(self, done: list[Waiting]) -> None:
        """Wake the threads whose work is done."""
        with self._mutex:
            for one in done:
                with contextlib.suppress(ValueError):
                    self._queue.remove(one)
                    if not one.leads:
                        one.gate.release()

    def _next(self) -> Waiting | None:
        """Return who waits for the turn, and forget those who do not any more.

        A loop of its own: since Python 3.12 what a signal raises at the end of a loop's round may pass by the `with`
        around the loop, and the lock would stay taken.
        """
        while self._queue and self._queue[0].over:
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def _leave(self, mine: Waiting) -> None:
        """Hand the turn on."""
        if not mine.leads and (mine.gate is None or mine.over):
            return
        with self._mutex:
            if mine.gate is not None:
                with contextlib.suppress(ValueError):
                    self._queue.remove(mine)
            if self._leader is mine:
                following = self._leader = self._next()
                if following is not None and not following.leads:
                    following.leads = True
                    following.gate.release()
