"""A stream: the chain that one process writes, and the records it writes about itself.

Each record holds the hash of the one before. At its checkpoints, at its end, and where it takes note of a stream
that a dead process left, the stream says so in records of its own.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.chain import Record, canonical, digest, new_record_id, parse
from mobius_otel.telemetry.audit.signing import AuditKey, SignScope, sign

__all__ = [
    "NOTES",
    "Checkpoint",
    "Link",
    "Stream",
    "is_dead",
    "is_note",
    "process_birth",
    "process_token",
    "pruned_digest",
]

_SCOPE: Final = "mobius_otel"
#: The type of the target of what a stream writes about itself.
NOTES: Final = "audit.stream"
#: Records of these names are signed whatever the scope of signatures.
SEALED: Final = frozenset(
    event.name
    for event in (conventions.AUDIT_CHECKPOINT, conventions.AUDIT_STREAM_ENDED, conventions.AUDIT_STREAM_ADOPTED)
)
_imported = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a stream was, for another place than the ledger.

    Args:
        stream_id: The stream.
        count: How many records it had.
        head: The hash of the last one, in hexadecimal.
    """

    stream_id: str
    count: int
    head: str


@dataclass(slots=True, eq=False)  # made at every event: a frozen one costs four times that
class Link:
    """A record as a part of its chain.

    It holds the record's canonical form alone: many of them wait to come into the database, and memory that is used
    again at once is quicker than new one.

    Args:
        sequence: Its number in the stream.
        record_id: Its id.
        payload: Its canonical form.
        hash: The SHA-256 of that.
        hex: The same in hexadecimal.
        signature: Its signature, where it has one.
        placed: Its number in the ledger, from 1, without holes; None: it lies in the stream's tail.
    """

    sequence: int
    record_id: str
    payload: bytes
    hash: bytes
    hex: str
    signature: str | None
    placed: int | None = None

    @property
    def record(self) -> dict[str, Any]:
        """The record, as it was hashed."""
        record: dict[str, Any] = parse(self.payload)
        return record


@dataclass(slots=True)
class Stream:
    """A chain that grows.

    Args:
        key: Signs, where there is one.
        scope: What it signs.
    """

    key: AuditKey | None = None
    scope: SignScope = "checkpoint"
    stream_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    row: int | None = None
    position: int = 0  # of its last record
    count: int = 0
    head: bytes = b""
    unsure: bool = False  # whether the last append was committed
    sealed: int = 0  # how many records it had at its last checkpoint
    sealed_at: float = field(default_factory=time.monotonic)
    ending: bool = False  # whether the record of its end may be written: nothing comes behind that

    def link(self, record: dict[str, Any], count: int, head: bytes, row: int | None) -> Link:
        """Return `record` as the next one after `count` records, the last of which has the hash `head`.

        Its first one, which is signed, and its notes say which stream of the ledger it is: a stream that is removed
        would have those behind it stand under other numbers than they say.
        """
        sequence = count + 1
        whole = record.copy()
        attributes = whole["attributes"] = whole["attributes"].copy()
        attributes[conventions.AUDIT_STREAM_ID] = self.stream_id
        attributes[conventions.AUDIT_SEQUENCE] = sequence
        if head:
            attributes[conventions.AUDIT_PREVIOUS_HASH] = head.hex()
        if row and (sequence == 1 or is_note(record)):
            attributes[conventions.AUDIT_STREAM_NUMBER] = row
        payload = canonical(whole, alike=type(record) is Record)
        found = digest(payload)
        signature = None
        if self.key is not None and (self.scope == "record" or sequence == 1 or record.get("event_name") in SEALED):
            signature = sign(self.key, self.scope, found)
        return Link(sequence, attributes[conventions.AUDIT_RECORD_ID], payload, found, found.hex(), signature)

    def go_on(self, row: int, position: int, count: int, head: bytes) -> None:
        """Note what was committed.

        Args:
            row: The stream's row.
            position: Where its last record stands; 0: there is no new one.
            count: How many records it has.
            head: The hash of the last one.
        """
        position = position or self.position
        # At once: a signal handler that raises comes before this or after it.
        self.row, self.position, self.count, self.head, self.unsure = row, position, count, head, False

    def checkpoint(self, count: int | None = None, head: bytes = b"") -> Checkpoint:
        """Return how far it is, or will be with `count` records, the last of which has the hash `head`."""
        if count is None:
            count, head = self.count, self.head
        return Checkpoint(self.stream_id, count, head.hex())

    def own_record(self, event: conventions.Event, of: Checkpoint, *, end: bool = False) -> dict[str, Any]:
        """Return a record about a stream, this one or one that a dead process left."""
        now = str(time.time_ns())
        attributes: dict[str, Any] = {
            conventions.AUDIT_ACTION: event.action,
            conventions.AUDIT_ACTOR_ID: _SCOPE,
            conventions.AUDIT_ACTOR_TYPE: "system",
            conventions.AUDIT_TARGET_ID: of.stream_id,
            conventions.AUDIT_TARGET_TYPE: NOTES,
            conventions.AUDIT_OUTCOME: "success",
            conventions.AUDIT_CHECKPOINT_COUNT: of.count,
            conventions.AUDIT_CHECKPOINT_HEAD: of.head,
            conventions.AUDIT_SCHEMA_VERSION: "1",
            conventions.AUDIT_CANONICALIZATION: "jcs",
            conventions.AUDIT_RECORD_ID: new_record_id(),
        }
        if end:
            attributes[conventions.AUDIT_SEQUENCE_END] = True
        return {
            "event_name": event.name, "scope": _SCOPE, "timestamp": now, "observed_timestamp": now,
            "severity_number": 9, "severity_text": "INFO", "attributes": attributes,
        }  # fmt: skip


def is_note(record: Mapping[str, Any]) -> bool:
    """Return whether a record is one that the ledger wrote about itself."""
    return record.get("event_name") in SEALED and record.get("scope") == _SCOPE


def process_token() -> str:
    """Return what tells this process from every other: ids come again, in a container at every start."""
    return f"{_imported}-{os.getpid()}"


def process_birth(pid: int) -> str | None:
    """Return when a process of this host began, where the system tells; it tells processes of one id apart."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # finalizers have no `open` any more
        try:
            return os.read(file, 4096).rpartition(b")")[2].split()[19].decode()
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return None


def is_dead(host: str, pid: int, process: str | None, born: str | None) -> bool:
    """Return whether a process is known to be dead; one of another host is not."""
    if host != platform.node() or process == process_token():
        return False
    if pid == os.getpid():
        return process is not None
    if os.name != "posix":  # there, asking for a process would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    now = process_birth(pid)
    return born is not None and now is not None and now != born


def pruned_digest(stream_id: str, count: int, head: bytes) -> bytes:
    """Return what is signed where the first records of a stream were removed."""
    return digest(f"pruned {stream_id} {count} {head.hex()}".encode())
