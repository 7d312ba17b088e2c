"""The scripts decide as brute force does, on a real server whose time stands still."""

import collections
import math
import random
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobius_otel.security.rate_limit import RateLimit
from mobius_otel.security.rate_limit.backends.valkey.calls import form
from mobius_otel.security.rate_limit.backends.valkey.scripts import Script, script
from mobius_otel.security.rate_limit.facts import NEVER, ticks

STEM = b"mobius:rl:1:test:{%d}:"
START = 1_700_000_000_000_000


class Frozen:
    """One subject on a server whose time is what the test says."""

    runs = 0

    def __init__(self, server, algorithm, limits, *, expires=False):
        self.expires = expires
        Frozen.runs += 1
        self.client = server.client()
        self.stem = STEM % Frozen.runs
        self.now = START
        self.algorithm = algorithm
        self.form = form(algorithm, tuple(limits))

    def ask(self, call):
        """Run a call at the frozen time."""
        question = call._asked
        text = question._script._text.decode()
        assert text.count("local time = redis.call('TIME')\n  return time[1] * 1000000 + time[2]") == 1
        frozen = text.replace(
            "local time = redis.call('TIME')\n  return time[1] * 1000000 + time[2]", "return tonumber(ARGV[#ARGV])"
        )
        if not self.expires:  # by the server's own clock, which goes on
            assert frozen.count(" / 1000) + 1)") == 1
            frozen = frozen.replace(" / 1000) + 1)", " / 1000) + 100000)")
        keys = [self.stem + window for window in question._windows]
        return self.client.eval(frozen, len(keys), *keys, *question._args, b"%d" % self.now)

    def take(self, cost, *, charge=True, heirs=()):
        return self.form.facts(self.ask(self.form.take(self.stem, cost, charge=charge, heirs=heirs)), cost)

    def refund(self, cost, at):
        return self.ask(self.form.refund(self.stem, cost, at))


class Log:
    """The window by brute force: every hit is kept."""

    def __init__(self, limits):
        self.limits = [(limit.limit, ticks(limit)) for limit in limits]
        self.hits = []

    def used(self, now, window):
        return sum(cost for at, cost in self.hits if now - at < window)

    def room(self, now, cost):
        return all(self.used(now, window) + cost <= limit for limit, window in self.limits)

    def wait(self, now, cost):
        if any(cost > limit for limit, _ in self.limits):
            return NEVER
        ends = sorted({at + window for at, _ in self.hits for _, window in self.limits if at + window > now})
        return next(end - now for end in (now, *ends) if self.room(end, cost))


_limits = st.lists(
    st.builds(RateLimit, st.integers(1, 12), st.sampled_from([0.000003, 0.25, 1.0, 1.5, 60.0])),
    min_size=1, max_size=3, unique_by=lambda limit: limit.per,
)  # fmt: skip
_steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 2, 3, 100_000, 250_000, 499_999, 500_000, 1_000_000, 59_000_000]),
        st.integers(0, 14), st.sampled_from(["take", "take", "take", "peek", "refund"]),
    ),
    min_size=5, max_size=60,
)  # fmt: skip
_settings = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(limits=_limits, steps=_steps)
@_settings
def test_the_log_is_that_of_a_brute_force_model(shared_server, limits, steps):
    """Allowed or not, what is left, how long to wait, what a refund gives back: to the microsecond."""
    subject, model, refunded = Frozen(shared_server, "sliding_window_log", limits), Log(limits), False
    for forward, cost, what in steps:
        subject.now += forward
        now = subject.now
        if what == "refund":
            live = [hit for hit in model.hits if hit[1] and now - hit[0] < max(w for _, w in model.limits)]
            if live:
                hit = live[cost % len(live)]
                assert subject.refund(hit[1], hit[0]) == 1
                refunded = True
                model.hits = [h for h in model.hits if h is not hit]
            continue
        allowed, limit, used, reset, wait, at, source = subject.take(cost, charge=what == "take")
        assert (allowed, source) == (model.room(now, cost), "remote")
        if allowed:
            assert at == (now if what == "take" and cost else 0)
            if at:
                model.hits.append((now, cost))
            assert limit.limit - used == min(amount - model.used(now, window) for amount, window in model.limits)
            assert wait == 0
        else:
            assert wait == model.wait(now, cost)
            assert used == model.used(now, ticks(limit))
        own = [hit for hit in model.hits if hit[1] and now - hit[0] < ticks(limit)]
        free = own[-1][0] + ticks(limit) - now if own else 0
        assert reset == free or (refunded and free < reset <= ticks(limit))  # what came back leaves its place empty


