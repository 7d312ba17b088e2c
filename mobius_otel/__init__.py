"""Security observability for Python services over OpenTelemetry.

API keys, rate limits, audit events and metrics: one policy, one vocabulary, every OpenTelemetry backend.

The names below are loaded when they are first used (PEP 562), so that ``import mobius_otel`` costs next to
nothing and imports no optional package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobius_otel.clock import FrozenClock
    from mobius_otel.errors import (
        ApiKeyError,
        AuditUnavailable,
        ConfigurationError,
        InsufficientScope,
        InvalidApiKey,
        InvalidEvent,
        KeyNotFound,
        KeyStoreUnavailable,
        KeyThrottled,
        MissingExtra,
        MobiusError,
        PolicyError,
        RotationConflict,
    )
    from mobius_otel.runtime import Runtime, configure
    from mobius_otel.security import (
        ApiKey,
        ApiKeyManager,
        Decision,
        IssuedKey,
        KeyRotator,
        KeyState,
        RateLimit,
        RateLimiter,
        RateLimitExceeded,
    )
    from mobius_otel.telemetry import (
        Actor,
        AuditEvent,
        AuditHandler,
        AuditLogger,
        BoundSeries,
        Counter,
        EventType,
        Gauge,
        Histogram,
        InMemoryMetricsBackend,
        Ledger,
        MetricEmitter,
        Pseudonyms,
        Receipt,
        RedactingLogRecordExporter,
        RedactingLogRecordProcessor,
        RedactingSpanExporter,
        RedactingSpanProcessor,
        RedactionPolicy,
        RedactionResult,
        RedactionRule,
        Redactor,
        Source,
        Target,
        Timer,
        UpDownCounter,
        metric_timer,
        register_event,
    )

__all__ = [
    "Actor",
    "ApiKey",
    "ApiKeyError",
    "ApiKeyManager",
    "AuditEvent",
    "AuditHandler",
    "AuditLogger",
    "AuditUnavailable",
    "BoundSeries",
    "ConfigurationError",
    "Counter",
    "Decision",
    "EventType",
    "FrozenClock",
    "Gauge",
    "Histogram",
    "InMemoryMetricsBackend",
    "InsufficientScope",
    "InvalidApiKey",
    "InvalidEvent",
    "IssuedKey",
    "KeyNotFound",
    "KeyRotator",
    "KeyState",
    "KeyStoreUnavailable",
    "KeyThrottled",
    "Ledger",
    "MetricEmitter",
    "MissingExtra",
    "MobiusError",
    "PolicyError",
    "Pseudonyms",
    "RateLimit",
    "RateLimitExceeded",
    "RateLimiter",
    "Receipt",
    "RedactingLogRecordExporter",
    "RedactingLogRecordProcessor",
    "RedactingSpanExporter",
    "RedactingSpanProcessor",
    "RedactionPolicy",
    "RedactionResult",
    "RedactionRule",
    "Redactor",
    "RotationConflict",
    "Runtime",
    "Source",
    "Target",
    "Timer",
    "UpDownCounter",
    "configure",
    "metric_timer",
    "register_event",
]

# Where a name is looked for: the ground first, the wiring last.
_SHELVES = ("errors", "clock", "telemetry", "security", "runtime")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for shelf in _SHELVES:
        module = import_module(f"{__name__}.{shelf}")
        if name in module.__all__:
            globals()[name] = value = getattr(module, name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
