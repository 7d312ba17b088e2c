"""The ledger: where audit records are kept until a collector has acknowledged them, and after.

A SQLite file in WAL mode. A record is committed before :meth:`Ledger.append` returns, so it survives the
process. Each process and each `Ledger` object writes a stream of its own: a chain in which a record holds the
hash of the one before. Next to the records stands how many each stream has and what the last hash is, in the
same transaction, and the records' numbers have no holes: what is removed, at the end too, leaves a trace.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable, MobiusError
from mobius_otel.forks import on_fork
from mobius_otel.sqlite import SqliteFile, SqliteFileGone
from mobius_otel.telemetry.audit.chain import canonical, digest, parse
from mobius_otel.telemetry.audit.lease import Lease
from mobius_otel.telemetry.audit.spool import Spool

__all__ = ["MIGRATIONS", "SELECT", "Entry", "Kept", "Ledger", "entry_of", "finished"]

_log = logging.getLogger("mobius_otel")

MIGRATIONS: Final = (
    """
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream_id TEXT NOT NULL UNIQUE, host TEXT NOT NULL, pid INTEGER NOT NULL,
        started REAL NOT NULL, count INTEGER NOT NULL, head BLOB NOT NULL, ended REAL
    );
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
        record_id TEXT NOT NULL, hash BLOB NOT NULL, payload TEXT NOT NULL
    );
    CREATE TABLE shipping (id INTEGER PRIMARY KEY CHECK (id = 1), acknowledged INTEGER NOT NULL);
    INSERT INTO shipping VALUES (1, 0);
    CREATE TABLE lease (
        id INTEGER PRIMARY KEY CHECK (id = 1), owner TEXT NOT NULL, process TEXT NOT NULL, host TEXT NOT NULL,
        pid INTEGER NOT NULL, taken REAL NOT NULL, deadline REAL NOT NULL
    );
    CREATE TABLE quarantine (
        record INTEGER PRIMARY KEY, since REAL NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL
    )
    """,
)

_INSERT = "INSERT INTO records (stream, sequence, record_id, hash, payload) VALUES (?, ?, ?, ?, ?)"
_ADVANCE = "UPDATE streams SET count = ?, head = ? WHERE id = ?"
_OPEN_STREAM = "INSERT INTO streams (stream_id, host, pid, started, count, head) VALUES (?, ?, ?, ?, ?, ?)"
#: Reads rows for :func:`entry_of`; as bytes, because somebody may have made texts of them that are no UTF-8.
SELECT: Final = (
    "SELECT r.id, CAST(s.stream_id AS BLOB), r.sequence, CAST(r.record_id AS BLOB), r.hash, CAST(r.payload AS BLOB)"
    " FROM records r LEFT JOIN streams s ON s.id = r.stream"
)
_NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'records'"
_BACKLOG = f"SELECT COALESCE(({_NEWEST}), 0) - (SELECT acknowledged FROM shipping) + (SELECT COUNT(*) FROM quarantine)"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a record stands in the ledger.

    Args:
        position: Its number in the ledger, from 1, without holes.
        stream_id: Its stream.
        sequence: Its number in the stream, from 1.
        hash: Its SHA-256, in hexadecimal.
        record: The record as it was hashed.
    """

    position: int
    stream_id: str
    sequence: int
    hash: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it lies in the ledger.

    Args:
        position: Its number in the ledger, from 1.
        stream_id: Its stream; None where the stream's row is gone.
        sequence: Its number in the stream, from 1.
        record_id: Its id.
        hash: Its SHA-256, in hexadecimal.
        payload: Its canonical form.
    """

    position: int
    stream_id: str | None
    sequence: int
    record_id: str
    hash: str
    payload: bytes

    def record(self) -> dict[str, Any]:
        """Return the record as it leaves the ledger.

        Raises:
            ValueError: Somebody changed the payload to what is no record.
        """
        record = parse(self.payload)
        if not isinstance(record, dict) or not isinstance(record.get("attributes"), dict):
            raise ValueError("the payload is no audit record")
        return finished(record, self.hash)


def finished(record: Mapping[str, Any], digest_hex: str | None) -> dict[str, Any]:
    """Return `record` with what is not part of its own hash: the hash, and the id by its standard name."""
    attributes = dict(record["attributes"])
    attributes[conventions.LOG_RECORD_UID] = attributes.get(conventions.AUDIT_RECORD_ID)
    if digest_hex is not None:
        attributes[conventions.AUDIT_INTEGRITY_VALUE] = digest_hex
    return {**record, "attributes": attributes}


@dataclass(slots=True)
class _Stream:
    """The chain that this process and this object write."""

    stream_id: str
    row: int | None = None
    count: int = 0
    head: bytes = b""
    unsure: bool = False  # whether the last append was committed


class Ledger:
    """A file of audit records that processes of one host share.

    Args:
        path: Where the file is; it is made, for its owner alone, when it is missing.
        clock: Seconds since the epoch, for leases and for when a stream began.

    Raises:
        ConfigurationError: The file cannot be opened, may be read by others or was written by a newer version.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock = time.time) -> None:
        self._file = SqliteFile(path, MIGRATIONS, what="audit ledger")
        self.path = self._file.path
        self._clock = clock
        self._lock = threading.RLock()
        self._stream: _Stream | None = None
        self._lease = Lease(self._file, clock)
        self._after_append: list[Callable[[], None]] = []
        #: Records that wait in memory while the file cannot be written, with ``fail_mode="spool"``.
        self.spool = Spool(self.append)
        on_fork(self)

    def append(self, record: Mapping[str, Any]) -> Kept:
        """Chain and commit `record`.

        Args:
            record: A redacted record of JSON's shapes with ``attributes``, of which ``audit.record.id`` names it.

        Raises:
            AuditUnavailable: It could not be committed.
        """
        with self._lock:
            try:
                kept = self._append(record)
            except Exception as error:
                if self._stream is not None:
                    self._stream.unsure = True
                known = isinstance(error, sqlite3.Error | OSError | MobiusError)  # their texts quote no record
                raise AuditUnavailable(str(error) if known else type(error).__name__) from error
        for hook in self._after_append:
            hook()
        return kept

    def after_append(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every record that was committed, in the thread that appended it."""
        if hook not in self._after_append:
            self._after_append.append(hook)

    def _append(self, record: Mapping[str, Any]) -> Kept:
        try:
            return self._committed(record)
        except SqliteFileGone:
            _log.error(
                "mobius_otel: the audit ledger %s was deleted or replaced while it was open; recording goes on in the"
                " file at its path, and `mobius-otel audit verify` names what it lacks", self.path,
            )  # fmt: skip
            self._file.reopen()
            if self._stream is not None:  # the stream goes on: the new file shows that its beginning is missing
                self._stream.row = None
            return self._committed(record)

    def _committed(self, record: Mapping[str, Any]) -> Kept:
        stream = self._stream = self._stream or _Stream(uuid.uuid4().hex)
        with self._file.writing() as connection:
            if stream.unsure and (kept := self._settle(connection, stream, record)):
                return kept
            row = stream.row or self._open_stream(connection, stream)
            sequence = stream.count + 1
            attributes = dict(record["attributes"])
            attributes[conventions.AUDIT_STREAM_ID] = stream.stream_id
            attributes[conventions.AUDIT_SEQUENCE] = sequence
            if stream.head:
                attributes[conventions.AUDIT_PREVIOUS_HASH] = stream.head.hex()
            whole = {**record, "attributes": attributes}
            payload = canonical(whole)
            head = digest(payload)
            record_id = attributes[conventions.AUDIT_RECORD_ID]
            position = connection.execute(_INSERT, (row, sequence, record_id, head, payload.decode())).lastrowid
            if connection.execute(_ADVANCE, (sequence, head, row)).rowcount != 1:
                raise sqlite3.DatabaseError("the stream's row is gone from the audit ledger")
        stream.row, stream.count, stream.head, stream.unsure = row, sequence, head, False
        return Kept(position or 0, stream.stream_id, sequence, head.hex(), whole)

    def _open_stream(self, connection: sqlite3.Connection, stream: _Stream) -> int:
        values = (stream.stream_id, platform.node(), os.getpid(), self._clock(), stream.count, stream.head)
        found = connection.execute("SELECT id FROM streams WHERE stream_id = ?", values[:1]).fetchone()
        return int(found[0]) if found else connection.execute(_OPEN_STREAM, values).lastrowid or 0

    def _settle(self, connection: sqlite3.Connection, stream: _Stream, record: Mapping[str, Any]) -> Kept | None:
        """Find out whether the append that failed was committed after all, perhaps with this very record."""
        stream.unsure = False
        found = _entries(connection, " WHERE s.stream_id = ? ORDER BY r.id DESC LIMIT 1", (stream.stream_id,))
        if not found or found[0].sequence != stream.count + 1:
            return None
        last = found[0]
        stream.count, stream.head = last.sequence, bytes.fromhex(last.hash)
        if last.record_id != record["attributes"][conventions.AUDIT_RECORD_ID]:
            return None
        return Kept(last.position, stream.stream_id, last.sequence, last.hash, parse(last.payload))

    def unshipped(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return the oldest records that no collector has acknowledged and that are not in quarantine.

        Args:
            after: Only those with a later position.
            limit: How many at most.
        """
        with self._file.reading() as connection:
            return _entries(
                connection,
                " WHERE r.id > MAX(?, (SELECT acknowledged FROM shipping))"
                " AND r.id NOT IN (SELECT record FROM quarantine) ORDER BY r.id LIMIT ?",
                (after, limit),
            )

    def records(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return records in the order of their positions.

        Args:
            after: Only those with a later position.
            limit: How many at most.
        """
        with self._file.reading() as connection:
            return _entries(connection, " WHERE r.id > ? ORDER BY r.id LIMIT ?", (after, limit))

    def acknowledge(self, up_to: int, hash: str | None = None) -> None:  # noqa: A002 - what it is
        """Note that a collector has every record up to a position, those in quarantine excepted.

        Args:
            up_to: The position; it never moves back, and not past the newest record.
            hash: That record's hash: nothing happens where another record stands there, as in a replaced file.
        """
        with self._file.writing() as connection:
            if hash is not None:
                found = connection.execute("SELECT hash FROM records WHERE id = ?", (up_to,)).fetchone()
                if found is None or found[0].hex() != hash:
                    return
            connection.execute(
                f"UPDATE shipping SET acknowledged = MAX(acknowledged, MIN(?, COALESCE(({_NEWEST}), 0)))", (up_to,)
            )

    def is_acknowledged(self, position: int, record_id: str) -> bool:
        """Return whether a collector has the record `record_id`, which stands at `position`."""
        with self._file.reading() as connection:
            found = connection.execute(
                "SELECT 1 FROM records WHERE id = ? AND record_id = ? AND id <= (SELECT acknowledged FROM shipping)"
                " AND id NOT IN (SELECT record FROM quarantine)",
                (position, record_id),
            ).fetchone()
        return found is not None

    def backlog(self) -> int:
        """Return how many records no collector has acknowledged, those in quarantine included."""
        with self._file.reading() as connection:
            return max(0, int(connection.execute(_BACKLOG).fetchone()[0]))

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

    def quarantine(self, position: int, reason: str) -> None:
        """Set a record aside that the collector refuses alone; it is kept, counted and offered again later.

        Args:
            position: The record.
            reason: What the collector answered, without any content of the record.
        """
        with self._file.writing() as connection:
            connection.execute(
                "INSERT INTO quarantine VALUES (?, ?, 1, ?)"
                " ON CONFLICT (record) DO UPDATE SET attempts = attempts + 1, reason = excluded.reason",
                (position, self._clock(), reason[:500]),
            )

    def quarantined(self, after: int = 0, limit: int = 512) -> list[Entry]:
        """Return records in quarantine, oldest first; arguments as for :meth:`records`."""
        with self._file.reading() as connection:
            return _entries(
                connection, " WHERE r.id IN (SELECT record FROM quarantine) AND r.id > ? ORDER BY r.id LIMIT ?",
                (after, limit),
            )  # fmt: skip

    def unquarantine(self, position: int) -> None:
        """Take a record out of quarantine, because a collector has it now."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM quarantine WHERE record = ?", (position,))

    def close(self) -> None:
        """Mark the end of this object's stream and close the file; a later append begins a new stream."""
        self.spool.drain()
        with self._lock:
            stream, self._stream = self._stream, None
            if stream is not None:
                with contextlib.suppress(sqlite3.Error, OSError, MobiusError), self._file.writing() as connection:
                    connection.execute("UPDATE streams SET ended = ? WHERE id = ?", (self._clock(), stream.row))
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._stream = None

    def __repr__(self) -> str:
        count = self._stream.count if self._stream else 0
        return f"Ledger({str(self.path)!r}, {count} records of its own)"


def _entries(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
    return [entry_of(row) for row in connection.execute(SELECT + where, values)]


def entry_of(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of `SELECT`, whatever somebody may have put into it."""
    position, stream_id, sequence, record_id, head, payload = row
    return Entry(
        position,
        str(stream_id, "utf-8", "replace") if isinstance(stream_id, bytes) else None,
        sequence if isinstance(sequence, int) else 0,
        str(record_id, "utf-8", "replace") if isinstance(record_id, bytes) else "",
        head.hex() if isinstance(head, bytes) else str(head),
        payload if isinstance(payload, bytes) else b"",
    )
