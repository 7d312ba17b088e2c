"""Telemetry never breaks its host, and a span is made where it is worth its cost."""

import logging
import signal
import time

import pytest
from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.telemetry import defaults, safety, spans


@pytest.fixture
def in_production():
    """Internal errors are swallowed, as in production."""
    before = safety.raise_errors(False)
    safety._seen.clear()
    yield
    safety.raise_errors(before)


def test_an_error_is_swallowed_counted_and_logged_once(telemetry, in_production, caplog):
    """WARNING first, then DEBUG; the text of the error is in neither."""
    with caplog.at_level(logging.DEBUG, "mobius_otel"):
        for _ in range(3):
            with safety.guarded("exporter"):
                raise ValueError("password=hunter2secret")
    levels = [record.levelname for record in caplog.records if "exporter failed" in record.getMessage()]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]
    assert "hunter2" not in caplog.text
    assert telemetry.metric("mobius.internal.errors", {"mobius.component": "exporter", "error.type": "ValueError"}) == 3


def test_what_is_no_error_goes_on(in_production):
    """A request to stop is nobody's telemetry."""
    with pytest.raises(KeyboardInterrupt), safety.guarded("x"):
        raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
@pytest.mark.parametrize("handler", ["named", "starred", "method"])
def test_what_a_signal_handler_raises_goes_on(in_production, handler):
    """A time limit of the service's is no error of what it came upon, here or deep inside."""

    def named(number, frame):
        deeper()

    def starred(*_):
        deeper()

    def deeper():
        raise TimeoutError

    class Limit:
        def method(self, number, frame):
            raise TimeoutError

    def work(first, second):
        for _ in range(100):
            signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, {"named": named, "starred": starred, "method": Limit().method}[handler])
    try:
        with pytest.raises(TimeoutError), safety.guarded("x"):
            work(1, 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with safety.guarded("x"):
        deeper()


def test_tests_see_what_production_swallows(telemetry):
    """Under the capture an internal error is raised."""
    with pytest.raises(ValueError, match="bad"), safety.guarded("x"):
        raise ValueError("bad")


def report(**more):
    now = time.time_ns()
    attributes = {conventions.RATE_LIMIT_RESULT: "allowed", conventions.RATE_LIMIT_RETRY_AFTER: None}
    spans.report(conventions.RATE_LIMIT_ACQUIRE, attributes, start_ns=now - 1000, end_ns=now, **more)


@pytest.mark.parametrize(
    ("mode", "notable", "inside", "children", "annotated"),
    [
        ("auto", False, True, 0, True),
        ("auto", True, True, 1, False),
        ("auto", True, False, 0, False),
        ("auto", False, False, 0, False),
        ("always", False, False, 1, False),
        ("always", False, True, 1, False),
        ("never", True, True, 0, False),
    ],
)
def test_a_decision_gets_a_span_when_it_is_worth_one(telemetry, mode, notable, inside, children, annotated):
    """The table of the design, row by row."""
    before = defaults.install(defaults.Defaults(spans=mode))
    try:
        if inside:
            with trace.get_tracer("test").start_as_current_span("server"):
                report(notable=notable)
        else:
            report(notable=notable)
    finally:
        defaults.install(before)
    made = [span for span in telemetry.spans if span["name"] == "rate_limit.acquire"]
    assert len(made) == children
    if inside:
        server = telemetry.span("server")
        assert (conventions.RATE_LIMIT_RESULT in server["attributes"]) is annotated
        assert conventions.RATE_LIMIT_RETRY_AFTER not in server["attributes"]


def test_an_exception_marks_the_span_without_its_text(telemetry):
    """error.type and the status, and nothing that may quote a secret."""
    with pytest.raises(ValueError, match="hunter2"), spans.started(conventions.API_KEY_ROTATE):
        raise ValueError("hunter2secret")
    span = telemetry.span("api_key.rotate")
    assert span["attributes"]["error.type"] == "ValueError"
    telemetry.assert_no_secret("hunter2secret")