class Running:
    """The same for one window, fast."""

    def __init__(self, window):
        self.window, self.hits, self.sum = window, collections.deque(), 0

    def used(self, now):
        while self.hits and now - self.hits[0][0] >= self.window:
            self.sum -= self.hits.popleft()[1]
        return self.sum

    def add(self, now, cost):
        self.hits.append((now, cost))
        self.sum += cost


def test_hits_beyond_a_thousand_live_ones_stay_within_the_quantum(shared_server):
    """Never one too many; one is refused too early by a ten thousandth of the window at most."""
    chance = random.Random(11)
    subject = Frozen(shared_server, "sliding_window_log", [RateLimit(2500, 60.0)])
    exact, longer = Running(60_000_000), Running(60_006_000)
    refused = 0
    for _ in range(10_000):
        subject.now += chance.choice([0, 1, 7_211, 17_587, 50_701])
        cost = chance.choice([1, 1, 1, 2])
        room = exact.used(subject.now) + cost <= 2500
        allowed, _, _, _, wait, _, _ = subject.take(cost)
        assert room or not allowed
        if allowed:
            exact.add(subject.now, cost)
            longer.add(subject.now, cost)
        elif room:
            refused += 1
            assert longer.used(subject.now) + cost > 2500
            assert 0 < wait <= 6000
    assert 0 < refused < 400
    assert subject.client.strlen(subject.stem + b"60000000") < 2 * 13 * 2500


def test_a_log_holds_no_more_entries_than_the_quantum_allows(shared_server):
    """Eighty thousand units in a window are at most eleven thousand entries of thirteen bytes."""
    subject = Frozen(shared_server, "sliding_window_log", [RateLimit(1_000_000, 60.0)])
    for _ in range(12_000):
        subject.now += 4_800
        assert subject.take(7)[0]
    assert subject.client.strlen(subject.stem + b"60000000") <= 48 + 13 * 11_000


@pytest.mark.parametrize("back", [1, 100_000, 3_600_000_000])
def test_a_server_whose_clock_is_set_back_gives_no_fresh_quota_and_locks_nobody_out(shared_server, back):
    """Time stands still for a step within the window; after a greater one it goes on from where it was."""
    subject = Frozen(shared_server, "sliding_window_log", [RateLimit(5, 1.0)])
    assert subject.take(5)[0]
    subject.now -= back
    assert not subject.take(1)[0]
    subject.now += 999_999 if back > 1_000_000 else 999_999 + back
    assert not subject.take(1)[0]
    subject.now += 1
    assert subject.take(5)[0]
    assert not subject.take(1)[0]


def test_totals_survive_their_48_bits(shared_server):
    """A log that is never empty goes on for ever."""
    subject = Frozen(shared_server, "sliding_window_log", [RateLimit(999_999_999, 1.0)])
    subject.take(1)
    key = subject.stem + b"1000000"
    entry = subject.client.getrange(key, 48, 60)
    near = (2**48 - 500).to_bytes(6, "little")
    subject.client.setrange(key, 0, (b"\0" * 8 + float_bytes(2**48 - 501) + b"\0" * 32) + entry[:7] + near)
    assert [subject.take(cost)[0] for cost in (600, 999_999_400, 398)] == [True, False, True]
    assert subject.take(0)[2] == 999
    subject.now += 1_000_000
    assert subject.take(999_999_999)[0]


