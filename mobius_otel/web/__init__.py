"""The edge: the guard, its middleware for ASGI and WSGI, security headers, ``/metrics``."""

from __future__ import annotations

from mobius_otel.web.asgi import SecurityMiddleware
from mobius_otel.web.facts import Facts
from mobius_otel.web.guard import Guard, current_guard, install_guard
from mobius_otel.web.principal import current_principal
from mobius_otel.web.prometheus import metrics_app, metrics_wsgi_app
from mobius_otel.web.verdict import Verdict
from mobius_otel.web.wsgi import WSGISecurityMiddleware

__all__ = [
    "Facts",
    "Guard",
    "SecurityMiddleware",
    "Verdict",
    "WSGISecurityMiddleware",
    "current_guard",
    "current_principal",
    "install_guard",
    "metrics_app",
    "metrics_wsgi_app",
]
