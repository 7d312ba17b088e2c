"""What a verification costs, beside SHA-256 with a comparison in constant time, and beside the peers.

Ours runs over a SQLite file with a meter provider and a tracer provider set. Each peer runs in an interpreter of
its own, because they do not agree about their dependencies:

    python benchmarks/api_keys.py --install-peers peers       makes one environment for each, once
    python benchmarks/api_keys.py --peers peers

Every row is a ratio to the floor that was measured in the same rounds; the figure is the median of the rounds. What the
stores cost stands in api_key_stores.py.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import hmac
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel.errors import InvalidApiKey
from mobius_otel.security import ApiKeyManager
from mobius_otel.security.api_keys import MemoryKeyStore
from mobius_otel.security.api_keys.secret import generate

LIMITS = {
    "warm": 16.0,
    "warm, scopes asked for": 16.0,
    "in a recording span, less set_attributes": 16.0,
    "malformed": 6.0,
}
PEERS = {
    "keyshield": ("keyshield==2.0.1", "argon2-cffi", "aiocache", "sqlalchemy[asyncio]"),
    "keyshield, delays set to 0": ("keyshield==2.0.1", "argon2-cffi", "aiocache", "sqlalchemy[asyncio]"),
    "fastapi-keygate": ("fastapi-keygate==0.5.1",),
    "djangorestframework-api-key": ("djangorestframework-api-key==3.1.0", "djangorestframework"),
}
ATTRIBUTES = {"mobius.api_key.result": "valid", "mobius.api_key.id": "key_4SAEPcebE8tocnbspxtPZL", "a.third": 1}


def timed(work: Callable[[], object], number: int) -> float:
    """Return the processor's time for one call, in microseconds."""
    begin = time.process_time()
    for _ in range(number):
        work()
    return (time.process_time() - begin) / number * 1e6


