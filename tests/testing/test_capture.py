"""The capture gives a test its own telemetry: all of it, nothing else, as it would have been sent."""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanContext, TraceFlags

from mobius_otel import conventions
from mobius_otel.compat import logs_api
from mobius_otel.errors import ConfigurationError
from mobius_otel.telemetry.audit.event import Actor
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.logger import AuditLogger
from mobius_otel.telemetry.safety import swallow
from mobius_otel.testing import TelemetryCapture
from mobius_otel.testing.assertions import find_secret
from tests.testing import handles

SECRET = "correct-horse?battery staple"  # made up


def python(code: str, **environment: str) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("times", [2, 3, 1])
def test_handles_made_at_import_report_exactly_this_test(telemetry: TelemetryCapture, times: int) -> None:
    """What earlier tests counted through the same module-level handles is not seen."""
    handles.use(times)
    assert len(telemetry.spans) == times
    assert len(telemetry.logs) == times
    assert telemetry.metric("raw.count", kind="raw") == times
    assert telemetry.metric("handles.orders", currency="EUR") == times
    assert telemetry.metric("handles.depth") == times - 1
    assert telemetry.metric("handles.duration") == times


def test_asking_twice_gives_the_same_answer(telemetry: TelemetryCapture) -> None:
    """A question collects, and does not use up, what it asks for."""
    handles.orders.add(2, {"currency": "EUR"})
    assert telemetry.metric("handles.orders") == 2
    handles.orders.add(3, {"currency": "EUR"})
    assert [telemetry.metric("handles.orders") for _ in range(3)] == [5, 5, 5]


def test_what_was_never_recorded_is_zero(telemetry: TelemetryCapture) -> None:
    """A gauge that an earlier test set, and a name nobody knows, have no value here."""
    assert telemetry.metric("handles.depth") == 0
    assert telemetry.metric("no.such.metric") == 0
    assert [point for point in telemetry.metrics if point["scope"]["name"] == "handles"] == []


def test_a_misspelled_metric_is_told_with_the_names_there_are(telemetry: TelemetryCapture) -> None:
    """In what pytest shows of `assert telemetry.metric(...) == 1`; the number itself is a 0 like any other."""
    # Gauges of limiters that another test left behind may be among what there is.
    assert repr(telemetry.metric("handles.ordrs")).startswith("0 (no metric 'handles.ordrs' was recorded; ")
    handles.orders.add(2, {"currency": "EUR"})
    for name in ("raw.c.a", "raw.c.b", "raw.c.c", "raw.c.d", "raw.c.e"):
        metrics.get_meter("raw").create_counter(name).add(1)
    with pytest.raises(AssertionError) as caught:
        assert telemetry.metric("handles.ordrs") == 1
    assert "no metric 'handles.ordrs' was recorded; near: 'handles.orders'" in str(caught.value)
    others = repr(telemetry.metric("nothing.of.the.kind"))
    assert others.startswith("0 (no metric 'nothing.of.the.kind' was recorded; there are: 'handles.orders', ")
    assert others.endswith(" more)")
    missing = telemetry.metric("handles.orders", currency="CHF")
    assert repr(missing) == "0 (no series of 'handles.orders' has {'currency': 'CHF'}; there are: {'currency': 'EUR'})"
    assert (missing, f"{missing}", json.dumps(missing), missing + 1, bool(missing)) == (0, "0", "0", 1, False)


def test_metrics_are_selected_by_attributes(telemetry: TelemetryCapture) -> None:
    """A selector that names no attribute sums over all series; a dotted name goes into the dict."""
    handles.orders.add(2, {"currency": "EUR", "http.route": "/a"})
    handles.orders.add(5, {"currency": "USD", "http.route": "/a"})
    assert telemetry.metric("handles.orders") == 7
    assert telemetry.metric("handles.orders", {"http.route": "/a"}, currency="USD") == 5
    assert telemetry.metric("handles.orders", currency="CHF") == 0


def test_a_histogram_tells_count_sum_and_buckets_of_this_test(telemetry: TelemetryCapture) -> None:
    """Collected in between or not, the parts add up, with this test's smallest and largest value."""
    handles.timer.record(0.5)
    assert telemetry.metric("handles.duration") == 1
    handles.timer.record(2.0)
    (point,) = (point for point in telemetry.metrics if point["scope"]["name"] == "handles")
    assert (point["count"], point["sum"], point["min"], point["max"]) == (2, 2.5, 0.5, 2.0)
    assert sum(point["buckets"]) == 2
    assert (point["kind"], point["unit"], point["scope"]) == ("histogram", "s", {"name": "handles", "version": "1"})


