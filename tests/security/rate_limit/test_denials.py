"""How denials are counted and when they are told."""

import os
import random
import threading
from collections import Counter

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.security import RateLimiter
from mobius_otel.security.rate_limit.denials import BATCH, Denials, Sketch


@pytest.mark.parametrize("seed", range(5))
def test_a_sketch_keeps_its_promise(seed):
    """Of N, a key is counted at most N / 65 too low and never too high; who has more is always there."""
    chance = random.Random(seed)
    stream = [f"k{int(chance.paretovariate(0.7))}" for _ in range(30_000)]
    sketch, true = Sketch(64), Counter(stream)
    for start in range(0, len(stream), 700):
        sketch.add(stream[start : start + 700])
    assert len(sketch) <= 64
    counted, slack = dict(sketch.top(64)), len(stream) / 65
    for key, count in true.items():
        assert count - slack <= counted.get(key, 0) <= count


def test_each_denial_is_told_exactly_once_whatever_the_threads_do():
    """First ones and rests of windows add up."""
    denials = Denials(window=3, now=lambda: 10**9)
    told = []

    def work(number):
        for step in range(2000):
            told.extend(denials.add(f"k{number}", step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    told.extend(denials.flush(everything=True))
    assert sum(count for count, _ in told) == 8 * 2000


def test_a_flood_within_a_window_waits_for_its_end():
    """And takes no more memory than a batch."""
    denials = Denials(window=10**6, now=lambda: 0)
    assert len(denials.add("k", 0)) == 1
    for number in range(5 * BATCH):
        assert denials.add(f"k{number % 20}", 1) == []
        assert len(denials.keys) < BATCH
    ((count, top),) = denials.add("late", 10**6)[:1]
    assert (count, len(top)) == (5 * BATCH, 10)


def test_no_key_leaves_by_the_pseudonyms_door(told, clock, monkeypatch):
    """With a key of the environment the same client has one name everywhere, which an investigator can look up."""
    monkeypatch.setenv("MOBIUS_OTEL_PSEUDONYM_KEY", "k1:a made-up key of tests")
    names = set()
    for _ in range(2):
        limiter = RateLimiter("1/minute", clock=clock)
        limiter.acquire("203.0.113.9"), limiter.acquire("203.0.113.9")
        names |= {name for name, _ in limiter.top()}
    assert len(names) == 1
    assert "203.0.113.9" not in told.text() + repr(names)
    monkeypatch.delenv("MOBIUS_OTEL_PSEUDONYM_KEY")
    assert limiter.top()[0][0].startswith("client-")


@pytest.mark.parametrize("configured", [True, False])
def test_a_quiet_window_is_told_when_the_process_ends(tmp_path, configured):
    """What nobody was told of yet is not lost, whoever opened the ledger."""
    import subprocess
    import sys

    setup = "configure(policy='mobius.toml')" if configured else (
        "defaults.install(defaults.Defaults(ledger=Ledger('audit.db')))"
    )  # fmt: skip
    script = f"""
from mobius_otel import RateLimiter, configure
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Ledger
runtime = {setup}
limiter = RateLimiter("1/hour")
[limiter.allow("k") for _ in range(50)]
"""
    (tmp_path / "mobius.toml").write_text('[audit]\nledger = "audit.db"\n')
    environment = {**os.environ, "OTEL_SDK_DISABLED": "true"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=tmp_path, env=environment)
    from mobius_otel.telemetry.audit import Ledger

    ledger = Ledger(tmp_path / "audit.db")
    counts = [entry.record()["attributes"].get("mobius.count") for entry in ledger.records()]
    ledger.close()
    assert [count for count in counts if count] == [1, 48]


def test_the_window_follows_the_limiters_clock():
    """So that tests and simulations see the same records every time."""
    clock = FrozenClock(0.0)
    limiter = RateLimiter("1/second", clock=clock)
    limiter.allow("k")
    for _ in range(30):
        limiter.allow("k")
        clock.advance(0.05)
    assert limiter.top(1)[0][1] >= 20
