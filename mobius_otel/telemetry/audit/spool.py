"""Records in memory while the ledger cannot be written: a bound, one loud line, and the way back."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.audit.turns import Interrupted, Waiting

if TYPE_CHECKING:
    from mobius_otel.telemetry.audit.ledger import Kept

__all__ = ["Spool"]

_log = logging.getLogger("mobius_otel")
_BOUND: Final = 10_000
_RETRY_SECONDS: Final = 1.0

Record = Mapping[str, Any]
#: Those that hold records, whose ledger nobody has closed.
_holding: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """Appends to a ledger, through memory while that fails; the order of records is kept.

    Args:
        write: Commits one record, or raises AuditUnavailable.
        bound: How many records memory holds at most.
        clock: Monotonic seconds.
    """

    def __init__(self, write: Callable[[Waiting], Kept], bound: int = _BOUND, clock: Clock = time.monotonic) -> None:
        self._write = write
        self._bound = bound
        self._clock = clock
        self._lock = threading.RLock()
        self._draining = threading.Lock()
        self._drains = 0  # the thread that does, as long as one does
        self._waiting: deque[tuple[Waiting, Callable[[Kept], None]]] = deque()
        self._retry_at = 0.0
        self._told = False  # whether it was said that the ledger fails
        on_fork(self)

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, record: Record, placed: Callable[[Kept], None]) -> Kept | None:
        """Append `record`, or keep it in memory.

        Args:
            record: As for :meth:`Ledger.append`.
            placed: Called once the record is in the ledger, if that is later.

        Returns:
            Where it stands; None while it is in memory alone.

        Raises:
            AuditUnavailable: Memory is full as well.
        """
        waiting = Waiting(record)
        if not self._waiting:  # the way of every record while all is well; the ledger has a lock of its own
            try:
                kept = self._write(waiting)
            except AuditUnavailable as error:
                with self._lock:
                    self._retry_at = self._clock() + self._pause(error)
                    self._keep(waiting, placed)
                self._tell(error)
                return None
            if self._waiting and self._clock() >= self._retry_at:  # what interrupted this one
                self.drain(wait=False)
            return kept
        with self._lock:
            self._keep(waiting, placed)
        if self._clock() >= self._retry_at:
            self.drain(wait=False)
        done: Kept | None = waiting.done
        return done

    def drain(self, *, wait: bool = True) -> int:
        """Write what waits in memory to the ledger, as far as it takes it.

        Args:
            wait: Whether to wait for another thread that does it already.

        Returns:
            How many still wait.
        """
        thread = threading.get_ident()
        if self._draining.locked() and (not wait or self._drains == thread):
            return len(self._waiting)
        with self._draining:  # a lock's own `with`: a signal handler that raises leaves it free
            self._drains = thread
            written, error = self._drain()
        if error is not None:
            self._tell(error)
        elif written and self._told and not self._waiting:
            self._told = False
            _log.warning("mobius_otel: the audit ledger works again; %d records went from memory to it", written)
        return len(self._waiting)

    def end(self) -> int:
        """Write what waits a last time, as far as the ledger takes it; return how many are lost then."""
        _holding.discard(self)
        return self.drain()

    def _drain(self) -> tuple[int, AuditUnavailable | None]:
        """Return how many were written, and why no more were."""
        written = 0
        while self._waiting:
            waiting, placed = self._waiting[0]
            began = self._clock()
            try:
                kept = waiting.done or self._again(waiting)
            except AuditUnavailable as error:
                # A file that somebody holds locked costs its whole timeout: no request pays that often.
                now, pause = self._clock(), self._pause(error)
                self._retry_at = now + (max(pause, 4 * (now - began)) if pause else 0.0)
                return written, error
            placed(kept)
            with self._lock:
                self._waiting.popleft()
            written += 1
        return written, None

    def _again(self, waiting: Waiting) -> Kept:
        waiting.again()
        return self._write(waiting)

    @staticmethod
    def _pause(error: AuditUnavailable) -> float:
        """Return for how long nobody tries again, in seconds: not at all where nothing but this thread's turn fails."""
        return 0.0 if isinstance(error, Interrupted) else _RETRY_SECONDS

    def _tell(self, error: AuditUnavailable) -> None:
        """Say once that the ledger fails; outside of a lock, as the log's handlers have their own."""
        if not (self._told or isinstance(error, Interrupted)):
            self._told = True
            _log.error(
                "mobius_otel: %s; records are kept in memory (at most %d) until the ledger works again",
                error, self._bound,
            )  # fmt: skip

    def _keep(self, waiting: Waiting, placed: Callable[[Kept], None]) -> None:
        if len(self._waiting) >= self._bound:
            raise AuditUnavailable(f"the ledger fails, and memory holds {self._bound} records already")
        self._waiting.append((waiting, placed))
        _holding.add(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._draining = threading.Lock()
        self._waiting = deque()  # the parent writes its own
        self._told = False

    def __repr__(self) -> str:
        return f"Spool({len(self._waiting)} of {self._bound} records)"


@atexit.register
def _at_exit() -> None:
    """Say how many records go with the process, where nobody closed their ledger."""
    for spool in list(_holding):
        if lost := spool.end():
            _log.error(
                "mobius_otel: the process ends and its audit ledger still cannot be written: %d records that were in"
                " memory are lost", lost,
            )  # fmt: skip