def test_threads_are_counted_exactly(telemetry: TelemetryCapture) -> None:
    """Eight threads that report while the test asks lose nothing and add nothing."""
    threads = [threading.Thread(target=handles.use, args=(100,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        telemetry.metric("handles.orders")
    for thread in threads:
        thread.join()
    assert telemetry.metric("handles.orders") == telemetry.metric("raw.count") == 800
    assert len(telemetry.spans) == len(telemetry.logs) == 800


def test_one_span_is_selected_by_name_and_attributes(telemetry: TelemetryCapture) -> None:
    """The span comes as a plain dict with everything an exporter would have sent."""
    other = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))

    def fail() -> None:
        with handles.tracer.start_as_current_span("inner", links=[Link(other, {"a": "b"})]) as span:
            span.set_attribute("roles", ("x", "y"))
            raise KeyError("lost")

    with handles.tracer.start_as_current_span("outer"), pytest.raises(KeyError):
        fail()
    inner, outer = telemetry.span("inner"), telemetry.span("outer")
    assert inner["attributes"] == {"roles": ["x", "y"]}
    assert inner["parent_id"] == outer["span_id"]
    assert inner["trace_id"] == outer["trace_id"]
    assert inner["status"]["code"] == "ERROR"
    assert inner["events"][0]["attributes"]["exception.type"] == "KeyError"
    assert inner["links"] == [{"trace_id": f"{1:032x}", "span_id": f"{2:016x}", "attributes": {"a": "b"}}]
    json.dumps(telemetry.spans)


def test_no_span_or_several_raise_and_show_what_there_was(telemetry: TelemetryCapture) -> None:
    """The error is enough to see what went wrong."""
    with pytest.raises(AssertionError, match="Nothing was captured"):
        telemetry.span("handled")
    handles.use(2)
    with pytest.raises(AssertionError, match=r"0 records match span 'paid'(.|\n)*'handled' \{'number': 0\}"):
        telemetry.span("paid")
    with pytest.raises(AssertionError, match="2 records match span 'handled'"):
        telemetry.span("handled")
    assert telemetry.span("handled", number=1)["attributes"] == {"number": 1}


def test_log_records_are_selected_by_event_name_and_attributes(telemetry: TelemetryCapture) -> None:
    """A record carries its body, its attributes and the span it was emitted in."""
    handles.use(1)
    record = telemetry.log(event_name="handled.event")
    assert record["body"] == "done"
    assert record["span_id"] == telemetry.span("handled")["span_id"]
    assert telemetry.log({"number": 0}) == record
    with pytest.raises(AssertionError, match=r"0 records match log record 'other\.event'"):
        telemetry.log(event_name="other.event")


@dataclass(frozen=True)
class _Kept:
    value: Any
    matches: tuple[Any, ...] = ()


class _NoRedactor:
    """Finds nothing: what it lets through has to be found by the assertion."""

    def redact(self, value: Any, location: str = "audit") -> _Kept:
        return _Kept(value)


@pytest.mark.parametrize("kept", ["ledger", "pipeline"])
def test_audit_records_are_captured_wherever_they_are_kept(
    telemetry: TelemetryCapture, tmp_path: Path, kept: str
) -> None:
    """One that goes to a ledger and one that goes to the log pipeline are told once each, complete."""
    ledger = Ledger(tmp_path / "audit.db") if kept == "ledger" else None
    audit = AuditLogger("payments", redactor=_NoRedactor(), ledger=ledger)
    receipt = audit.record("payment.refund", action="UPDATE", actor=Actor("u-1"), attributes={"note": SECRET})
    audit.record("payment.paid", action="UPDATE", actor=Actor("u-2"))
    record = telemetry.audit("payment.refund")
    assert record["attributes"][conventions.AUDIT_RECORD_ID] == receipt.record_id
    assert telemetry.audit("payment.refund", {"audit.actor.id": "u-1", "audit.outcome": "success"}) == record
    assert len(telemetry.audits) == 2
    assert len(telemetry.logs) == (0 if ledger else 2)
    assert telemetry.metric("mobius.audit.records", {"mobius.audit.result": "recorded"}) == 2
    with pytest.raises(AssertionError, match="0 records match audit record 'payment"):
        telemetry.audit("payment.lost")
    with pytest.raises(AssertionError, match=r"audits\[0\]\.attributes\.note"):
        telemetry.assert_no_secret(SECRET)
    if ledger is not None:
        ledger.close()


def test_records_are_copies(telemetry: TelemetryCapture) -> None:
    """What is changed after the export does not change what was captured: a redactor that comes too late shows."""
    body: dict[str, Any] = {"card": "4111"}
    handles.otel_logger.emit(logs_api.LogRecord(event_name="copied", body=body))
    body["card"] = "[redacted]"
    assert telemetry.log(event_name="copied")["body"] == {"card": "4111"}


def test_a_capture_stays_readable_after_its_block_and_grows_no_more() -> None:
    """The answers are those of the block."""
    with TelemetryCapture() as capture:
        handles.use(2)
    handles.use(3)
    assert capture.metric("handles.orders") == 2
    assert len(capture.spans) == len(capture.logs) == 2
    assert repr(capture) == "TelemetryCapture(closed, 2 spans, 2 logs, 0 audits)"


def test_captures_nest(telemetry: TelemetryCapture) -> None:
    """The outer one sees everything, the inner one its own block."""
    handles.use(1)
    with TelemetryCapture() as inner:
        handles.use(2)
    handles.use(4)
    assert (inner.metric("handles.orders"), telemetry.metric("handles.orders")) == (2, 7)
    assert (len(inner.spans), len(telemetry.spans)) == (2, 7)


def test_a_capture_is_entered_once(telemetry: TelemetryCapture) -> None:
    """Entering it again is an error that says what to do."""
    with pytest.raises(ConfigurationError, match="Make a new one"):
        telemetry.__enter__()


def test_internal_errors_are_raised_while_capturing() -> None:
    """What a service would never see fails the test; afterwards it is swallowed again."""
    with TelemetryCapture(), pytest.raises(ZeroDivisionError):
        swallow("tests", ZeroDivisionError())
    swallow("tests", ZeroDivisionError())


def test_the_global_providers_stay_the_same_objects() -> None:
    """A capture replaces nothing, also from one to the next."""
    with TelemetryCapture():
        before = (trace.get_tracer_provider(), metrics.get_meter_provider(), logs_api.get_logger_provider())
    with TelemetryCapture():
        after = (trace.get_tracer_provider(), metrics.get_meter_provider(), logs_api.get_logger_provider())
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_providers_of_the_host_are_used_and_kept() -> None:
    """Where somebody has installed providers, the capture listens to those, and their exporters go on."""
    said = python("""
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        own, exporter, reader = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
        own.add_span_processor(SimpleSpanProcessor(exporter))
        meters = MeterProvider([reader])
        trace.set_tracer_provider(own)
        metrics.set_meter_provider(meters)
        counter = metrics.get_meter("host").create_counter("host.count")
        counter.add(10)
        from mobius_otel.testing import TelemetryCapture
        for _ in range(2):
            with TelemetryCapture() as telemetry:
                trace.get_tracer("host").start_span("s").end()
                counter.add(2)
            assert len(telemetry.spans) == 1
            assert telemetry.metric("host.count") == 2
        assert trace.get_tracer_provider() is own and metrics.get_meter_provider() is meters
        point = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
        print(len(exporter.get_finished_spans()), point.value)
    """)
    assert said == "2 14"


def test_a_provider_that_cannot_be_listened_to_is_refused_by_name() -> None:
    """A capture that would see nothing does not begin."""
    said = python("""
        from opentelemetry import trace
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        from mobius_otel.testing import TelemetryCapture
        try:
            TelemetryCapture().__enter__()
        except ValueError as error:
            print(error)
    """)
    assert "NoOpTracerProvider" in said
    assert "add_span_processor" in said


def test_providers_that_come_later_are_heard_and_old_handles_too() -> None:
    """A host that resets the globals between tests keeps its module-level handles heard."""
    said = python("""
        from opentelemetry import trace
        from opentelemetry.util._once import Once
        from mobius_otel.testing import TelemetryCapture
        old = trace.get_tracer("old")
        with TelemetryCapture() as first:
            old.start_span("a").end()
        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
        with TelemetryCapture() as second:
            old.start_span("b").end()
            trace.get_tracer("new").start_span("c").end()
        print([s["name"] for s in first.spans], [s["name"] for s in second.spans])
    """)
    assert said == "['a'] ['b', 'c']"


def test_a_sampler_of_the_environment_does_not_empty_a_capture() -> None:
    """The provider that a capture installs keeps every span."""
    said = python(
        """
        from opentelemetry import trace
        from mobius_otel.testing import TelemetryCapture
        with TelemetryCapture() as telemetry:
            trace.get_tracer("t").start_span("kept").end()
        print(telemetry.span("kept")["name"])
        """,
        OTEL_TRACES_SAMPLER="always_off",
    )
    assert said == "kept"


def test_the_plugin_imports_nothing_heavy() -> None:
    """pytest loads the plugin in every project: it costs no more than the package's own import."""
    said = python("""
        import sys, pytest, mobius_otel
        before = set(sys.modules)
        import mobius_otel.testing.pytest_plugin
        heavy = ("opentelemetry.sdk.trace", "opentelemetry.sdk._logs", "opentelemetry.exporter", "opentelemetry.proto",
                 "grpc", "google", "mobius_otel.telemetry.audit", "mobius_otel.testing.taps")
        new = sorted(name for name in set(sys.modules) - before if name.startswith(heavy))
        print(new)
    """)
    assert said == "[]"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"…{SECRET}…",
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"user:" + SECRET.encode() + b"!").decode(),
        base64.urlsafe_b64encode(b"ab" + SECRET.encode()).decode(),
        SECRET.encode().hex(),
        json.dumps({"nested": SECRET}),
    ],
)
def test_a_secret_is_found_however_it_is_written(telemetry: TelemetryCapture, written: str) -> None:
    """Percent-encoded, in Base64 at any offset, in hexadecimal, inside JSON."""
    with handles.tracer.start_as_current_span("leak", attributes={"text": written}):
        pass
    with pytest.raises(AssertionError, match=r"spans\[0\]\.attributes\.text"):
        telemetry.assert_no_secret("something else", SECRET)


