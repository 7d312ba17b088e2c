"""How a ledger is doing: what waits, since when, what is in quarantine, how much there is. It only reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mobius_otel.telemetry.audit.salvage import is_damage
from mobius_otel.telemetry.audit.schema import NEWEST
from mobius_otel.telemetry.audit.stream import Link

__all__ = ["LedgerStats", "backlog_of", "made_at", "oldest_of", "reasons_of", "stats_of"]

_BACKLOG: Final = (
    f"SELECT {NEWEST} - (SELECT acknowledged FROM shipping) + (SELECT COUNT(*) FROM quarantine"
    " WHERE record <= (SELECT acknowledged FROM shipping))"
)


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """The state of a ledger.

    Args:
        records: Records that lie in it.
        pruned: Records that were removed after a collector had them.
        backlog: Records that no collector has, those in quarantine included.
        quarantined: Records that a collector refused alone.
        oldest: Seconds since the oldest record of the backlog was made; None: there is no backlog.
        streams: Streams it knows.
        open_streams: Streams that neither ended nor were adopted.
        adopted_streams: Streams of dead processes that a living one took note of.
        bytes: Size of file and log on disk.
        payload_bytes: Size of the records' JSON.
    """

    records: int
    pruned: int
    backlog: int
    quarantined: int
    oldest: float | None
    streams: int
    open_streams: int
    adopted_streams: int
    bytes: int
    payload_bytes: int


def stats_of(
    connection: sqlite3.Connection, path: str | os.PathLike[str], unseen: Sequence[Link], now: float
) -> LedgerStats:
    """Return the state of a ledger.

    Args:
        connection: The ledger's.
        path: Its file.
        unseen: Records that the connection does not show.
        now: Seconds since the epoch.
    """
    records, payload = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(LENGTH(CAST(payload AS BLOB))), 0)"
        " FROM (SELECT payload FROM records UNION ALL SELECT payload FROM kept)"
    ).fetchone()
    pruned, quarantined = connection.execute(
        "SELECT (SELECT COALESCE(SUM(pruned), 0) FROM streams) - (SELECT COUNT(*) FROM kept),"
        " (SELECT COUNT(*) FROM quarantine)"
    ).fetchone()
    known, still_open, adopted = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(ended IS NULL AND adopted IS NULL), 0),"
        " COALESCE(SUM(adopted IS NOT NULL), 0) FROM streams"
    ).fetchone()
    files = (f"{path}{suffix}" for suffix in ("", "-wal"))
    size = sum(os.path.getsize(file) for file in files if os.path.exists(file))
    backlog, oldest = backlog_of(connection) + len(unseen), oldest_of(connection, unseen, now)
    return LedgerStats(
        records + len(unseen), pruned, backlog, quarantined, oldest, known, still_open, adopted, size,
        payload + sum(len(link.payload) for link in unseen),
    )  # fmt: skip


def backlog_of(connection: sqlite3.Connection) -> int:
    """Return how many records no collector has acknowledged, those in quarantine included."""
    return max(0, int(connection.execute(_BACKLOG).fetchone()[0]))


def oldest_of(connection: sqlite3.Connection, unseen: Sequence[Link], now: float) -> float | None:
    """Return the seconds since the oldest record was made that no collector has; None: there is none."""
    found = connection.execute(
        "SELECT record_id FROM (SELECT * FROM records UNION ALL SELECT * FROM kept) r WHERE r.id = ("
        "SELECT MIN(id) FROM (SELECT MIN(record) AS id FROM quarantine UNION ALL"
        " SELECT MIN(id) FROM records WHERE id > (SELECT acknowledged FROM shipping)))"
    ).fetchone()
    made = [made_at(link.record_id) for link in unseen] + ([made_at(found[0])] if found is not None else [])
    first = min((one for one in made if one is not None), default=None)
    return None if first is None else max(0.0, now - first)


def reasons_of(connection: sqlite3.Connection) -> dict[str, tuple[float, int, str]]:
    """Return, by record id, since when each record is in quarantine, how often it was refused, and the answer."""
    return {
        _name_of(connection, number): (since, attempts, reason)
        for number, since, attempts, reason in connection.execute(
            "SELECT record, since, attempts, reason FROM quarantine ORDER BY record"
        ).fetchall()
    }


def _name_of(connection: sqlite3.Connection, number: int) -> str:
    query = "SELECT record_id FROM records WHERE id = :id UNION ALL SELECT record_id FROM kept WHERE id = :id"
    try:
        found = connection.execute(query, {"id": number}).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = None
    return str(found[0]) if found else f"number {number} of the ledger"


def made_at(record_id: Any) -> float | None:
    """Return when a record was made, in seconds since the epoch: its id begins with that."""
    try:
        return int(record_id[:8] + record_id[9:13], 16) / 1000
    except (TypeError, ValueError):
        return None
