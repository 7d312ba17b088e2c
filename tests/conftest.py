"""What all tests share. The fixture ``telemetry`` comes from the package's own pytest plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.windows import tell_the_rest


@pytest.fixture(autouse=True)
def _nothing_configured() -> Iterator[None]:
    """Leave no test the policy, ledger or redactor of another one, nor refusals that its ledger would be told of."""
    before = defaults.install(None)
    tell_the_rest()
    yield
    defaults.install(before)
