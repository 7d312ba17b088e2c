"""A key with few hits of one unit is decided about without a lock and without a log: by the same rules."""

import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.algorithms import FEW, WindowLog
from tests.services.forking import environment

SECOND = 1_000_000


def kept(limiter, key):
    return limiter._counts.young[key].__class__


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works):
    threads = [threading.Thread(target=work) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


@pytest.mark.parametrize("most", [1, 3, FEW // 8 - 1, FEW // 8, FEW // 8 + 1, 90])
@pytest.mark.parametrize("keys", [["a", "b", "c"], [1, ("b", 2), b"c"]], ids=["str", "others"])
def test_it_decides_as_brute_force_does(most, keys):
    """Over many windows, up to and beyond what is kept as bytes, whatever the kind of the key."""
    chance, clock, now = random.Random(most), FrozenClock(0.0), 0
    limiter = RateLimiter(RateLimit(most, 1.0), clock=clock, audit=False)
    hits = {key: [] for key in keys}
    results = Counter()
    for _ in range(6000):
        now += chance.choice([0, 0, 0, 1, 300, 8_000, 8_000, 20_000, *([3 * SECOND] if chance.random() < 0.02 else [])])
        clock.set(now / SECOND)
        key = chance.choice(keys)
        alive = hits[key] = [at for at in hits[key] if now - at < SECOND]
        passes = len(alive) < most
        results[passes] += 1
        if chance.random() < 0.5:
            assert limiter.allow(key) == passes
            alive += [now] * passes
        else:
            decision = limiter.acquire(key)
            assert decision.allowed == passes
            alive += [now] * passes
            assert decision.remaining == most - len(alive)
            assert decision.retry_after == (0 if passes else (alive[0] + SECOND - now) / SECOND)
            assert decision.reset_after == (alive[-1] + SECOND - now) / SECOND
        assert limiter.peek(key).allowed == (len(alive) < most)
    assert min(results.values()) > 50


def test_it_is_kept_as_bytes_until_there_are_many_or_something_else_is_asked():
    """A look changes nothing; a refund, a cost of two and one hit too many make it a log."""
    limiter = RateLimiter("100/minute", audit=False)
    for key in ("many", "two", "refund"):
        assert limiter.allow(key)
        assert limiter.peek(key).remaining == 99
        assert kept(limiter, key) is bytes
    assert all(limiter.allow("many") for _ in range(FEW // 8))
    assert kept(limiter, "many") is WindowLog
    assert limiter.acquire("two", 2).remaining == 97
    assert kept(limiter, "two") is WindowLog
    decision = limiter.acquire("refund")
    assert limiter.refund(decision)
    assert limiter.peek("refund").remaining == 99


def test_a_time_before_zero_is_a_time():
    """A clock may begin where it likes."""
    clock = FrozenClock(-10.0)
    limiter = RateLimiter("2/5 seconds", clock=clock, audit=False)
    for start in (-10.0, -3.0, 4.0):
        clock.set(start)
        assert [limiter.allow("k") for _ in range(3)] == [True, True, False]


def test_what_was_seen_is_told_each_time_anew():
    """The highest share since it was last asked for, by whichever way it was decided."""
    limiter = RateLimiter("10/minute", audit=False)
    saturation = limiter._counts.saturation
    for used in (1, 2, 3):
        assert limiter.allow("k")
        assert saturation() == used / 10
    assert limiter.allow("other")
    assert saturation() == 0.1
    assert [limiter.allow("k") for _ in range(9)].count(True) == 7
    assert saturation() == 1
    assert not limiter.allow("k")
    assert saturation() == 1
    assert saturation() == 0


@pytest.mark.parametrize("slow", [0, 1, 3])
def test_eight_threads_let_exactly_the_limit_pass(hasty, slow):
    """Also while some of them decide by the way that takes the lock, and others look."""
    limiter = RateLimiter("50/hour", audit=False)
    keys = [f"client-{number}" for number in range(40)]
    passed = [Counter() for _ in range(8)]

    def work(mine, number):
        ask = (lambda key: limiter._counts.take(key, 1)[0]) if number < slow else limiter.allow
        for _ in range(30):
            for key in keys:
                mine[key] += ask(key)
                limiter.peek(key)

    together(*[lambda mine=mine, number=number: work(mine, number) for number, mine in enumerate(passed)])
    assert sum(passed, Counter()) == dict.fromkeys(keys, 50)
    assert limiter._counts.saturation() == 1
    assert limiter._counts.held == {}


def test_no_hit_is_lost_when_the_generations_turn(hasty):
    """In no window of 20 ms more than the limit, with eight threads, while old keys are being forgotten."""
    limiter = RateLimiter(RateLimit(5, 0.02), audit=False)
    times = [[] for _ in range(8)]
    now = limiter._counts.time
    end = now() + 1_000_000_000

    def work(mine):
        while now() < end:
            before = now()
            if limiter.allow("k"):
                mine.append((before, now()))

    together(*[lambda mine=mine: work(mine) for mine in times])
    passed = sorted(each for mine in times for each in mine)
    assert len(passed) > 100
    # Between `before` and `after` it was charged: six that surely lie within one window would be one too many.
    for first in passed:
        surely = [each for each in passed if first[0] <= each[0] and each[1] < first[0] + 20_000_000]
        assert len(surely) <= 5


def test_keys_are_forgotten_while_they_are_asked_for(hasty):
    """Nothing is raised, and nobody waits for ever."""
    limiter = RateLimiter("5/hour", audit=False)
    done = []

    def ask():
        for number in range(20_000):
            limiter.allow(f"k{number % 3}")
        done.append(True)

    def forget():
        for number in range(20_000):
            limiter.reset(f"k{number % 3}")

    together(*[ask] * 4, forget)
    assert len(done) == 4


@pytest.mark.parametrize("method", ["allow", "acquire"])
def test_who_is_alone_is_not_disturbed(method):
    """What it has read does not change until it is done, though another one has found the same before."""
    steps = []

    def clock():
        if steps:
            steps.pop()()
        return 100.0

    def somebody_comes():
        counts.held[0] = []
        threading.Timer(0.05, somebody_leaves).start()

    def somebody_leaves():
        seen.append(counts.young["k"])
        counts.held.clear()

    limiter = RateLimiter("5/minute", clock=clock, audit=False)
    counts, seen = limiter._counts, []
    ask = getattr(limiter, method)
    assert ask("k")
    before = counts.young["k"]
    steps.append(somebody_comes)
    assert ask("k")
    assert seen == [before]
    assert len(counts.young["k"]) == 16


@pytest.mark.parametrize("method", ["allow", "acquire"])
def test_a_key_that_is_forgotten_meanwhile_begins_anew(method):
    """It has one hit then, not two and not none."""
    steps = []

    def clock():
        if steps:
            steps.pop()()
        return 100.0

    limiter = RateLimiter("5/minute", clock=clock, audit=False)
    ask = getattr(limiter, method)
    assert ask("k")
    steps.append(lambda: limiter.reset("k"))
    assert ask("k")
    assert limiter.peek("k").remaining == 4


@pytest.mark.parametrize("method", ["allow", "acquire"])
@pytest.mark.parametrize(
    ("what", "left"), [("allow", 2), ("acquire", 2), ("reset", 4), ("take", 2), ("two at once", 1)]
)
def test_who_comes_between_the_look_and_the_change_is_counted(method, what, left):
    """As a signal's handler or another thread may, by whichever way."""
    limiter = RateLimiter("5/minute", audit=False)
    ask, came = getattr(limiter, method), []
    by = {"take": lambda: limiter._counts.take("k", 1), "two at once": lambda: ask("k", 2)}
    comes = by.get(what) or (lambda: getattr(limiter, what)("k"))

    def between(_, event, function):
        if event == "c_call" and function.__name__ == "to_bytes" and not came:
            came.append(comes())

    assert ask("k")
    before = sys.getprofile()
    sys.setprofile(between)
    try:
        passed = ask("k")
    finally:
        sys.setprofile(before)
    assert passed
    assert len(came) == 1
    assert limiter.peek("k").remaining == left


INTERRUPTED = """
import signal, sys
from mobius_otel import RateLimiter


class Now(BaseException):  # what guards telemetry swallows no such
    pass


def handler(*_):
    raise Now


limiter = RateLimiter("1000000/hour", audit=False)
ask, key, passed, raised = getattr(limiter, sys.argv[1]), eval(sys.argv[2]), 0, 0
signal.signal(signal.SIGALRM, handler)
for attempt in range(3000):
    if attempt % 20 == 0:
        limiter.reset(key)
        passed = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-5 + attempt % 50 * 1e-6)
        while True:
            ask(key)
            passed += 1
    except Now:
        raised += 1
    assert limiter._counts.held == {}
assert raised == 3000
assert 1_000_000 - limiter.peek(key).remaining >= passed
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timers here")
@pytest.mark.parametrize("key", ["'k'", "7"], ids=["without the lock", "with it"])
@pytest.mark.parametrize("method", ["allow", "acquire"])
def test_a_handler_may_raise_at_any_moment(key, method):
    """Nobody is kept inside, and whatever passed was charged; in a process whose code nobody traces."""
    command = [sys.executable, "-c", INTERRUPTED, method, key]
    subprocess.run(command, check=True, timeout=120, env=environment())
