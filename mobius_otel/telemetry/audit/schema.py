"""The ledger's tables, their versions, and a record as it lies in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.chain import parse

__all__ = [
    "KEPT",
    "KEPT_TOO",
    "MIGRATIONS",
    "NEWEST",
    "SELECT",
    "STREAM",
    "TAIL_LOST",
    "Entry",
    "entry_of",
    "finished",
    "unfinished",
]

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
    # Signatures; whose process a stream was and who adopted it; what was pruned, and what was kept of it because no
    # collector has it.
    """
    ALTER TABLE records ADD COLUMN signature TEXT;
    ALTER TABLE streams ADD COLUMN process TEXT;
    ALTER TABLE streams ADD COLUMN born TEXT;
    ALTER TABLE streams ADD COLUMN adopted REAL;
    ALTER TABLE streams ADD COLUMN adopted_by TEXT;
    ALTER TABLE streams ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE streams ADD COLUMN pruned_head BLOB;
    ALTER TABLE streams ADD COLUMN pruned_signature TEXT;
    ALTER TABLE shipping ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE shipping ADD COLUMN retry REAL;
    CREATE TABLE kept (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
        record_id TEXT NOT NULL, hash BLOB NOT NULL, payload TEXT NOT NULL, signature TEXT
    )
    """,
    # A stream's length, its head and its newest position follow its records by themselves: one statement a record, two
    # pages of the file, and no record that does not follow. A position is one more than NEWEST.
    """
    CREATE TABLE plain_records (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, sequence INTEGER NOT NULL,
        record_id TEXT NOT NULL, hash BLOB NOT NULL, payload TEXT NOT NULL, signature TEXT
    );
    INSERT INTO plain_records SELECT * FROM records;
    ALTER TABLE streams ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
    UPDATE streams SET newest = COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'records'), 0);
    DROP TABLE records;
    ALTER TABLE plain_records RENAME TO records;
    CREATE TRIGGER grow AFTER INSERT ON records BEGIN
        UPDATE streams SET count = NEW.sequence, head = NEW.hash, newest = NEW.id
            WHERE id = NEW.stream AND count = NEW.sequence - 1;
        SELECT RAISE(ABORT, 'the record does not follow in its stream, or the stream''s row is gone')
            WHERE changes() = 0;
    END
    """,
    # Whether there is a file with what a stream has beyond the database: where it is gone, that can be said.
    """
    ALTER TABLE streams ADD COLUMN tail INTEGER NOT NULL DEFAULT 0
    """,
)

#: In ``streams.tail``: the file was gone when the process was dead.
TAIL_LOST: Final = 2

#: The newest position that was given: of what a collector has, every record may be pruned.
NEWEST: Final = "MAX(COALESCE((SELECT MAX(id) FROM records), 0), (SELECT acknowledged FROM shipping))"

#: The id of a record's stream.
STREAM: Final = "(SELECT CAST(s.stream_id AS BLOB) FROM streams s WHERE s.id = r.stream)"
#: Reads rows for :func:`entry_of`; as bytes, because somebody may have made texts of them that are no UTF-8.
#: No join: with one, SQLite would sort all records of a ledger that is read together with its tails.
SELECT: Final = (
    f"SELECT r.id, {STREAM}, r.sequence, CAST(r.record_id AS BLOB), r.hash, CAST(r.payload AS BLOB),"
    " CAST(r.signature AS BLOB) FROM records r"
)
#: The same of what a collector refuses and was kept when the records around it were pruned: it lies before all others.
KEPT: Final = SELECT.replace("FROM records r", "FROM kept r")
#: Both.
KEPT_TOO: Final = SELECT.replace("FROM records r", "FROM (SELECT * FROM records UNION ALL SELECT * FROM kept) r")


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
        signature: Its signature, where it has one.
    """

    position: int
    stream_id: str | None
    sequence: int
    record_id: str
    hash: str
    payload: bytes
    signature: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the record as it leaves the ledger.

        Raises:
            ValueError: Somebody changed the payload to what is no record.
        """
        record = parse(self.payload)
        if not isinstance(record, dict) or not isinstance(record.get("attributes"), dict):
            raise ValueError("the payload is no audit record")
        return finished(record, self.hash, self.signature)


def entry_of(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of `SELECT`, whatever somebody may have put into it."""
    position, stream_id, sequence, record_id, head, payload, signature = row
    return Entry(
        position,
        str(stream_id, "utf-8", "replace") if isinstance(stream_id, bytes) else None,
        sequence if isinstance(sequence, int) else 0,
        str(record_id, "utf-8", "replace") if isinstance(record_id, bytes) else "",
        head.hex() if isinstance(head, bytes) else str(head),
        payload if isinstance(payload, bytes) else b"",
        str(signature, "utf-8", "replace") if isinstance(signature, bytes) else None,
    )


def finished(record: Mapping[str, Any], digest_hex: str | None, signature: str | None = None) -> dict[str, Any]:
    """Return `record` with what is not part of its own hash: hash, signature, and the id by its standard name."""
    attributes = dict(record["attributes"])
    attributes[conventions.LOG_RECORD_UID] = attributes.get(conventions.AUDIT_RECORD_ID)
    if digest_hex is not None:
        attributes[conventions.AUDIT_INTEGRITY_VALUE] = digest_hex
    if signature is not None:
        attributes[conventions.AUDIT_SIGNATURE] = signature
    return {**record, "attributes": attributes}


def unfinished(record: Mapping[str, Any]) -> tuple[dict[str, Any], str, str | None]:
    """Return what :func:`finished` was made from: the record as it was hashed, its hash, its signature.

    Raises:
        ValueError: It is no audit record.
    """
    attributes = record.get("attributes")
    if not isinstance(attributes, Mapping):
        raise ValueError("no audit record: it has no attributes")
    rest = dict(attributes)
    rest.pop(conventions.LOG_RECORD_UID, None)
    stated, signature = rest.pop(conventions.AUDIT_INTEGRITY_VALUE, None), rest.pop(conventions.AUDIT_SIGNATURE, None)
    if not isinstance(stated, str) or conventions.AUDIT_RECORD_ID not in rest:
        raise ValueError("no audit record: it has no audit.integrity.value")
    return {**record, "attributes": rest}, stated, signature if isinstance(signature, str) else None
