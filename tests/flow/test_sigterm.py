"""SIGTERM under a server that raises it again: what was counted since the last report is sent first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
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
AUDITED = '[audit]\nledger = "audit.db"\n'
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


@pytest.mark.parametrize(
    "argv",
    [
        ["gunicorn", "-b", "127.0.0.1:PORT", "shop:app"],
        ["uvicorn", "shop:app", "--port", "PORT", "--workers", "2"],
        ["hypercorn", "-b", "127.0.0.1:PORT", "shop:app"],
    ],
    ids=["gunicorn", "uvicorn", "hypercorn"],
)
def test_nor_does_it_keep_those_who_leave_in_good_order(tmp_path, argv):
    """Each provider, each exporter and each process would wait for it in its turn, far longer than this."""
    framework = "flask" if argv[0] == "gunicorn" else "fastapi"
    with socket.create_server(("127.0.0.1", 0)) as deaf, open_shop(tmp_path, framework, LIMITED + AUDITED) as shop:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        service = shop.start(
            argv=argv, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="600", **RARELY
        )
        assert service.get("/health").status == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert verify_ledger(tmp_path / "audit.db").unended == 0


@pytest.mark.parametrize("answers", [True, False])
def test_who_ends_by_itself_sends_what_it_holds(tmp_path, answers):
    """Once, and its exit status is its own; what it registered for its end is heard of too."""
    (tmp_path / "work.py").write_text(
        "import atexit, sys\n"
        "from opentelemetry import metrics, trace\n"
        "counter = metrics.get_meter('m').create_counter('c')\n"
        "atexit.register(counter.add, 1)\n"
        "with trace.get_tracer('t').start_as_current_span('s'): counter.add(1)\n"
        "sys.exit(3)\n"
    )
    with OtlpReceiver() as receiver, open_shop(tmp_path, policy=AUDITED) as shop:
        if not answers:
            receiver.answer(delay=600)
        environ = {
            **shop.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
            **RARELY,
        }
        run = [command("mobius-otel"), "run", "--", sys.executable, "work.py"]
        done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=50, check=False)
        assert (done.returncode, done.stderr) == (3, "")
        if answers:
            sums = [
                point["value"] for metric in receiver.metrics if metric["name"] == "c" for point in metric["points"]
            ]
            assert (sums, [span["name"] for span in receiver.spans]) == ([2], ["s"])
