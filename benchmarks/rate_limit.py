"""What a decision of the rate limiter costs, beside its peers and the bare floors, in one run.

    pip install limits throttled-py pyrate-limiter aiolimiter    # what is missing is left out, and said so
    python benchmarks/rate_limit.py [--json] [--quick] [--no-peers]

A meter and a tracer provider are installed, so every one of our decisions is also counted. All contestants take
turns in short rounds; a time is this thread's own processor time, so that a busy machine costs precision and not
truth; a figure is the least round, a ratio the median of the rounds' ratios. The loop and an empty call are 30 ns of
each figure, of many keys as of one; they are not subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel import RateLimit, RateLimiter
from mobius_otel.clock import FrozenClock

MANY = 100_000
#: Made for a limit in units a minute: returns a call that asks once for a key.
Make = Callable[[int], Callable[[str], object]]
#: Returns a call and the keys to call it with, for one round.
Prepare = Callable[[], tuple[Callable[[str], object], list[str]]]

# --- the floors ---------------------------------------------------------------------------------------------------


class DequeFloor:
    """The least that a sliding window can be: a dict, a lock, and the times of the hits."""

    def __init__(self, limit: int, per: float = 60.0) -> None:
        self.limit, self.per, self.lock, self.logs = limit, per, threading.Lock(), {}

    def allow(self, key: str) -> bool:
        with self.lock:
            now = time.monotonic()
            log = self.logs.get(key)
            if log is None:
                log = self.logs[key] = deque()
            edge = now - self.per
            while log and log[0] <= edge:
                log.popleft()
            if len(log) >= self.limit:
                return False
            log.append(now)
            return True


class GcraFloor:
    """The least that GCRA can be: a dict, a lock, one number."""

    def __init__(self, limit: int, per: float = 60.0) -> None:
        self.step, self.burst, self.lock, self.arrivals = per / limit, per, threading.Lock(), {}

    def allow(self, key: str) -> bool:
        with self.lock:
            now = time.monotonic()
            at = max(self.arrivals.get(key, 0.0), now) + self.step
            if at - now > self.burst:
                return False
            self.arrivals[key] = at
            return True


# --- the peers, as their documentation has them ----------------------------------------------------------------------


def of_limits(strategy: str) -> Make:
    module = importlib.import_module("limits")
    strategies, storage = importlib.import_module("limits.strategies"), importlib.import_module("limits.storage")

    def make(limit: int) -> Callable[[str], object]:
        hit, item = getattr(strategies, strategy)(storage.MemoryStorage()).hit, module.RateLimitItemPerMinute(limit)
        return lambda key: hit(item, key)

    return make


def of_throttled(using: str) -> Make:
    module = importlib.import_module("throttled")

    def make(limit: int) -> Callable[[str], object]:
        quota = module.per_min(limit, burst=limit)
        # Its default store forgets the oldest of 1,024 keys, exhausted or not.
        store = module.MemoryStore(options={"MAX_SIZE": 10 * MANY})
        return module.Throttled(using=using, quota=quota, store=store).limit  # type: ignore[no-any-return]

    return make


def of_pyrate() -> Make:
    module = importlib.import_module("pyrate_limiter")

    def make(limit: int) -> Callable[[str], object]:
        acquire = module.Limiter(module.Rate(limit, module.Duration.MINUTE)).try_acquire
        return lambda key: acquire(key, blocking=False)

    return make


def of_aiolimiter() -> Make:
    module = importlib.import_module("aiolimiter")

    def make(limit: int) -> Callable[[str], object]:
        limiter = module.AsyncLimiter(limit, 60)

        def ask(_: str) -> bool:
            if not limiter.has_capacity():  # it has no other way to say no than to wait
                return False
            with contextlib.suppress(StopIteration):
                limiter.acquire().send(None)
            return True

        return ask

    return make


PEERS: dict[str, Callable[[], Make]] = {
    "limits moving window": lambda: of_limits("MovingWindowRateLimiter"),
    "limits fixed window": lambda: of_limits("FixedWindowRateLimiter"),
    "limits sliding counter": lambda: of_limits("SlidingWindowCounterRateLimiter"),
    "throttled sliding window": lambda: of_throttled("sliding_window"),
    "throttled gcra": lambda: of_throttled("gcra"),
    "pyrate-limiter": of_pyrate,
    "aiolimiter": of_aiolimiter,
}
#: Those that keep one count alone, whoever asks.
WITHOUT_KEYS = {"pyrate-limiter", "aiolimiter"}


def ours(algorithm: str, method: str) -> Make:
    def make(limit: int) -> Callable[[str], object]:
        return getattr(RateLimiter(RateLimit(limit, 60.0), name="bench", algorithm=algorithm), method)  # type: ignore[no-any-return]

    return make


OURS = {
    "allow": ours("sliding_window_log", "allow"),
    "acquire": ours("sliding_window_log", "acquire"),
    "gcra allow": ours("gcra", "allow"),
    "gcra acquire": ours("gcra", "acquire"),
}
FLOORS = {"floor: deque": lambda limit: DequeFloor(limit).allow, "floor: gcra": lambda limit: GcraFloor(limit).allow}


def contestants(peers: bool, missing: list[str]) -> dict[str, Make]:
    found: dict[str, Make] = {**OURS, **FLOORS}
    for name, load in PEERS.items() if peers else ():
        try:
            found[name] = load()
        except ImportError as error:
            missing.append(f"{name}: {error}")
    return found


# --- how it is measured ----------------------------------------------------------------------------------------


def spent(call: Callable[[str], object], keys: list[str]) -> float:
    """Return nanoseconds a call, of this thread alone."""
    start = time.thread_time_ns()
    for key in keys:
        call(key)
    return (time.thread_time_ns() - start) / len(keys)


def race(
    calls: dict[str, Callable[[], tuple[Callable[[str], object], list[str]]]], rounds: int
) -> dict[str, list[float]]:
    """Return nanoseconds a call of every contestant, round by round, each round with a state of its own."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, prepare in calls.items():
                found[name].append(spent(*prepare()))
    finally:
        gc.enable()
    return found


