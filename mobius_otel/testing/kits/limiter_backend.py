"""What a limiter's backend has to do, as tests: inherit from the kit, make a backend, and run pytest."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from mobius_otel.security import RateLimit, RateLimiter
from mobius_otel.security.rate_limit.backends import AsyncCounts, Backend, Counts, LimiterSpec
from mobius_otel.security.rate_limit.facts import NEVER, Facts, ticks

__all__ = ["LimiterBackendKit"]

_HOUR = 3600.0
_SHORT = 0.3
_KEYS: tuple[Hashable, ...] = (
    "client-42",
    b"client-42",
    42,
    ("client", 42),
    ("client-42",),
    "ключ",
    "",
    "a" * 10_000,
    "\0",
)


class LimiterBackendKit:
    """Tests that every backend of a rate limiter passes, by real time.

    Inherit from it in a test module, and say how a backend is made. What the backend does not count among its
    ``capabilities`` is not tried.

    Example::

        class TestMyBackend(LimiterBackendKit):
            def make_backend(self):
                return MyBackend("my://localhost")
    """

    #: How many threads ask at once.
    threads = 8
    #: The ``lease`` of every limiter.
    lease = 0.0

    def make_backend(self) -> Backend:
        """Return a backend; what another one has counted does not matter, each limiter has a name of its own."""
        raise NotImplementedError("say how a backend is made")

    @contextmanager
    def opened(self) -> Iterator[Backend]:
        """Make a backend, and close it when the block ends, where it can be."""
        backend = self.make_backend()
        try:
            yield backend
        finally:
            getattr(backend, "close", bool)()

    @contextmanager
    def counts(self, *limits: RateLimit, algorithm: str = "sliding_window_log") -> Iterator[Counts]:
        """Make the counts of a limiter that nobody else has."""
        with self.opened() as backend:
            yield backend.counts(self._spec(*limits, algorithm=algorithm))

    def _spec(self, *limits: RateLimit, algorithm: str = "sliding_window_log") -> LimiterSpec:
        lease = self.lease if algorithm == "sliding_window_log" else 0.0
        return LimiterSpec(limits=limits, name=f"kit-{secrets.token_hex(6)}", algorithm=algorithm, lease=lease)

    # what is decided

    def test_exactly_the_limit_passes(self) -> None:
        """And what is refused has to wait until the first hit leaves the window."""
        limit = RateLimit(7, _HOUR)
        with self.counts(limit) as counts:
            facts = [counts.take("k", 1) for _ in range(9)]
            assert [allowed for allowed, *_ in facts] == [True] * 7 + [False] * 2
            assert [used for _, _, used, *_ in facts] == [1, 2, 3, 4, 5, 6, 7, 7, 7]
            for allowed, shown, _, reset, wait, at, source in facts:
                assert shown == limit
                assert 0 < reset <= ticks(limit)
                assert wait == 0 if allowed else 0 < wait <= ticks(limit)
                assert at != 0 or not allowed
                assert source in {"local", "remote"}

    def test_a_hit_is_out_at_the_end_of_its_window(self) -> None:
        """Not before, and no later."""
        with self.counts(RateLimit(2, _SHORT)) as counts:
            began = time.monotonic()
            assert counts.take("k", 2)[0]
            assert not counts.take("k", 1)[0]
            facts = _when_it_passes(counts, "k", 2)
            assert time.monotonic() - began >= _SHORT - 0.001
            assert facts[2] == 2

    def test_a_denied_try_charges_nothing(self) -> None:
        """Nor does a look, nor a cost of zero."""
        with self.counts(RateLimit(10, _HOUR)) as counts:
            assert counts.take("k", 8)[0]
            assert not counts.take("k", 3)[0]
            assert counts.peek("k", 2)[0]
            assert counts.take("k", 0)[:3:2] == (True, 8)
            assert counts.take("k", 2)[:3:2] == (True, 10)
            assert counts.take("k", 0)[0]

    def test_a_cost_above_the_limit_never_passes(self) -> None:
        """It has to wait for ever, and leaves no trace."""
        with self.counts(RateLimit(10, _HOUR)) as counts:
            assert counts.take("k", 11)[:5:4] == (False, NEVER)
            assert counts.peek("k", 10)[:3:2] == (True, 0)

    def test_keys_are_counted_apart(self) -> None:
        """Whatever they are made of; equal ones together."""
        with self.counts(RateLimit(1, _HOUR)) as counts:
            assert [counts.take(key, 1)[0] for key in _KEYS] == [True] * len(_KEYS)
            assert [counts.take(key, 1)[0] for key in _KEYS] == [False] * len(_KEYS)

    def test_all_limits_allow_or_none_is_charged(self) -> None:
        """The limit that shows is the one that denies for longest, else the one with the least left."""
        with self.opened() as backend:
            if "several_limits" not in backend.capabilities:
                return
            short, long = RateLimit(2, 60.0), RateLimit(3, _HOUR)
            counts = backend.counts(self._spec(short, long))
            assert counts.take("k", 1)[1] == short
            assert counts.take("k", 2)[:2] == (False, short)
            assert counts.take("k", 1)[0]
            denied = counts.take("k", 2)
            assert denied[:2] == (False, long)
            assert denied[4] > ticks(short)
            counts.change((long,))
            assert counts.peek("k", 0)[2] == 2

    def test_many_threads_let_exactly_the_limit_pass(self) -> None:
        """Contention neither lets one more in nor keeps one out."""
        with self.counts(RateLimit(400, _HOUR)) as counts:
            passed: list[int] = []

            def work() -> None:
                passed.append(sum(counts.take("k", 1)[0] for _ in range(100)))

            workers = [threading.Thread(target=work) for _ in range(self.threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert sum(passed) == min(400, 100 * self.threads)

    def test_gcra_has_a_burst_and_a_pace(self) -> None:
        """The limit may come at once; then one unit in each window divided by the limit."""
        with self.opened() as backend:
            if "gcra" not in backend.capabilities:
                return
            counts = backend.counts(self._spec(RateLimit(3, 3 * _SHORT), algorithm="gcra"))
            assert [counts.take("k", 1)[0] for _ in range(4)] == [True, True, True, False]
            assert 0 < counts.take("k", 1)[4] <= _SHORT * 1e6 + 1
            assert counts.take("k", 4)[4] == NEVER
            _when_it_passes(counts, "k", 1)
            assert not counts.take("k", 1)[0]

    # what can be changed

    def test_a_refund_gives_back_once(self) -> None:
        """And only what was charged."""
        with self.counts(RateLimit(5, _HOUR)) as counts:
            first, second = counts.take("k", 2), counts.take("k", 3)
            assert counts.refund("k", 2, first[5])
            assert counts.peek("k", 2)[:3:2] == (True, 3)
            assert counts.take("k", 2)[0]
            assert not counts.take("k", 1)[0]
            assert counts.refund("k", 3, second[5])
            assert counts.take("k", 3)[0]
            assert not counts.refund("nobody", 1, first[5])

    def test_a_reset_forgets_this_key_alone(self) -> None:
        """Also a refusal."""
        with self.counts(RateLimit(1, _HOUR)) as counts:
            for key in "ab":
                counts.take(key, 1)
                assert not counts.take(key, 1)[0]
            counts.reset("a")
            assert [counts.take(key, 1)[0] for key in "ab"] == [True, False]

    def test_limits_of_its_own_and_changed_ones_keep_what_was_counted(self) -> None:
        """Also where the window is another one."""
        wide, narrow = RateLimit(100, 2 * _HOUR), RateLimit(4, _HOUR)
        with self.counts(RateLimit(10, _HOUR)) as counts:
            counts.take("k", 4)
            counts.take("vip", 4)
            counts.override("vip", (wide,))
            assert counts.peek("vip", 0)[1:3] == (wide, 4)
            counts.change((narrow,))
            assert counts.take("k", 1)[:3] == (False, narrow, 4)
            assert counts.take("vip", 1)[:3] == (True, wide, 5)
            counts.override("vip", None)
            assert not counts.take("vip", 1)[0]

    # what is told

    def test_it_says_how_full_it_was(self) -> None:
        """The highest share since it was last asked; and how many keys it remembers, at most."""
        with self.counts(RateLimit(10, _HOUR)) as counts:
            counts.take("a", 5)
            counts.take("b", 2)
            assert counts.saturation() == 0.5
            assert counts.saturation() == 0
            assert 0 <= len(counts) <= 2

    def test_its_name_shows_no_key(self) -> None:
        """A key may be an address."""
        with self.counts(RateLimit(1, _HOUR)) as counts:
            counts.take("203.0.113.9", 1)
            assert "203.0.113.9" not in repr(counts)

    def test_the_asyncio_twins_decide_alike(self) -> None:
        """Where there are some: over the same counts."""
        with self.counts(RateLimit(3, _HOUR)) as counts:
            if not isinstance(counts, AsyncCounts):
                return

            async def work() -> list[bool]:
                facts = [await counts.take_async("k", 1) for _ in range(3)]
                assert not (await counts.peek_async("k", 1))[0]
                assert await counts.refund_async("k", 1, facts[-1][5])
                assert (await counts.take_async("k", 1))[0]
                await counts.reset_async("other")
                close = getattr(counts, "close_async", None)
                if close is not None:
                    await close()
                return [allowed for allowed, *_ in facts]

            assert asyncio.run(work()) == [True] * 3
            assert not counts.take("k", 1)[0]

    def test_a_limiter_works_over_it(self) -> None:
        """With everything that belongs to one."""
        with self.opened() as backend:
            limiter = RateLimiter("2/hour", name=f"kit-{secrets.token_hex(6)}", backend=backend, lease=self.lease)
            first = limiter.acquire("k")
            assert (first.allowed, first.limit, first.remaining) == (True, 2, 1)
            assert [limiter.allow("k"), limiter.allow("k"), limiter.wait("k", timeout=0.01).allowed] == [
                True,
                False,
                False,
            ]
            assert limiter.refund(first)
            assert limiter.wait("k", timeout=5.0).allowed


def _when_it_passes(counts: Counts, key: Hashable, cost: int) -> Facts:
    """Wait as long as the counts say, and not much longer; return the facts of what then passes."""
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        wait = counts.peek(key, cost)[4]
        assert wait != NEVER
        time.sleep(wait / 1e6)
        facts = counts.take(key, cost)
        if facts[0]:
            return facts
    raise AssertionError("what was said to pass does not")
