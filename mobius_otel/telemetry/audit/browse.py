"""Looks at the records of a ledger without a change to it: all of them in their order, one by its id, counted."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mobius_otel.telemetry.audit.reading import read, read_damaged
from mobius_otel.telemetry.audit.salvage import readable
from mobius_otel.telemetry.audit.schema import KEPT, KEPT_TOO, SELECT, Entry, entry_of
from mobius_otel.telemetry.audit.unseen import Reader

__all__ = ["Found", "count_events", "find_records", "walk_records"]

_TELL_EVERY: Final = 1000
_ID: Final = "CAST(r.record_id AS TEXT)"
_MOST_FOUND: Final = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and where it is on its way.

    Args:
        position: Its number in the ledger, from 1.
        record: The record as it leaves the ledger; None where somebody changed it to what is none.
        delivery: ``delivered``, ``waiting`` or ``quarantined``.
        reason: What a collector answered, where it refused the record.
    """

    position: int
    record: dict[str, Any] | None
    delivery: str
    reason: str | None = None


def walk_records(
    path: str | os.PathLike[str],
    visit: Callable[[int, dict[str, Any]], object],
    *,
    since: float | None = None,
    until: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Call `visit` with the position and the record of every record that there is now, in their order.

    Args:
        path: The ledger.
        visit: Called once a record.
        since: Only those that were recorded at that time or later, in seconds since the epoch.
        until: Only those that were recorded before that time.
        progress: Called now and then with how many were visited and how many there are.

    Returns:
        How many could not be read: somebody changed them, or the file is damaged, and ``verify`` names them.

    Raises:
        ConfigurationError: There is no ledger at `path`, it cannot be read, or a newer version wrote it.
    """
    span = (_first_id(since), _first_id(until) if until is not None else "g")
    where = f"r.id > ? AND {_ID} >= ? AND {_ID} < ?"
    last = unreadable = done = 0
    passed: set[str] = set()  # of tails, whose positions may change before a second call

    def pump(connection: Reader, damaged: bool) -> None:
        nonlocal last, unreadable, done  # a second call goes on where the first one ended
        if damaged:
            rescue(connection)
            return
        asked = (last, *span)
        (left,) = connection.execute(f"SELECT COUNT(*) FROM records r WHERE {where}", asked).fetchone()
        total = done + left
        rows = (connection.execute(f"{select} WHERE {where} ORDER BY r.id", asked) for select in (KEPT, SELECT))
        for row in itertools.chain.from_iterable(rows):
            entry = entry_of(row)
            if entry.record_id in passed:
                continue
            try:
                record = entry.record()
            except ValueError:
                unreadable += 1
            else:
                visit(entry.position, record)
            done += 1
            if connection.passing is None or entry.position < connection.passing:
                last = entry.position
            else:
                passed.add(entry.record_id)
            if progress is not None and not done % _TELL_EVERY:
                progress(done, total)
        if progress is not None:
            progress(done, total)

    def rescue(connection: sqlite3.Connection) -> None:
        nonlocal last, unreadable
        for entry in readable(connection, last):
            if isinstance(entry, int):
                last, unreadable = entry, unreadable + 1
                continue
            last = entry.position
            if span[0] <= entry.record_id < span[1]:
                try:
                    visit(entry.position, entry.record())
                except ValueError:
                    unreadable += 1

    read_damaged(path, pump)
    return unreadable


def find_records(path: str | os.PathLike[str], record_id: str) -> list[Found]:
    """Return the records whose id is, or begins with, `record_id`; 20 at most.

    Args:
        path: The ledger.
        record_id: An id, or so much of its beginning as tells it from others.

    Raises:
        ConfigurationError: As for :func:`walk_records`.
    """
    beginning = record_id.strip().lower()

    def entries(connection: sqlite3.Connection, damaged: bool) -> Iterator[Entry]:
        if damaged:
            records = (entry for entry in readable(connection) if isinstance(entry, Entry))
            yield from itertools.islice((one for one in records if one.record_id.startswith(beginning)), _MOST_FOUND)
            return
        query = f"{KEPT_TOO} WHERE substr({_ID}, 1, ?) = ? ORDER BY r.id LIMIT ?"
        yield from map(entry_of, connection.execute(query, (len(beginning), beginning, _MOST_FOUND)))

    def look(connection: sqlite3.Connection, damaged: bool) -> list[Found]:
        (acknowledged,) = connection.execute("SELECT acknowledged FROM shipping").fetchone()
        aside = dict(connection.execute("SELECT record, reason FROM quarantine"))
        found = []
        for entry in entries(connection, damaged):
            state = "delivered" if entry.position <= acknowledged else "waiting"
            reason = aside.get(entry.position)
            try:
                record = entry.record()
            except ValueError:
                record = None
            found.append(Found(entry.position, record, "quarantined" if entry.position in aside else state, reason))
        return found

    return read_damaged(path, look) if beginning else []


def count_events(path: str | os.PathLike[str]) -> list[tuple[str, str, int, int | None]]:
    """Return event name, outcome, number of records and highest risk score, the most frequent first.

    Events that were never rated have none.

    Raises:
        ConfigurationError: As for :func:`walk_records`.
    """
    outcome, risk = '$.attributes."audit.outcome"', '$.attributes."mobius.audit.risk_score"'
    query = (
        "SELECT COALESCE(json_extract(p, '$.event_name'), '?'), COALESCE(json_extract(p, ?), '?'), COUNT(*),"
        " MAX(json_extract(p, ?))"
        " FROM (SELECT CASE WHEN json_valid(CAST(payload AS TEXT)) THEN CAST(payload AS TEXT) ELSE '{}' END AS p"
        " FROM (SELECT payload FROM records UNION ALL SELECT payload FROM kept)) GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    return read(path, lambda connection: connection.execute(query, (outcome, risk)).fetchall())


def _first_id(seconds: float | None) -> str:
    """Return what the ids of that millisecond and of all later ones do not sort before."""
    digits = f"{max(0, int((seconds or 0) * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}"
