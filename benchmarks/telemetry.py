"""What the metric facades cost, beside the OpenTelemetry SDK and prometheus_client, in one run.

    python benchmarks/telemetry.py [--json] [--quick]

Every figure is a median over rounds in which all contestants take turns, so that a slow moment of the machine
hits all of them; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import prometheus_client
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel import InMemoryMetricsBackend, MetricEmitter
from mobius_otel.conventions import FAST_SECONDS

LABELS = {"http.route": "/v1/orders", "http.request.method": "GET"}


def provider() -> tuple[MeterProvider, InMemoryMetricReader]:
    """Return a provider with one cumulative reader."""
    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def loop(call: Callable[[], object], number: int) -> float:
    """Return nanoseconds a call."""
    start = time.perf_counter_ns()
    for _ in range(number):
        call()
    return (time.perf_counter_ns() - start) / number


def race(contestants: dict[str, Callable[[], object]], number: int, rounds: int) -> dict[str, list[float]]:
    """Return nanoseconds a call of every contestant, round by round."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        loop(call, min(number, 1000))
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contestants.items():
                found[name].append(loop(call, number))
    finally:
        gc.enable()
    return found


class Report:
    """Rows of what was measured against what, with its limit."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, ours: list[float], peer: list[float], limit: float | None, unit: str = "ns") -> None:
        """Add one comparison."""
        ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
        self.rows.append({
            "what": what, "ours": round(statistics.median(ours), 1), "peer": round(statistics.median(peer), 1),
            "unit": unit, "ratio": round(ratio, 3), "at_most": limit,
        })  # fmt: skip

    def print(self, as_json: bool) -> None:
        """Print the rows."""
        if as_json:
            machine = {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()}
            print(json.dumps({"machine": machine, "rows": self.rows}, indent=1))
            return
        for row in self.rows:
            limit = "" if row["at_most"] is None else f"  at most {row['at_most']:g}"
            figures = f"{row['ours']:>12,.0f} {row['peer']:>12,.0f} {row['unit']:<3} {row['ratio']:>7.3f}{limit}"
            print(f"{row['what']:<66}{figures}")


def hot_paths(report: Report, number: int, rounds: int) -> None:
    """Measure one call of each kind."""
    sdk, _ = provider()
    ours, _ = provider()
    raw = sdk.get_meter("raw")
    emitter = MetricEmitter("ours", meter_provider=ours)
    raw_counter, raw_gauge = raw.create_counter("c"), raw.create_gauge("g")
    raw_histogram = raw.create_histogram("h", explicit_bucket_boundaries_advisory=FAST_SECONDS)
    counter, gauge, timer = emitter.counter("c"), emitter.gauge("g"), emitter.timer("t")
    bound, bound_gauge = counter.bind(LABELS), gauge.bind(LABELS)
    registry = prometheus_client.CollectorRegistry()
    child = prometheus_client.Counter("c_total", "c", ["route", "method"], registry=registry).labels("/", "GET")
    prom_gauge = prometheus_client.Gauge("g", "g", ["route", "method"], registry=registry).labels("/", "GET")

    def raw_timed() -> None:
        start = time.perf_counter()
        raw_histogram.record(time.perf_counter() - start, LABELS)

    def timed() -> None:
        with timer.time(LABELS):
            pass

    found = race({
        "bound": bound.add, "child": child.inc, "raw": lambda: raw_counter.add(1, LABELS),
        "add": lambda: counter.add(1, LABELS), "bound_set": lambda: bound_gauge.set(2.5),
        "prom_set": lambda: prom_gauge.set(2.5), "set": lambda: gauge.set(2.5, LABELS),
        "raw_set": lambda: raw_gauge.set(2.5, LABELS), "record": lambda: timer.record(0.2, LABELS),
        "raw_record": lambda: raw_histogram.record(0.2, LABELS), "time": timed, "raw_time": raw_timed,
    }, number, rounds)  # fmt: skip
    report.add("bound add / bound prometheus_client child", found["bound"], found["child"], 1.0)
    report.add("bound add / raw counter, 2 attributes", found["bound"], found["raw"], 1 / 15)
    report.add("add(1, attributes) / raw counter", found["add"], found["raw"], 1.25)
    report.add("bound gauge set / bound prometheus_client gauge", found["bound_set"], found["prom_set"], 1.0)
    report.add("gauge set(v, attributes) / raw gauge", found["set"], found["raw_set"], 1.25)
    report.add("timer record / raw histogram", found["record"], found["raw_record"], 1.15)
    report.add("with timer.time() / raw histogram, timed by hand", found["time"], found["raw_time"], 1.3)
    with TracerProvider(shutdown_on_exit=False).get_tracer("bench").start_as_current_span("request"):
        found = race({"add": lambda: counter.add(1, LABELS), "raw": lambda: raw_counter.add(1, LABELS)}, number, rounds)
    report.add("add in a sampled span (exemplar) / raw counter there", found["add"], found["raw"], 1.25)


def without_sdk(report: Report, number: int, rounds: int) -> None:
    """Measure a handle that nobody listens to."""
    emitter = MetricEmitter("dark", meter_provider=api.NoOpMeterProvider())
    counter = emitter.counter("c")
    bound = counter.bind(LABELS)
    noop = api.NoOpMeterProvider().get_meter("dark").create_counter("c")
    early = MetricEmitter("early").counter("c")
    proxy = api.get_meter("early-raw").create_counter("c")
    found = race({
        "add": lambda: counter.add(1, LABELS), "noop": lambda: noop.add(1, LABELS), "bound": bound.add,
        "early": lambda: early.add(1, LABELS), "proxy": lambda: proxy.add(1, LABELS),
    }, number, rounds)  # fmt: skip
    report.add("no SDK: add / the API's no-op counter", found["add"], found["noop"], 1.5)
    report.add("no SDK: bound add / the API's no-op counter", found["bound"], found["noop"], None)
    report.add("before an SDK: add / the API's waiting counter", found["early"], found["proxy"], None)


def collections(report: Report, rounds: int) -> None:
    """Measure what a collection costs, every series having changed."""
    for size in (10, 100, 1000, 10_000):
        sdk, raw_reader = provider()
        ours, reader = provider()
        raw = sdk.get_meter("raw").create_counter("c")
        counter = MetricEmitter("ours", meter_provider=ours, cardinality_limit=20_000).counter("c")
        labels = [{"http.route": f"/v1/{n}", "http.request.method": "GET"} for n in range(size)]
        cells = [counter.bind(each) for each in labels]
        mine, theirs = [], []
        for _ in range(min(rounds, 11)):
            for cell, each in zip(cells, labels, strict=True):
                cell.add()
                raw.add(1, each)
            for taken, source in ((mine, reader), (theirs, raw_reader)):
                start = time.perf_counter_ns()
                source.get_metrics_data()
                taken.append((time.perf_counter_ns() - start) / 1000)
        report.add(
            f"collect {size:,} bound series / as many synchronous ones", mine, theirs, 5 if size == 1000 else None, "us"
        )


def growth(report: Report, number: int, rounds: int) -> None:
    """Measure one call among ever more series, and from ever more threads."""
    base: dict[str, list[float]] = {}
    for size in (10, 100, 1000, 10_000):
        ours, _ = provider()
        counter = MetricEmitter("ours", meter_provider=ours, cardinality_limit=20_000).counter("c")
        labels = [{"http.route": f"/v1/{n}", "http.request.method": "GET"} for n in range(size)]
        cells = [counter.bind(each) for each in labels]
        last, cell = labels[-1], cells[-1]
        found = race({"add": lambda: counter.add(1, last), "bound": cell.add}, number, rounds)  # noqa: B023 - called here
        base = base or found
        for what in found:
            report.add(f"{what} among {size:,} series / among 10", found[what], base[what], None)
    ours, _ = provider()
    emitter = MetricEmitter("threads", meter_provider=ours)
    bound = emitter.counter("c").bind(LABELS)
    raw = provider()[0].get_meter("raw").create_counter("c")
    child = prometheus_client.Counter("t_total", "t", ["a"], registry=prometheus_client.CollectorRegistry()).labels("a")
    for threads in (1, 2, 4, 8):
        times: dict[str, list[float]] = {"bound": [], "child": [], "raw": []}
        for _ in range(max(3, rounds // 3)):
            for name, call, share in (
                ("bound", bound.add, 1), ("child", child.inc, 1), ("raw", lambda: raw.add(1, LABELS), 20)
            ):  # fmt: skip
                times[name].append(together(call, threads, number // share))
        report.add(f"bound add, {threads} threads / bound prometheus_client child", times["bound"], times["child"], 1.0)
        report.add(f"bound add, {threads} threads / raw counter", times["bound"], times["raw"], None)


def together(call: Callable[[], object], threads: int, number: int) -> float:
    """Return wall nanoseconds a call, with several threads calling at once."""
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        for _ in range(number):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter_ns()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - start) / (threads * number)


def memory(report: Report) -> None:
    """Measure bytes a series, 1,000 of them, after a collection."""

    def traced(fill: Callable[[list[dict[str, str]]], object]) -> float:
        labels = [{"http.route": f"/v1/{n}", "http.request.method": "GET"} for n in range(1000)]
        gc.collect()
        tracemalloc.start()
        kept = fill(labels)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del kept
        return size / 1000

    def raw(labels: list[dict[str, str]]) -> object:
        sdk, reader = provider()
        counter = sdk.get_meter("m").create_counter("c")
        for each in labels:
            counter.add(1, each)
        reader.get_metrics_data()
        return sdk, counter

    def cells(labels: list[dict[str, str]]) -> object:
        sdk, reader = provider()
        counter = MetricEmitter("m", meter_provider=sdk).counter("c")
        for each in labels:
            counter.bind(each).add()
        reader.get_metrics_data()
        return sdk, counter

    def children(labels: list[dict[str, str]]) -> object:
        registry = prometheus_client.CollectorRegistry()
        counter = prometheus_client.Counter("c_total", "c", ["route", "method"], registry=registry)
        for each in labels:
            counter.labels(*each.values()).inc()
        return registry, counter

    ours = traced(cells)
    report.add("memory of a bound series, the SDK's part included / raw SDK", [ours], [traced(raw)], None, "B")
    report.add("memory of a bound series, the SDK's part included / prometheus", [ours], [traced(children)], None, "B")


def exactness() -> None:
    """Fail unless what was measured was also right: two readers, eight threads, a backend in memory."""
    cumulative = InMemoryMetricReader()
    delta = InMemoryMetricReader(preferred_temporality={Counter: AggregationTemporality.DELTA})
    sdk = MeterProvider([cumulative, delta], shutdown_on_exit=False)
    cell = MetricEmitter("exact", meter_provider=sdk).counter("c").bind(LABELS)
    together(cell.add, 8, 20_000)
    found = [
        reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value
        for reader in (cumulative, delta)
    ]
    backend = InMemoryMetricsBackend()
    together(MetricEmitter("exact", backend=backend).counter("c").bind(LABELS).add, 8, 20_000)
    found.append(backend.value("c"))
    if found != [160_000] * 3:
        sys.exit(f"not exact: {found}")


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    options = parser.parse_args()
    number, rounds = (2_000, 3) if options.quick else (20_000, 15)
    report = Report()
    exactness()
    without_sdk(report, number, rounds)  # before anything installs one
    hot_paths(report, number, rounds)
    collections(report, rounds)
    growth(report, number, rounds)
    memory(report)
    report.print(options.json)


if __name__ == "__main__":
    main()
