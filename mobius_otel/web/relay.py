"""``/metrics`` of one worker that answers for all of them: it tells the sidecar and passes its page on.

The page is the sidecar's or none: one worker's own numbers would look like a service whose counters fell.
"""

from __future__ import annotations

import http.client
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mobius_otel.errors import MissingExtra
from mobius_otel.forks import on_fork
from mobius_otel.telemetry.safety import count_error

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

__all__ = ["Relay"]

_log = logging.getLogger("mobius_otel")
_INTERVAL_MILLIS: Final = 5000.0
_SECONDS: Final = 5.0
_PASSED_ON: Final = {"content-type", "content-encoding"}


class Relay:
    """Reports what `provider` holds to a sidecar, every five seconds and before each scrape.

    Args:
        url: The sidecar, ``http://HOST:PORT``.
        provider: The meter provider. It reports beside the exporters that it has.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """

    def __init__(self, url: str, provider: MeterProvider) -> None:
        try:
            import requests
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError:
            raise MissingExtra("metrics.sidecar", "otlp", "opentelemetry-exporter-otlp-proto-http") from None
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        self._host = urlsplit(url).netloc
        session = requests.Session()
        session.trust_env = False  # the sidecar is a neighbour: no proxy, no netrc
        exporter = OTLPMetricExporter(
            f"{url.rstrip('/')}/v1/metrics",
            headers={"Connection": "close"},  # a forked worker must not talk on its parent's connection
            timeout=2,
            session=session,
            preferred_temporality=_cumulative(),
        )
        asked = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL")
        self._reader = PeriodicExportingMetricReader(exporter, None if asked else _INTERVAL_MILLIS)
        provider.add_metric_reader(self._reader)
        self._told = False
        self._after_fork_in_child()
        on_fork(self)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def flush(self) -> None:
        """Report now."""
        with self._lock:
            self._reader.collect(timeout_millis=_SECONDS * 1000)

    def page(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a scrape as the sidecar does: a WSGI application."""
        try:
            self.flush()
            status, headers, body = self._fetch(environ)
        except Exception as error:
            return self._gone(type(error).__name__, start_response)
        if status != 200:
            return self._gone(f"it answered {status}", start_response)
        if self._told:
            self._told = False
            _log.warning("mobius_otel: the sidecar answers again")
        start_response("200 OK", headers)
        return [body]

    def _fetch(self, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=_SECONDS)
        try:
            connection.request(
                "GET",
                "/metrics",
                headers={
                    "Accept": environ.get("HTTP_ACCEPT", ""),
                    "Accept-Encoding": environ.get("HTTP_ACCEPT_ENCODING", "") or "identity",
                },
            )
            answer = connection.getresponse()
            body = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() in _PASSED_ON]
            return answer.status, [*headers, ("Content-Length", str(len(body)))], body
        finally:
            connection.close()

    def _gone(self, why: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        count_error("prometheus", "sidecar_unavailable")
        if not self._told:
            self._told = True
            _log.warning(
                "mobius_otel: /metrics has nothing to show, the sidecar at %s does not answer (%s);"
                " is `mobius-otel sidecar` running?", self._host, why,
            )  # fmt: skip
        body = b"the metrics sidecar does not answer\n"
        start_response(
            "503 Service Unavailable",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
        )
        return [body]


def _cumulative() -> dict[type, Any]:
    from opentelemetry.sdk import metrics
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    kinds = (
        metrics.Counter, metrics.UpDownCounter, metrics.Histogram, metrics.ObservableCounter,
        metrics.ObservableUpDownCounter, metrics.ObservableGauge,
    )  # fmt: skip
    return dict.fromkeys(kinds, AggregationTemporality.CUMULATIVE)
