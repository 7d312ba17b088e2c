"""A secret at every place that telemetry has, and what a collector, another server and a terminal get of them."""

import http.server
import subprocess
import sys
import threading

import pytest

from tests.services.canary import ORDERS, kept, secret
from tests.services.rotel import RotelCollector

SPANS = (
    "name", "attribute", "link", "event", "event_attribute", "exception", "status", "scope", "resource",
)  # fmt: skip
LOGS = ("body", "body_attribute", "log_attribute", "log_event", "log_exception", "log_scope")
METRICS = ("metric", "exemplar", "meter_scope")
OUTPUT = ("logging", "exception")
HEADERS = ("baggage", "baggage_text")


@pytest.fixture
def peer():
    """A server that keeps the headers of what it is asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(str(self.headers))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("processor", ["batch", "simple"])
@pytest.mark.parametrize("order", ORDERS)
def test_no_secret_leaves_by_any_exit_wherever_redaction_stands(order, processor, peer, tmp_path):
    """Providers that somebody else built; redaction before, after, around, twice, with exporters added later."""
    url, asked = peer
    with RotelCollector(tmp_path) as collector:
        argv = [sys.executable, "-m", "tests.services.canary", order, processor, collector.http_endpoint, url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        enriched = ("span_enriched", "log_enriched") if order == "enriched" else ()
        for place in (*SPANS, *LOGS, *METRICS, *enriched):
            assert collector.wait_for(kept(place)), place
    exits = {"collector": collector.text(), "headers": "".join(asked), "stdout": done.stdout, "stderr": done.stderr}
    leaks = [
        (name, place)
        for name, text in exits.items()
        for place in (*SPANS, *LOGS, *METRICS, *OUTPUT, *HEADERS, *enriched)
        if secret(place) in text
    ]
    assert leaks == []
    assert all(kept(place) in exits["stdout"] for place in OUTPUT)
    assert kept("baggage_text") in exits["headers"]
    assert "traceparent" in exits["headers"]
    assert "zQ7" not in "".join(exits.values())
