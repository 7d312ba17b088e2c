"""Gauges that several live objects share: one instrument for each emitter, asked about all of them.

OpenTelemetry has one instrument of a name and scope, but a process may hold many limiters and key managers.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mobius_otel.conventions import Metric
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.metrics import MetricEmitter

__all__ = ["leave", "observe_together"]

Observation = tuple[float, Mapping[str, Any]]


class _Groups:
    """Who is asked, by emitter and metric; nobody is kept alive by it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: weakref.WeakKeyDictionary[MetricEmitter, dict[str, weakref.WeakSet[Any]]] = (
            weakref.WeakKeyDictionary()
        )
        on_fork(self)

    def join(
        self, emitter: MetricEmitter, spec: Metric, member: Any, read: Callable[[list[Any]], Iterable[Observation]]
    ) -> None:
        with self._lock:
            metrics = self._members.setdefault(emitter, {})
            group = metrics.get(spec.name)
            if group is None:
                group = metrics[spec.name] = weakref.WeakSet()
                members = group
                emitter.observe(spec.name, lambda: read(list(members)), spec.unit, spec.meaning)
            group.add(member)

    def leave(self, emitter: MetricEmitter, member: Any) -> None:
        with self._lock:
            for group in self._members.get(emitter, {}).values():
                group.discard(member)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


_groups = _Groups()


def observe_together(
    emitter: MetricEmitter, spec: Metric, member: Any, read: Callable[[list[Any]], Iterable[Observation]]
) -> None:
    """Let `member` be asked whenever the gauge `spec` of `emitter` is collected.

    Args:
        emitter: Who reports the gauge.
        spec: The gauge of the registry.
        member: An object that can be weakly referenced; it leaves when it is no longer used.
        read: Given every live member, returns pairs of a value and its attributes. The first one given for
            an emitter and metric stays.

    Raises:
        ConfigurationError: The emitter has another instrument of this name.
    """
    _groups.join(emitter, spec, member, read)


def leave(emitter: MetricEmitter, member: Any) -> None:
    """Ask `member` for no gauge of `emitter` any more.

    Two emitters of one scope are collected together: who is asked for both, and begins anew each time, tells nothing.
    """
    _groups.leave(emitter, member)