class Report:
    """Rows of what was measured, against what, and the rule that it must keep."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.rows: list[dict[str, Any]] = []
        self.missing: list[str] = []

    def add(self, what: str, value: float, unit: str, rule: str = "", *, holds: bool | None = None) -> None:
        """Add one figure; `holds` is None where there is no rule."""
        self.rows.append({"what": what, "value": value, "unit": unit, "rule": rule, "holds": holds})
        if not self._as_json:  # as soon as it is known: all of them take minutes
            verdict = "" if holds is None else "  yes" if holds else "  NO"
            print(f"{what:<72}{value:>12,.6g} {unit:<9}{rule}{verdict}", flush=True)

    def faster(self, scene: str, found: dict[str, list[float]], mine: str, least: float | None) -> None:
        """Add how many times faster we are than the moving window of limits."""
        peer = "limits moving window"
        if peer in found:
            ratio = statistics.median(b / a for a, b in zip(found[mine], found[peer], strict=True))
            rule = "" if least is None else f"at least {least:g}"
            holds = None if least is None else ratio >= least
            self.add(f"{scene}: {mine} / {peer}", round(ratio, 2), "x faster", rule, holds=holds)

    def at_most(self, what: str, value: float, unit: str, most: float | None) -> None:
        """Add a figure that must not be larger than `most`, where there is such a rule."""
        rule = "" if most is None else f"at most {most:,}"
        self.add(what, round(value), unit, rule, holds=None if most is None else value <= most)

    def end(self) -> None:
        """Print what was left out, or everything as JSON."""
        machine = {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()}
        if self._as_json:
            print(json.dumps({"machine": machine, "missing": self.missing, "rows": self.rows}, indent=1))
            return
        for line in self.missing:
            print(f"left out: {line}")


# --- what is measured ------------------------------------------------------------------------------------------


def decisions(report: Report, makes: dict[str, Make], rounds: int, calls: int) -> None:
    """One decision: allowed and denied, 100 and 10,000 a minute, one key and 100,000."""
    for limit in (100, 10_000):
        for denied in (False, True):
            scene = f"{limit:,}/min, 1 key, {'denied' if denied else 'allowed'}"
            report_scene(report, scene, race({n: one_key(m, limit, denied, calls) for n, m in makes.items()}, rounds))
    keyed = {name: make for name, make in makes.items() if name not in WITHOUT_KEYS}
    for denied in (False, True):
        limit = 1 if denied else 100
        scene = f"{limit}/min, {MANY:,} keys, {'denied' if denied else 'allowed'}"
        report_scene(report, scene, race({n: many_keys(m, limit, calls) for n, m in keyed.items()}, rounds))


def one_key(
    make: Make, limit: int, denied: bool, calls: int
) -> Callable[[], tuple[Callable[[str], object], list[str]]]:
    if denied:
        call = make(limit)
        for _ in range(limit + 10):
            call("client-42")
        return lambda: (call, ["client-42"] * calls)

    def prepare() -> tuple[Callable[[str], object], list[str]]:
        # As many as fit; a small limit is used up by one key after the other, which no contestant may skip.
        fresh, room = make(limit), limit - 10
        if limit > calls:
            return fresh, ["client-42"] * calls
        return fresh, [f"client-{number // room}" for number in range(calls)]

    return prepare


def many_keys(make: Make, limit: int, calls: int) -> Prepare:
    call = make(limit)
    keys = [f"client-{number}" for number in range(MANY)]
    for key in keys:
        call(key)
    chance = random.Random(7)
    return lambda: (call, [keys[chance.randrange(MANY)] for _ in range(calls)])


def report_scene(report: Report, scene: str, found: dict[str, list[float]]) -> None:
    for name, figures in found.items():
        report.add(f"{scene}: {name}", round(min(figures)), "ns")
    # Among many keys every contestant waits for memory most of the time: not even the first floor is 3.5 times faster.
    report.faster(scene, found, "allow", 3.5)
    report.faster(scene, found, "acquire", 2.5)
    ratio = statistics.median(a / b for a, b in zip(found["allow"], found["floor: deque"], strict=True))
    report.add(f"{scene}: allow / floor: deque", round(ratio, 2), "x", "at most 2.5", holds=ratio <= 2.5)


def traced(fill: Callable[[], object]) -> int:
    """Return the bytes that `fill` leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = fill()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    del kept
    return size


