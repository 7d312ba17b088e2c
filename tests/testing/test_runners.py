"""The fixture in other people's test runs: xdist, asyncio and anyio, frozen time, handles made at import."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SHOP = """
from opentelemetry import metrics, trace
from mobius_otel import MetricEmitter

placed = MetricEmitter("shop").counter("orders.placed")
raw = metrics.get_meter("shop").create_counter("raw.placed")
tracer = trace.get_tracer("shop")

def place(number):
    with tracer.start_as_current_span("place"):
        placed.add(number, {"currency": "EUR"})
        raw.add(number)
"""
TESTS = """
import asyncio, time
import anyio
import pytest
import shop

@pytest.mark.parametrize("number", range(1, 13))
def test_its_own_delta(telemetry, number):
    shop.place(number)
    assert telemetry.metric("orders.placed", currency="EUR") == number
    assert telemetry.metric("raw.placed") == number
    assert len(telemetry.spans) == 1

def test_what_a_test_without_the_fixture_did():
    shop.place(1000)

def test_is_nobodys(telemetry):
    assert telemetry.metric("orders.placed") == 0
    assert telemetry.spans == []

def test_asyncio(telemetry):
    async def one(number):
        await asyncio.sleep(0)
        shop.place(number)

    async def main():
        await asyncio.gather(*(one(number) for number in range(5)))

    asyncio.run(main())
    assert telemetry.metric("orders.placed") == 10
    assert len(telemetry.spans) == 5

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(telemetry, anyio_backend):
    async with anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(anyio.to_thread.run_sync, shop.place, number)
    assert telemetry.metric("orders.placed") == 3

def test_frozen_time(telemetry, monkeypatch):
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 1000.0)
    for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
        monkeypatch.setattr(time, name, lambda: 1000 * 10**9)
    shop.place(7)
    assert telemetry.metric("orders.placed") == 7
    assert telemetry.span("place")
"""


def run(folder: Path, *arguments: str) -> str:
    """Run the tests of a project that has mobius_otel installed, and return what pytest printed."""
    (folder / "shop.py").write_text(textwrap.dedent(SHOP))
    (folder / "test_shop.py").write_text(textwrap.dedent(TESTS))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    done = subprocess.run([*command, str(folder)], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def test_in_one_process(tmp_path: Path) -> None:
    """One test after the other, in the order of the file."""
    assert "17 passed" in run(tmp_path)


def test_under_xdist(tmp_path: Path) -> None:
    """Four processes, each with its own telemetry."""
    assert "17 passed" in run(tmp_path, "-n", "4")


def test_a_failing_assertion_shows_the_test_and_no_secret(tmp_path: Path) -> None:
    """pytest prints what the functions of a traceback were called with; those of the fixture are left out."""
    (tmp_path / "test_leak.py").write_text(
        "import logging, os\n"
        "def test_leak(telemetry):\n"
        "    logging.getLogger('x').warning(os.environ['CANARY'])\n"
        "    telemetry.assert_no_secret(os.environ['CANARY'])\n"
        "def test_span(telemetry):\n"
        "    telemetry.span('nobody-made-it')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--show-capture=no", "test_leak.py"],
        cwd=tmp_path, env={**os.environ, "CANARY": "hidden-canary-4711"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "secret 1 of 1: logging[0]" in done.stdout
    assert "0 records match span 'nobody-made-it'" in done.stdout
    assert "hidden-canary-4711" not in done.stdout
    assert "capture.py" not in done.stdout
