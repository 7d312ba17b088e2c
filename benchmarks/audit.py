"""What an audited event costs, and how fast records are shipped and verified, beside what others do; one run.

    python benchmarks/audit.py [--quick]

Peers: OpenTelemetry's own pipeline (``Logger.emit``, batch processor: in memory), persist-queue (``pip install
persist-queue``; left out where it is missing), a bare append of the same bytes, the same with fsync, and a bare
commit of them by SQLite, which is the floor of everything that commits a record at a time. All are measured in the
same rounds, one after the other, and a ratio is the median of the rounds' ratios. Costs of one thread are CPU time, so
that another program on the machine does not count: that of all threads, the one included that brings records from a
ledger's tail into its database, and with everything brought in by the end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult

from mobius_otel import Actor, AuditEvent, AuditLogger, Source, Target
from mobius_otel.telemetry.audit import Ledger
from mobius_otel.telemetry.audit.chain import canonical
from mobius_otel.telemetry.audit.record import build
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.verify import verify_ledger

sys.path.insert(0, str(Path(__file__).parents[1]))

ATTRIBUTES = {
    "amount": 12.5, "currency": "EUR", "request_id": "6f1c2d34-9a77-4b1e-8a53-0c9f3b2d1a77",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537",
    "lines": [{"sku": "a-1", "n": 2}, {"sku": "b-2", "n": 1}],
}  # fmt: skip


def event() -> AuditEvent:
    """Make the event that everything is measured with; about 900 bytes as a record."""
    return AuditEvent(
        "payment.refund", "UPDATE", Actor("u-1"), "success", Target("order-9", "order"), 70, "as asked",
        Source("203.0.113.9"), "acme", ATTRIBUTES,
    )  # fmt: skip


class Nowhere(LogRecordExporter):
    """Takes everything at no cost, so that the pipeline before it is what is measured."""

    def export(self, _):
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        pass

    def force_flush(self, _=0):
        return True


def nothing() -> None:
    """Have nothing left to do."""


def cpu(function: Callable[[], object], count: int, rest: Callable[[], object] = nothing) -> float:
    """Return the CPU seconds of one call, with its share of what is left to do after them all."""
    gc.collect()
    began = time.process_time()
    for _ in range(count):
        function()
    rest()
    return (time.process_time() - began) / count


def wall(function: Callable[[], object], count: int) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - began) / count


class Contenders:
    """Everything that keeps an event somewhere, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.payload = canonical(build(event(), "bench", None)) + b"\n"
        self.file = os.open(folder / "append.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self.ledgers = [Ledger(folder / "process.db"), Ledger(folder / "power.db", durability="power")]
        process, power = (AuditLogger("bench", ledger=ledger) for ledger in self.ledgers)
        emitted, text = event(), self.payload.decode()
        self.bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self.bare.execute("PRAGMA journal_mode=WAL")
        self.bare.execute("PRAGMA synchronous=NORMAL")
        self.bare.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, payload TEXT NOT NULL)")
        self.power = power
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(Nowhere()))
        logger = provider.get_logger("bench")

        def stock() -> None:
            logger.emit(
                event_name="payment.refund", timestamp=time.time_ns(), severity_number=SeverityNumber.WARN2,
                attributes={
                    "audit.action": "UPDATE", "audit.actor.id": "u-1", "audit.actor.type": "user",
                    "audit.target.id": "order-9", "audit.target.type": "order", "audit.source.id": "203.0.113.9",
                    "audit.outcome": "success", "mobius.audit.reason": "as asked", **ATTRIBUTES,
                },
            )  # fmt: skip

        self.all: dict[str, tuple[Callable[[], object], int]] = {
            "bare append": (lambda: os.write(self.file, self.payload), 2000),
            "stock Logger.emit, batch processor (memory)": (stock, 1000),
            "bare commit by SQLite": (
                lambda: self.bare.execute("INSERT INTO records (payload) VALUES (?)", (text,)),
                1000,
            ),
            "emit, process (redacted, chained, committed)": (lambda: process.emit(emitted), 1000),
            "the same, the event made and checked as well": (lambda: process.emit(event()), 1000),
        }
        #: Those that leave something for later.
        self.later = [name for name in self.all if "emit, process" in name or "the same" in name]
        with contextlib.suppress(ImportError):
            import persistqueue

            queue = persistqueue.SQLiteAckQueue(str(folder / "queue"), auto_commit=True)
            self.all["persist-queue SQLiteAckQueue.put"] = (lambda: queue.put(self.payload), 200)

    def fsynced(self) -> None:
        """Append and wait for the disk."""
        os.write(self.file, self.payload)
        os.fsync(self.file)


def cost(contenders: Contenders, rounds: int) -> None:
    """Print what one event costs."""
    print("\ncost of one event, one thread")
    found: dict[str, list[float]] = {name: [] for name in contenders.all}
    for _ in range(rounds):
        for name, (function, count) in contenders.all.items():
            rest = contenders.ledgers[0].flush if name in contenders.later else nothing
            found[name].append(cpu(function, count, rest))
    append = found["bare append"]
    for name, times in found.items():
        ratio = statistics.median(one / other for one, other in zip(times, append, strict=True))
        print(f"  {name:48} {min(times) * 1e6:8.1f} µs {ratio:7.1f} x a bare append")


