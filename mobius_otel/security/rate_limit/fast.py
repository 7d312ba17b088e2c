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
from typing import Any, Final

from mobius_otel import compat
from mobius_otel.security.rate_limit.algorithms import EXACT, WindowLog, few_facts, gcra_facts, window_facts
from mobius_otel.security.rate_limit.backends import GcraCounts, WindowCounts
from mobius_otel.security.rate_limit.decision import Decision, LocalDecision
from mobius_otel.security.rate_limit.denials import BATCH
from mobius_otel.security.rate_limit.reporting import Reporter

__all__ = ["FastPaths"]

#: What decides for a limiter, whose first argument it is.
Acquire = Callable[[Any, Hashable, int], Decision]
Allow = Callable[[Any, Hashable, int], bool]
#: The usual cost: whoever passes it on or leaves it out is known at a glance, anything else is looked at.
_ONE: Final = 1
#: The class of keys of which two looks at a dict are one step, where there is a GIL.
_AT_ONCE: Final = str if getattr(sys, "_is_gil_enabled", lambda: True)() else None
_listening: Final = compat.context_reader()


# In each of them: the first line lets whole numbers above zero pass, the usual one at a glance; then the thread is
# alone, as in `alone`; the clock is read by who is alone, so that what is written is in order; `if` in the place of
# max() is half its price; and `cell.value += 1` is what BoundSeries.increment() does.
#
# Of a window, a unit of a key with few hits is decided about before that, and straight: among very many keys most are
# such, and there every decision waits for memory; the fewer ways the processor has to guess meanwhile, the fewer it
# guesses wrong. What such a key has used is one object that is never changed, so a denial is true of the moment at
# which the object was found, and a unit is charged by putting another one in its place, if nobody is alone and nothing
# was changed since the moment before it was looked for. That needs no lock for the reason that `bound.py` gives:
# neither calls nor jumps backward are between that look and the change, where the key is a str. The clock is read after
# the object was found, so that the new hit is not older than those in it. Without a GIL, `_AT_ONCE` is no key's class.


