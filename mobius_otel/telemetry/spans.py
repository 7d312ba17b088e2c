"""Spans, when they are worth their cost.

A recorded span costs about 25 times a decision. With ``spans="auto"`` a local, allowed decision therefore
only sets attributes on the span that is recording already; inside a recording span a refusal, and whatever
asked a store or a server, gets a child span; with none around, only what talks to a server or changes a key
gets one of its own. Without a recording SDK nothing is done at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.telemetry.defaults import SCOPE, slot, version_
from mobius_otel.telemetry.safety import guarded

__all__ = ["annotate", "report", "started"]

_NONE = trace.INVALID_SPAN
#: Tracers that record nothing: nobody has installed a provider, or one that is off.
_SILENT = (trace.ProxyTracer, trace.NoOpTracer)


_known: tuple[trace.TracerProvider, trace.Tracer] | None = None


def _tracer() -> trace.Tracer:
    """Return the tracer of the provider that is installed now; to get one takes as long as to start a span."""
    global _known
    provider, known = trace.get_tracer_provider(), _known
    if known is None or known[0] is not provider:
        known = _known = (provider, provider.get_tracer(SCOPE, version_))
    return known[1]


def annotate(attributes: Mapping[str, Any]) -> bool:
    """Set `attributes` on the current span; return whether one is recording."""
    span = trace.get_current_span()
    if not span.is_recording():
        return False
    with guarded("spans"):
        span.set_attributes({k: v for k, v in attributes.items() if v is not None})
    return True


def report(
    spec: conventions.Span,
    attributes: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    *,
    start_ns: int,
    end_ns: int,
    notable: bool,
    alone: bool = False,
    error_type: str | None = None,
) -> None:
    """Tell of a decision that has been taken, as attributes of the current span or as a child of it.

    Args:
        spec: The span of the registry.
        attributes: What was decided, or a function that says it, which is called where somebody listens; None
            values are left out.
        start_ns: When the decision began, in nanoseconds since the epoch.
        end_ns: When it ended.
        notable: Whether it was refused, or asked a store or a server.
        alone: Whether it gets a span where none is around, too.
        error_type: The class of what went wrong, where something did.
    """
    mode = slot().spans
    if mode == "never":
        return
    recording = trace.get_current_span().is_recording()
    if mode == "auto" and not (alone or (notable and recording)):
        if recording:
            annotate(attributes() if callable(attributes) else attributes)
        return
    tracer = _tracer()
    if type(tracer) in _SILENT:
        return
    with guarded("spans"):
        known = attributes() if callable(attributes) else attributes
        if error_type is not None:
            known = {**known, conventions.ERROR_TYPE: error_type}
        if None in known.values():
            known = {name: value for name, value in known.items() if value is not None}
        span = tracer.start_span(spec.name, attributes=known, start_time=start_ns)
        if error_type is not None:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_ns)


@contextlib.contextmanager
def started(spec: conventions.Span, attributes: Mapping[str, Any] | None = None) -> Iterator[trace.Span]:
    """Run a block inside a span of its own, for what changes a key or talks to a server.

    An exception sets ``error.type`` and the status, without its text, and goes on.

    Args:
        spec: The span of the registry.
        attributes: The span's first attributes.
    """
    mode = slot().spans
    if mode == "never" or (mode == "auto" and not spec.always and not trace.get_current_span().is_recording()):
        yield _NONE
        return
    with _tracer().start_as_current_span(
        spec.name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute(conventions.ERROR_TYPE, type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            raise
