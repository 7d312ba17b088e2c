"""What the sidecar costs: a scrape of many series, a report of many series, a worker's request.

    python benchmarks/sidecar.py [--json] [--quick]

A scrape is measured beside prometheus_client with as many series of the same labels, in turns, over a real socket
on both sides.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from mobius_otel.sidecar import Sidecar

SCRAPE_AT_MOST = 1.5


def request(worker: str, series: int, count: int) -> bytes:
    """Return a report of `series` counters with two attributes."""
    built = ExportMetricsServiceRequest()
    one = built.resource_metrics.add()
    for key, value in {"service.name": "shop", "service.instance.id": worker}.items():
        one.resource.attributes.add(key=key).value.string_value = value
    scope = one.scope_metrics.add()
    scope.scope.name, scope.scope.version = "shop", "1"
    metric = scope.metrics.add(name="http.requests", unit="{request}", description="Requests.")
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
    for number in range(series):
        point = metric.sum.data_points.add(start_time_unix_nano=1, time_unix_nano=2 + count, as_int=count + number)
        point.attributes.add(key="http.route").value.string_value = f"/r{number % 500}"
        point.attributes.add(key="tenant").value.string_value = str(number // 500)
    return built.SerializeToString()


def send(url: str, body: bytes) -> None:
    """Post a report."""
    headers = {"Content-Type": "application/x-protobuf"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/metrics", body, headers), timeout=120) as answer:
        assert answer.status == 200


def scrape(url: str) -> bytes:
    """Return the page."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=120) as answer:
        return answer.read()


def timed(call: Callable[[], object]) -> float:
    """Return seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peer(series: int) -> str:
    """Serve as many series with prometheus_client, without the lines that tell when each was made."""
    prometheus_client.disable_created_metrics()
    registry = prometheus_client.CollectorRegistry()
    labels = ["http_route", "otel_scope_name", "otel_scope_schema_url", "otel_scope_version", "tenant"]
    counter = prometheus_client.Counter("http_requests", "Requests.", labels, registry=registry)
    for number in range(series):
        counter.labels(f"/r{number % 500}", "shop", "", "1", str(number // 500)).inc(number)
    server, _ = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    return f"http://127.0.0.1:{server.server_port}"


def main() -> int:
    """Measure and print; status 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and series")
    args = parser.parse_args()
    series, rounds, workers = (5_000, 3, 8) if args.quick else (50_000, 7, 64)
    found: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count(), "series": series}
    with tempfile.TemporaryDirectory() as folder, Sidecar(port=0, state=str(Path(folder) / "state")) as sidecar:
        url = sidecar.endpoint
        body = request("first", series, 1)
        found["report, first time, s"] = timed(lambda: send(url, body))
        later = [request("first", series, 1 + n) for n in range(1, 4)]
        found["report, news everywhere, s"] = statistics.median(timed(partial(send, url, each)) for each in later)
        found["report, no news, s"] = timed(lambda: send(url, later[-1]))
        scrape(url)
        other = peer(series)
        scrape(other)
        times = [(timed(lambda: scrape(url)), timed(lambda: scrape(other))) for _ in range(rounds)]
        found["scrape, sidecar, s"] = statistics.median(own for own, _ in times)
        found["scrape, prometheus_client, s"] = statistics.median(its for _, its in times)
        found["scrape / prometheus_client"] = statistics.median(own / its for own, its in times)
        found["page, MB"] = len(scrape(url)) / 1e6
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        bodies = [request(f"w{number}", series, 1) for number in range(4)]
        names = iter(range(workers))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(names, None)
                if number is None:
                    return
                # the same numbers from another worker: only its name differs, and has the same length
                send(url, bodies[0].replace(b"w0", f"{number:02d}".encode()))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[f"{workers} workers report all series, s"] = time.perf_counter() - start
        found["memory they add, MB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found["state file, MB"] = os.path.getsize(Path(folder) / "state") / 1e6
        found["report, gzipped, MB"] = len(gzip.compress(body)) / 1e6
    found["within the limit"] = found["scrape / prometheus_client"] <= SCRAPE_AT_MOST
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:42} {value:,.3f}" if isinstance(value, float) else f"{name:42} {value}")
    return 0 if found["within the limit"] else 1


if __name__ == "__main__":
    sys.exit(main())