def float_bytes(number):
    import struct

    return struct.pack("<d", number)


def test_what_was_counted_goes_on_under_other_limits(shared_server):
    """A new window begins with what the longest earlier one has seen."""
    subject = Frozen(shared_server, "sliding_window_log", [RateLimit(10, 1.0), RateLimit(50, 60.0)])
    subject.take(4)
    subject.form = form("sliding_window_log", (RateLimit(5, 30.0),))
    heirs = (b"60000000", b"1000000")
    assert subject.take(1, charge=False, heirs=heirs)[2] == 4
    assert not subject.client.exists(subject.stem + b"30000000")
    assert [subject.take(1, heirs=heirs)[0] for _ in range(2)] == [True, False]
    assert [subject.take(1)[0], subject.take(1, heirs=heirs)[2]] == [False, 5]


@pytest.mark.parametrize("algorithm", ["sliding_window_log", "gcra"])
def test_every_write_has_an_expiry(shared_server, algorithm):
    """What is idle vanishes with its window, on a server that nobody looks after."""
    subject = Frozen(shared_server, algorithm, [RateLimit(10, 1.0), RateLimit(50, 60.0)], expires=True)
    at = 0
    for _ in range(60):
        subject.now += 40_000
        at = subject.take(1)[5] or at
        subject.take(1, charge=False)
        subject.refund(1, at)
        for window in subject.form.windows:
            if subject.client.exists(subject.stem + window):
                assert 0 < subject.client.pttl(subject.stem + window) <= int(window) // 1000 + 2


class Cells:
    """The generic cell rate algorithm in exact fractions."""

    def __init__(self, limits):
        self.limits = [(limit.limit, ticks(limit)) for limit in limits]
        self.due = [Fraction(0)] * len(limits)

    def take(self, now, cost, charge):
        to = [
            max(Fraction(now), due) + Fraction(cost * w, n) for due, (n, w) in zip(self.due, self.limits, strict=True)
        ]
        waits = [
            NEVER if cost > n else max(0, math.ceil(due - now - w)) for due, (n, w) in zip(to, self.limits, strict=True)
        ]
        if any(waits):
            return False, max(waits)
        if charge and cost:
            self.due = to
        return True, 0

    def used(self, now):
        return [
            math.ceil(max(Fraction(0), due - now) * n / w) for due, (n, w) in zip(self.due, self.limits, strict=True)
        ]


@given(limits=_limits, steps=_steps)
@_settings
def test_gcra_is_that_of_exact_fractions(shared_server, limits, steps):
    """No rounding drifts, whatever the limit divides its window into."""
    subject, model = Frozen(shared_server, "gcra", limits), Cells(limits)
    charged = []
    for forward, cost, what in steps:
        subject.now += forward
        now = subject.now
        if what == "refund":
            if charged:
                cost = charged.pop()
                left = any(due > now for due in model.due)
                assert subject.refund(cost, 1) == left
                model.due = [
                    max(Fraction(now), max(Fraction(now), due) - Fraction(cost * w, n))
                    for due, (n, w) in zip(model.due, model.limits, strict=True)
                ]
            continue
        allowed, limit, used, reset, wait, at, _ = subject.take(cost, charge=what == "take")
        assert (allowed, wait) == model.take(now, cost, what == "take")
        index = next(i for i, (_, w) in enumerate(model.limits) if w == ticks(limit))
        assert used == model.used(now)[index]
        assert reset == math.ceil(max(Fraction(0), model.due[index] - now))
        if at:
            charged.append(cost)


def test_a_script_is_known_by_its_text():
    """Another text is another script; the same one is read once."""
    assert Script("return 1").digest == b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    assert script("log", "log_take") is script("log", "log_take")