def _by_span_name() -> None:
    handles.tracer.start_span(SECRET).end()


def _by_span_event() -> None:
    with handles.tracer.start_as_current_span("s") as span:
        span.add_event("e", {"deep": ["a", SECRET]})


def _by_status() -> None:
    with pytest.raises(ValueError, match="horse"), handles.tracer.start_as_current_span("s"):
        raise ValueError(SECRET)


def _by_log_body() -> None:
    handles.otel_logger.emit(logs_api.LogRecord(body={"inner": [{"x": SECRET}]}))


def _by_attribute_name() -> None:
    handles.otel_logger.emit(logs_api.LogRecord(attributes={SECRET: 1}))


def _by_metric_attribute() -> None:
    handles.orders.add(1, {"who": SECRET})


def _by_logging() -> None:
    handles.plain_logger.warning("who: %s", SECRET)


def _by_logged_exception() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        handles.plain_logger.exception("failed")


def _by_logger_that_keeps_to_itself() -> None:
    logging.getLogger("handles.private").warning("who: %s", SECRET)


logging.getLogger("handles.private").propagate = False


@pytest.mark.parametrize(
    "leak",
    [
        _by_span_name, _by_span_event, _by_status, _by_log_body, _by_attribute_name, _by_metric_attribute, _by_logging,
        _by_logged_exception, _by_logger_that_keeps_to_itself,
    ],
)  # fmt: skip
def test_a_secret_is_found_in_every_signal(telemetry: TelemetryCapture, leak: Any) -> None:
    """Wherever it left the process, the assertion fails, says where, and does not repeat it."""
    leak()
    with pytest.raises(AssertionError) as caught:
        telemetry.assert_no_secret(SECRET)
    assert "secret 1 of 1" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_secret_of_another_test_or_none_is_no_finding(telemetry: TelemetryCapture) -> None:
    """The series that an earlier test left a secret in were not touched here."""
    handles.use(1)
    telemetry.assert_no_secret(SECRET)


