"""The policy file as frozen data: what it may say, how it is read, its JSON Schema."""

from __future__ import annotations

from mobius_otel.policy.loader import DEFAULT_FILE, ENVIRONMENT, find_policy, load_policy, parse_policy
from mobius_otel.policy.model import (
    ApiKeysSection,
    AuditSection,
    HeadersSection,
    InstrumentSection,
    MetricsSection,
    Policy,
    RateLimitRule,
    RateLimitSection,
    RedactionSection,
    ServiceSection,
)
from mobius_otel.policy.schema import json_schema

__all__ = [
    "DEFAULT_FILE",
    "ENVIRONMENT",
    "ApiKeysSection",
    "AuditSection",
    "HeadersSection",
    "InstrumentSection",
    "MetricsSection",
    "Policy",
    "RateLimitRule",
    "RateLimitSection",
    "RedactionSection",
    "ServiceSection",
    "find_policy",
    "json_schema",
    "load_policy",
    "parse_policy",
]
