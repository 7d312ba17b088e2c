"""What OpenTelemetry's auto-instrumentation finds under the name ``mobius_otel``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from mobius_otel.instrumentation.frameworks import guard_frameworks

__all__ = ["MobiusInstrumentor"]


class MobiusInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Reaches the frameworks for a guard that is installed by ``configure()`` or a policy file.

    Disabling it (``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``) silences telemetry and never takes the guard
    away: the guard is armed by the hook that runs before any instrumentor.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: every framework is optional."""
        return ()

    def _instrument(self, **_: Any) -> None:
        guard_frameworks()

    def _uninstrument(self, **_: Any) -> None:
        """Leave the guard where it is: nothing that silences telemetry may open a door."""
