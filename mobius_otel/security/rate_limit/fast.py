"""The path that most requests take, in one piece: a key of a limiter in memory, with one limit.

A decision is made of a dozen small steps, and in Python the way from one function to the next costs as much as a
step. So what `MemoryCounts`, `Plan` and `Reporter` do one after the other for what is usual stands here once more
without those ways, and whatever is not usual (own limits, several, a span) is handed to them. Tests hold
both to the same answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any, Final

from mobius_otel import compat
from mobius_otel.security.rate_limit.algorithms import EXACT, WindowLog, few_facts, gcra_facts, window_facts
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
#: The class of keys of which two looks at a dict are one step, where there is a GIL.
_AT_ONCE: Final = str if getattr(sys, "_is_gil_enabled", lambda: True)() else None


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


# In each of them: the first line lets whole numbers above zero pass, the usual one at a glance; then the thread is
# alone, as in `alone`; the clock is read by who is alone, so that what is written is in order; `if` in the place of
# max() is half its price; and `cell.value += 1` is what BoundSeries.increment() does.
#
# Of a window, a unit of a key with few hits is decided about before that, and straight: among very many keys most are
# such, and there every decision waits for memory; the fewer ways the processor has to guess meanwhile, the fewer it
# guesses wrong. What such a key has used is one object that is never changed, so a denial is true of the moment at
# which the object was found, and a unit is charged by putting another one in its place, if it is there still and
# nobody is alone. That needs no lock for the reason that `bound.py` gives: neither calls nor jumps backward are between
# that look and the change, where the key is a str. The clock is read after the object was found, so that the new hit
# is not older than those in it. Without a GIL, `_AT_ONCE` is no key's class.


def _window_allow(counts: WindowCounts, reporter: Reporter, slowly: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys
    read = monotonic_ns if counts.clock is None else counts.time

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost).allowed
        held, plan, young = counts.held, counts.plan, counts.young
        log: Any = young.get(key)
        if log.__class__ is bytes and cost is _ONE and key.__class__ is _AT_ONCE:
            now = read()
            if now < plan.fresh and log > plan.edge:
                size = len(log)
                if size < plan.room:
                    more = log + now.to_bytes(8)
                    try:
                        there = not held and young[key] is log
                    except KeyError:  # forgotten meanwhile
                        there = False
                    if there:
                        young[key] = more
                        if size >= plan.seen:
                            plan.saw(0, size // 8 + 1)
                        if allowed.direct:
                            allowed.value += 1
                        else:
                            allowed.increment()
                        return True
                elif size == plan.full:
                    if size > plan.seen:
                        plan.saw(0, size // 8)
                    if denied.direct:
                        denied.value += 1
                    else:
                        denied.increment()
                    keys.append(key)
                    if now >= denials.due or len(keys) >= BATCH:
                        reporter.fold(now, plan.limits[0].limit)
                    return False
        cell = None
        mine: list[None] = []
        try:
            while held.setdefault(0, mine) is not mine:
                sleep(0)
            now = read()
            plan = counts.plan
            log = counts.young.get(key)
            if log.__class__ is not WindowLog or now >= plan.fresh:
                log = counts.usual(key, now, cost)
            if log.__class__ is WindowLog:
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
            elif log is not None:
                cell = denied if counts.one_more(key, log, now) is log else allowed
        except BaseException:
            if 0 in held and held[0] is mine:
                del held[0]
            raise
        del held[0]
        if cell is None:
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
    read = monotonic_ns if counts.clock is None else counts.time

    def acquire(limiter: RateLimiter, key: Hashable, cost: int) -> Decision:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost)
        raw: Any = None
        held, plan, young = counts.held, counts.plan, counts.young
        log: Any = young.get(key)
        if log.__class__ is bytes and cost is _ONE and key.__class__ is _AT_ONCE:
            now = read()
            if now < plan.fresh and log > plan.edge:
                size = len(log)
                if size < plan.room:
                    more = log + now.to_bytes(8)
                    try:
                        there = not held and young[key] is log
                    except KeyError:  # forgotten meanwhile
                        there = False
                    if there:
                        young[key] = more
                        if size >= plan.seen:
                            plan.saw(0, size // 8 + 1)
                        raw = few_facts, True, plan, more, now
                elif size == plan.full:
                    if size > plan.seen:
                        plan.saw(0, size // 8)
                    raw = few_facts, False, plan, log, now
        if raw is None:
            mine: list[None] = []
            try:
                while held.setdefault(0, mine) is not mine:
                    sleep(0)
                now = read()
                plan = counts.plan
                log = counts.young.get(key)
                if log.__class__ is not WindowLog or now >= plan.fresh:
                    log = counts.usual(key, now, cost)
                if log.__class__ is WindowLog:
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
                    elif over <= used:
                        free = log.expires if over == 1 else log.freed_at(over) + plan.windows[0]
                        raw = window_facts, False, plan, used, log.times[-1], free, now
                    if used > plan.peaks[0]:  # noqa: PLR1730
                        plan.peaks[0] = used
                elif log is not None:
                    more = counts.one_more(key, log, now)
                    raw = few_facts, more is not log, plan, more, now
            except BaseException:
                if 0 in held and held[0] is mine:
                    del held[0]
                raise
            del held[0]
            if raw is None:
                return slowly(limiter, key, cost)
        passes = raw[1]
        cell = allowed if passes else denied
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if not passes:
            keys.append(key)
            if now >= denials.due or len(keys) >= BATCH:
                reporter.fold(now, plan.limits[0].limit)
        decision: LocalDecision = LocalDecision()
        decision.allowed, decision._raw = passes, raw
        decision._key, decision._cost, decision._limiter = key, cost, limiter
        return decision

    return acquire


def _gcra_allow(counts: GcraCounts, reporter: Reporter, slowly: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys
    read = monotonic_ns if counts.clock is None else counts.time

    def allow(limiter: RateLimiter, key: Hashable, cost: int) -> bool:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost).allowed
        mine: list[None] = []
        held = counts.held
        try:
            while held.setdefault(0, mine) is not mine:
                sleep(0)
            now = read()
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
        except BaseException:
            if 0 in held and held[0] is mine:
                del held[0]
            raise
        del held[0]
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
    read = monotonic_ns if counts.clock is None else counts.time

    def acquire(limiter: RateLimiter, key: Hashable, cost: int) -> Decision:
        if (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or listening():
            return slowly(limiter, key, cost)
        mine: list[None] = []
        held = counts.held
        try:
            while held.setdefault(0, mine) is not mine:
                sleep(0)
            now = read()
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
        except BaseException:
            if 0 in held and held[0] is mine:
                del held[0]
            raise
        del held[0]
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
        decision: LocalDecision = LocalDecision()
        decision.allowed, decision._raw = passes, (gcra_facts, passes, plan, 0, ahead, cost, now)
        decision._key, decision._cost, decision._limiter = key, cost, limiter
        return decision

    return acquire