@pytest.mark.parametrize("secrets", [(), ("",), ("abc",), (None,), (b"",)])
def test_a_secret_that_cannot_be_looked_for_is_refused(telemetry: TelemetryCapture, secrets: tuple[Any, ...]) -> None:
    """An assertion that could not fail is an error."""
    with pytest.raises(ConfigurationError):
        telemetry.assert_no_secret(*secrets)


def test_finding_secrets_gives_no_false_alarm_over_random_documents() -> None:
    """Ten thousand random texts hold no form of a secret that is not in them."""
    random.seed(7)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/-_ "
    document = ["".join(random.choices(alphabet, k=60)) for _ in range(10_000)]
    assert find_secret("k7-Zq9.wP", document) == []
    document[5000] += base64.b64encode(b"xy" + b"k7-Zq9.wP" + b"zz").decode()
    assert find_secret("k7-Zq9.wP", document) == ["[5000]"]


def test_a_span_ended_in_the_middle_of_a_collection_deadlocks_nobody(telemetry: TelemetryCapture) -> None:
    """A callback that itself traces and asks for another thread's span is heard."""

    def observed() -> list[tuple[float, Mapping[str, Any]]]:
        thread = threading.Thread(target=lambda: handles.tracer.start_span("inside").end())
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        return [(1, {})]

    handles.emitter.observe(f"handles.observed.{id(observed)}", observed)
    assert telemetry.metric(f"handles.observed.{id(observed)}") == 1
    assert telemetry.spans[0]["name"] == "inside"
