"""Reads what can still be read of a damaged ledger: all records but those on the pages that are not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.schema import SELECT, STREAM, Entry, entry_of

__all__ = ["is_damage", "readable"]

_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR)
_ALONE: Final = SELECT.replace(STREAM, "NULL")
_NEWEST: Final = (
    "SELECT MAX(newest) FROM streams",
    "SELECT MAX(id) FROM records",
    "SELECT MAX(acknowledged) FROM shipping",
)


def is_damage(error: BaseException | None) -> bool:
    """Return whether SQLite says that a page is not what it should be, or that the disk does not give it."""
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def readable(connection: sqlite3.Connection, after: int = 0) -> Iterator[Entry | int]:
    """Yield the records of a damaged ledger in their order.

    Args:
        connection: The ledger.
        after: Only those with a later position.

    Yields:
        A record; or the position of one that cannot be read, or that was removed next to one.
    """
    streams = _can(connection, "SELECT head FROM streams") and _can(connection, "SELECT stream_id FROM streams")
    select = SELECT if streams else _ALONE
    position, last = after, None
    while True:
        try:
            for row in connection.execute(f"{select} WHERE r.id > ? ORDER BY r.id", (position,)):
                position = row[0]
                yield _entry(row, streams)
            return
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        last = _newest(connection, position) if last is None else last
        while position < last:  # a search by number goes by other pages than the way from one to the next
            position += 1
            try:
                row = connection.execute(f"{select} WHERE r.id = ?", (position,)).fetchone()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                row = None
            if row is not None:
                yield _entry(row, streams)
                break
            yield position
        else:
            return


def _entry(row: tuple[object, ...], streams: bool) -> Entry:
    entry = entry_of(row)
    if streams:
        return entry
    try:  # the table of streams is gone: a record says itself whose it is
        return replace(entry, stream_id=str(json.loads(entry.payload)["attributes"][conventions.AUDIT_STREAM_ID]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return entry


def _newest(connection: sqlite3.Connection, known: int) -> int:
    """Return the highest position that anything tells of."""
    found = known
    for query in _NEWEST:
        try:
            (number,) = connection.execute(query).fetchone()
        except sqlite3.DatabaseError:
            continue
        found = max(found, number if isinstance(number, int) else 0)
    return found


def _can(connection: sqlite3.Connection, query: str) -> bool:
    try:
        connection.execute(query).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False
    return True
