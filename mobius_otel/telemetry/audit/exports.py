"""Verifies records outside of a ledger: JSON lines, and OTLP/JSON as a collector's file exporter writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mobius_otel import conventions
from mobius_otel.telemetry.audit.chain import canonical, digest, parse
from mobius_otel.telemetry.audit.chains import Chain, Chains, Seen
from mobius_otel.telemetry.audit.findings import NOTHING, Problem, VerifyResult
from mobius_otel.telemetry.audit.otlp import decode_json
from mobius_otel.telemetry.audit.schema import unfinished
from mobius_otel.telemetry.audit.signing import AuditKey
from mobius_otel.telemetry.audit.stream import Checkpoint

__all__ = ["verify_lines"]

_REQUEST: Final = re.compile(rb'\s*\{\s*"resourceLogs"')
_TELL_EVERY: Final = 200
_MOST_UNREADABLE: Final = 100


def verify_lines(
    lines: Iterable[bytes],
    size: int,
    *,
    keys: Iterable[AuditKey] = (),
    expected: Iterable[Checkpoint] = (),
    partial: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyResult:
    """Verify records that are one JSON document a line: a record, or an OTLP request.

    Other log records in an OTLP request are passed over. There, records may come twice and out of order, as a collector
    has them; as JSON lines they may not.

    Args:
        lines: The lines.
        size: How many bytes they are; 0: nobody knows.
        keys: Whose signatures count.
        expected: How far streams were, as was told elsewhere.
        partial: Whether streams may begin with a later record than their first.
        progress: Called now and then with how many bytes were read and `size`.
    """
    return _File(Chains(keys, expected), size, progress, partial=partial).run(lines)


class _File:
    def __init__(
        self, chains: Chains, size: int, progress: Callable[[int, int], None] | None, *, partial: bool
    ) -> None:
        self._partial = partial
        self._chains = chains
        self._size = size
        self._progress = progress
        self._number = 0
        self._unreadable = 0

    def run(self, lines: Iterable[bytes]) -> VerifyResult:
        done = 0
        for self._number, line in enumerate(lines, 1):
            done += len(line)
            if line.strip():
                self._line(line)
            if self._progress is not None and not self._number % _TELL_EVERY:
                self._progress(done, self._size)
        if self._progress is not None:
            self._progress(done, self._size)
        chains = self._chains
        chains.end()
        if not chains.records and not chains.problems:
            chains.problems.append(NOTHING)
        tails = chains.tails()
        unended = sum(not (chain.ended or chain.adopted) for chain in chains.by_id.values())
        return VerifyResult(
            not chains.problems, chains.records - chains.notes - chains.duplicates, len(chains.by_id),
            tuple(chains.problems), chains.notes, 0, chains.signed, chains.unchecked, unended, chains.duplicates,
            sum(tail.records for tail in tails), tails,
        )  # fmt: skip

    def _line(self, line: bytes) -> None:
        try:
            for record in self._records(line):
                self._take(record)
        except (ValueError, RecursionError) as error:
            self._unreadable += 1
            if self._unreadable <= _MOST_UNREADABLE:
                why = "it is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)[:100]
                text = f"line {self._number} is no record: {why}"
                self._chains.problems.append(Problem(None, None, None, "unreadable", text))

    def _records(self, line: bytes) -> Iterator[dict[str, Any]]:
        if _REQUEST.match(line):
            self._chains.retold = True
            for record in decode_json(line):
                if conventions.AUDIT_INTEGRITY_VALUE in record["attributes"]:
                    yield record
            return
        record = parse(line, once=True)
        if not isinstance(record, dict):
            raise ValueError("it is no object")
        yield record

    def _take(self, record: dict[str, Any]) -> None:
        bare, stated, signature = unfinished(record)
        attributes = bare["attributes"]
        stream, sequence, record_id = (
            attributes.get(name)
            for name in (conventions.AUDIT_STREAM_ID, conventions.AUDIT_SEQUENCE, conventions.AUDIT_RECORD_ID)
        )
        if not isinstance(stream, str) or not isinstance(sequence, int) or sequence < 1:
            raise ValueError("it has no stream and no number")
        chain = self._chains.by_id.get(stream) or self._chains.add(Chain(stream))
        if self._partial and not chain.last:
            chain.last = chain.covered = sequence - 1
            chain.head = str(attributes.get(conventions.AUDIT_PREVIOUS_HASH, ""))
        # Beside the chain, and for collectors the key by which they know a copy.
        named = record["attributes"].get(conventions.LOG_RECORD_UID) == record_id
        whole = named and digest(canonical(bare)).hex() == stated
        name = str(bare.get("event_name", ""))
        seen = Seen(stream, sequence, str(record_id), stated, attributes if whole else None, name, signature)
        if not whole:
            why = "its content is not what was hashed" if named else f"its {conventions.LOG_RECORD_UID} is not its id"
            self._chains.name(seen, "changed", why)
        self._chains.see(seen)