class FastPaths:
    """What a limiter decides by: `allow` and `acquire`, each in one piece.

    They are methods, so that a class or an object that has others is obeyed, and all that they need is found from the
    limiter: a function of its own for each limiter would be one call more, and among very many keys, where nothing
    is at hand in the processor, that is a tenth of a decision.
    """

    #: The counts of a window in memory, where a decision may have nothing to tell but a number; else None.
    _window: WindowCounts | None
    _reporter: Reporter
    #: What decides about the rest.
    _acquire: Acquire
    _allow: Allow

    def _choose_paths(self, counts: object, slowly: Acquire) -> None:
        """Take the quickest ways there are, for as long as the same telemetry is configured.

        Args:
            counts: The limiter's counts.
            slowly: The way that is always right.
        """
        quiet = self._reporter.quiet
        self._window = counts if quiet and isinstance(counts, WindowCounts) else None
        if quiet and isinstance(counts, GcraCounts):
            self._acquire = _gcra_acquire(counts, self._reporter, slowly)
            self._allow = _gcra_allow(counts, self._reporter, slowly)
        else:
            self._acquire = slowly
            self._allow = lambda limiter, key, cost: slowly(limiter, key, cost).allowed

    def acquire(self, key: Hashable, cost: int = 1) -> Decision:
        """Charge `cost` units to `key` if every limit allows it.

        Args:
            key: Who asks: a client's id, an address, or any value that can be a key of a dict.
            cost: Units. 0 charges nothing and is allowed, but counts as a decision; a cost above a limit is
                refused with an infinite ``retry_after``.

        Raises:
            ConfigurationError: The cost is no whole number, or below zero.
        """
        counts = self._window
        if counts is None or (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or _listening():
            slowly = self._acquire  # by a name of its own it is found faster than as a method
            return slowly(self, key, cost)
        raw: Any = None
        changed, plan, young = counts.changed, counts.plan, counts.young
        log: Any = young.get(key)
        if log.__class__ is bytes and cost is _ONE and key.__class__ is _AT_ONCE:
            now = monotonic_ns() if counts.clock is None else counts.time()
            if now < plan.fresh and log > plan.edge:
                size = len(log)
                if size == plan.full:
                    if size > plan.seen:
                        plan.saw(0, size // 8)
                    raw = few_facts, False, plan, log, now
                elif size < plan.room:
                    more = log + now.to_bytes(8)
                    if counts.changed is changed and not counts.held:
                        counts.changed = young[key] = more
                        if size >= plan.seen:
                            plan.saw(0, size // 8 + 1)
                        raw = few_facts, True, plan, more, now
        if raw is None:
            mine: list[None] = []
            held = counts.held
            try:
                while held.setdefault(0, mine) is not mine:
                    sleep(0)
                now = monotonic_ns() if counts.clock is None else counts.time()
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
                    counts.changed = mine
                    del held[0]
                raise
            counts.changed = mine
            del held[0]
            if raw is None:
                slowly = self._acquire
                return slowly(self, key, cost)
        reporter, passes = self._reporter, raw[1]
        cell = reporter.allowed if passes else reporter.denied
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if not passes:
            denials = reporter.denials
            keys = denials.keys
            keys.append(key)
            if now >= denials.due or len(keys) >= BATCH:
                reporter.fold(now, plan.limits[0].limit)
        decision: LocalDecision = LocalDecision()
        decision.allowed, decision._raw = passes, raw
        decision._key, decision._cost, decision._limiter = key, cost, self  # type: ignore[assignment]
        return decision

    def allow(self, key: Hashable, cost: int = 1) -> bool:
        """Charge `cost` units to `key` if every limit allows it, and return whether it did.

        The quickest way to ask: no :class:`Decision` is made.

        Args and Raises: as :meth:`acquire`.
        """
        counts = self._window
        if counts is None or (cost is not _ONE and (cost.__class__ is not int or cost < 1)) or _listening():
            slowly = self._allow
            return slowly(self, key, cost)
        changed, plan, young = counts.changed, counts.plan, counts.young
        log: Any = young.get(key)
        if log.__class__ is bytes and cost is _ONE and key.__class__ is _AT_ONCE:
            now = monotonic_ns() if counts.clock is None else counts.time()
            if now < plan.fresh and log > plan.edge:
                size = len(log)
                if size == plan.full:
                    if size > plan.seen:
                        plan.saw(0, size // 8)
                    reporter = self._reporter
                    denied, denials = reporter.denied, reporter.denials
                    if denied.direct:
                        denied.value += 1
                    else:
                        denied.increment()
                    keys = denials.keys
                    keys.append(key)
                    if now >= denials.due or len(keys) >= BATCH:
                        reporter.fold(now, plan.limits[0].limit)
                    return False
                if size < plan.room:
                    more = log + now.to_bytes(8)
                    if counts.changed is changed and not counts.held:
                        counts.changed = young[key] = more
                        if size >= plan.seen:
                            plan.saw(0, size // 8 + 1)
                        allowed = self._reporter.allowed
                        if allowed.direct:
                            allowed.value += 1
                        else:
                            allowed.increment()
                        return True
        reporter = self._reporter
        cell = None
        mine: list[None] = []
        held = counts.held
        try:
            while held.setdefault(0, mine) is not mine:
                sleep(0)
            now = monotonic_ns() if counts.clock is None else counts.time()
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
                    cell = reporter.allowed
                else:
                    cell = reporter.denied
                if used > plan.peaks[0]:  # noqa: PLR1730
                    plan.peaks[0] = used
            elif log is not None:
                cell = reporter.denied if counts.one_more(key, log, now) is log else reporter.allowed
        except BaseException:
            if 0 in held and held[0] is mine:
                counts.changed = mine
                del held[0]
            raise
        counts.changed = mine
        del held[0]
        if cell is None:
            slowly = self._allow
            return slowly(self, key, cost)
        if cell.direct:
            cell.value += 1
        else:
            cell.increment()
        if cell is reporter.allowed:
            return True
        denials = reporter.denials
        keys = denials.keys
        keys.append(key)
        if now >= denials.due or len(keys) >= BATCH:
            reporter.fold(now, plan.limits[0].limit)
        return False


def _gcra_allow(counts: GcraCounts, reporter: Reporter, slowly: Acquire) -> Allow:
    listening, allowed, denied = compat.context_reader(), reporter.allowed, reporter.denied
    denials = reporter.denials
    keys = denials.keys
    read = monotonic_ns if counts.clock is None else counts.time

    def allow(limiter: Any, key: Hashable, cost: int) -> bool:
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

    def acquire(limiter: Any, key: Hashable, cost: int) -> Decision:
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
