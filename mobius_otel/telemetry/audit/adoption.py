"""What dead processes left in a ledger: streams without an end, and tails that nobody brought in."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mobius_otel.telemetry.audit.schema import TAIL_LOST
from mobius_otel.telemetry.audit.stream import Checkpoint, is_dead
from mobius_otel.telemetry.audit.tail import (
    FileErrors,
    Left,
    begins_after,
    insert,
    newest_of,
    read_tail,
    remove,
    set_aside,
    tails_of,
)

__all__ = ["adopt", "anything_left", "forget"]

_LEFT: Final = (
    "SELECT id, stream_id, count, head, tail, host, pid, process, born FROM streams"
    " WHERE ended IS NULL AND adopted IS NULL AND id != ?"
)
_ADOPT: Final = "UPDATE streams SET adopted = ?, adopted_by = ? WHERE id = ? AND ended IS NULL AND adopted IS NULL"
# Of a process that may live: it brings its tail in within a second, so what lies there for so long it does not.
_QUIET_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 86_400.0
_OPEN: Final = (
    "INSERT INTO streams (stream_id, host, pid, started, process, born, count, head) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def anything_left(connection: sqlite3.Connection, ledger: Path, own: int) -> bool:
    """Return whether there is something to adopt, or a tail that nobody needs any more.

    Args:
        connection: The ledger.
        ledger: Its file.
        own: The row of the stream of who asks; 0: it has none.
    """
    streams, places = connection.execute(_LEFT, (own,)).fetchall(), tails_of(ledger)
    return (
        any(is_dead(*row[5:]) for row in streams)
        or any(_quiet(ledger, places, *row[1:3]) for row in streams)
        or any(True for _ in _orphans(connection, ledger))
    )


def adopt(
    connection: sqlite3.Connection,
    ledger: Path,
    own: int,
    stream_id: str,
    now: float,
    *,
    say: Callable[..., object],
) -> Iterator[tuple[Checkpoint | None, Left | None]]:
    """Bring in the tails of dead processes, and note by whom their streams were adopted: each once.

    Args:
        connection: The ledger, in a transaction that writes.
        ledger: Its file.
        own: The row of the stream that adopts.
        stream_id: That stream.
        now: Seconds since the epoch.
        say: Called with level, message and values for every line of the log.

    Yields:
        How far a stream was, if it had no end, and its tail, if it has one: to be forgotten after the commit.
    """
    places = tails_of(ledger)
    for row, left_id, count, head, has_tail, *process in connection.execute(_LEFT, (own,)).fetchall():
        if not is_dead(*process):
            continue
        try:
            left = read_tail(ledger, left_id, places[left_id]) if left_id in places else None
        except OSError as error:  # it stays for another time
            if error.errno is None:
                raise
            place = places[left_id]
            say(logging.ERROR, "mobius_otel: the tail %s of a killed process cannot be read: %s", place, error)
            continue
        if connection.execute(_ADOPT, (now, stream_id, row)).rowcount != 1:
            continue
        if left is None and has_tail:
            say(
                logging.ERROR,
                "mobius_otel: the tail of the stream %s of the audit ledger %s is gone: what its process, which was"
                " killed, recorded in its last moments is lost", left_id, ledger,
            )  # fmt: skip
            connection.execute("UPDATE streams SET tail = ? WHERE id = ?", (TAIL_LOST, row))
        yield _checkpoint(left_id, *_bring_in(connection, row, count, head, left)), left
    for row, left_id, count, head, *_ in connection.execute(_LEFT, (own,)).fetchall():
        if quiet := _quiet(ledger, places, left_id, count):
            left, forgotten = quiet
            _bring_in(connection, row, count, head, left)
            if forgotten:
                connection.execute("UPDATE streams SET tail = 0 WHERE id = ?", (row,))
                yield None, left
    for found, left in _orphans(connection, ledger):
        if found is not None or not left.links:
            if found is not None:
                _bring_in(connection, *found, left)
            yield None, left
            continue
        begin = begins_after(left.links)
        opened = connection.execute(_OPEN, (left.stream_id, *_of_owner(left.owner), *begin)).lastrowid or 0
        connection.execute(_ADOPT, (now, stream_id, opened))
        yield _checkpoint(left.stream_id, *_bring_in(connection, opened, *begin, left)), left


def _checkpoint(stream_id: str, count: int, head: bytes) -> Checkpoint:
    return Checkpoint(stream_id, count, head.hex())


def _quiet(ledger: Path, places: Mapping[str, str], stream_id: str, count: int) -> tuple[Left, bool] | None:
    """Return the tail of a stream whose process may live, and whether it is a day old, where there is something to do.

    Whoever it is may find it in the database later: what is there already, it passes over.
    """
    with FileErrors():
        place = places.get(stream_id)
        age = 0.0 if place is None else time.time() - os.stat(place).st_mtime
        if place is not None and age > _QUIET_SECONDS and (left := read_tail(ledger, stream_id, place)) is not None:
            forgotten = age > _FORGOTTEN_SECONDS
            return (left, forgotten) if forgotten or left.after(count) else None
    return None


def _orphans(connection: sqlite3.Connection, ledger: Path) -> Iterator[tuple[tuple[int, int, bytes] | None, Left]]:
    """Yield the tails of streams that ended or were adopted, with their rows, and those of which no stream is known."""
    for stream_id, place in tails_of(ledger).items():
        found = connection.execute(
            "SELECT id, count, head, ended IS NULL AND adopted IS NULL FROM streams WHERE stream_id = ?", (stream_id,)
        ).fetchone()
        if found is not None and found[3]:
            continue
        with FileErrors():
            left = read_tail(ledger, stream_id, place)
            if left is None:
                continue
            if found is not None:
                yield found[:3], left
            elif _is_of_the_dead(left):
                yield None, left


def _of_owner(owner: dict[str, Any]) -> tuple[str, int, float, str, str | None]:
    """Return host, process id, start, token and birth of the process that a tail's first line names.

    Raises:
        ValueError: It names none.
    """
    try:
        born = owner["born"]
        host, process, began = str(owner["host"]), str(owner["process"]), None if born is None else str(born)
        f"{host}{process}{began}".encode()  # half a character is none that the database takes
        return host, int(owner["pid"]), float(owner["started"]), process, began
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError("no process") from error


def _is_of_the_dead(left: Left) -> bool:
    with contextlib.suppress(ValueError):
        host, pid, _, process, born = _of_owner(left.owner)
        return is_dead(host, pid, process, born)
    return False


def _bring_in(
    connection: sqlite3.Connection, row: int, count: int, head: bytes, left: Left | None
) -> tuple[int, bytes]:
    """Write what a tail has beyond the database; return how far the stream is then."""
    links = [] if left is None else left.after(count)
    while links:
        if links[0].sequence != count + 1:  # as where an older copy of the ledger took its place: verify names the gap
            count, head = begins_after(links)
            connection.execute("UPDATE streams SET count = ?, head = ? WHERE id = ?", (count, head, row))
        number = next((n for n, link in enumerate(links) if link.sequence != count + 1 + n), len(links))
        insert(connection, row, links[:number], newest_of(connection))
        count, head = links[number - 1].sequence, links[number - 1].hash
        links = links[number:]
    return count, head


def forget(left: Left, say: Callable[..., object]) -> None:
    """Remove a tail that is in the database now; a damaged one is kept under another name, and that is said.

    Args:
        left: The tail.
        say: As for :func:`adopt`.
    """
    with FileErrors():
        if left.damage:
            say(
                logging.ERROR,
                "mobius_otel: the tail %s of a killed process is damaged (%s); what could be read of it is in the"
                " ledger, the file is kept as %s, and `mobius-otel audit verify` names it", left.place,
                "; ".join(left.damage[:3]), os.path.basename(set_aside(left)),
            )  # fmt: skip
        else:
            remove(left)
