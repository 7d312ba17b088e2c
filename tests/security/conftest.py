"""A package that is configured for one test: metrics in memory, audit records in a ledger."""

from __future__ import annotations

import contextlib

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Ledger
from mobius_otel.telemetry.memory import InMemoryMetricsBackend
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.redaction import RedactionResult, Redactor


class Blind(Redactor):
    """A redactor that finds nothing, so that what reaches it can be looked at."""

    def redact(self, value, location="audit", tenant=""):
        return RedactionResult(value)

    def text(self, text, location="other"):
        return text


class Told:
    """What was told to telemetry."""

    def __init__(self, path, fail_mode="spool"):
        self.metrics = InMemoryMetricsBackend()
        self.ledger = Ledger(path)
        self.slot = defaults.Defaults(
            emitter=MetricEmitter("mobius_otel", backend=self.metrics),
            redactor=Blind(),
            ledger=self.ledger,
            fail_mode=fail_mode,
        )

    def lose_the_ledger(self):
        """Put a folder in the ledger's place, so that it can neither be written nor made anew."""
        self.ledger.path.unlink()
        self.ledger.path.mkdir()

    def events(self, name=None):
        """The attributes of the audit records, oldest first."""
        records = [entry.record() for entry in self.ledger.records()]
        return [record["attributes"] for record in records if name in {None, record["event_name"]}]

    def text(self):
        """Everything in the ledger as one text."""
        return repr([entry.record() for entry in self.ledger.records()])


@pytest.fixture
def told(tmp_path):
    """Telemetry of this test alone."""
    told = Told(tmp_path / "audit.db")
    before = defaults.install(told.slot)
    yield told
    defaults.install(before)
    with contextlib.suppress(Exception):  # a test may have lost it
        told.ledger.close()


@pytest.fixture
def clock():
    """A clock that moves when it is told to."""
    return FrozenClock()
