"""Ships a ledger's records to a collector, and believes nothing but a true acknowledgement.

The ledger's cursor moves when a collector answered 200, 201, 202 or 204 (gRPC: OK), whole, with a body that is OTLP's
and rejects nothing. Everything else is a failure and tried again. Where a collector will not have a batch as it is, the
batch is halved until the record is found that it refuses alone; once that happened often enough, while it
took others, the record goes to quarantine: kept, counted and offered again at the next start, every hour, and by
:meth:`Shipper.retry`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

from opentelemetry.instrumentation.utils import suppress_instrumentation

from mobius_otel import conventions
from mobius_otel.compat import logs_export
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.forks import on_fork
from mobius_otel.telemetry import defaults, spans
from mobius_otel.telemetry.audit.batch import Batch
from mobius_otel.telemetry.audit.courier import Courier, ExporterCourier, OtlpCourier
from mobius_otel.telemetry.audit.ledger import Entry, Ledger
from mobius_otel.telemetry.audit.settings import (
    Compression,
    Protocol,
    Settings,
    exporter_from_environment,
    settings_from_environment,
)
from mobius_otel.telemetry.audit.transport import Answer
from mobius_otel.telemetry.safety import guarded

__all__ = ["Shipper"]

_log = logging.getLogger("mobius_otel")
_LEASE_SECONDS: Final = 30.0
_LONGEST_BACKOFF: Final = 60.0
_ENCODED_AT_ONCE: Final = 8
_HOUSE_SECONDS: Final = 30.0
_OTHER_SHIPS: Final = "another process ships this ledger"
# After so many failures in a row that may be over one record (HTTP 500), the batch is halved to find it.
_BROKEN_BEFORE_HALVING: Final = 3


class Shipper:
    """A background worker that ships a ledger's records, one among all processes that share the ledger.

    Args:
        ledger: Where the records are.
        protocol: ``http/protobuf``, ``http/json`` or ``grpc``.
        endpoint: With ``http/…`` the whole URL; with ``grpc`` a URL or ``host:port``.
        headers: Sent with every request.
        timeout: Seconds that one request may take.
        certificate: A file with the certificates to trust, for TLS.
        insecure: Whether gRPC goes without TLS where the endpoint has no scheme.
        client_certificate: A file with the certificate that this side shows, for mutual TLS.
        client_key: A file with that certificate's key.
        compression: ``none``, ``gzip`` or, over HTTP alone, ``deflate``.
        exporter: Instead of all these: an exporter of OpenTelemetry's SDK, or a function that makes one. What it calls
            a success is taken for an acknowledgement.
        resource: The attributes of the resource.
        interval: Seconds between two looks at the ledger.
        batch: Records in one request, at most.
        batch_bytes: Bytes of records in one request, at most; a larger record goes alone.
        refusals: How often a record is refused alone before it goes to quarantine.
        retry_quarantine: Seconds after which what is in quarantine is offered again.

    Raises:
        ConfigurationError: A value breaks its rule.
        MissingExtra: The extra ``otlp`` is not installed.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        protocol: Protocol = "http/protobuf",
        endpoint: str = "http://localhost:4318/v1/logs",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        certificate: str | None = None,
        insecure: bool = False,
        client_certificate: str | None = None,
        client_key: str | None = None,
        compression: Compression = "none",
        exporter: logs_export.LogRecordExporter | Callable[[], logs_export.LogRecordExporter] | None = None,
        resource: Mapping[str, Any] | None = None,
        interval: float = 1.0,
        batch: int = 512,
        batch_bytes: int = 2_000_000,
        refusals: int = 3,
        retry_quarantine: float = 3600.0,
    ) -> None:
        for name, value in (
            ("interval", interval), ("batch", batch), ("batch_bytes", batch_bytes), ("refusals", refusals),
            ("retry_quarantine", retry_quarantine),
        ):  # fmt: skip
            if not value > 0:
                raise ConfigurationError(name, value, "a number above zero")
        settings = Settings(
            endpoint, protocol, dict(headers or {}), timeout, certificate, insecure, client_certificate, client_key,
            compression,
        )  # fmt: skip
        self._courier: Courier = (
            OtlpCourier(settings, resource or {})
            if exporter is None
            else ExporterCourier(exporter, resource or {}, timeout)
        )
        self._ledger = ledger
        self._interval = interval
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._refusals = refusals
        self._retry_quarantine = retry_quarantine
        self._wanted = False
        self._failing = False
        self._begin()
        on_fork(self)

    @classmethod
    def from_environment(cls, ledger: Ledger, resource: Mapping[str, Any] | None = None) -> Self | None:
        """Return a shipper by the standard variables.

        OTLP by ``OTEL_EXPORTER_OTLP_*``, or the exporter that ``OTEL_LOGS_EXPORTER`` names.

        Args:
            ledger: Where the records are.
            resource: The attributes of the resource.

        Returns:
            None where logs are not exported or no endpoint is set anywhere.

        Raises:
            ConfigurationError: A variable breaks its rule.
            MissingExtra: The extra ``otlp`` is not installed.
        """
        exporter = exporter_from_environment()
        if exporter is not None:
            return cls(ledger, exporter=exporter, resource=resource)
        found = settings_from_environment()
        if found is None:
            return None
        return cls(
            ledger, protocol=found.protocol, endpoint=found.endpoint, headers=found.headers, timeout=found.timeout,
            certificate=found.certificate, insecure=found.insecure, client_certificate=found.client_certificate,
            client_key=found.client_key, compression=found.compression, resource=resource,
        )  # fmt: skip

    def _begin(self) -> None:
        """Set up what belongs to one process."""
        self._owner = uuid.uuid4().hex
        self._lock = threading.RLock()  # one pass at a time
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._deadline = math.inf
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._retry_after: float | None = None
        self._refused: Counter[int] = Counter()
        self._unsaved: Entry | None = None
        self._offer_from: int | None = 0  # where to go on in the quarantine; None: all of it was offered again
        self._offered_at = time.monotonic()
        self._retry_seen = 0.0
        self._kept_house_at = -math.inf
        #: Why the last pass did not ship everything; empty where it did.
        self.failure = ""

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ship in the background, in this process and in those that it forks once they append."""
        self._wanted = True
        self._offer_from = 0
        self._ledger.after_append(self._ensure_running)
        self._ensure_running()

    def _ensure_running(self) -> None:
        if self._thread is not None or not self._wanted:
            return
        with self._starting:
            if self._thread is None and self._wanted:
                self._stop = threading.Event()
                self._deadline = math.inf
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="mobius_otel-audit-shipper", daemon=True
                )
                self._thread.start()
                self._ledger.shippers += 1

    def stop(self, timeout: float = 5.0) -> bool:
        """Ship what there is within `timeout` seconds and end; the rest waits for the next start.

        Returns:
            Whether nothing is left.
        """
        self._wanted = False
        end = self._deadline = time.monotonic() + timeout
        with self._starting:
            thread, self._thread = self._thread, None
            self._ledger.shippers -= thread is not None
            self._stop.set()
            self._ledger.wanted.set()
        if thread is not None:
            thread.join(timeout)
        with guarded("audit.shipper"):
            if self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
                try:
                    self.run_once()
                    self._ledger.release(self._owner)
                    self._courier.close()
                    self._deadline = math.inf
                finally:
                    self._lock.release()
            return self._ledger.backlog() == 0
        return False

    def _run(self, stop: threading.Event) -> None:
        wanted = self._ledger.wanted
        while not stop.is_set():
            wanted.clear()
            self.run_once()
            # Somebody who waits for a delivery shortens the pause, but not one that a collector asked for.
            (stop if self._failures else wanted).wait(self._pause())

    def _pause(self) -> float:
        if not self._failures:
            return self._interval
        longest = min(_LONGEST_BACKOFF, self._interval * 2 ** min(self._failures, 16))
        # Jitter: the workers of a fleet must not all come back at once.
        return max(self._retry_after or 0.0, random.uniform(longest / 2, longest))  # noqa: S311

    # --- a pass ---------------------------------------------------------------------------------------------

    def run_once(self) -> int:
        """Ship what the ledger holds, until it is empty or the collector fails; never raises.

        Returns:
            How many records were acknowledged; 0 too where another process ships this ledger.
        """
        with self._lock, suppress_instrumentation():
            shipped = 0
            self.failure = ""
            with guarded("audit.shipper"):
                try:
                    self._ledger.spool.drain()
                    self._save()
                    self._keep_house()
                    shipped = self._offer_again()
                    while self._time_left() > 0 and (entries := self._next()):
                        if not self._holds_lease():
                            self.failure = _OTHER_SHIPS
                            break
                        accepted, done = self._ship(entries)
                        shipped += accepted
                        if not done:
                            break
                except BaseException as error:
                    self._failures += 1
                    known = isinstance(error, sqlite3.Error | AuditUnavailable)  # their texts quote no record
                    self.failure = f"the ledger: {error}" if known else type(error).__name__
                    raise
            return shipped

    def _keep_house(self) -> None:
        """Adopt what dead processes left, note where the streams are, offer again, prune: now and then."""
        now = time.monotonic()
        asked = self._ledger.retry_requested()
        if asked != self._retry_seen or now - self._offered_at >= self._retry_quarantine:
            self._offer_from, self._retry_seen = 0, asked
        if now - self._kept_house_at < _HOUSE_SECONDS:
            return
        self._kept_house_at = now
        ships = self._holds_lease()
        # On a full disk neither may work; what ships makes room for both.
        with contextlib.suppress(AuditUnavailable):
            self._ledger.seal(adopt=ships)
        if ships:
            with contextlib.suppress(sqlite3.OperationalError):
                self._ledger.prune()

    def retry(self) -> tuple[int, int]:
        """Offer what is in quarantine again, now; where another process ships this ledger, ask that one to do it.

        Returns:
            How many records the collector took, and how many are still in quarantine.
        """
        with self._lock, suppress_instrumentation():
            self.failure = ""
            self._offer_from = 0
            if self._holds_lease():
                taken = self._offer_again()
            else:
                taken, self.failure = 0, f"{_OTHER_SHIPS}; it was asked to offer them again"
                self._ledger.request_retry()
            return taken, self._ledger.quarantine_size()

    def _holds_lease(self) -> bool:
        return self._ledger.lease(self._owner, _LEASE_SECONDS + self._courier.timeout)

    def _time_left(self) -> float:
        return self._deadline - time.monotonic()

    def _next(self) -> list[Entry]:
        """Return the next batch, cut where it would be too large for a collector's default limit."""
        entries = self._ledger.unshipped(0, self._batch)
        size = 0
        for number, entry in enumerate(entries):
            size += len(entry.payload)
            if size > self._batch_bytes and number:
                return entries[:number]
        return entries

    def _ship(self, entries: Sequence[Entry]) -> tuple[int, bool]:
        """Ship one batch; return how many records were accepted, and whether the next batch may go."""
        batch = Batch(
            entries, self, refused=self._refused, refusals=self._refusals,
            halve_when_broken=self._failures >= _BROKEN_BEFORE_HALVING,
        )  # fmt: skip
        with spans.started(conventions.AUDIT_EXPORT, {conventions.COUNT: len(entries)}) as span:
            done = batch.ship()
            span.set_attribute(conventions.OUTCOME, "success" if done else "failure")
            if not done:
                span.set_attribute(conventions.ERROR_TYPE, batch.reason)
        self._settle(done, batch.reason)
        return batch.accepted, done

    def _settle(self, done: bool, reason: str) -> None:
        """Remember how it went; a change of state is one log line."""
        if done:
            self._failures, self._retry_after, self.failure = 0, None, ""
            if self._failing:
                self._failing = False
                self._offer_from = 0
                _log.warning("mobius_otel: audit records are shipped to %s again", self._courier.place)
            return
        self._failures += 1
        self.failure = reason
        if not self._failing:
            self._failing = True
            _log.warning(
                "mobius_otel: audit records cannot be shipped to %s: %s; they wait in the ledger and are tried again",
                self._courier.place, reason,
            )  # fmt: skip

    # --- what a batch asks ----------------------------------------------------------------------------------

    def send(self, entries: Sequence[Entry]) -> Answer:
        """Send records as one request, while this process holds the lease."""
        left = self._time_left()
        if left <= 0:
            return Answer("failed", "the time for shutting down is over")
        if not self._holds_lease():
            return Answer("failed", _OTHER_SHIPS)
        try:
            answer = self._courier.carry(_one_by_one(entries), min(self._courier.timeout, left))
        except ValueError:  # somebody changed it in the ledger: verify says so, and the others must not wait
            return Answer("refused", "it is no audit record any more")
        self._retry_after = answer.retry_after
        return answer

    def exported(self, count: int) -> None:
        """Count records that a collector accepted."""
        _count("exported", count)

    def acknowledge(self, last: Entry) -> None:
        """Move the ledger's cursor to `last`."""
        self._unsaved = last
        self._save()

    def _save(self) -> None:
        """Move the ledger's cursor; should that fail, it comes before anything is sent again."""
        if self._unsaved is not None:
            self._ledger.acknowledge(self._unsaved.position, self._unsaved.hash)
            self._unsaved = None

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Set a record aside; it stays in the ledger."""
        self._ledger.quarantine(entry.position, reason)
        _count("quarantined", 1)
        _log.error(
            "mobius_otel: the collector at %s refuses the audit record %s (%s); it stays in the ledger, in quarantine,"
            " and is offered again at the next start and every hour", self._courier.place, entry.record_id, reason,
        )  # fmt: skip

    def _offer_again(self) -> int:
        """Offer what is in quarantine once more, one by one, after a start and after a collector came back."""
        taken = 0
        while self._offer_from is not None and self._time_left() > 0:
            entries = self._ledger.quarantined(self._offer_from, 64)
            if not entries:
                self._offer_from, self._offered_at = None, time.monotonic()
            elif not self._holds_lease():
                return taken
            for entry in entries:
                answer = self.send([entry])
                if answer.verdict == "accepted":
                    self._ledger.unquarantine(entry.position)
                    self.exported(1)
                    taken += 1
                elif answer.verdict == "refused":
                    self._ledger.quarantine(entry.position, answer.reason)
                else:
                    self.failure = answer.reason
                    return taken
                self._offer_from = entry.position
        return taken

    def _after_fork_in_child(self) -> None:
        self._begin()
        self._courier.renew()

    def __repr__(self) -> str:
        state = "failing" if self._failing else "running" if self._thread is not None else "stopped"
        return f"Shipper({self._courier.place}, {state})"


def _one_by_one(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield the records, and let others run now and then: encoding 512 takes longer than anybody should wait."""
    for number, entry in enumerate(entries, 1):
        yield entry.record()
        if not number % _ENCODED_AT_ONCE:
            time.sleep(0)


def _count(result: str, count: int) -> None:
    defaults.counter(conventions.AUDIT_RECORDS).add(count, {conventions.AUDIT_RESULT: result})
