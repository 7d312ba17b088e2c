"""What the guard costs a request: a bare service, the same under the guard, in one run.

Both are the application itself, called by its protocol (no sockets), so that the ratio is the guard's and
not the network's. Run: python benchmarks/guarded_request.py
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastapi import FastAPI
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from mobius_otel.policy import parse_policy
from mobius_otel.security import ApiKeyManager
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Ledger
from mobius_otel.web import Guard, SecurityMiddleware
from mobius_otel.web.recorder import RouteRecorder

ROUNDS, REQUESTS = 9, 400
POLICY = """
[api_keys]
require = ["/v1/*"]
[[rate_limit.rules]]
name = "per-key"
limit = "100000000/hour"
[audit]
routes = ["GET /v1/audited"]
"""


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/v1/items")
    @app.get("/v1/audited")
    def items() -> list[dict[str, int]]:
        return [{"id": 1}]

    return app


def scope(path: str, secret: str) -> dict[str, object]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80), "headers": [(b"host", b"shop"), (b"x-api-key", secret.encode())],
    }  # fmt: skip


async def timed(app: object, path: str, secret: str) -> float:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message

    started = time.perf_counter()
    for _ in range(REQUESTS):
        await app(scope(path, secret), receive, send)  # type: ignore[operator]
    return (time.perf_counter() - started) / REQUESTS


def imports() -> dict[str, float]:
    """Milliseconds of an import beyond a bare interpreter, best of seven."""

    def best(code: str) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - started)
        return min(times) * 1000

    bare = best("pass")
    return {
        "OpenTelemetry SDK": best("import opentelemetry.sdk.trace, opentelemetry.sdk.metrics, opentelemetry.sdk._logs")
        - bare,
        "import mobius_otel": best("import mobius_otel") - bare,
        "from mobius_otel import RateLimiter": best("from mobius_otel import RateLimiter") - bare,
        "from mobius_otel import configure": best("from mobius_otel import configure") - bare,
    }


def main() -> None:
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    with tempfile.TemporaryDirectory() as folder:
        policy = parse_policy(POLICY)
        keys = ApiKeyManager(f"sqlite:///{folder}/keys.db", pepper="a made-up pepper")
        defaults.install(defaults.Defaults(ledger=Ledger(Path(folder) / "audit.db")))
        secret = keys.issue("bench").secret
        bare, guarded = application(), SecurityMiddleware(application(), Guard(policy, keys, RouteRecorder()))
        cases = {
            "bare": (bare, "/v1/items"),
            "guarded": (guarded, "/v1/items"),
            "guarded and audited": (guarded, "/v1/audited"),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):  # interleaved, so that a slow moment of the machine hits all alike
            for name, (app, path) in cases.items():
                times[name].append(asyncio.run(timed(app, path, secret)))
        median = {name: statistics.median(values) for name, values in times.items()}
        keys.close()
    report = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "microseconds": {name: round(value * 1e6, 1) for name, value in median.items()},
        "times the bare service": {name: round(value / median["bare"], 2) for name, value in median.items()},
        "import milliseconds": {name: round(value, 1) for name, value in imports().items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