def memory(report: Report, makes: dict[str, Make]) -> None:
    """What a full key and many small ones take."""

    def full(make: Make) -> Callable[[], object]:
        def fill() -> object:
            call = make(10_000)
            for _ in range(10_000):
                call("client-42")
            return call

        return fill

    def spread(step: float) -> Callable[[], object]:
        def fill() -> object:
            clock, chance = FrozenClock(0.0), random.Random(7)
            limiter = RateLimiter("10000/minute", clock=clock)
            for _ in range(20_000):
                clock.advance(step * chance.uniform(0.5, 1.5) if step else 0.0)
                limiter.allow("client-42")
            return limiter

        return fill

    keys = [f"client-{number}" for number in range(MANY)]

    def many(make: Make) -> Callable[[], object]:
        def fill() -> object:
            call = make(100)
            for key in keys:
                for _ in range(10):
                    call(key)
            return call

        return fill

    for name, make in makes.items():
        if name in {"acquire", "gcra acquire"}:
            continue
        what = f"memory of a full key, 10,000 hits at once: {name}"
        report.at_most(what, traced(full(make)), "B", 130_000 if name == "allow" else None)
    report.at_most("memory of a full key, 10,000 hits over its minute: allow", traced(spread(0.006)), "B", 130_000)
    for name in ("allow", "gcra allow", "floor: deque", "limits moving window", "throttled sliding window"):
        if name in makes:
            what = f"memory a key, {MANY:,} keys with 10 hits: {name}"
            report.at_most(what, traced(many(makes[name])) / MANY, "B", 400 if name == "allow" else None)


def crowded(report: Report, makes: dict[str, Make], rounds: int, calls: int) -> None:
    """One hot key among 100,000 live ones, against the same alone."""
    for name in ("allow", "limits moving window"):
        if name not in makes:
            continue
        alone, among = makes[name](10_000_000), makes[name](10_000_000)
        for number in range(MANY):
            among(f"client-{number}")
        found = {"alone": [], "among": []}
        for _ in range(rounds):
            for what, call in (("alone", alone), ("among", among)):
                start = time.perf_counter_ns()  # what another thread of the library takes counts too
                for _ in range(calls):
                    call("hot")
                found[what].append((time.perf_counter_ns() - start) / calls)
        ratio = statistics.median(a / b for a, b in zip(found["alone"], found["among"], strict=True))
        what = f"throughput of a hot key with {MANY:,} others live: {name}"
        mine = name == "allow"
        report.add(
            what, round(ratio, 2), "of alone", "at least 0.9" if mine else "", holds=ratio >= 0.9 if mine else None
        )


def threads(report: Report, calls: int) -> None:
    """The slowest in a hundred decisions while eight threads ask for one key."""
    limiter = RateLimiter("100000000/minute", name="bench")
    taken: list[list[int]] = [[] for _ in range(8)]

    def work(times: list[int]) -> None:
        allow, clock = limiter.allow, time.perf_counter_ns
        for _ in range(calls):
            start = clock()
            allow("client-42")
            times.append(clock() - start)

    workers = [threading.Thread(target=work, args=(times,)) for times in taken]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ordered = sorted(each for times in taken for each in times)
    ratio = ordered[len(ordered) * 99 // 100] / ordered[len(ordered) // 2]
    report.add("8 threads, one key: 99th percentile / median", round(ratio, 2), "x", "at most 20", holds=ratio <= 20)


def exact() -> None:
    """Fail unless what is measured is also right."""
    limiter = RateLimiter("1000/hour", name="exact")
    passed: list[int] = []

    def work() -> None:
        passed.append(sum(limiter.allow("client-42") for _ in range(400)))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if sum(passed) != 1000:
        sys.exit(f"not exact: {sum(passed)} of 1000")


def ready() -> None:
    """Install providers, as a service has them."""
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))


async def run(options: argparse.Namespace, report: Report) -> None:
    """Run everything; inside a loop, which one of the peers asks for."""
    rounds, calls = (5, 500) if options.quick else (25, 1000)
    makes = contestants(not options.no_peers, report.missing)
    exact()
    decisions(report, makes, rounds, calls)
    crowded(report, makes, 5 if options.quick else 21, 20_000)
    threads(report, 2_000 if options.quick else 20_000)
    memory(report, makes)


def main(arguments: Iterable[str] | None = None) -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    parser.add_argument("--no-peers", action="store_true", help="measure ours and the floors alone")
    options = parser.parse_args(None if arguments is None else list(arguments))
    ready()
    report = Report(options.json)
    asyncio.run(run(options, report))
    report.end()


if __name__ == "__main__":
    main()
