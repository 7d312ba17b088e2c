"""Real workers: gunicorn and uvicorn, killed in mid-run, a sidecar that restarts, a Prometheus that scrapes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.services.service import free_port
from tests.sidecar.kit import total

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn and kill -9")

FLASK = """
import os
from flask import Flask
from opentelemetry import metrics

app = Flask(__name__)
placed = metrics.get_meter("shop").create_counter("orders.placed", unit="{order}")

@app.get("/order")
def order():
    placed.add(1, {"currency": "EUR"})
    return {"pid": os.getpid()}
"""
FASTAPI = FLASK.replace("Flask(__name__)", "FastAPI()").replace(
    "from flask import Flask", "from fastapi import FastAPI"
)
GUNICORN = ["gunicorn", "--workers", "4", "--bind", "127.0.0.1:{port}"]
SERVERS = {
    "gunicorn": (FLASK, [*GUNICORN, "shop:app"]),
    "gunicorn --preload": (FLASK, [*GUNICORN, "--preload", "shop:app"]),
    "uvicorn": (FASTAPI, ["uvicorn", "--workers", "3", "--port", "{port}", "shop:app"]),
}
NAME = "orders_placed_total"


def get(url):
    with urllib.request.urlopen(url, timeout=15) as answer:
        return answer.read().decode()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := condition():
                return found
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)


def start(folder, command, name, **environment):
    for signal_ in ("TRACES", "METRICS", "LOGS"):  # where a distro is installed, it would look for a collector
        environment.setdefault(f"OTEL_{signal_}_EXPORTER", "none")
    bin_ = Path(sys.executable).parent
    environment["PATH"] = f"{bin_}{os.pathsep}{os.environ['PATH']}"
    with open(folder / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            [str(bin_ / command[0]), *command[1:]], cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "OTEL_METRIC_EXPORT_INTERVAL": "300", **environment},
        )  # fmt: skip


def stop(process, number=signal.SIGTERM):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    process.wait(20)


class Shop:
    """A service of several workers with its sidecar."""

    def __init__(self, folder, server):
        self.folder = folder
        source, command = SERVERS[server]
        (folder / "shop.py").write_text(source)
        self.port, self.sidecar_port = free_port(), free_port()
        (folder / "mobius.toml").write_text(
            f'[metrics]\npath = "/metrics"\nsidecar = "http://127.0.0.1:{self.sidecar_port}"\n'
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.sidecar_url = f"http://127.0.0.1:{self.sidecar_port}"
        self.sent = 0
        self.pids = Counter()
        self.start_sidecar()
        self.service = start(
            folder, ["mobius-otel", "run", "--", *(part.format(port=self.port) for part in command)], "service"
        )
        until(lambda: get(f"{self.url}/metrics"))

    def start_sidecar(self):
        self.sidecar = start(self.folder, ["mobius-otel", "sidecar"], "sidecar")
        until(lambda: get(f"{self.sidecar_url}/healthz"))

    def order(self, number):
        with ThreadPoolExecutor(8) as pool:
            for answer in list(pool.map(get, [f"{self.url}/order"] * number)):
                self.pids[json.loads(answer)["pid"]] += 1
                self.sent += 1

    def counted(self, url=None):
        return total(get(f"{url or self.url}/metrics"), NAME)

    def close(self):
        stop(self.service)
        stop(self.sidecar)


@pytest.fixture(params=SERVERS)
def shop(request, tmp_path):
    opened = Shop(tmp_path, request.param)
    yield opened
    opened.close()
    for process in (opened.service, opened.sidecar):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_every_workers_page_answers_for_all_of_them(shop):
    """Exactly the requests that were sent: over kill -9 of a worker, and of the sidecar, and graceful ends."""
    until(lambda: (shop.order(20), len(shop.pids) > 1)[1])
    until(lambda: shop.counted() == shop.sent)
    assert {shop.counted() for _ in range(8)} == {shop.sent}

    os.kill(shop.pids.most_common(1)[0][0], signal.SIGKILL)
    before = set(shop.pids)
    time.sleep(1)  # its successor comes; a request that the dead one had accepted would be lost, and not counted
    until(lambda: (shop.order(20), set(shop.pids) - before)[1])
    until(lambda: shop.counted() == shop.sent)

    stop(shop.sidecar, signal.SIGKILL)
    with pytest.raises(urllib.error.HTTPError) as caught:
        shop.counted()
    assert caught.value.code == 503
    shop.order(20)
    shop.start_sidecar()
    until(lambda: shop.counted() == shop.sent)

    stop(shop.service)  # what was counted since the last report is told at the end
    until(lambda: shop.counted(shop.sidecar_url) == shop.sent)
    log = (shop.folder / "service.log").read_text() + (shop.folder / "sidecar.log").read_text()
    assert "Traceback" not in log


def test_a_service_that_only_has_the_standard_endpoint(tmp_path):
    """No policy file: the SDK's own exporter, pointed at the sidecar."""
    (tmp_path / "work.py").write_text(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader\n"
        "from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter\n"
        "metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))\n"
        "metrics.get_meter('x').create_counter('orders.placed').add(5)\n"
    )
    port = free_port()
    sidecar = start(tmp_path, ["mobius-otel", "sidecar", "--port", str(port), "--json"], "sidecar")
    try:
        until(lambda: get(f"http://127.0.0.1:{port}/healthz"))
        for _ in range(3):
            start(
                tmp_path, ["python", "work.py"], "work",
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{port}/v1/metrics", OTEL_SERVICE_NAME="jobs",
            ).wait(30)  # fmt: skip
        assert total(get(f"http://127.0.0.1:{port}/metrics"), NAME) == 15
    finally:
        stop(sidecar)
    told = json.loads((tmp_path / "sidecar.log").read_text())
    assert told == {"endpoint": f"http://127.0.0.1:{port}", "grpc_endpoint": None, "state": "mobius-sidecar.state"}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus")
def test_a_real_prometheus_sees_no_reset(tmp_path):
    """The growth that it works out is the requests that were sent, over both deaths."""
    shop = Shop(tmp_path, "gunicorn")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
        f"scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['127.0.0.1:{shop.port}']}}]}}]\n"
    )
    prometheus = subprocess.Popen(
        [shutil.which("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
         f"--web.listen-address=127.0.0.1:{port}"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(query):
        text = get(f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        return [float(each["value"][1]) for each in json.loads(text)["data"]["result"]]

    try:
        shop.order(10)
        until(lambda: ask(f"sum({NAME})") == [10])
        for event in (
            lambda: os.kill(shop.pids.most_common(1)[0][0], signal.SIGKILL),
            lambda: (stop(shop.sidecar, signal.SIGKILL), shop.start_sidecar()),
        ):
            time.sleep(1)
            event()
            until(lambda: (shop.order(1), True)[1])
            shop.order(30)
            until(lambda: ask(f"sum({NAME})") == [shop.sent])
        assert ask(f"resets({NAME}[5m])") == [0]
        assert ask(f"max_over_time({NAME}[5m]) - min_over_time({NAME}[5m])")[0] in {shop.sent, shop.sent - 10}
    finally:
        prometheus.terminate()
        prometheus.wait(20)
        shop.close()
