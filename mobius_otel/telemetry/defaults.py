"""One slot for what was configured above: the emitter, the redactor, the ledger.

``runtime`` fills it; what stands below and needs it (an ``AuditLogger("x")`` that finds the ledger, a
``metric_timer`` that finds the emitter) looks here. Without a runtime everything in it works all the same:
over OpenTelemetry's global providers, which do nothing until somebody installs an SDK.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from mobius_otel import conventions
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.metrics import Counter, MetricEmitter, Timer

if TYPE_CHECKING:
    from mobius_otel.telemetry.audit.fail_modes import FailModes
    from mobius_otel.telemetry.audit.ledger import Ledger
    from mobius_otel.telemetry.redaction.redactor import Redactor

__all__ = ["SCOPE", "Defaults", "SpanMode", "counter", "emitter", "install", "on_install", "slot", "timer", "version_"]

SpanMode = Literal["auto", "always", "never"]
#: The instrumentation scope of everything the package itself emits.
SCOPE = "mobius_otel"


def _version() -> str:
    try:
        return version("mobius_otel")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0"


version_ = _version()


@dataclass(slots=True)
class Defaults:
    """What ``configure()`` decided, for whoever stands below it.

    Args:
        emitter: The emitter of the package and of ``metric_timer``.
        redactor: What every record passes; None: the default policy (``redaction.configured_redactor()``).
        ledger: Where audit records go; None: straight to the log pipeline.
        fail_mode: What an ``AuditLogger`` without its own does when a record cannot be kept.
        fail_modes: The same by event name and risk.
        severity: Whether an ``AuditLogger`` without its own gives records a severity.
        spans: When decisions get spans of their own.
        ended: Where the ledger is of a runtime that was shut down, while there is no other: nobody may believe that
            what comes now is kept.
        ended_said: Whether that was said.
    """

    emitter: MetricEmitter = field(default_factory=lambda: MetricEmitter(SCOPE, version=version_))
    redactor: Redactor | None = None
    ledger: Ledger | None = None
    fail_mode: Literal["strict", "spool", "best_effort"] = "spool"
    fail_modes: FailModes | None = None
    severity: Literal["risk", "omit"] = "risk"
    spans: SpanMode = "auto"
    ended: str = ""
    ended_said: bool = False


#: A signal handler or a finalizer may ask in the middle of who asks here: in the same thread, which must not wait.
_lock = threading.RLock()
_slot: Defaults | None = None
_watching: weakref.WeakSet[Any] = weakref.WeakSet()


class _Renewal:
    """Gives a forked child a lock that no thread of its parent holds."""

    def _after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.RLock()


_renewal = _Renewal()
on_fork(_renewal)


def slot() -> Defaults:
    """Return what is configured now."""
    global _slot
    current = _slot
    if current is None:
        made = Defaults()  # takes its time: whoever asks meanwhile makes others, and one is kept
        with _lock:
            if _slot is None:
                _slot = made
            current = _slot
    return current


def install(defaults: Defaults | None) -> Defaults | None:
    """Put `defaults` in the slot (None: the built-in ones) and return what was there."""
    global _slot
    with _lock:
        before, _slot = _slot, defaults
        watching = list(_watching)
    for obj in watching:
        obj._defaults_changed()
    return before


def on_install(obj: Any) -> None:
    """Call ``obj._defaults_changed()`` whenever something else has been put in the slot, for as long as `obj` lives.

    For who would otherwise have to look at every call.
    """
    with _lock:
        _watching.add(obj)


def emitter() -> MetricEmitter:
    """Return the default emitter."""
    return slot().emitter


def counter(spec: conventions.Metric) -> Counter:
    """Return the default emitter's counter for a metric of the registry."""
    return slot().emitter.counter(spec.name, unit=spec.unit, description=spec.meaning)


def timer(spec: conventions.Metric) -> Timer:
    """Return the default emitter's timer for a histogram of the registry."""
    return slot().emitter.timer(
        spec.name, description=spec.meaning, buckets=spec.boundaries or conventions.FAST_SECONDS
    )
