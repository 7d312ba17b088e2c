"""Redaction of baggage before it leaves in the headers of outgoing requests.

Baggage is what one service tells all that it calls, and they all that they call. Inside the process it stays as
it is; only what a propagator injects is redacted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import CarrierT, Setter, TextMapPropagator, default_setter

from mobius_otel.telemetry.redaction.cover import Cover, RedactorGetter
from mobius_otel.telemetry.redaction.redactor import Redactor, configured_redactor
from mobius_otel.telemetry.redaction.tally import tally

__all__ = ["RedactingBaggagePropagator", "cover_baggage", "uncover_baggage"]

_cover = Cover()


def _clean(context: Context | None, redactor: Redactor) -> Context | None:
    """Return a context whose baggage holds no secrets; where it cannot be read, one without baggage."""
    try:
        before = dict(baggage.get_all(context))
        if not before:
            return context
        after = redactor.redact(before, "baggage").value
        if after is before:
            return context
        clean = baggage.clear(context)
        for name, value in after.items():
            clean = baggage.set_baggage(name, value, clean)
    except Exception:
        tally.add(["unreadable"], "baggage")
        return baggage.clear(context)
    return clean


class RedactingBaggagePropagator(W3CBaggagePropagator):
    """The W3C propagator of baggage, without the secrets in it.

    Found as ``mobius_redact`` among the propagators: ``OTEL_PROPAGATORS=tracecontext,mobius_redact``.

    Args:
        redactor: What redacts; None: the configured one.
    """

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the baggage into a carrier, without its secrets."""
        super().inject(carrier, _clean(context, self._redactor or configured_redactor()), setter)


def _wrap_inject(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def inject(self: Any, carrier: Any, context: Context | None = None, *args: Any, **kwargs: Any) -> None:
        if _cover.getter is not None:
            context = _clean(context, _cover.redactor())
        original(self, carrier, context, *args, **kwargs)

    return inject


def cover_baggage(redactor_getter: RedactorGetter) -> None:
    """Redact the baggage that any propagator of this process injects, whichever form it writes it in.

    Not covered: a propagator that is no subclass of OpenTelemetry's ``TextMapPropagator``.

    Args:
        redactor_getter: Returns the redactor; asked at every injection, so that a new policy holds at once.
    """
    _cover.put_on(redactor_getter, {(TextMapPropagator, "inject"): _wrap_inject})


def uncover_baggage() -> None:
    """Take back what :func:`cover_baggage` did."""
    _cover.take_off()
