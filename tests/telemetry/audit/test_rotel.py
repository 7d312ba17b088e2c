"""The shipper and a real collector, over both protocols."""

import os
import subprocess
import sys

import pytest

from mobius_otel.telemetry.audit import Actor, AuditLogger, Ledger, Source, Target
from mobius_otel.telemetry.audit.shipper import Shipper
from tests.services.rotel import RotelCollector
from tests.telemetry.audit.test_processes import SHIP_AND_FORK

PROTOCOLS = ["http/protobuf", "grpc"]


def endpoint(collector, protocol):
    return f"{collector.http_endpoint}/v1/logs" if protocol == "http/protobuf" else collector.grpc_endpoint


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_record_arrives_with_every_field(tmp_path, protocol):
    """Name, severity, resource, scope, the fields of the record and the caller's attributes are in the collector."""
    with RotelCollector(tmp_path) as collector, Ledger(tmp_path / "audit.db") as ledger:
        audit = AuditLogger("payments", ledger=ledger)
        receipt = audit.record(
            "payment.refund", action="UPDATE", actor=Actor("u-1"), outcome="failure", target=Target("order-9", "order"),
            risk_score=70, reason="too late", source=Source("203.0.113.9"), tenant="acme",
            attributes={"amount": 12.5, "lines": [1, {"sku": "a-1"}], "password": "hunter2-is-long"},
        )  # fmt: skip
        shipper = Shipper(
            ledger, endpoint=endpoint(collector, protocol), protocol=protocol, resource={"service.name": "the-shop"}
        )
        assert shipper.run_once() == 1
        assert receipt.delivered(0)
        assert collector.wait_for(receipt.hash)
        text = collector.text()
        shipper.stop()
    for expected in ("the-shop", "payments", "payment.refund", "ERROR", receipt.record_id, "order-9", "203.0.113.9",
                     "too late", "acme", "12.5", "a-1", receipt.stream_id):  # fmt: skip
        assert expected in text, expected
    assert "hunter2" not in text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_was_away_gets_everything_once(tmp_path, protocol):
    """Down, then up: nothing is lost, the backlog goes to zero."""
    collector = RotelCollector(tmp_path)
    with Ledger(tmp_path / "audit.db") as ledger:
        audit = AuditLogger("payments", ledger=ledger)
        receipts = [audit.record("payment.refund", actor=Actor("u-1")) for _ in range(20)]
        shipper = Shipper(ledger, endpoint=endpoint(collector, protocol), protocol=protocol, interval=0.05, timeout=5)
        assert shipper.run_once() == 0
        assert ledger.backlog() == 20
        shipper.start()
        with collector:
            assert all(receipt.delivered(20) for receipt in receipts)
            assert collector.wait_for(receipts[-1].record_id)
            assert shipper.stop(5)
            text = collector.text()
    assert [text.count(receipt.record_id) for receipt in receipts] == [2] * 20  # audit.record.id and log.record.uid


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_forked_child_ships_over_a_connection_of_its_own(tmp_path, protocol):
    """The parent was shipping when it forked: child and parent both go on."""
    with RotelCollector(tmp_path) as collector:
        command = [sys.executable, "-c", SHIP_AND_FORK, tmp_path / "audit.db", endpoint(collector, protocol), protocol]
        done = subprocess.run([str(part) for part in command], capture_output=True, timeout=60, check=False)
        assert done.stdout == b"done\n", done.stderr.decode()
        assert collector.wait_for("parent again")
