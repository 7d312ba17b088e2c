"""Ends waits that have no end of their own: a server that is stopped, a network that swallows packets.

A blocking driver waits in native code for an answer that may never come. What waits registers here with its
deadline; past it, its socket is shut down, and the driver raises as it does when a server goes away.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable

from mobius_otel.forks import on_fork

__all__ = ["WATCHDOG", "Watchdog", "shut_down"]

_TICK = 0.2
_IDLE_TICKS = 50


class Watchdog:
    """Shuts sockets down whose answer is overdue. One thread, which ends when there is nothing to watch.

    Example:
        >>> dog = Watchdog()
        >>> ours, theirs = socket.socketpair()
        >>> ticket = dog.watch(ours.fileno, 5.0)
        >>> dog.leave(ticket)  # False: it was too late, and the socket is of no use any more
        True
        >>> ours.close(), theirs.close()
        (None, None)
    """

    def __init__(self) -> None:
        self._tickets = itertools.count()
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, Callable[[], int]]] = {}
        self._running = False

    def watch(self, fileno: Callable[[], int], patience: float) -> int:
        """Begin to watch.

        Args:
            fileno: Returns the descriptor of the socket.
            patience: Seconds that the wait may take; that it took longer is noticed up to 0.2 s later.

        Returns:
            A ticket for :meth:`leave`.
        """
        ticket = next(self._tickets)
        self._watched[ticket] = (time.monotonic() + patience, fileno)
        if not self._running:
            self._start()
        return ticket

    def leave(self, ticket: int) -> bool:
        """End watching; return whether it ended in time."""
        return self._watched.pop(ticket, None) is not None

    def _start(self) -> None:
        with self._lock:
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="mobius-otel-key-store-watchdog", daemon=True).start()

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            watched = list(self._watched.items())
            for ticket, (deadline, fileno) in watched:
                # Whoever takes the ticket away decides: afterwards the socket may serve somebody else.
                if now >= deadline and self._watched.pop(ticket, None) is not None:
                    shut_down(fileno)
            idle = 0 if watched else idle + 1
            if idle >= _IDLE_TICKS:
                with self._lock:
                    self._running = False  # first, so that who comes now either sees it or is seen
                    if not self._watched:
                        return
                    self._running = True

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"Watchdog({len(self._watched)} waits)"


#: One is enough for a process.
WATCHDOG = Watchdog()


def shut_down(fileno: Callable[[], int]) -> None:
    """Shut a socket down that another thread waits for, without closing its descriptor; never raises."""
    with contextlib.suppress(Exception):  # it has been closed meanwhile, or it is no socket here
        twin = socket.socket(fileno=os.dup(fileno()))
        try:
            twin.shutdown(socket.SHUT_RDWR)
        finally:
            twin.close()
