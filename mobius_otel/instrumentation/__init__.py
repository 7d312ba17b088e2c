"""The door for code that exists already: frameworks and functions are reached by name."""

from __future__ import annotations

from mobius_otel.instrumentation.django import wait_for_settings
from mobius_otel.instrumentation.frameworks import guard_frameworks
from mobius_otel.instrumentation.functions import audit_function, time_function
from mobius_otel.instrumentation.instrumentor import MobiusInstrumentor
from mobius_otel.instrumentation.reach import Reach, supervises

__all__ = [
    "MobiusInstrumentor",
    "Reach",
    "audit_function",
    "guard_frameworks",
    "supervises",
    "time_function",
    "wait_for_settings",
]