def latency(contenders: Contenders, threads: int, each: int) -> None:
    """Print how long an event takes while several threads record."""
    function = contenders.all["emit, process (redacted, chained, committed)"][0]
    times: list[float] = []

    def run() -> None:
        mine = []
        for _ in range(each):
            began = time.perf_counter()
            function()
            mine.append(time.perf_counter() - began)
        times.extend(mine)

    began = time.perf_counter()
    together(run, threads)
    contenders.ledgers[0].flush()
    seconds = time.perf_counter() - began
    times.sort()
    median, late = times[len(times) // 2], times[len(times) * 99 // 100]
    print(f"\nemit, process, {threads} threads: {len(times) / seconds:,.0f} events/s")
    print(f"  median {median * 1e6:,.0f} µs, p99 {late * 1e6:,.0f} µs, {late / median:.1f} x the median")


def together(function: Callable[[], object], threads: int) -> float:
    """Run a function in several threads; return the seconds that it took."""
    workers = [threading.Thread(target=function) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def power(contenders: Contenders, rounds: int) -> None:
    """Print what an event costs that survives a power cut, with many threads that share an fsync."""
    emitted = event()
    ratios, lone, shared, each = [], [], [], 16

    def run() -> None:
        for _ in range(each):
            contenders.power.emit(emitted)

    for _ in range(rounds):
        lone.append(wall(contenders.fsynced, 100))
        shared.append(together(run, 64) / (64 * each))
        ratios.append(shared[-1] / (lone[-1] / 16))
    print("\nemit, power, 64 threads")
    print(f"  {statistics.median(shared) * 1e6:,.1f} µs an event; an append with an fsync of its own: "
          f"{statistics.median(lone) * 1e6:,.1f} µs")  # fmt: skip
    print(f"  {statistics.median(ratios):.1f} x a lone fsync divided by 16")


def shipping(folder: Path, count: int) -> None:
    """Print how fast records reach a collector, and what that costs those who record meanwhile."""
    from tests.services.rotel import NO_ROTEL, RotelCollector, rotel_program

    if rotel_program() is None:
        print(f"\nshipping: {NO_ROTEL}")
        return
    with RotelCollector(folder, quiet=True) as collector, Ledger(folder / "ship.db") as ledger:
        audit = AuditLogger("bench", ledger=ledger)
        emitted = event()
        for protocol, endpoint in (
            ("http/protobuf", f"{collector.http_endpoint}/v1/logs"), ("grpc", collector.grpc_endpoint),
            ("http/json", f"{collector.http_endpoint}/v1/logs"),
        ):  # fmt: skip
            for _ in range(count):
                audit.emit(emitted)
            shipper = Shipper(ledger, endpoint=endpoint, protocol=protocol)  # type: ignore[arg-type]
            began, used = time.perf_counter(), time.process_time()
            shipped = shipper.run_once()
            used, seconds = time.process_time() - used, time.perf_counter() - began
            shipper.stop()
            print(f"\nshipped to rotel by {protocol}: {shipped / seconds:,.0f} records/s")
            print(f"  {shipped / used:,.0f} a second of one core's time")
        alone, beside = [], []
        shipper = Shipper(ledger, endpoint=f"{collector.http_endpoint}/v1/logs", interval=0.05)
        for _ in range(21):  # one of them may say anything between less and half as much again
            alone.append(wall(lambda: (audit.emit(emitted), time.sleep(0.001)), 400) - 0.001)
            shipper.start()
            beside.append(wall(lambda: (audit.emit(emitted), time.sleep(0.001)), 400) - 0.001)
            shipper.stop(30)
        slower = statistics.median(one / other for one, other in zip(beside, alone, strict=True)) - 1
        print(f"\nemit while it is shipped: {slower:+.0%} (about 700 events/s)")


def verifying(folder: Path, count: int) -> None:
    """Print how fast a ledger is verified, and how large it is."""
    path = folder / "verify.db"
    with Ledger(path) as ledger:
        emitted, size = event(), 0
        audit = AuditLogger("bench", ledger=ledger)
        for _ in range(count):
            audit.emit(emitted)
        size = ledger.stats().payload_bytes
    began, used = time.perf_counter(), time.process_time()
    result = verify_ledger(path)
    used, seconds = time.process_time() - used, time.perf_counter() - began
    assert result.ok
    print(f"\nverified: {result.records / seconds:,.0f} records/s ({result.records / used:,.0f} a second of CPU)")
    print(f"size of the ledger: {path.stat().st_size / size:.2f} x its JSON")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        contenders = Contenders(folder)
        cost(contenders, 3 if quick else 9)
        latency(contenders, 8, 300 if quick else 1000)
        power(contenders, 3 if quick else 7)
        verifying(folder, 5_000 if quick else 50_000)
        shipping(folder, 3_000 if quick else 20_000)
        for ledger in contenders.ledgers:
            ledger.close()
        contenders.bare.close()


if __name__ == "__main__":
    main()
