"""The ledger's books: what a collector has, what is in quarantine, who ships, what was pruned."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.sqlite import SqliteFile
from mobius_otel.sqlite_damage import damage_in
from mobius_otel.telemetry.audit.lease import Lease
from mobius_otel.telemetry.audit.salvage import is_damage, readable
from mobius_otel.telemetry.audit.schema import KEPT_TOO, MIGRATIONS, NEWEST, SELECT, Entry, entry_of
from mobius_otel.telemetry.audit.signing import AuditKey, SignScope, sign
from mobius_otel.telemetry.audit.standing import (
    LedgerStats,
    backlog_of,
    made_at,
    oldest_of,
    reasons_of,
    stats_of,
)
from mobius_otel.telemetry.audit.stream import Link, pruned_digest
from mobius_otel.telemetry.audit.unseen import Tails

__all__ = ["Books", "LedgerStats"]

_log = logging.getLogger("mobius_otel")

_NO_BOUND: Final = 1_073_741_823  # pages; what SQLite takes for none
_LOOK_SECONDS: Final = 0.02
_PRUNE_AT_ONCE: Final = 2000


class Books:
    """What one file of records is to a shipper and to an operator.

    Args:
        path: Where the file is.
        clock: Seconds since the epoch.
        durability: ``power``: a commit waits for the disk.
        max_bytes: Size that the file may have; None: any.
        max_age: Seconds that a record is kept after a collector has it; None: for ever.
        key: Signs what was pruned.
        scope: What the key signs.
        damaged: Whether a file is opened of which a page is not what it should be.

    Raises:
        ConfigurationError: A value breaks its rule, or the file cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = time.time,
        durability: str = "process",
        max_bytes: int | None = None,
        max_age: float | None = None,
        key: AuditKey | None = None,
        scope: SignScope = "checkpoint",
        damaged: bool = False,
    ) -> None:
        if max_bytes is not None and max_bytes < 1_000_000:
            raise ConfigurationError("max_bytes", max_bytes, "at least 1,000,000 bytes, or None")
        if max_age is not None and not max_age > 0:
            raise ConfigurationError("max_age", max_age, "a number of seconds above zero, or None")
        self._max_bytes = max_bytes
        self._opened = False
        self._unsaid: list[tuple[Any, ...]] = []
        self._file = SqliteFile(
            path, MIGRATIONS, what="audit ledger", table="records", prepare=self._prepare,
            synchronous="FULL" if durability == "power" else "NORMAL", aside=True, say=self._say,
        )  # fmt: skip
        self.path = self._file.path
        if not damaged:
            self._check_whole()
        self._clock = clock
        self._max_age = max_age
        self._key = key
        self._scope: SignScope = scope
        self._lease = Lease(self._file, clock)
        self._delivery = threading.Condition()
        #: Set when records wait for whom their delivery matters now; a shipper of this process looks.
        self.wanted = threading.Event()
        #: How many shippers of this process serve the ledger.
        self.shippers = 0

    def _say(self, *line: Any) -> None:
        """Have a line in the log (level, message, values), once nothing is held that others wait for.

        A log's handler has a lock of its own, and may wait for a thread that records, or record itself.
        """
        if self._opened:
            self._unsaid.append(line)
        else:  # nobody waits yet, and who cannot open it says no more
            _log.log(*line)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Let SQLite itself hold the bound: exact, and at no cost."""
        if self._max_bytes is not None:
            (size,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {self._max_bytes // size}").fetchone()

    def _is_at_bound(self) -> bool:
        """Return whether the file is as large as it may be: then it is not the disk that is full."""
        if self._max_bytes is None:
            return False
        with self._file.lock, self._file.reading() as connection:
            (size,), (most,) = (
                connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "max_page_count")
            )
        return bool(size >= most)

    @contextlib.contextmanager
    def _unbounded(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Write what makes room, or what must be written, also when the records have reached their bound."""
        if self._max_bytes is None:
            yield
            return
        connection.execute(f"PRAGMA max_page_count = {_NO_BOUND}").fetchone()
        try:
            yield
        finally:
            self._prepare(connection)

    def _check_whole(self) -> None:
        """Refuse a damaged file, as far as a second shows that it is: some hundred megabytes."""
        with self._file.lock, self._file.reading() as connection:
            found = damage_in(connection)
        if found is not None:
            self._file.close()
            raise ConfigurationError(
                "audit ledger", str(self.path), "whole, but it is damaged",
                f"SQLite says: {found}. `mobius-otel audit verify {self.path}` says what can still be"
                f" read, `mobius-otel audit ship --once {self.path}` sends that; then move it away.",
            )  # fmt: skip

    # --- records --------------------------------------------------------------------------------------------

    def _gather(self, *, patient: bool = False) -> list[Link]:  # noqa: ARG002 - of who has a tail
        """Bring what this object wrote and is not in the file yet into it; return what cannot be brought in.

        Args:
            patient: Whether to try also where that failed a moment ago.
        """
        return []

    def unshipped(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return the oldest records that no collector has acknowledged and that are not in quarantine.

        Args:
            after: Only those with a later position.
            limit: How many at most.
        """
        self._gather(patient=True)
        try:
            with self._file.lock, self._file.reading() as connection:
                return _entries(
                    connection,
                    f"{SELECT} WHERE r.id > MAX(?, (SELECT acknowledged FROM shipping))"
                    " AND r.id NOT IN (SELECT record FROM quarantine) ORDER BY r.id LIMIT ?",
                    (after, limit),
                )
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return self._rescued(after, limit, str(error))

    def _rescued(self, after: int, limit: int, why: str) -> list[Entry]:
        """Return what can still be read of a damaged file, and set aside what cannot: no collector will have it."""
        found: list[Entry] = []
        lost: list[int] = []
        with self._file.lock, self._file.reading() as connection:
            (acknowledged,) = connection.execute("SELECT acknowledged FROM shipping").fetchone()
            aside = {number for (number,) in connection.execute("SELECT record FROM quarantine")}
            for entry in readable(connection, max(after, acknowledged)):
                if isinstance(entry, int):
                    lost.append(entry)
                elif entry.position not in aside:
                    found.append(entry)
                if len(found) >= limit:
                    break
        if lost := [number for number in lost if number not in aside]:
            values = [(number, self._clock(), f"it cannot be read any more: {why}") for number in lost]
            with self._file.lock, self._file.writing() as connection:
                connection.executemany("INSERT OR IGNORE INTO quarantine VALUES (?, ?, 1, ?)", values)
            _log.error(
                "mobius_otel: %d records of the audit ledger %s cannot be read any more (%s); the others are sent, and"
                " `mobius-otel audit verify` names what is gone", len(lost), self.path, why,
            )  # fmt: skip
        return found

    def records(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return records in the order of their positions.

        Args:
            after: Only those with a later position.
            limit: How many at most.
        """
        self._gather()
        with self._file.lock, self._file.reading() as connection:
            return _entries(connection, f"{SELECT} WHERE r.id > ? ORDER BY r.id LIMIT ?", (after, limit))

    # --- delivery -------------------------------------------------------------------------------------------

    def acknowledge(self, up_to: int, hash: str | None = None) -> None:  # noqa: A002 - what it is
        """Note that a collector has every record up to a position, those in quarantine excepted.

        Args:
            up_to: The position; it never moves back, and not past the newest record.
            hash: That record's hash: nothing happens where another record stands there, as in a replaced file.
        """
        self._gather()
        with self._file.lock, self._file.writing() as connection:
            if hash is not None:
                found = connection.execute("SELECT hash FROM records WHERE id = ?", (up_to,)).fetchone()
                if found is None or found[0].hex() != hash:
                    return
            connection.execute(f"UPDATE shipping SET acknowledged = MAX(acknowledged, MIN(?, {NEWEST}))", (up_to,))
        with self._delivery:
            self._delivery.notify_all()

    def is_acknowledged(self, position: int, record_id: str) -> bool:
        """Return whether a collector has the record `record_id`, which stands or stood at `position`."""
        with self._file.lock, self._file.reading() as connection:
            found = connection.execute(
                "SELECT r.record_id, ? <= s.pruned FROM shipping s LEFT JOIN records r ON r.id = ?"
                " WHERE ? <= s.acknowledged AND ? NOT IN (SELECT record FROM quarantine)",
                (position,) * 4,
            ).fetchone()
        return found is not None and (found[0] == record_id or bool(found[1]))

    def wait_delivered(self, position: int, record_id: str, timeout: float) -> bool:
        """Wait until a collector has a record.

        Args:
            position: Where it stands.
            record_id: Its id.
            timeout: Seconds to wait at most; 0 asks once.

        Returns:
            Whether it has.
        """
        end = time.monotonic() + timeout
        while not self.is_acknowledged(position, record_id):
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.wanted.set()
            with self._delivery:  # another process may be the one that ships: look anyway
                self._delivery.wait(min(_LOOK_SECONDS, left))
        return True

    def backlog(self) -> int:
        """Return how many records no collector has acknowledged, those in quarantine included."""
        unseen = len(self._gather())
        with self._file.lock, self._file.reading() as connection:
            return unseen + backlog_of(connection)

    def oldest(self) -> float | None:
        """Return the seconds since the oldest record was made that no collector has; None: there is none."""
        unseen = self._gather()
        with self._file.lock, self._file.reading() as connection:
            return oldest_of(connection, unseen, self._clock())

    def lease(self, owner: str, seconds: float) -> bool:
        """Take or renew the right to ship, which one owner has at a time.

        Args:
            owner: Who asks.
            seconds: For how long.

        Returns:
            Whether `owner` has it now. A holder whose process on this host is dead loses it at once, and so
            does one that took it at a time that is still to come: the clock was set back since.
        """
        return self._lease.take(owner, seconds)

    def release(self, owner: str) -> None:
        """Give the right to ship back."""
        self._lease.give_back(owner)

    # --- quarantine -----------------------------------------------------------------------------------------

    def quarantine(self, position: int, reason: str) -> None:
        """Set a record aside that the collector refuses alone; it is kept, counted and offered again later.

        Args:
            position: The record.
            reason: What the collector answered, without any content of the record.
        """
        self._gather()
        with self._file.lock, self._file.writing() as connection, self._unbounded(connection):
            connection.execute(  # another process may have delivered it meanwhile
                "INSERT INTO quarantine SELECT id, ?, 1, ? FROM (SELECT id FROM records UNION ALL SELECT id FROM kept)"
                " WHERE id = ? ON CONFLICT (record) DO UPDATE SET attempts = attempts + 1, reason = excluded.reason",
                (self._clock(), reason[:500], position),
            )

    def quarantined(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return records in quarantine, oldest first; arguments as for :meth:`records`."""
        with self._file.lock, self._file.reading() as connection:
            return _entries(
                connection,
                f"{KEPT_TOO} WHERE r.id IN (SELECT record FROM quarantine) AND r.id > ? ORDER BY r.id LIMIT ?",
                (after, limit),
            )

    def quarantine_reasons(self) -> dict[str, tuple[float, int, str]]:
        """Return, by record id, since when each record is in quarantine, how often it was refused, and the answer."""
        with self._file.lock, self._file.reading() as connection:
            return reasons_of(connection)

    def quarantine_size(self) -> int:
        """Return how many records are in quarantine."""
        with self._file.lock, self._file.reading() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0])

    def request_retry(self) -> None:
        """Ask whoever ships the ledger to offer what is in quarantine again."""
        with self._file.lock, self._file.writing() as connection:
            connection.execute("UPDATE shipping SET retry = ?", (self._clock(),))

    def retry_requested(self) -> float:
        """Return when that was asked for last, in seconds since the epoch; 0: never."""
        with self._file.lock, self._file.reading() as connection:
            return float(connection.execute("SELECT COALESCE(MAX(retry), 0) FROM shipping").fetchone()[0])

    def unquarantine(self, position: int) -> None:
        """Take a record out of quarantine, because a collector has it now."""
        with self._file.lock, self._file.writing() as connection:
            connection.execute("DELETE FROM quarantine WHERE record = ?", (position,))
            connection.execute("DELETE FROM kept WHERE id = ?", (position,))

    # --- retention ------------------------------------------------------------------------------------------

    @property
    def bounded(self) -> bool:
        """Whether the ledger itself says how long, or how much of, what a collector has is kept."""
        return self._max_age is not None or self._max_bytes is not None

    def prune(
        self,
        *,
        max_age: float | None = None,
        max_bytes: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Remove records that a collector has: those that are too old, then the oldest while the file is too large.

        Records that no collector has are never removed. What was removed stays provable: each stream keeps how many
        of its records that were, and the hash of the last one.

        Args:
            max_age: Seconds; default: the ledger's own.
            max_bytes: Default: nine tenths of the ledger's own.
            progress: Called now and then with how many were removed and 0: nobody knows how many there will be.

        Returns:
            How many records were removed.
        """
        age = self._max_age if max_age is None else max_age
        size = (self._max_bytes or 0) * 9 // 10 if max_bytes is None else max_bytes
        removed = 0
        while (age is not None or size) and (number := self._prune_some(age, size)) is not None:
            removed += number
            if progress is not None:
                progress(removed, 0)
        return removed

    def _prune_some(self, age: float | None, size: int) -> int | None:
        with self._file.lock, self._file.writing() as connection, self._unbounded(connection):
            rows = connection.execute(
                "SELECT id, record_id, LENGTH(payload) + 200 FROM records"
                f" WHERE id <= (SELECT acknowledged FROM shipping) ORDER BY id LIMIT {_PRUNE_AT_ONCE}"
            ).fetchall()
            surplus = self._used(connection) - size if size else 0
            last, oldest = 0, None if age is None else self._clock() - age
            for number, record_id, weight in rows:
                made = made_at(record_id)
                if not (surplus > 0 or (oldest is not None and made is not None and made < oldest)):
                    break
                last, surplus = number, surplus - weight
            return self._remove(connection, last) if last else None

    def _remove(self, connection: sqlite3.Connection, last: int) -> int:
        kept = connection.execute(
            "INSERT INTO kept SELECT * FROM records WHERE id <= ? AND id IN (SELECT record FROM quarantine)", (last,)
        ).rowcount
        ends = connection.execute(
            "SELECT r.stream, MAX(r.sequence), r.hash, s.stream_id FROM records r JOIN streams s ON s.id = r.stream"
            " WHERE r.id <= ? GROUP BY r.stream",
            (last,),
        ).fetchall()
        for stream, sequence, head, stream_id in ends:
            digest = pruned_digest(stream_id, sequence, head)
            signed = None if self._key is None else sign(self._key, self._scope, digest)
            connection.execute(
                "UPDATE streams SET pruned = ?, pruned_head = ?, pruned_signature = ? WHERE id = ?",
                (sequence, head, signed, stream),
            )
        removed = connection.execute("DELETE FROM records WHERE id <= ?", (last,)).rowcount
        connection.execute("UPDATE shipping SET pruned = MAX(pruned, ?)", (last,))
        return removed - kept

    @staticmethod
    def _used(connection: sqlite3.Connection) -> int:
        (pages,), (free,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def stats(self) -> LedgerStats:
        """Return the ledger's state; it reads all records' sizes, which takes a moment on a large one.

        What lies in the tails of other processes is counted as well.
        """
        self._gather()
        tails = Tails.beside(self.path)  # before the database: what is brought in meanwhile is counted there
        with self._file.lock, self._file.reading() as connection:
            return stats_of(connection, self.path, tails.of(connection), self._clock())


def _entries(connection: sqlite3.Connection, query: str, values: tuple[object, ...]) -> list[Entry]:
    return [entry_of(row) for row in connection.execute(query, values)]
