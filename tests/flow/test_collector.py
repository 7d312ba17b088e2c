"""What arrives at a real OTLP collector, and what does not."""

import contextlib
import json
import threading
import time

import pytest

from mobius_otel.cli.demo.received import read_rotel
from mobius_otel.telemetry.audit.verify import read_records, verify_ledger
from tests.services.rotel import RotelCollector
from tests.services.service import open_shop

CARD = "4111111111111111"
SECRETS = ("hunter2secret", CARD, "pepper-of-the-tests")


def environ(collector, protocol):
    endpoint = collector.http_endpoint if protocol == "http/protobuf" else collector.grpc_endpoint
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
    }  # fmt: skip


def wait_for(condition, timeout=30.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("door", ["run", "opentelemetry-instrument"])
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_spans_metrics_and_audit_events_arrive_without_a_secret(tmp_path, framework, door, protocol):
    """By both doors and both protocols: the verdict is on the server span, and nothing leaks anywhere."""
    with RotelCollector(tmp_path) as collector, open_shop(tmp_path, framework) as shop:
        issued = shop.issue("bob", "read", "refund")
        service = shop.start(door=door, **environ(collector, protocol))
        key = issued["secret"]
        assert service.get(f"/v1/items?token=hunter2secret&card={CARD}", key).status == 200
        assert service.get("/v1/items", "wrong").status == 401
        body = {"order": "order-9", "card": CARD}
        assert service.request("POST", "/v1/refunds", {"X-API-Key": key}, body).status == 200
        assert service.get("/v1/fails", key).status == 500

        def arrived():
            received = read_rotel(collector.text())
            servers = [s for s in received.spans if s.kind == "SERVER"]
            return (
                len(servers) >= 4
                and "http.request" in received.event_counts()
                and "mobius.guard.requests" in received.metric_values()
            )

        with contextlib.suppress(AssertionError):
            wait_for(arrived)
        received = read_rotel(collector.text())
        verdicts = sorted(str(s.attributes.get("mobius.guard.result")) for s in received.spans if s.kind == "SERVER")
        assert verdicts == ["passed", "passed", "passed", "unauthenticated"], (received.span_counts(), service.log)
        assert "api_key.issued" in received.event_counts()
        assert "http.request" in received.event_counts()
        assert "mobius.guard.requests" in received.metric_values()
        scrape = service.get("/metrics").body.decode()
        service.stop()
        everywhere = {
            "collector": collector.text(), "metrics": scrape, "log": service.log,
            "ledger": "".join(p.read_bytes().decode("latin-1") for p in tmp_path.glob("audit.db*")),
            "keys": "".join(p.read_bytes().decode("latin-1") for p in tmp_path.glob("keys.db*")),
        }  # fmt: skip
        for place, text in everywhere.items():
            for secret in (*SECRETS, key):
                assert secret not in text, (place, secret)


def test_an_answered_request_survives_kill_9_and_arrives_after_the_next_start(fastapi_shop, tmp_path):
    """The record was committed before the answer left; the collector gets it from the next process."""
    key = fastapi_shop.issue("bob", "refund")["secret"]
    service = fastapi_shop.start(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
    )
    for number in range(5):
        assert service.request("POST", "/v1/refunds", {"X-API-Key": key}, {"order": f"order-{number}"}).status == 200
    service.kill()
    records = [record for _, record in read_records(tmp_path / "audit.db")]
    assert [r["event_name"] for r in records].count("http.request") == 5
    with RotelCollector(tmp_path) as collector:
        fastapi_shop.start(**environ(collector, "http/protobuf"))
        wait_for(lambda: read_rotel(collector.text()).event_counts().get("http.request") == 5)
    assert fastapi_shop.cli("audit", "verify", "audit.db").returncode == 0


def test_the_command_line_and_the_service_write_one_ledger_at_once(fastapi_shop, tmp_path):
    """Neither waits for the other, neither loses a record, and the ledger is whole."""
    key = fastapi_shop.issue("bob", "refund")["secret"]
    service = fastapi_shop.start()
    statuses = []

    def refunds():
        for number in range(15):
            reply = service.request("POST", "/v1/refunds", {"X-API-Key": key}, {"order": f"order-{number}"})
            statuses.append(reply.status)

    thread = threading.Thread(target=refunds)
    thread.start()
    for number in range(4):
        fastapi_shop.issue(f"owner-{number}")
    thread.join()
    assert statuses == [200] * 15
    service.stop()
    result = verify_ledger(tmp_path / "audit.db")
    assert result.ok, result.problems
    lines = fastapi_shop.cli("audit", "tail", "audit.db", "-n", "100", "--json").stdout.splitlines()
    names = [json.loads(line)["event_name"] for line in lines]
    assert (names.count("api_key.issued"), names.count("http.request")) == (5, 15)
