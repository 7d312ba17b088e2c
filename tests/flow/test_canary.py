"""A secret at every place that telemetry has, and what a collector, another server and a terminal get of them."""

import http.server
import json
import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from tests.services.canary import HEADERS, LOGS, METRICS, OUTPUT, SPANS, kept, secret
from tests.services.canary_service import ORDERS
from tests.services.rotel import RotelCollector
from tests.services.service import command

ROOT = Path(__file__).parents[2]
SENT = (*SPANS, *LOGS, *METRICS)
ENRICHED = ("span_enriched", "log_enriched")
PLACES = (*SENT, *OUTPUT, *HEADERS, *ENRICHED, "key", "query")


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


def run(argv, folder, **more):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MOBIUS_"))}
    environ["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        argv, cwd=folder, env={**environ, **more}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def arrived(collector, *places):
    """Wait until what stands beside the secrets has arrived, and return all that the collector printed."""
    for place in places:
        assert collector.wait_for(kept(place)), (place, collector.text()[-2000:])
    return collector.text()


def leaks(exits):
    return [(name, place) for name, text in exits.items() for place in PLACES if secret(place) in text]


@pytest.mark.parametrize("processor", ["batch", "simple"])
@pytest.mark.parametrize("order", ORDERS)
def test_no_secret_leaves_by_any_exit_wherever_redaction_stands(order, processor, peer, tmp_path):
    """Providers that somebody else built; redaction before, after, around, twice, with exporters added later."""
    url, asked = peer
    with RotelCollector(tmp_path) as collector:
        module = "tests.services.canary_service"
        done = run([sys.executable, "-m", module, order, processor, collector.http_endpoint, url], tmp_path)
        received = arrived(collector, *SENT, *(ENRICHED if order == "enriched" else ()))
    answers = json.loads((tmp_path / "answers.json").read_text())
    exits = {"collector": received, "headers": "".join(asked), "output": done.stdout, "errors": done.stderr, **answers}
    assert leaks(exits) == []
    assert all(kept(place) in exits["output"] for place in OUTPUT)
    assert kept("baggage_text") in exits["headers"]
    assert "Traceparent" in exits["headers"]
    assert "problem+json" in answers["problem"]
    assert order == "before" or kept("metric") in answers["page"]


@pytest.fixture
def published(tmp_path):
    """A folder in which this tree is found as it would be installed: by what pyproject.toml publishes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = tmp_path / "site" / "mobius_otel-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mobius_otel\nVersion: 0.1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join([str(info.parent), str(ROOT)])


def by_environment(endpoint, folder):
    resource = f"service.name=canary,password={secret('resource')},beside={kept('resource')}"
    names = {f"OTEL_{signal}_EXPORTER": "mobius_redact" for signal in ("TRACES", "LOGS", "METRICS")}
    return {
        **names, "OTEL_PROPAGATORS": "tracecontext,mobius_redact", "OTEL_RESOURCE_ATTRIBUTES": resource,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "MOBIUS_OTEL_LOGS_EXPORTER": "otlp_proto_http",
    }  # fmt: skip


def by_file(endpoint, folder, *, named=True):
    pytest.importorskip("opentelemetry.configuration")

    def exporter(signal):
        inner = {"otlp_http": {"endpoint": f"{endpoint}/v1/{signal}"}}
        return {"exporter": {"mobius_redact": {"exporter": inner}} if named else inner}

    attributes = {"service.name": "canary", "password": secret("resource"), "beside": kept("resource")}
    described = {
        "file_format": "1.0",
        "resource": {"attributes": [{"name": name, "value": value} for name, value in attributes.items()]},
        "tracer_provider": {"processors": [{"batch": exporter("traces")}]},
        "logger_provider": {"processors": [{"simple": exporter("logs")}]},
        "meter_provider": {"readers": [{"periodic": exporter("metrics")}]},
        "propagator": {"composite": [{"tracecontext": None}, {"mobius_redact" if named else "baggage": None}]},
    }
    (folder / "otel.yaml").write_text(json.dumps(described))
    return {"OTEL_CONFIG_FILE": str(folder / "otel.yaml")}


@pytest.mark.parametrize("configured", [by_environment, by_file])
def test_no_secret_leaves_a_process_that_names_our_exporters(configured, peer, published, tmp_path):
    """OpenTelemetry's own zero-code door, no policy, no code: only the names of exporters and of a propagator."""
    url, asked = peer
    argv = [command("opentelemetry-instrument"), sys.executable, "-m", "tests.services.canary", url]
    with RotelCollector(tmp_path) as collector:
        environ = configured(collector.http_endpoint, tmp_path)
        run(argv, tmp_path, **environ, PYTHONPATH=published)
        received = arrived(collector, *SENT)
    assert leaks({"collector": received, "headers": "".join(asked)}) == []
    assert kept("baggage_text") in "".join(asked)


CONFIGURE = (
    "import sys, mobius_otel; mobius_otel.configure(); from tests.services.canary import main; main(sys.argv[1])"
)


@pytest.mark.parametrize("door", ["run", "configure"])
def test_no_secret_leaves_providers_that_a_configuration_file_describes(door, peer, published, tmp_path):
    """By both doors of this package; the file knows nothing of it."""
    url, asked = peer
    (tmp_path / "mobius.toml").write_text('[service]\nname = "canary"\n')
    python = [sys.executable, "-c", CONFIGURE, url]
    if door == "run":
        python = [sys.executable, "-m", "mobius_otel", "run", "--", sys.executable, "-m", "tests.services.canary", url]
    with RotelCollector(tmp_path) as collector:
        done = run(python, tmp_path, **by_file(collector.http_endpoint, tmp_path, named=False), PYTHONPATH=published)
        received = arrived(collector, *SENT)
    exits = {"collector": received, "headers": "".join(asked), "output": done.stdout, "errors": done.stderr}
    assert leaks(exits) == []
    assert kept("baggage_text") in exits["headers"]
