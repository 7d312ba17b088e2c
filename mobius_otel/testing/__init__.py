"""For tests: what a piece of code told telemetry, as plain dicts (the pytest fixture ``telemetry``), and kits.

pytest imports this at every start, for the sake of the fixture's plugin: so a name is looked up when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobius_otel.testing.capture import TelemetryCapture
    from mobius_otel.testing.kits import KeyStoreKit, LimiterBackendKit

__all__ = ["KeyStoreKit", "LimiterBackendKit", "TelemetryCapture"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'kits' if name.endswith('Kit') else 'capture'}")
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
