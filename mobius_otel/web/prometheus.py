"""``/metrics``: what OpenTelemetry's meters hold, as Prometheus reads it.

The reader comes from opentelemetry-exporter-prometheus (extra ``prometheus``) and writes to a registry of
our own, so that a service's other Prometheus metrics are left alone.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from mobius_otel.errors import MissingExtra
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.streams import renew_on_fork

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry

__all__ = [
    "attach_reader",
    "attach_sidecar",
    "detach_sidecar",
    "metrics_app",
    "metrics_wsgi_app",
    "registry",
    "tell_hidden",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[str, list[tuple[str, str]], bytes]

_log = logging.getLogger("mobius_otel")
_lock = threading.Lock()
#: Collectors in prometheus_client's own registry that no service has made itself.
_OF_OTHERS = ("prometheus_client.gc_", "prometheus_client.platform_", "prometheus_client.process_", "opentelemetry.")
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
            from mobius_otel.web.exposition import PageCollector
        except ImportError:
            raise MissingExtra("metrics.path", "prometheus", "opentelemetry-exporter-prometheus") from None
        renew_on_fork(provider)
        collector = PageCollector()
        provider.add_metric_reader(collector.reader)
        target.register(collector)
        _state["provider"] = provider


def attach_sidecar(provider: MeterProvider, url: str) -> None:
    """Let ``/metrics`` answer for all workers, as the sidecar at `url` does; once for a provider.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """
    from mobius_otel.web.relay import Relay

    with _lock:
        if _state.get("relayed") is not provider:
            renew_on_fork(provider)
            _state["relay"] = Relay(url, provider)
            _state["relayed"] = provider


def detach_sidecar() -> None:
    """Report to the sidecar a last time, and let ``/metrics`` answer for this process alone again."""
    with _lock:
        relay = _state.pop("relay", None)
        _state.pop("relayed", None)
    if relay is not None:
        with guarded("prometheus"):
            relay.flush()


def tell_hidden(path: str | None) -> None:
    """Say once that the guard's page has none of the service's own metrics, where there are any.

    Args:
        path: Where the guard answers a scrape, whatever the service has there.
    """
    if "told" in _state:
        return
    with guarded("prometheus"):
        default = getattr(sys.modules.get("prometheus_client"), "REGISTRY", None)
        known: Mapping[Any, list[str]] = getattr(default, "_collector_to_names", {})
        own = [names[0] for made, names in list(known.items()) if names and not _is_of_others(made)]
        if own:
            _state["told"] = True
            _log.warning(
                "mobius_otel: [metrics] path = %r answers in the place of whatever the service has there, and its own"
                " metrics of prometheus_client (%s, %d in all) are not on that page: where the service has a page of"
                " its own, choose another path",
                path,
                own[0],
                len(own),
            )


def _is_of_others(collector: object) -> bool:
    return type(collector).__module__.startswith(_OF_OTHERS)


def metrics_app() -> Any:
    """Return an ASGI application that answers a scrape, as text or OpenMetrics, compressed where asked.

    It collects in a thread, so that many series do not hold up the service's event loop. Give it a route and no
    mount (``app.add_route("/metrics", metrics_app())``): a mounted application answers ``/metrics`` with a
    redirect to ``/metrics/``, which scrapers need not follow.

    Raises:
        MissingExtra: The extra ``prometheus`` is not installed.
    """
    return _MetricsApp(metrics_wsgi_app())


def metrics_wsgi_app() -> Any:
    """Return a WSGI application that answers a scrape; as :func:`metrics_app`.

    Raises:
        MissingExtra: The extra ``prometheus`` is not installed.
    """
    found = registry()
    from prometheus_client import make_wsgi_app

    page = make_wsgi_app(registry=found)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        head = environ["REQUEST_METHOD"] == "HEAD"
        relay = _state.get("relay")
        answer = page if relay is None else relay.page
        body: Iterable[bytes] = answer({**environ, "REQUEST_METHOD": "GET"} if head else environ, start_response)
        return [] if head else body

    return app


class _MetricsApp:
    """Serves a WSGI page over ASGI. A class, since Starlette takes a function for a handler of its own kind."""

    def __init__(self, page: Callable[..., Iterable[bytes]]) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - it has no body
        """Answer one scrape."""
        if scope["type"] != "http":
            raise RuntimeError(f"metrics_app answers http, not {scope['type']}")
        status, headers, body = await asyncio.to_thread(self._answer, scope)
        await send({
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        })  # fmt: skip
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Mapping[str, Any]) -> Answer:
        environ = {
            "REQUEST_METHOD": scope["method"],
            "PATH_INFO": scope.get("path", ""),
            "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
            "HTTP_ACCEPT": _header(scope, b"accept"),
            "HTTP_ACCEPT_ENCODING": _header(scope, b"accept-encoding"),
        }
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(self._page(environ, lambda status, headers, _=None: started.append((status, headers))))
        return (*started[0], body)


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for found, value in scope.get("headers", ()) if found.lower() == name)
