"""Redaction of what one service tells the next in its headers."""

import pytest
from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

from mobius_otel.telemetry.redaction import (
    RedactingBaggagePropagator,
    RedactionPolicy,
    Redactor,
    cover_baggage,
    uncover_baggage,
)
from mobius_otel.telemetry.redaction.tally import tally
from tests.telemetry.redaction.secrets_kit import CANARY


class Own(TextMapPropagator):
    """Writes one header for each entry, as some do; made before anything is covered."""

    def extract(self, carrier, context=None, getter=None):
        return context

    def inject(self, carrier, context=None, setter=None):
        carrier.update({f"x-{name}": str(value) for name, value in baggage.get_all(context).items()})

    @property
    def fields(self):
        return set()


class Unreadable:
    """Cannot be shown."""

    def __str__(self):
        raise ValueError(CANARY)


@pytest.fixture
def covered():
    """Every propagator, covered for one test."""
    cover_baggage(Redactor)
    yield
    uncover_baggage()


def entries(**values):
    context = None
    for name, value in values.items():
        context = baggage.set_baggage(name, value, context)
    return context


def injected(propagator, context):
    headers = {}
    propagator.inject(headers, context)
    return headers


@pytest.mark.parametrize("propagator", [W3CBaggagePropagator(), Own(), CompositePropagator([Own()])])
def test_every_form_of_baggage_is_redacted(covered, propagator):
    """By name and by what a text says, for one propagator or several."""
    context = entries(password=CANARY, note=f"kept token={CANARY}", tenant="acme")
    headers = str(injected(propagator, context))
    assert CANARY not in headers
    assert "acme" in headers
    assert "kept" in headers
    assert baggage.get_baggage("password", context) == CANARY  # inside of the process it is what it was


def test_the_global_propagator_is_covered(covered):
    """What instrumentations of HTTP clients call."""
    headers = {}
    propagate.inject(headers, entries(password=CANARY, tenant="acme"))
    assert headers["baggage"] == "password=%5Bredacted%3Apassword%5D,tenant=acme"


def test_a_propagator_defined_later_is_covered(covered):
    """By its class."""

    class Later(Own):
        def inject(self, carrier, context=None, setter=None):
            super().inject(carrier, context)
            carrier["more"] = str(baggage.get_baggage("password", context))

    assert injected(Later(), entries(password=CANARY)) == {
        "x-password": "[redacted:password]", "more": "[redacted:password]"
    }  # fmt: skip


def test_clean_baggage_is_passed_as_it_is(covered):
    """The same context, and the entries in their order."""
    seen = []

    class Looks(Own):
        def inject(self, carrier, context=None, setter=None):
            seen.append(context)

    context = entries(tenant="acme", region="eu")
    injected(Looks(), context)
    injected(Looks(), None)
    assert seen == [context, None]
    assert seen[0] is context


def test_a_value_that_cannot_be_read_is_blanked(covered):
    """The others arrive, and the caller sees no exception."""
    headers = injected(W3CBaggagePropagator(), entries(note=Unreadable(), tenant="acme"))
    assert headers["baggage"] == "note=%5Bredacted%3Aunreadable%5D,tenant=acme"


def test_baggage_that_cannot_be_read_at_all_stays_here(covered, monkeypatch):
    """None rather than all of it, and it is counted."""
    counted = []
    monkeypatch.setattr(type(tally), "add", lambda _, kinds, location: counted.append((list(kinds), location)))
    monkeypatch.setattr(Redactor, "redact", lambda *_: 1 / 0)
    assert injected(W3CBaggagePropagator(), entries(password=CANARY)) == {}
    assert counted == [(["unreadable"], "baggage")]


def test_a_propagator_of_its_own_redacts_by_the_policy_it_is_given():
    """Without covering anything."""
    propagator = RedactingBaggagePropagator(Redactor(RedactionPolicy(names=("badge",))))
    assert injected(propagator, entries(badge=CANARY)) == {"baggage": "badge=%5Bredacted%3Aname%5D"}
    assert "acme" in str(propagator.extract({"baggage": "tenant=acme"}))


def test_covering_can_be_taken_back():
    """Afterwards every class is what it was."""
    before = W3CBaggagePropagator.inject
    cover_baggage(Redactor)
    assert W3CBaggagePropagator.inject is not before
    uncover_baggage()
    assert W3CBaggagePropagator.inject is before
    assert "__init_subclass__" not in TextMapPropagator.__dict__
