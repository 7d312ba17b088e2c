"""What is lost and what is doubled under each fault, with real processes: for the tests and for the page about audit.

``python -m tests.services.losses`` makes the table anew, for this package and for the stock pipeline of OpenTelemetry's
SDK, and writes it into ``docs/audit.md``.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobius_otel.telemetry.audit.verify import verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What became of the events of one run.

    Args:
        acknowledged: How many were acknowledged to the service.
        lost: How many of those no collector ever got.
        doubled: How many came more than once, with the same id.
        whole: Whether ``verify`` calls the ledger whole; None: there is none.
    """

    acknowledged: int
    lost: int
    doubled: int
    whole: bool | None


class Run:
    """One process that records, one collector, one fault.

    Args:
        pipeline: ``mobius`` or ``stock``.
        folder: Where the process runs.
        receiver: The collector.
        seconds: How long a collector misbehaves.
    """

    def __init__(self, pipeline: str, folder: Path, receiver: OtlpReceiver, seconds: float) -> None:
        self.pipeline = pipeline
        self.folder = folder
        self.receiver = receiver
        self.seconds = seconds
        self.acknowledged: set[str] = set()

    def start(self, count: int, *, rate: float = 200.0, threads: int = 1, ending: str = "exit") -> subprocess.Popen:
        """Start the process; what it acknowledges is collected."""
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MOBIUS_", "COVERAGE_"))
        }
        environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.endpoint, "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.services.emitter", self.pipeline, count, rate, threads, ending]
        process = subprocess.Popen(
            [str(part) for part in command], cwd=self.folder, env=environ, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._done = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        return process

    def _read(self, process: subprocess.Popen) -> None:
        for line in process.stdout:
            if line == b"done\n":
                self._done.set()
            elif len(line) == 37:  # the last one of a killed process may be cut
                self.acknowledged.add(line.decode().strip())

    def finish(self, process: subprocess.Popen, timeout: float = 120.0) -> None:
        """Let a process end that waits, and read everything that it said."""
        process.stdin.close()
        process.wait(timeout)
        self._reader.join(timeout)
        process.stdout.close()

    def wait_done(self, timeout: float = 120.0) -> None:
        """Wait until every event is recorded."""
        assert self._done.wait(timeout)

    def next_start(self) -> None:
        """Start the service once more, as after a deployment, and let it end as it should."""
        for _ in range(20):
            process = self.start(0, ending="exit")
            self.finish(process)
            if self.pipeline == "stock" or not self.missing():
                return

    def missing(self) -> set[str]:
        """Return what was acknowledged and has not arrived."""
        return self.acknowledged - {log["attributes"].get("log.record.uid") for log in self.receiver.logs}

    def outcome(self) -> Outcome:
        """Return what became of everything."""
        arrived = Counter(log["attributes"].get("log.record.uid") for log in self.receiver.logs)
        ledger = self.folder / "audit.db"
        return Outcome(
            len(self.acknowledged), len(self.missing()), sum(1 for name in self.acknowledged if arrived[name] > 1),
            verify_ledger(ledger).ok if ledger.exists() else None,
        )  # fmt: skip


def ends(ending: str) -> Callable[[Run], None]:
    """A process that ends in one of the ways in which it can choose to."""

    def fault(run: Run) -> None:
        run.finish(run.start(300, rate=600, ending=ending))
        run.next_start()

    return fault


def ended_by(number: int) -> Callable[[Run], None]:
    """A process that a signal ends while it works."""

    def fault(run: Run) -> None:
        process = run.start(10**6, rate=600, ending="wait")
        while len(run.acknowledged) < 50:
            time.sleep(0.01)
        time.sleep(0.3 + random.random() * 0.5)
        process.send_signal(number)
        run.finish(process)
        run.next_start()

    return fault


def misbehaves(**answer: object) -> Callable[[Run], None]:
    """A collector that answers otherwise for a while, and then as it should."""

    def fault(run: Run) -> None:
        run.receiver.answer(**answer)
        process = run.start(int(200 * (run.seconds + 1)), ending="wait")
        time.sleep(run.seconds + 1)
        run.receiver.behave()
        run.wait_done()
        run.finish(process)
        run.next_start()

    return fault


def is_gone(run: Run) -> None:
    """A collector that is not there for a while."""
    run.receiver.close()
    process = run.start(int(200 * (run.seconds + 1)), ending="wait")
    time.sleep(run.seconds + 1)
    with run.receiver:
        run.wait_done()
        run.finish(process)
        run.next_start()


def burst(run: Run) -> None:
    """As many events as eight threads can record."""
    run.finish(run.start(int(os.environ.get("BURST", "8000")) // 8, rate=0, threads=8), 600)
    run.next_start()


#: By the name that the page shows.
FAULTS: dict[str, Callable[[Run], None]] = {
    "clean exit": ends("exit"),
    "`sys.exit`": ends("sys.exit"),
    "unhandled exception": ends("raise"),
    "SIGTERM": ended_by(signal.SIGTERM),
    "`os._exit`": ends("os._exit"),
    "`kill -9`": ended_by(getattr(signal, "SIGKILL", signal.SIGTERM)),
    "collector answers 503": misbehaves(status=503),
    "collector answers 500": misbehaves(status=500),
    "collector answers 429": misbehaves(status=429, headers={"Retry-After": "1"}),
    "collector answers 302": misbehaves(status=302, headers={"Location": "/elsewhere"}),
    "collector answers 400": misbehaves(status=400),
    "collector answers 413": misbehaves(status=413),
    "`partial_success` rejects all": misbehaves(rejected=-1),
    "`partial_success` rejects some": misbehaves(rejected=1),
    "collector accepts and hangs": misbehaves(delay=30.0),
    "connection is cut after the request": misbehaves(cut=True),
    "collector sends garbage": misbehaves(raw=b"\x16\x03\x01 no HTTP at all\r\n\r\n"),
    "collector is gone": is_gone,
    "burst from 8 threads": burst,
}


def measure(pipeline: str, name: str, seconds: float) -> Outcome:
    """Run one fault once."""
    with tempfile.TemporaryDirectory() as folder, OtlpReceiver() as receiver:
        run = Run(pipeline, Path(folder), receiver, seconds)
        FAULTS[name](run)
        return run.outcome()


def _cell(outcome: Outcome) -> str:
    share = 100 * outcome.lost / max(1, outcome.acknowledged)
    return f"{outcome.lost:,} of {outcome.acknowledged:,}" + (f" ({share:.1f} %)" if outcome.lost else "")


def table(seconds: float, workers: int) -> str:
    """Run every fault with both pipelines; return the table in Markdown."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = {
            (name, pipeline): pool.submit(measure, pipeline, name, seconds)
            for name in FAULTS
            for pipeline in ("mobius", "stock")
        }
        lines = [
            f"| fault (a collector's: {seconds:g} s) | lost | doubled, same id | `verify` | the stock pipeline lost |",
            "|---|---|---|---|---|",
        ]
        for name in FAULTS:
            ours, theirs = jobs[name, "mobius"].result(), jobs[name, "stock"].result()
            whole = {True: "whole", False: "broken", None: "no ledger"}[ours.whole]
            lines.append(f"| {name} | {_cell(ours)} | {ours.doubled:,} | {whole} | {_cell(theirs)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


BEGIN, END = "<!-- loss table -->", "<!-- end of loss table -->"


def main() -> None:
    """Write the table into the page."""
    made = table(float(os.environ.get("FAULT_SECONDS", "10")), int(os.environ.get("WORKERS", "4")))
    page = ROOT / "docs" / "audit.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
