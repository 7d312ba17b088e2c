"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.stream import Checkpoint

__all__ = ["NOTHING", "Problem", "Tail", "VerifyResult", "What", "parse_checkpoint"]

What = Literal["changed", "missing", "reordered", "doubled", "cut", "forged", "unreadable"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with records.

    Args:
        record_id: The record, where one can be named.
        stream_id: Its stream, where one can be named.
        sequence: Its number in the stream, where one can be named.
        what: ``changed``: a record is not what was hashed. ``missing``: records are gone. ``reordered``: a record
            stands after a later one. ``doubled``: a record is there twice. ``cut``: the end is gone. ``forged``: a
            record was put in, or replaced together with its hash, or lacks the signature that it must have.
            ``unreadable``: SQLite cannot read the file, or a line is no record.
        text: A sentence that says which and why.
    """

    record_id: str | None
    stream_id: str | None
    sequence: int | None
    what: What
    text: str


#: Where nothing is, nothing is proven: somebody may have emptied it.
NOTHING: Final = Problem(None, None, None, "unreadable", "there is no audit record in it")


@dataclass(frozen=True, slots=True)
class Tail:
    """Records in a row that no signature covers: whoever can write the file could have made them anew.

    Args:
        stream_id: The stream.
        since: The number of the first of them in the stream.
        records: How many they are.
    """

    stream_id: str
    since: int
    records: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found.

    Args:
        ok: Whether everything is whole.
        records: How many records were read, in quarantine too, those not counted that the ledger wrote about itself.
        streams: How many streams there are.
        problems: What is wrong.
        notes: How many records were read that the ledger wrote about itself: checkpoints, ends and adoptions.
        pruned: How many records were removed after a collector had them.
        signed: How many signatures were checked and are good.
        unchecked: How many signatures were not checked, because no key was given.
        unended: How many streams neither ended nor were adopted: their processes live, or nobody looked yet. In an
            export nothing but a checkpoint from elsewhere shows whether the end of such a stream was cut.
        duplicates: How many records a collector has twice.
        unsigned: How many records no signature covers. Of a signed stream that is still written those after its last
            checkpoint, of a stream without a signature all. Without a key a signature counts that was not checked.
        tails: The same by stream: what is behind its last signature, and what is in quarantine without one.
        kept: How many records are in quarantine and lie beside their streams, because those around them were pruned.
    """

    ok: bool
    records: int
    streams: int
    problems: tuple[Problem, ...]
    notes: int = 0
    pruned: int = 0
    signed: int = 0
    unchecked: int = 0
    unended: int = 0
    duplicates: int = 0
    unsigned: int = 0
    tails: tuple[Tail, ...] = ()
    kept: int = 0


def parse_checkpoint(text: str) -> Checkpoint:
    """Return a checkpoint that was read elsewhere, in a metric or a span event.

    Args:
        text: ``STREAM:COUNT`` or ``STREAM:COUNT:HEAD``; HEAD may be the beginning of the hash.

    Raises:
        ConfigurationError: It is none.

    Example:
        >>> parse_checkpoint("5f0c:1200:9af1")
        Checkpoint(stream_id='5f0c', count=1200, head='9af1')
    """
    stream, _, rest = text.partition(":")
    count, _, head = rest.partition(":")
    if not stream or not count.isdecimal() or not set(head.lower()) <= set("0123456789abcdef"):
        raise ConfigurationError("checkpoint", text, 'like "STREAM:COUNT" or "STREAM:COUNT:HEAD"')
    return Checkpoint(stream, int(count), head.lower())
