"""The ends of windows: told without another occurrence, and at an end; every count is told once."""

import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.security import RateLimiter
from mobius_otel.telemetry.audit.coalesce import Coalescer
from mobius_otel.telemetry.audit.logger import listeners
from mobius_otel.telemetry.audit.windows import tell_the_rest
from tests.services import forking


@pytest.fixture
def seen():
    return []


def emitting(seen):
    return lambda key, count: seen.append((key, count))


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_windows_end_is_told_by_itself_again_and_again(seen):
    """By real time, over several windows."""
    c = Coalescer(emitting(seen), window=0.2)
    for key in "ab":
        for _ in range(3):
            c.add(key)
        until(lambda key=key: sum(count for told, count in seen if told == key) == 3)
    assert len(c) == 0 or all(count == 0 for _, count in c._open.values())


def test_a_long_window_does_not_hold_up_a_short_one(seen):
    """Each ends in its own time."""
    long, short = Coalescer(emitting(seen), window=3600), Coalescer(emitting(seen), window=0.1)
    long.add("long"), long.add("long")
    short.add("short"), short.add("short")
    until(lambda: sum(count for key, count in seen if key == "short") == 2)
    assert [count for key, count in seen if key == "long"] == [1]
    tell_the_rest()
    assert [count for key, count in seen if key == "long"] == [1, 1]


def test_a_clock_that_says_when_it_is_moved_ends_a_window_at_once(seen):
    """And nothing else does: no thread looks at a time that stands still."""
    clock = FrozenClock(0.0)
    c = Coalescer(emitting(seen), window=0.05, clock=clock)
    c.add("a"), c.add("a")
    time.sleep(0.3)
    assert seen == [("a", 1)]
    clock.advance(0.05)
    assert seen == [("a", 1), ("a", 1)]


def test_what_a_limiter_counted_outlives_it():
    """Its denials are told when their window is over."""
    told = []
    listeners.append(told.append)
    try:
        limiter = RateLimiter("1/second", name="gone")
        for _ in range(5):
            limiter.acquire("k")
        counted = [record["attributes"]["mobius.count"] for record in told]
        del limiter
        gc.collect()
        until(lambda: sum(record["attributes"]["mobius.count"] for record in told) >= 4 or counted == [4])
    finally:
        listeners.remove(told.append)
    assert sum(record["attributes"]["mobius.count"] for record in told) == 4


def test_threads_a_moving_end_and_the_thread_that_looks_lose_no_count(seen):
    """Eight threads add, one ends everything all the time: exactly as many as were added."""
    c = Coalescer(emitting(seen), window=0.05, max_sources=5)
    over = threading.Event()

    def add():
        for number in range(3000):
            c.add(number % 7)

    def end():
        while not over.wait(0.005):
            tell_the_rest()

    ending = threading.Thread(target=end)
    ending.start()
    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    ending.join()
    tell_the_rest()
    assert sum(count for _, count in seen) == 24_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_side_of_a_fork_tells_of_its_own_windows(seen):
    """The child's thread is another one; the parent's goes on."""
    c = Coalescer(emitting(seen), window=0.3)
    c.add("parent"), c.add("parent")

    def child(_):
        seen.clear()
        c.add("child"), c.add("child"), c.add("child")
        until(lambda: sum(count for _, count in seen) == 3)
        return seen

    assert {key for key, _ in forking.in_processes(1, child)[0]} == {"child"}
    until(lambda: seen == [("parent", 1), ("parent", 1)])


def test_an_end_of_the_interpreter_tells_while_the_log_pipeline_still_stands():
    """Providers end at exit too: what was set up before the first refusal ends after the last record."""
    code = """
        from opentelemetry._logs import set_logger_provider
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter
        from mobius_otel.security import ApiKeyManager
        from mobius_otel.errors import InvalidApiKey
        provider = LoggerProvider()
        provider.add_log_record_processor(
            BatchLogRecordProcessor(ConsoleLogRecordExporter(formatter=lambda r: str(r.log_record.attributes) + "\\n")))
        set_logger_provider(provider)
        manager = ApiKeyManager("memory://", pepper="pepper-of-the-tests-pepper-of-the-tests")
        for _ in range(7):
            try:
                manager.verify("wrong")
            except InvalidApiKey:
                pass
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True,
        env=forking.environment(),
    )  # fmt: skip
    counts = re.findall(r"'mobius.count': (\d+)", done.stdout)
    assert counts == ["1", "6"]
