"""SIGTERM under a server that raises it again: what was counted since the last report is sent first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.request

import pytest

from mobius_otel.telemetry.audit.verify import verify_ledger
from mobius_otel.testing.receiver import OtlpReceiver
from tests.services.service import command, free_port, open_shop
from tests.sidecar.kit import total

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

RARELY = {"OTEL_METRIC_EXPORT_INTERVAL": "3600000", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
LIMITED = """\
[[rate_limit.rules]]
name = "all"
limit = "1000/hour"
by = "global"
"""
COUNTED = "mobius.rate_limit.requests"


def allowed(receiver):
    points = [point for metric in receiver.metrics if metric["name"] == COUNTED for point in metric["points"]]
    return max(
        (point["value"] for point in points if point["attributes"]["mobius.rate_limit.result"] == "allowed"), default=0
    )


@pytest.mark.parametrize("ledger", [True, False])
def test_metrics_and_spans_go_to_the_collector(tmp_path, ledger):
    """With an audit stream to end and without one."""
    policy = LIMITED + ('[audit]\nledger = "audit.db"\n' if ledger else "")
    with OtlpReceiver() as receiver, open_shop(tmp_path, "fastapi", policy) as shop:
        service = shop.start(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **RARELY)
        for _ in range(40):
            assert service.get("/health").status == 200
        assert allowed(receiver) == 0
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == -signal.SIGTERM
        assert allowed(receiver) == 40
        assert sum(span["name"] == "GET /health" for span in receiver.spans) == 40


@pytest.mark.parametrize("workers", [1, 2])
def test_counters_go_to_the_sidecar(tmp_path, workers):
    """Of one uvicorn, and of each worker of several."""
    port = free_port()
    policy = f'{LIMITED}[metrics]\npath = "/metrics"\nsidecar = "http://127.0.0.1:{port}"\n'
    silent = {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}
    with open_shop(tmp_path, "fastapi", policy) as shop:
        sidecar = subprocess.Popen([command("mobius-otel"), "sidecar"], cwd=tmp_path, env=shop.environ)
        try:
            service = shop.start(*(["--workers", str(workers)] if workers > 1 else []), **silent, **RARELY)
            for _ in range(40):
                assert service.get("/health").status == 200
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(20)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as page:
                assert total(page.read().decode(), "mobius_rate_limit_requests_total") == 40
        finally:
            sidecar.kill()
            sidecar.wait()


def test_a_collector_that_does_not_answer_does_not_keep_a_process(tmp_path):
    """Its exporters would wait for ten minutes."""
    policy = LIMITED.replace("1000", "1") + '[audit]\nledger = "audit.db"\n'
    with socket.create_server(("127.0.0.1", 0)) as deaf, open_shop(tmp_path, "fastapi", policy) as shop:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        service = shop.start(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="600", **RARELY)
        assert [service.get("/health").status for _ in range(6)] == [200] + 5 * [429]
        deaf.setblocking(False)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == -signal.SIGTERM
        deaf.accept()[0].close()  # it tried
        found = verify_ledger(tmp_path / "audit.db")
        assert (found.ok, found.records, found.unended) == (True, 2, 0)
