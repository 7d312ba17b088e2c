"""Counting what was taken out, as the metric ``mobius.redaction.matches``.

A line of a log is redacted while its handler holds a lock, and OpenTelemetry logs while it holds its own. To
count at once could therefore stop the process for good; matches in log lines wait here, without a lock, until
something else is counted or metrics are collected. So do those of a process in which nobody listens: some are counted
together, when it is asked again whether somebody does by now.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from mobius_otel import conventions
from mobius_otel.forks import on_fork
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.bound import BoundSeries
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.safety import swallow

__all__ = ["MatchTally", "tally"]

_WAITING = 10_000
_FEW = 64


class MatchTally:
    """Counts matches by kind and location."""

    __slots__ = ("__weakref__", "_busy", "_cells", "_emitter", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_WAITING)
        self._busy = threading.local()
        self._emitter: MetricEmitter | None = None
        self._cells: dict[tuple[str, str], BoundSeries] = {}
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        self._waiting.clear()  # the parent counts them
        self._busy = threading.local()

    def add(self, kinds: Iterable[str], location: str) -> None:
        """Count one match of each of `kinds` at `location`; never raises."""
        cells, waiting = self._cells, self._waiting
        if defaults.emitter() is not self._emitter:
            cells = {}
        at_once = location != "logging" and not waiting
        found = []
        for kind in kinds:
            cell = cells.get((kind, location))
            if cell is None:
                found.append((kind, location))
            elif cell.direct and at_once:  # a number in memory: nothing leads out of here
                cell.value += 1
            elif cell.direct or cell.heard:
                found.append((kind, location))
            else:  # whether anybody listens by now is asked for some of them together
                waiting.append((kind, location))
        if not found and len(waiting) < _FEW:
            return
        if location == "logging" or getattr(self._busy, "now", False):
            waiting.extend(found)
        else:
            self._count(found)

    def flush(self) -> None:
        """Count what waits."""
        if self._waiting and not getattr(self._busy, "now", False):
            self._count([])

    def _taken(self) -> Iterator[tuple[str, str]]:
        for _ in range(len(self._waiting)):
            try:
                yield self._waiting.popleft()
            except IndexError:
                return  # another thread took them

    def _count(self, found: list[tuple[str, str]]) -> None:
        self._busy.now = True  # the metric's own way out leads through the redactor
        if self._waiting:
            found.extend(self._taken())
        try:
            emitter = defaults.emitter()
            if emitter is not self._emitter:
                self._emitter, self._cells = emitter, {}
            for pair in set(found):
                cell = self._cells.get(pair)
                if cell is None:
                    cell = self._cells[pair] = defaults.counter(conventions.REDACTION_MATCHES).bind(
                        {conventions.REDACTION_KIND: pair[0], conventions.REDACTION_LOCATION: pair[1]}
                    )
                cell.add(found.count(pair))
        except Exception as error:
            swallow("redaction", error)
        finally:
            self._busy.now = False


#: The one of this process.
tally = MatchTally()
