"""What a limiter tells, and what it does when its backend is gone."""

import asyncio
import logging

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mobius_otel.security import RateLimiter
from mobius_otel.security.rate_limit.backends import MemoryBackend
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter

POLICY = "mobius.rate_limit.policy"


def test_each_result_is_counted(told, clock):
    """By policy and result, and by nothing else."""
    limiter = RateLimiter("2/minute", name="api", clock=clock)
    for _ in range(5):
        limiter.acquire("203.0.113.9")
    name, result = "mobius.rate_limit.requests", "mobius.rate_limit.result"
    assert told.metrics.value(name, {POLICY: "api", result: "allowed"}) == 2
    assert told.metrics.value(name, {POLICY: "api", result: "denied"}) == 3
    assert {frozenset(point.attributes) for point in told.metrics.series(name)} == {frozenset({POLICY, result})}


def test_gauges_tell_saturation_and_tracked_keys(told, clock):
    """Saturation is the highest since the last collection; two limiters of one process share the gauge."""
    api, other = RateLimiter("10/minute", name="api", clock=clock), RateLimiter("4/minute", name="other", clock=clock)
    api.acquire("a", 5), api.acquire("b", 2), other.acquire("a")
    backend = told.metrics
    assert backend.value("mobius.rate_limit.saturation", {POLICY: "api"}) == 0.5
    assert backend.value("mobius.rate_limit.saturation", {POLICY: "api"}) == 0
    assert backend.value("mobius.rate_limit.tracked_keys", {POLICY: "api"}) == 2
    assert backend.value("mobius.rate_limit.tracked_keys", {POLICY: "other"}) == 1
    api.acquire("a", 9)
    assert backend.value("mobius.rate_limit.saturation", {POLICY: "api"}) == 0.5


def test_a_limiter_finds_the_emitter_that_is_configured_later(told, clock):
    """It is made at import, long before."""
    limiter = RateLimiter("2/minute", name="early", clock=clock)
    later = InMemoryMetricsBackend()
    defaults.install(defaults.Defaults(emitter=MetricEmitter("mobius_otel", backend=later)))
    limiter.acquire("k")
    assert later.value("mobius.rate_limit.requests", {POLICY: "early"}) == 1
    assert later.value("mobius.rate_limit.tracked_keys", {POLICY: "early"}) == 1


def test_a_flood_of_denials_is_two_records_that_name_the_most_denied_without_their_keys(told, clock):
    """The first at once, the others of the window when it is over, whoever was denied; and none for peace."""
    limiter = RateLimiter("1/minute", name="api", clock=clock)
    for key, often in (("203.0.113.9", 50), ("203.0.113.10", 20)):
        for _ in range(often):
            limiter.acquire(key)
    first = told.events("rate_limit.exceeded")
    assert [event["mobius.count"] for event in first] == [1]
    clock.advance(60)
    told.metrics.value("mobius.rate_limit.tracked_keys", {POLICY: "api"})  # a collection notices the window's end
    _, rest = told.events("rate_limit.exceeded")
    assert (rest["mobius.count"], rest["mobius.rate_limit.limit"]) == (67, 1)
    assert rest["audit.actor.id"] == first[0]["audit.actor.id"]
    assert [entry.rpartition("=")[2] for entry in rest["mobius.rate_limit.top"]] == ["49", "19"]
    assert limiter.top(1) == [(first[0]["audit.actor.id"], 49)]
    assert "203.0.113" not in told.text() + repr(limiter.top())
    clock.advance(60)
    limiter.flush()
    assert len(told.events()) == 2


def test_audit_can_be_switched_off(told, clock):
    """For limiters whose denials mean nothing."""
    limiter = RateLimiter("1/minute", clock=clock, audit=False)
    limiter.acquire("k"), limiter.acquire("k")
    assert told.events() == []


