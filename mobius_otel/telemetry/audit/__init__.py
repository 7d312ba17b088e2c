"""Audit: events, the logger that writes them, the ledger that keeps them."""

from mobius_otel.telemetry.audit.bridge import AuditHandler
from mobius_otel.telemetry.audit.catalogue import EventType, register_event
from mobius_otel.telemetry.audit.event import Actor, AuditEvent, Source, Target
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.logger import AuditLogger
from mobius_otel.telemetry.audit.receipt import Receipt

__all__ = [
    "Actor",
    "AuditEvent",
    "AuditHandler",
    "AuditLogger",
    "EventType",
    "Ledger",
    "Receipt",
    "Source",
    "Target",
    "register_event",
]
