"""A process that records events and ends as it is told, over this package's ledger or over the stock pipeline.

``python -m tests.services.emitter PIPELINE COUNT RATE THREADS ENDING``: PIPELINE is ``mobius`` or ``stock``; COUNT
events from each of THREADS threads, RATE a second each (0: as fast as it goes). The id of each event is printed when it
was acknowledged: when the call that records it has returned. The folder is the current one, the collector that of
``OTEL_EXPORTER_OTLP_ENDPOINT``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable

ENDINGS = ("exit", "sys.exit", "raise", "os._exit", "wait")
POLICY = '[audit]\nledger = "audit.db"\n'


def mobius() -> Callable[[int], str]:
    """Return what records an event in a ledger, as a service that is configured by a policy does."""
    from mobius_otel import Actor, AuditLogger, configure

    with open("mobius.toml", "w") as file:
        file.write(POLICY)
    configure(policy="mobius.toml")
    audit = AuditLogger("emitter")

    def emit(number: int) -> str:
        receipt = audit.record("order.placed", actor=Actor("u-1"), attributes={"n": number})
        assert receipt.durability == "process"
        return receipt.record_id

    return emit


def stock() -> Callable[[int], str]:
    """Return what records an event through the pipeline of OpenTelemetry's SDK, as it comes."""
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    logger = provider.get_logger("emitter")

    def emit(number: int) -> str:
        name = str(uuid.uuid4())
        logger.emit(
            event_name="order.placed", timestamp=time.time_ns(), severity_number=SeverityNumber.INFO,
            attributes={"log.record.uid": name, "audit.actor.id": "u-1", "n": number},
        )  # fmt: skip
        return name

    return emit


def run(emit: Callable[[int], str], count: int, rate: float) -> None:
    """Record events at a rate and say which were acknowledged."""
    began = time.monotonic()
    for number in range(count):
        os.write(1, emit(number).encode() + b"\n")
        if rate:
            time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


def main(pipeline: str, count: int, rate: float, threads: int, ending: str) -> None:
    """Do it."""
    emit = {"mobius": mobius, "stock": stock}[pipeline]()
    workers = [threading.Thread(target=run, args=(emit, count, rate), daemon=True) for _ in range(threads - 1)]
    for worker in workers:
        worker.start()
    run(emit, count, rate)
    for worker in workers:
        worker.join()
    os.write(1, b"done\n")
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "raise":
        raise RuntimeError("nobody handles this")
    if ending == "os._exit":
        os._exit(0)
    if ending == "wait":
        sys.stdin.read()  # until whoever started it closes the pipe


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
