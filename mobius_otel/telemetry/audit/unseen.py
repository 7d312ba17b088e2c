"""What lies in the tails beside a ledger, shown among its records to whoever reads it: no file is changed for that."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mobius_otel.telemetry.audit.salvage import is_damage
from mobius_otel.telemetry.audit.schema import TAIL_LOST
from mobius_otel.telemetry.audit.stream import Link
from mobius_otel.telemetry.audit.tail import Left, begins_after, insert, leftovers, newest_of, read_tail, tails_of

__all__ = ["Reader", "Tails"]

# The names of the temporary schema come before those of the file.
_RECORDS: Final = """
    CREATE TEMP TABLE brought (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
        record_id TEXT NOT NULL, hash BLOB NOT NULL, payload TEXT NOT NULL, signature TEXT
    )
"""
_VIEW: Final = "CREATE TEMP VIEW records AS SELECT * FROM main.records UNION ALL SELECT * FROM temp.brought"
_UNKNOWN: Final = "INSERT INTO streams (stream_id, host, pid, started, count, head, tail) VALUES (?, '', 0, 0, ?, ?, 1)"
_LACKING: Final = "SELECT CAST(stream_id AS BLOB) FROM streams WHERE tail AND ended IS NULL AND adopted IS NULL"
_LOST: Final = f"SELECT CAST(stream_id AS BLOB) FROM streams WHERE tail = {TAIL_LOST} AND adopted IS NOT NULL"


class Reader(sqlite3.Connection):
    """A connection that reads a ledger together with its tails."""

    #: What is wrong with them: the stream, where one can be named, and a text.
    amiss: tuple[tuple[str | None, str], ...] = ()
    #: The first of the positions that they may not keep; None: none of them shows.
    passing: int | None = None


@dataclass(frozen=True, slots=True)
class Tails:
    """What was found beside a ledger, before that was opened.

    Args:
        left: The tails.
        aside: The places of damaged ones that were set aside.
    """

    left: tuple[Left, ...]
    aside: tuple[str, ...]

    @classmethod
    def beside(cls, ledger: Path) -> Self:
        """Read what is there.

        Raises:
            OSError: It cannot be read.
        """
        found = (read_tail(ledger, stream_id, place) for stream_id, place in sorted(tails_of(ledger).items()))
        return cls(tuple(left for left in found if left is not None), tuple(leftovers(ledger)))

    def show(self, connection: Reader, *, damaged: bool) -> set[str]:
        """Let a connection see what lies in the tails, and what is wrong with them.

        Args:
            connection: The ledger, in a transaction.
            damaged: Whether it is one of which a page is not what it should be.

        Returns:
            The streams that should have a tail and have none.
        """
        amiss: list[tuple[str | None, str]] = [
            (None, f"{os.path.basename(place)}: it was damaged and set aside") for place in self.aside
        ]
        for left in self.left:
            amiss += [(left.stream_id, f"{os.path.basename(left.place)}: {what}") for what in left.damage]
        lacking: set[str] = set()
        lost: set[str] = set()
        try:
            known = {left.stream_id for left in self.left}
            lacking = _ids(connection, _LACKING) - known
            lost = _ids(connection, _LOST)
            self._bring_in(connection)
        except sqlite3.DatabaseError as error:
            if not damaged or not is_damage(error):
                raise
            if any(left.links for left in self.left):
                amiss.append((None, "what lies in the tails is not looked at, because the ledger is damaged"))
        amiss += [(stream, "its tail, with its newest records, is gone") for stream in sorted(lacking)]
        amiss += [
            (stream, "its tail was gone when its process was dead, with its newest records") for stream in sorted(lost)
        ]
        connection.amiss = tuple(amiss)
        return lacking

    def of(self, connection: sqlite3.Connection) -> list[Link]:
        """Return the records that are not in the database."""
        return [link for _, __, links in self._found(connection) for link in links]

    def _found(self, connection: sqlite3.Connection) -> Iterator[tuple[Left, int | None, list[Link]]]:
        """Yield each tail that has something beyond the database, with the row of its stream."""
        for left in self.left:
            row = connection.execute("SELECT id, count FROM streams WHERE stream_id = ?", (left.stream_id,)).fetchone()
            if links := left.after(row[1] if row is not None else 0):
                yield left, row and row[0], links

    def _bring_in(self, connection: Reader) -> None:
        found = list(self._found(connection))
        if not found:
            return
        newest = newest_of(connection)
        connection.passing = newest + 1
        connection.execute(_RECORDS)
        (made,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'streams'").fetchone()
        streams = connection.execute("SELECT * FROM main.streams").fetchall()  # before anything of it is hidden
        connection.execute(made.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
        if streams:
            connection.executemany(f"INSERT INTO temp.streams VALUES ({','.join('?' * len(streams[0]))})", streams)
        given = "(SELECT seq FROM main.sqlite_sequence WHERE name = 'streams')"
        if not connection.execute(f"UPDATE temp.sqlite_sequence SET seq = MAX(seq, COALESCE({given}, 0))").rowcount:
            connection.execute(f"INSERT INTO temp.sqlite_sequence VALUES ('streams', COALESCE({given}, 0))")
        for left, number, links in found:
            if number is None:
                values = (left.stream_id, *begins_after(links))
                number = connection.execute(_UNKNOWN, values).lastrowid or 0  # noqa: PLW2901
            newest = insert(connection, number, links, newest, "temp.brought")
            connection.execute(
                "UPDATE temp.streams SET count = ?, head = ?, newest = ? WHERE id = ?",
                (links[-1].sequence, links[-1].hash, newest, number),
            )
        connection.execute(_VIEW)


def _ids(connection: sqlite3.Connection, query: str) -> set[str]:
    return {str(one or b"", "utf-8", "replace") for (one,) in connection.execute(query)}