def ours(rounds: int, number: int) -> dict[str, float]:
    """Return every row as a ratio to the floor."""
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    trace.set_tracer_provider(TracerProvider())
    tracer, current = trace.get_tracer("benchmark"), trace.get_current_span
    scopes = frozenset({"read"})
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiKeyManager(f"sqlite:///{folder}/keys.db", pepper="a made-up pepper") as manager,
        ApiKeyManager("memory://", pepper="a made-up pepper", mac=True) as tagged,
    ):
        secret = manager.issue("alice", scopes=scopes).secret
        assert secret is not None
        digest, wrong, forged = hashlib.sha256(secret.encode()).digest(), secret[:-1] + "!", generate("mob", "live")

        def refused(by: ApiKeyManager, presented: str) -> None:
            try:
                by.verify(presented)
            except InvalidApiKey:  # contextlib.suppress would cost as much as the refusal
                return

        works: dict[str, Callable[[], object]] = {
            "floor": lambda: hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), digest),
            "warm": lambda: manager.verify(secret),
            "warm, scopes asked for": lambda: manager.verify(secret, scopes),
            "malformed": lambda: refused(manager, wrong),
            "forged, by its tag": lambda: refused(tagged, forged),
        }
        inside: dict[str, Callable[[], object]] = {
            "set_attributes": lambda: current().set_attributes(ATTRIBUTES),
            "in a recording span": lambda: manager.verify(secret),
        }
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, work in works.items():
                times.setdefault(name, []).append(timed(work, number))
            with tracer.start_as_current_span("request"):
                for name, work in inside.items():
                    times.setdefault(name, []).append(timed(work, number // 4))
    ratios = {name: statistics.median(map(lambda a, b: a / b, row, times["floor"])) for name, row in times.items()}
    ratios["in a recording span, less set_attributes"] = ratios["in a recording span"] - ratios["set_attributes"]
    ratios["floor, µs"] = statistics.median(times["floor"])
    return ratios


def bytes_a_key(number: int) -> float:
    """Return what a key takes in the cache."""
    store = MemoryKeyStore()
    manager = ApiKeyManager(store, pepper="a made-up pepper", cache_size=number)
    for place in range(number):
        manager.issue(f"owner-{place}", scopes={"read"})
    with store.changing() as change:
        digests = list(change.digests)
    # As from a file: every record with objects of its own.
    records = [(bytes(bytearray(digest)), store.find([digest])) for digest in digests]
    fresh = ApiKeyManager(store, pepper="a made-up pepper", cache_size=number)
    gc.collect()
    tracemalloc.start()
    for digest, found in records:
        assert found is not None
        fresh._cache.put(bytes(bytearray(digest)), _own(found.key), fresh._cache.epoch)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / number


def _own(key: object) -> object:
    """Return a record none of whose texts is shared, as a store that reads a file makes it."""
    import dataclasses

    assert dataclasses.is_dataclass(key)
    values = {f.name: getattr(key, f.name) for f in dataclasses.fields(key)}
    copied = {
        name: "".join(list(value)) if isinstance(value, str) and type(value) is str else value
        for name, value in values.items()
    }
    copied["scopes"] = frozenset("".join(list(scope)) for scope in values["scopes"])
    return type(key)(**copied)  # type: ignore[arg-type]


def loop_lag(cold: int) -> float:
    """Return how long an event loop stood still at worst while it served eight cold verifications at a time, in ms.

    The best of ten rounds: what other processes take of a shared machine is not the loop's doing.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiKeyManager(f"sqlite:///{folder}/keys.db", pepper="a made-up pepper", cache_ttl=0) as manager,
    ):
        secrets = [manager.issue("alice").secret for _ in range(cold)]
        worst: list[float] = []

        async def watch(stop: asyncio.Event, lags: list[float]) -> None:
            while not stop.is_set():
                begin = time.perf_counter()
                await asyncio.sleep(0)
                lags.append(time.perf_counter() - begin)

        async def live() -> None:
            for begin in range(0, cold, cold // 10):
                stop, lags = asyncio.Event(), [0.0]
                watcher = asyncio.create_task(watch(stop, lags))
                for place in range(begin, begin + cold // 10, 8):
                    await asyncio.gather(*(manager.verify_async(secret) for secret in secrets[place : place + 8]))
                stop.set()
                await watcher
                worst.append(max(lags))

        asyncio.run(live())
    return min(worst) * 1000


def peers(folder: Path) -> dict[str, dict[str, float] | str]:
    """Return what each peer says of itself, as ratios to the floor of its own process."""
    found: dict[str, dict[str, float] | str] = {}
    for name in PEERS:
        python = folder / name.partition(",")[0] / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not python.exists():
            found[name] = "not installed: --install-peers"
            continue
        script = Path(__file__).parent / "api_key_peers" / "peer.py"
        done = subprocess.run([python, script, name], capture_output=True, text=True, check=False)
        if done.returncode:
            found[name] = f"failed: {done.stderr.strip().splitlines()[-1][:100]}"
            continue
        times = json.loads(done.stdout.splitlines()[-1])
        found[name] = {row: value / times["floor"] for row, value in times.items() if row != "floor"}
    return found


def install(folder: Path) -> None:
    """Make an environment for each peer."""
    for name, packages in PEERS.items():
        place = folder / name.partition(",")[0]
        if not place.exists():
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="measure the peers that are installed there")
    parser.add_argument("--install-peers", type=Path, metavar="FOLDER", help="install them there, and nothing else")
    parser.add_argument("--quick", action="store_true", help="a few short rounds, to see that it runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.install_peers:
        install(options.install_peers)
        return 0
    rounds, number = (3, 1_000) if options.quick else (9, 20_000)
    report = {
        "machine": {"python": platform.python_version(), "system": platform.system(), "cpus": os.cpu_count()},
        "times the floor": ours(rounds, number),
        "bytes a cached key": bytes_a_key(1_000 if options.quick else 10_000),
        "event loop stood still, ms": loop_lag(80 if options.quick else 800),
        "peers, times their floor": peers(options.peers) if options.peers else {},
    }
    ratios: dict[str, float] = report["times the floor"]  # type: ignore[assignment]
    broken = [name for name, limit in LIMITS.items() if ratios[name] > limit]
    if options.json:
        print(json.dumps({**report, "limits": LIMITS, "broken": broken}, indent=1))
        return 0
    for name, ratio in ratios.items():
        limit = f"   at most {LIMITS[name]:g}" if name in LIMITS else ""
        print(f"{name:<45}{ratio:8.2f}{limit}")
    print(f"{'bytes a cached key':<45}{report['bytes a cached key']:8.0f}   at most 1000")
    print(f"{'event loop stood still, ms':<45}{report['event loop stood still, ms']:8.2f}   at most 5")
    for name, rows in report["peers, times their floor"].items():  # type: ignore[attr-defined]
        shown = rows if isinstance(rows, str) else ", ".join(f"{row} {value:,.0f}" for row, value in rows.items())
        print(f"{name:<45}{shown}")
    print("broken: " + (", ".join(broken) or "none"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
