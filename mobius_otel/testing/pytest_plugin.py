"""The pytest fixture ``telemetry``.

pytest imports this module at every start, in every project where the package is installed: so it imports
nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mobius_otel.testing.capture import TelemetryCapture

__all__ = ["telemetry"]


@pytest.fixture
def telemetry() -> Iterator[TelemetryCapture]:
    """The spans, metrics, log records and audit events of this test alone (`mobius_otel.testing.TelemetryCapture`)."""
    from mobius_otel.testing.capture import TelemetryCapture

    with TelemetryCapture() as capture:
        yield capture
