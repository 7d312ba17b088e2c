"""The audit trail of one limiter's denials."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import secrets
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import AuditUnavailable
from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.denials import Denials, Told
from mobius_otel.security.rate_limit.limit import RateLimit
from mobius_otel.telemetry.audit import Actor
from mobius_otel.telemetry.audit.logger import record_event
from mobius_otel.telemetry.audit.windows import expect
from mobius_otel.telemetry.redaction.actions import Pseudonyms
from mobius_otel.telemetry.safety import guarded

__all__ = ["Trail"]

_log = logging.getLogger("mobius_otel")
_SHORTEST_WINDOW: Final = 1.0
_LONGEST_WINDOW: Final = 3600.0
_NANOSECONDS: Final = 1_000_000_000


class Trail:
    """Records denials: the first of a window at once, the others when it is over.

    Args:
        name: The limiter's name.
        limits: Its limits.
        audit: Whether denials are recorded.
        now: Returns the time that decisions are made by, in nanoseconds.
        clock: What `now` goes by, where somebody has set it: one that says when it is moved (a method ``watch``) is
            waited for; any other time passes by itself.
    """

    def __init__(
        self,
        name: str,
        limits: Sequence[RateLimit],
        *,
        audit: bool,
        now: Callable[[], int],
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._audit = audit
        self._limit = limits[0].limit
        window = max(min(max(limit.per for limit in limits), _LONGEST_WINDOW), _SHORTEST_WINDOW)
        self.denials = Denials(round(window * _NANOSECONDS), now)
        # Records shall tell two clients apart and name neither.
        self._own_key = secrets.token_bytes(32)
        watch = getattr(clock, "watch", None)
        self._look_after = math.inf if watch is not None else window
        if watch is not None:
            watch(self.flush)
        on_fork(self)

    def fold(self, now: int, limit: int) -> None:
        """Count the denied keys, and record what is to be recorded; never raises.

        Args:
            now: The time in nanoseconds.
            limit: The limit that denied.
        """
        self._limit = limit
        told = self.denials.fold(now)
        if told:
            expect(self, self._look_after)
            self._tell(told)

    def flush(self, *, everything: bool = False) -> float:
        """Record the denials that are being counted.

        Args:
            everything: Also those whose window is not over.

        Returns:
            Seconds until the window is over; infinite where none is open.
        """
        self._tell(self.denials.flush(everything=everything))
        return self.denials.left() / _NANOSECONDS

    def top(self, number: int) -> list[tuple[str, int]]:
        """Return the pseudonyms of the keys that were denied most, each with how often at least."""
        return [(self._pseudonym(key), count) for key, count in self.denials.top(number)]

    def _pseudonym(self, key: Hashable) -> str:
        """Return what stands for a key in records.

        With ``MOBIUS_OTEL_PSEUDONYM_KEY`` it is the same in every process, and ``mobius-otel redact lookup --kind
        client`` finds it; else it is the same for as long as this limiter lives.
        """
        plain = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
        if os.environ.get("MOBIUS_OTEL_PSEUDONYM_KEY"):
            return Pseudonyms.from_environment().of("client", plain)
        raw = plain.encode("utf-8", "surrogatepass")
        return "client-" + hashlib.blake2b(raw, key=self._own_key, digest_size=8).hexdigest()

    def _tell(self, told: list[Told]) -> None:
        for count, top in told if self._audit else ():
            with guarded("rate_limit"):
                self._record(count, top)

    def _record(self, count: int, top: list[tuple[Hashable, int]]) -> None:
        named = [(self._pseudonym(key), often) for key, often in top]
        attributes = {
            conventions.RATE_LIMIT_POLICY: self._name,
            conventions.RATE_LIMIT_LIMIT: self._limit,
            conventions.RATE_LIMIT_TOP: [f"{pseudonym}={often}" for pseudonym, often in named],
            conventions.COUNT: count,
        }
        # Of many clients that nobody stands out of, the limit itself speaks.
        actor = Actor(named[0][0], "user") if named else Actor(self._name, "system")
        try:
            record_event(conventions.RATE_LIMIT_EXCEEDED, actor=actor, outcome="failure", attributes=attributes)
        except AuditUnavailable:  # strict: nothing may happen without its record, and a denial lets nothing happen
            _log.debug("mobius_otel: a denial of limit %r has no audit record", self._name)

    def _after_fork_in_child(self) -> None:
        self.denials.begin()  # the parent tells of its own