@pytest.fixture
def tracing(monkeypatch):
    """A tracer provider of this test alone."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("mobius_otel.telemetry.spans._tracer", lambda: provider.get_tracer("mobius_otel"))
    return provider.get_tracer("shop"), exporter


def test_an_allowed_decision_annotates_and_a_denied_one_gets_a_span(told, clock, tracing):
    """Inside a recording span; the key is in neither."""
    tracer, exporter = tracing
    limiter = RateLimiter("1/minute", name="api", clock=clock)
    with tracer.start_as_current_span("request"):
        limiter.acquire("203.0.113.9")
        limiter.acquire("203.0.113.9")
    denied, request = exporter.get_finished_spans()
    assert request.attributes[POLICY] == "api"
    assert denied.name == "rate_limit.acquire"
    assert denied.attributes["mobius.rate_limit.result"] == "denied"
    assert denied.attributes["mobius.rate_limit.retry_after"] == 60.0
    assert "203.0.113.9" not in denied.to_json() + request.to_json()


def test_without_a_recording_span_there_is_none(told, clock, tracing):
    """Not even for a denial."""
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k"), limiter.acquire("k")
    assert tracing[1].get_finished_spans() == ()


@pytest.mark.parametrize("ask", ["allow", "acquire"])
def test_yes_or_no_tells_a_span_as_much_as_a_decision_does(told, clock, tracing, ask):
    """The quick way is for where nobody listens."""
    tracer, exporter = tracing
    limiter = RateLimiter("1/minute", name="api", clock=clock)
    with tracer.start_as_current_span("request"):
        getattr(limiter, ask)("k"), getattr(limiter, ask)("k")
    denied, request = exporter.get_finished_spans()
    assert (request.attributes[POLICY], denied.attributes["mobius.rate_limit.result"]) == ("api", "denied")


@pytest.mark.parametrize(("spans", "made"), [("always", 4), ("never", 0), ("auto", 0)])
def test_spans_as_the_mode_says_where_none_is_around(told, clock, tracing, spans, made):
    """For both ways to ask, allowed and denied; a limiter learns of a mode that is configured later."""
    limiter = RateLimiter("1/minute", clock=clock)
    told.slot.spans = spans
    defaults.install(told.slot)
    for key in ("a", "b"):
        limiter.allow(key), limiter.acquire(key)
    assert len(tracing[1].get_finished_spans()) == made
    assert told.metrics.value("mobius.rate_limit.requests") == 4


def test_a_context_without_a_span_changes_no_number(told, clock):
    """Baggage alone makes nobody listen."""
    limiter = RateLimiter("2/minute", name="api", clock=clock)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        assert [limiter.allow("k") for _ in range(3)] == [True, True, False]
    finally:
        context.detach(token)
    assert told.metrics.value("mobius.rate_limit.requests", {"mobius.rate_limit.result": "denied"}) == 1
    assert len(told.events("rate_limit.exceeded")) == 1


class Remote:
    """A backend that can be cut off."""

    source = "remote"
    capabilities = MemoryBackend.capabilities
    gone = False

    def counts(self, spec):
        self._counts = MemoryBackend().counts(spec)
        self.reset, self.saturation = self._counts.reset, self._counts.saturation
        return self

    def take(self, key, cost):
        return self._asked(self._counts.take, key, cost)

    def peek(self, key, cost):
        return self._asked(self._counts.peek, key, cost)

    def _asked(self, method, *args):
        if self.gone:
            raise ConnectionError("redis://user:hunter2@cache is gone")
        return (*method(*args)[:6], "remote")

    def __len__(self):
        return len(self._counts)


def test_a_lost_backend_is_replaced_by_exact_local_counts(told, clock, caplog):
    """Said once when it is lost and once when it is back."""
    caplog.set_level(logging.WARNING, "mobius_otel")
    backend = Remote()
    limiter = RateLimiter("2/minute", name="fleet", backend=backend, clock=clock)
    assert limiter.acquire("k").source == "remote"
    backend.gone = True
    assert [(d.allowed, d.source) for d in (limiter.acquire("k") for _ in range(3))] == [
        (True, "fallback"),
        (True, "fallback"),
        (False, "fallback"),
    ]
    assert told.metrics.value("mobius.rate_limit.degraded", {POLICY: "fleet"}) == 1
    backend.gone = False
    assert limiter.acquire("k").source == "remote"
    assert told.metrics.value("mobius.rate_limit.degraded", {POLICY: "fleet"}) == 0
    assert len([r for r in caplog.records if "fleet" in r.getMessage()]) == 2
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(("policy", "allowed"), [("open", True), ("closed", False)])
def test_open_lets_everybody_in_and_closed_nobody(told, clock, policy, allowed):
    """And each of them is counted as an error."""
    backend = Remote()
    limiter = RateLimiter("2/minute", name="fleet", backend=backend, on_backend_error=policy, clock=clock)
    backend.gone = True
    assert [limiter.acquire("k").allowed for _ in range(3)] == [allowed] * 3
    assert limiter.peek("k").allowed == allowed
    assert told.metrics.value("mobius.rate_limit.requests", {"mobius.rate_limit.result": "error"}) == 3


def test_broken_telemetry_never_breaks_a_decision(told, clock):
    """A ledger that is closed and an exporter that raises cost records and nothing else."""

    class Broken:
        def redact(self, value, location="audit"):
            raise RuntimeError

    told.slot.redactor = Broken()
    told.slot.ledger = object()
    limiter = RateLimiter("1/minute", clock=clock)
    assert limiter.allow("k")
    assert not limiter.allow("k")


def test_a_strict_ledger_that_is_gone_leaves_a_denial_a_denial(told, clock):
    """Strict keeps actions from happening; a denial lets nothing happen."""
    told.slot.fail_mode = "strict"
    told.lose_the_ledger()
    limiter = RateLimiter("1/minute", clock=clock)
    limiter.acquire("k")
    assert not limiter.acquire("k")


def test_waiting_asks_a_server_as_everybody_does(told, clock):
    """By threads and tasks; what the server's loss says ends the wait."""
    backend = Remote()
    limiter = RateLimiter("1/minute", name="fleet", backend=backend, on_backend_error="closed", clock=clock)
    assert limiter.wait("k").source == "remote"
    assert not limiter.wait("k", timeout=59).allowed
    assert asyncio.run(limiter.wait_async("other")).allowed
    clock.advance(60)
    assert asyncio.run(limiter.wait_async("k", timeout=0)).allowed
    backend.gone = True
    assert not asyncio.run(limiter.wait_async("k", timeout=0.5)).allowed
    name, result = "mobius.rate_limit.requests", "mobius.rate_limit.result"
    assert [told.metrics.value(name, {result: each}) for each in ("allowed", "denied", "error")] == [3, 1, 1]
