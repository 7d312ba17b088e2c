"""An application that records one event a request, for gunicorn with ``--preload``."""

from __future__ import annotations

import os

from mobius_otel import Actor, AuditLogger, configure

configure(policy="mobius.toml")
audit = AuditLogger("web")


def app(environ, start):
    """Record an event; answer with its id and the worker's."""
    receipt = audit.record("order.placed", actor=Actor("u-1"))
    assert receipt.durability == "process"
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{receipt.record_id} {os.getpid()} {receipt.stream_id}".encode()]
