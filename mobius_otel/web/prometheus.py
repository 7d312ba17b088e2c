"""``/metrics``: what OpenTelemetry's meters hold, as Prometheus reads it.

The reader comes from opentelemetry-exporter-prometheus (extra ``prometheus``) and writes to a registry of
our own, so that a service's other Prometheus metrics are left alone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mobius_otel.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry

__all__ = ["attach_reader", "metrics_app", "metrics_wsgi_app", "registry"]

_lock = threading.Lock()
_state: dict[str, Any] = {}


def registry() -> CollectorRegistry:
    """Return the registry that ``/metrics`` shows.

    Raises:
        MissingExtra: The extra ``prometheus`` is not installed.
    """
    with _lock:
        if "registry" not in _state:
            try:
                from prometheus_client import CollectorRegistry
            except ImportError:
                raise MissingExtra("metrics.path", "prometheus", "prometheus_client") from None
            _state["registry"] = CollectorRegistry(auto_describe=True)
        found: CollectorRegistry = _state["registry"]
        return found


def attach_reader(provider: MeterProvider) -> None:
    """Let ``/metrics`` show what `provider` holds; a second call for the same provider does nothing.

    Raises:
        MissingExtra: The extra ``prometheus`` is not installed.
    """
    target = registry()
    with _lock:
        if _state.get("provider") is provider:
            return
        try:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
        except ImportError:
            raise MissingExtra("metrics.path", "prometheus", "opentelemetry-exporter-prometheus") from None
        provider.add_metric_reader(PrometheusMetricReader(registry=target))
        _state["provider"] = provider


def metrics_app() -> Any:
    """Return an ASGI application that answers a scrape, as text or OpenMetrics, compressed where asked.

    Raises:
        MissingExtra: The extra ``prometheus`` is not installed.
    """
    found = registry()
    from prometheus_client import make_asgi_app

    return make_asgi_app(registry=found)


def metrics_wsgi_app() -> Any:
    """Return a WSGI application that answers a scrape; as :func:`metrics_app`."""
    found = registry()
    from prometheus_client import make_wsgi_app

    return make_wsgi_app(registry=found)
