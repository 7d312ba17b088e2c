"""A secret of its own for every place that telemetry has, said through OpenTelemetry's API alone.

``python -m tests.services.canary URL`` says them through the global providers, whoever made them, in a process that
knows nothing of this package. URL is where the outgoing request goes.
"""

from __future__ import annotations

import logging
import sys
import urllib.request

from opentelemetry import _logs, baggage, context, metrics, propagate, trace
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

SPANS = ("name", "attribute", "link", "event", "event_attribute", "exception", "status", "scope", "resource")
LOGS = ("body", "body_attribute", "log_attribute", "log_event", "log_exception", "log_scope")
METRICS = ("metric", "exemplar", "meter_scope")
OUTPUT = ("logging", "exception")
HEADERS = ("baggage", "baggage_text")


def secret(place: str) -> str:
    """Return the secret of a place: nothing but its name or the word before it tells that it is one."""
    return f"zQ7{place.replace('_', '')}9Xk"


def kept(place: str) -> str:
    """Return what stands beside the secret and is none: it tells that the place was reached."""
    return f"kept-{place}"


def said(place: str) -> str:
    """Return a text with the secret of a place."""
    return f"{kept(place)} token={secret(place)}"


def named(place: str) -> dict[str, str]:
    """Return attributes with the secret of a place."""
    return {"password": secret(place), "beside": kept(place)}


class Canary:
    """Says everything, through three providers.

    Args:
        tracers: Makes the tracer.
        loggers: Makes the logger.
        meters: Makes the meter.
    """

    def __init__(self, tracers, loggers, meters) -> None:
        self.tracer = tracers.get_tracer("scope", attributes=named("scope"))
        self.logger = loggers.get_logger("scope", attributes=named("log_scope"))
        meter = meters.get_meter("scope", attributes=named("meter_scope"))
        self.counter, self.histogram = meter.create_counter("plain"), meter.create_histogram("viewed")

    def sing(self, url: str) -> None:
        """Say everything, in one span."""
        link = Link(SpanContext(1, 2, True, TraceFlags(1)), named("link"))
        with self.tracer.start_as_current_span(said("name"), links=[link], attributes=named("attribute")) as span:
            self.counter.add(1, named("metric"))
            self.histogram.record(1, {"password": secret("exemplar"), "exemplar": kept("exemplar"), "beside": "x"})
            span.add_event(said("event"), named("event_attribute"))
            self.call(url)
            self.log()
            try:
                raise ValueError(said("exception"))
            except ValueError as error:
                span.record_exception(error)
                logging.getLogger("shop").exception("%s", said("logging"))
            span.set_status(StatusCode.ERROR, said("status"))

    def log(self) -> None:
        """Say what a log record has."""
        body = {"text": said("body"), **named("body_attribute")}
        try:
            raise ValueError(said("log_exception"))
        except ValueError as error:
            self.logger.emit(
                body=body, attributes=named("log_attribute"), event_name=said("log_event"), exception=error
            )

    def call(self, url: str) -> None:
        """Ask another server, with baggage."""
        outgoing = baggage.set_baggage("session.token", secret("baggage"))
        outgoing = baggage.set_baggage("note", said("baggage_text"), outgoing)
        headers: dict[str, str] = {}
        token = context.attach(outgoing)
        try:
            propagate.inject(headers)
        finally:
            context.detach(token)
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10).close()


def main(url: str) -> None:
    """Do it once, through the global providers."""
    providers = trace.get_tracer_provider(), _logs.get_logger_provider(), metrics.get_meter_provider()
    Canary(*providers).sing(url)
    for provider in providers:
        provider.force_flush()


if __name__ == "__main__":
    main(sys.argv[1])
