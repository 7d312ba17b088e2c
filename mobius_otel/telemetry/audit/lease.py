"""The right to ship a ledger's records, which one owner on a host has at a time."""

from __future__ import annotations

import os
import platform
from typing import Any, Final

from mobius_otel.clock import Clock
from mobius_otel.sqlite import SqliteFile
from mobius_otel.telemetry.audit.stream import is_dead, process_token

__all__ = ["Lease"]

_SELECT: Final = "SELECT owner, process, host, pid, taken, deadline FROM lease"
_SLACK: Final = 1.0  # seconds that the clocks of two processes, or of two readings, may differ


class Lease:
    """A row with a deadline, taken by compare and set.

    Args:
        file: The ledger's file.
        clock: Seconds since the epoch.
    """

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def take(self, owner: str, seconds: float) -> bool:
        """Take or renew the lease for `owner`; see :meth:`Ledger.lease`."""
        # Asked often: most of the time nothing has to be written.
        with self._file.lock, self._file.reading() as connection:
            found = connection.execute(_SELECT).fetchone()
        now = self._clock()
        if found is not None and found[0] == owner and now < found[5] - seconds / 2 and found[4] <= now + _SLACK:
            return True
        if not _is_free(found, owner, now):
            return False
        with self._file.lock, self._file.writing() as connection:
            found, now = connection.execute(_SELECT).fetchone(), self._clock()
            if not _is_free(found, owner, now):
                return False
            connection.execute(
                "INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?, ?, ?, ?)",
                (owner, process_token(), platform.node(), os.getpid(), now, now + seconds),
            )
            return True

    def give_back(self, owner: str) -> None:
        """Delete the lease if it is `owner`'s."""
        with self._file.lock, self._file.writing() as connection:
            connection.execute("DELETE FROM lease WHERE owner = ?", (owner,))


def _is_free(found: tuple[Any, ...] | None, owner: str, now: float) -> bool:
    if found is None or found[0] == owner:
        return True
    _, process, host, pid, taken, deadline = found
    holds = taken - _SLACK <= now < deadline  # one that was taken in the future: the clock was set back since
    return not holds or is_dead(host, pid, process, None)
