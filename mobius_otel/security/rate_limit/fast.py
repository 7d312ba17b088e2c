"""The path that most requests take, in one piece: a key of a limiter in memory, with one limit.

A decision is made of a dozen small steps, and in Python the way from one function to the next costs as much as a
step. So what `MemoryCounts`, `Plan` and `Reporter` do one after the other for what is usual stands here once more
without those ways, and whatever is not usual (own limits, several, a span) is handed to them. Tests hold
both to the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any, Final

from mobius_otel import compat
from mobius_otel.security.rate_limit.algorithms import EXACT, gcra_facts, window_facts
from mobius_otel.security.rate_limit.backends import GcraCounts, WindowCounts
from mobius_otel.security.rate_limit.decision import Decision, LocalDecision
from mobius_otel.security.rate_limit.denials import BATCH
from mobius_otel.security.rate_limit.reporting import Reporter

if TYPE_CHECKING:
    from mobius_otel.security.rate_limit.limiter import RateLimiter

__all__ = ["Acquire", "Allow", "fast_paths"]

Acquire = Callable[["RateLimiter", Hashable, int], Decision]
Allow = Callable[["RateLimiter", Hashable, int], bool]
#: The usual cost: whoever passes it on or leaves it out is known at a glance, anything else is looked at.
_ONE: Final = 1


def fast_paths(counts: object, reporter: Reporter, slowly: Acquire) -> tuple[Acquire, Allow]:
    """Return the quickest way to a decision and to a mere yes or no.

    Args:
        counts: The limiter's counts.
        reporter: Who is told.
        slowly: The way that is always right.

    Returns:
        Functions that hold for as long as the same telemetry is configured.
    """
    if reporter.quiet and isinstance(counts, WindowCounts):
        return _window_acquire(counts, reporter, slowly), _window_allow(counts, reporter, slowly)
    if reporter.quiet and isinstance(counts, GcraCounts):
        return _gcra_acquire(counts, reporter, slowly), _gcra_allow(counts, reporter, slowly)
    return slowly, lambda limiter, key, cost: slowly(limiter, key, cost).allowed


# In each of them: the first line lets whole numbers above zero pass, the usual one at a glance; the clock is read under
# the lock, so that what is written is in order; `if` in the place of max() is half its price; and `cell.value += 1` is
# what BoundSeries.increment() does.
#
# A thread that finds the lock taken lets the others run until it is free. A thread that waits in a lock is given it
# before it is given the interpreter, so that whoever runs has to wait for it in turn; eight threads then take five
# times as long, and the slowest in a hundred decisions a hundred times the median.


def _window_allow(counts: WindowCounts, reporter: Reporter, slowly: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost).allowed
        lock = counts.lock
        while lock.locked():
            sleep(0)
        with lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            plan = counts.plan
            log: Any = counts.young.get(key)
            if log is None or now >= counts.turn:
                log = counts.usual(key, now, cost)
            usual = log is not None and not plan.several
            if usual:
                if now >= log.expires:
                    log.prune(now, plan.windows[0])
                used = log.used
                if used + cost <= plan.most[0]:
                    used += cost
                    if cost is _ONE and used <= EXACT and log.totals is None:
                        log.used = used
                        log.times.append(now)
                    else:
                        log.charge(now, cost, plan.quanta[0])
                    cell = allowed
                else:
                    cell = denied
                if used > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = used
        if not usual:
            return slowly(limiter, key, cost).allowed
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if cell is allowed:
            return True
        keys.append(key)
        if now >= denials.due or len(keys) >= BATCH:
            reporter.fold(now, plan.limits[0].limit)
        return False

    return allow


def _window_acquire(counts: WindowCounts, reporter: Reporter, slowly: Acquire) -> Acquire:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def acquire(limiter: RateLimiter, key: Hashable, cost: int) -> Decision:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost)
        raw: Any = None
        lock = counts.lock
        while lock.locked():
            sleep(0)
        with lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            plan = counts.plan
            log: Any = counts.young.get(key)
            if log is None or now >= counts.turn:
                log = counts.usual(key, now, cost)
            if log is not None and not plan.several:
                if now >= log.expires:
                    log.prune(now, plan.windows[0])
                used = log.used
                over = used + cost - plan.most[0]
                if over <= 0:
                    used += cost
                    if cost is _ONE and used <= EXACT and log.totals is None:
                        log.used = used
                        log.times.append(now)
                    else:
                        log.charge(now, cost, plan.quanta[0])
                    raw = window_facts, True, plan, used, now, now, now
                    cell = allowed
                elif over <= used:
                    free = log.expires if over == 1 else log.freed_at(over) + plan.windows[0]
                    raw = window_facts, False, plan, used, log.times[-1], free, now
                    cell = denied
                if used > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = used
        if raw is None:
            return slowly(limiter, key, cost)
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if cell is allowed:
            return LocalDecision(raw, True, key, cost, limiter)
        keys.append(key)
        if now >= denials.due or len(keys) >= BATCH:
            reporter.fold(now, plan.limits[0].limit)
        return LocalDecision(raw, False, key, cost, limiter)

    return acquire


def _gcra_allow(counts: GcraCounts, reporter: Reporter, slowly: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost).allowed
        lock = counts.lock
        while lock.locked():
            sleep(0)
        with lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            plan = counts.plan
            state: Any = counts.young.get(key)
            if state is None or now >= counts.turn:
                state = counts.usual(key, now, cost)
            usual = state is not None and not plan.several
            if usual:
                free_from = now * plan.most[0]
                ahead = (state[0] - free_from if state[0] > free_from else 0) + cost * plan.windows[0]
                if ahead <= plan.capacities[0]:
                    state[0] = free_from + ahead
                    cell = allowed
                else:
                    ahead = plan.capacities[0]
                    cell = denied
                if ahead > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = ahead
        if not usual:
            return slowly(limiter, key, cost).allowed
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if cell is allowed:
            return True
        keys.append(key)
        if now >= denials.due or len(keys) >= BATCH:
            reporter.fold(now, plan.limits[0].limit)
        return False

    return allow


def _gcra_acquire(counts: GcraCounts, reporter: Reporter, slowly: Acquire) -> Acquire:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def acquire(limiter: RateLimiter, key: Hashable, cost: int) -> Decision:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost)
        lock = counts.lock
        while lock.locked():
            sleep(0)
        with lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            plan = counts.plan
            state: Any = counts.young.get(key)
            if state is None or now >= counts.turn:
                state = counts.usual(key, now, cost)
            usual = state is not None and not plan.several
            if usual:
                window = plan.windows[0]
                free_from = now * plan.most[0]
                ahead = state[0] - free_from if state[0] > free_from else 0
                if ahead + cost * window <= plan.capacities[0]:
                    ahead += cost * window
                    state[0] = free_from + ahead
                    cell = allowed
                else:
                    cell = denied
                if ahead > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = ahead
        if not usual:
            return slowly(limiter, key, cost)
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        limit, passes = plan.limits[0], cell is allowed
        if not passes:
            keys.append(key)
            if now >= denials.due or len(keys) >= BATCH:
                reporter.fold(now, limit.limit)
        return LocalDecision((gcra_facts, passes, plan, 0, ahead, cost, now), passes, key, cost, limiter)

    return acquire
