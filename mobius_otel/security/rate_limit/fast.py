"""The path that most requests take, in one piece: a known key of a limiter in memory, with one limit.

A decision is made of a dozen small steps, and in Python the way from one function to the next costs as much as a
step. So what `MemoryCounts`, `Plan` and `Reporter` do one after the other for what is usual stands here once more
without those ways, and whatever is not usual (a new key, own limits, several, a cost, a span) is handed to them.
Tests hold both to the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from mobius_otel import compat
from mobius_otel.security.rate_limit.algorithms import EXACT
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


def fast_paths(counts: object, reporter: Reporter, acquire: Acquire) -> tuple[Acquire, Allow]:
    """Return the quickest way to a decision and to a mere yes or no.

    Args:
        counts: The limiter's counts.
        reporter: Who is told.
        acquire: The way that is always right.

    Returns:
        Functions that hold for as long as the same telemetry is configured.
    """
    if not reporter.quiet:
        return acquire, _allow(acquire)
    if isinstance(counts, WindowCounts):
        return _window_acquire(counts, reporter, acquire), _window_allow(counts, reporter, acquire)
    if isinstance(counts, GcraCounts):
        return acquire, _gcra_allow(counts, reporter, acquire)
    return acquire, _allow(acquire)


def _allow(acquire: Acquire) -> Allow:
    return lambda limiter, key, cost: acquire(limiter, key, cost).allowed


# In each of them: the clock is read under the lock, so that what is written is in order; `if` in the place of max()
# is half its price; `cell.value += 1` is what BoundSeries.increment() does.


def _window_allow(counts: WindowCounts, reporter: Reporter, acquire: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if cost is not _ONE or listening():
            return acquire(limiter, key, cost).allowed
        with counts.lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            log: Any = counts.young.get(key)
            plan = counts.plan
            usual = log is not None and not plan.several and now < counts.turn
            if usual:
                if now >= log.expires:
                    log.prune(now, plan.windows[0])
                used = log.used
                if used < plan.most[0]:
                    used += 1
                    if used <= EXACT and log.totals is None:
                        log.used = used
                        log.times.append(now)
                    else:
                        log.charge(now, 1, plan.quanta[0])
                    cell = allowed
                else:
                    cell = denied
                if used > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = used
        if not usual:
            return acquire(limiter, key, cost).allowed
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
        if cost is not _ONE or listening():
            return slowly(limiter, key, cost)
        with counts.lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            log: Any = counts.young.get(key)
            plan = counts.plan
            usual = log is not None and not plan.several and now < counts.turn
            if usual:
                window = plan.windows[0]
                if now >= log.expires:
                    log.prune(now, window)
                used = log.used
                if used < plan.most[0]:
                    used += 1
                    if used <= EXACT and log.totals is None:
                        log.used = used
                        log.times.append(now)
                    else:
                        log.charge(now, 1, plan.quanta[0])
                    raw = True, plan.limits[0], used, now, now, window, now
                else:
                    # Of a limit that has been lowered more than all may be in use.
                    over = used - plan.most[0]
                    free = log.freed_at(over + 1) + window if over else log.expires
                    raw = False, plan.limits[0], used, log.times[-1], free, window, now
                if used > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = used
        if not usual:
            return slowly(limiter, key, cost)
        if raw[0]:
            cell = allowed
            if cell.direct:
                cell.value += 1
            else:
                cell.increment()
            return LocalDecision(raw, True, key, limiter)
        cell = denied
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        keys.append(key)
        if now >= denials.due or len(keys) >= BATCH:
            reporter.fold(now, raw[1].limit)
        return LocalDecision(raw, False, key, limiter)

    return acquire


def _gcra_allow(counts: GcraCounts, reporter: Reporter, acquire: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if cost is not _ONE or listening():
            return acquire(limiter, key, cost).allowed
        with counts.lock:
            now = monotonic_ns() if counts.clock is None else counts.time()
            state: Any = counts.young.get(key)
            plan = counts.plan
            usual = state is not None and not plan.several and now < counts.turn
            if usual:
                free_from = now * plan.most[0]
                ahead = (state[0] - free_from if state[0] > free_from else 0) + plan.windows[0]
                if ahead <= plan.capacities[0]:
                    state[0] = free_from + ahead
                    cell = allowed
                else:
                    ahead = plan.capacities[0]
                    cell = denied
                if ahead > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = ahead
        if not usual:
            return acquire(limiter, key, cost).allowed
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
