"""An OTLP receiver that answers as it is told: for tests of what sends telemetry. Needs the extra ``otlp``."""

from __future__ import annotations

import base64
import gzip
import json
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from mobius_otel.errors import MissingExtra

__all__ = ["OtlpReceiver", "Request"]

Plain = dict[str, Any]
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_PATHS: Final = {"/v1/logs": "logs", "/v1/traces": "spans", "/v1/metrics": "metrics"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request that arrived.

    Args:
        signal: ``logs``, ``spans`` or ``metrics``.
        items: What it carried, as plain dicts.
        headers: Its headers, with lower-case names.
        status: What it was answered; None where the connection was cut.
        accepted: Whether the receiver said that it has every item.
    """

    signal: str
    items: tuple[Plain, ...]
    headers: Mapping[str, str] = field(repr=False)
    status: int | None
    accepted: bool


@dataclass(slots=True)
class _Answer:
    status: int = 200
    rejected: int | None = None
    delay: float = 0.0
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    raw: bytes | None = None
    times: int | None = None
    only_if: Callable[[Plain], bool] | None = None

    def applies_to(self, items: Iterable[Plain]) -> bool:
        return self.only_if is None or any(self.only_if(item) for item in items)


class OtlpReceiver:
    """Takes OTLP over HTTP, protobuf or JSON, on a loopback port, and misbehaves as told.

    Args:
        port: The port; 0: any that is free. With the port of one that was closed, a collector that comes back.
        tls: The context of a server, for HTTPS.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.

    Example:
        >>> with OtlpReceiver() as receiver:
        ...     receiver.answer(status=503, times=2)
        ...     receiver.logs
        []
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self._decoders = _decoders()
        self._tls = tls
        self._port = port
        self._lock = threading.RLock()
        self._answers: deque[_Answer] = deque()
        self._requests: list[Request] = []
        self._server: ThreadingHTTPServer | None = None
        self._closing = threading.Event()

    # --- what it received -----------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """The base URL, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` wants it."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}"

    @property
    def logs_endpoint(self) -> str:
        """The URL of the logs."""
        return f"{self.endpoint}/v1/logs"

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived whole, whatever it was answered."""
        with self._lock:
            return list(self._requests)

    @property
    def logs(self) -> list[Plain]:
        """The log records that it said it has, in the order of their arrival, duplicates included."""
        return self._accepted("logs")

    @property
    def spans(self) -> list[Plain]:
        """The spans that it said it has."""
        return self._accepted("spans")

    @property
    def metrics(self) -> list[Plain]:
        """The metrics that it said it has."""
        return self._accepted("metrics")

    def _accepted(self, signal: str) -> list[Plain]:
        return [item for r in self.requests if r.accepted and r.signal == signal for item in r.items]

    def wait_for(self, condition: Callable[[Self], bool], timeout: float = 10.0) -> bool:
        """Wait until `condition` of this receiver holds, at most `timeout` seconds; return whether it does."""
        end = time.monotonic() + timeout
        while not condition(self):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    # --- how it answers -------------------------------------------------------------------------------------

    def answer(
        self,
        status: int = 200,
        *,
        rejected: int | None = None,
        delay: float = 0.0,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        cut: bool = False,
        raw: bytes | None = None,
        times: int | None = None,
        only_if: Callable[[Plain], bool] | None = None,
    ) -> None:
        """Say how the next requests are answered; several calls queue up.

        Args:
            status: The HTTP status.
            rejected: How many items a ``partial_success`` says were rejected; -1: all of the request's.
            delay: Seconds before the answer.
            body: The answer's body instead of OTLP's.
            headers: Further headers of the answer.
            cut: Whether the connection is cut instead of an answer, after the request was read.
            raw: Bytes that are sent instead of an answer of HTTP; then the connection is cut.
            times: For how many requests; None: until :meth:`behave`.
            only_if: Only for requests with an item for which this is true.
        """
        with self._lock:
            self._answers.append(_Answer(status, rejected, delay, body, headers or {}, cut, raw, times, only_if))

    def behave(self) -> None:
        """Forget what :meth:`answer` said: take everything from now on."""
        with self._lock:
            self._answers.clear()

    def _choose(self, items: Iterable[Plain]) -> _Answer:
        with self._lock:
            for answer in self._answers:
                if answer.applies_to(items):
                    if answer.times is not None:
                        answer.times -= 1
                        if answer.times <= 0:
                            self._answers.remove(answer)
                    return answer
        return _Answer()

    # --- life -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._closing.clear()
        self._server = _Server(("127.0.0.1", self._port), _handler_of(self))
        self._port = self._server.server_port
        if self._tls is not None:
            # The handshake is the handler's business, in its own thread: a client that makes none must not hold us up.
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; what was received stays readable, and entering again opens the same port."""
        server, self._server = self._server, None
        self._closing.set()
        if server is not None:
            server.shutdown()
            server.server_close()

    def _take(self, path: str, body: bytes, headers: Mapping[str, str]) -> _Answer:
        signal = _PATHS.get(path)
        if signal is None:
            return _Answer(404, body=b"")
        decode, request_class, response_class, rejected_field = self._decoders[signal]
        try:
            message = _message(request_class, _unpacked(body, headers.get("content-encoding", "")), headers)
            items = tuple(decode(message))
        except Exception:  # however it is broken
            return _Answer(400, body=b"")
        answer = self._choose(items)
        response = response_class()
        if answer.rejected is not None:
            number = len(items) if answer.rejected < 0 else answer.rejected
            setattr(response.partial_success, rejected_field, number)
        body = answer.body if answer.body is not None else response.SerializeToString()
        self._closing.wait(answer.delay)
        accepted = answer.status == 200 and not answer.rejected and answer.body is None and not answer.cut
        accepted = accepted and answer.raw is None
        with self._lock:
            status = None if answer.cut or answer.raw is not None else answer.status
            self._requests.append(Request(signal, items, headers, status, accepted))
        return _Answer(answer.status, body=body, headers=answer.headers, cut=answer.cut, raw=answer.raw)

    def __repr__(self) -> str:
        state = "listening" if self._server is not None else "closed"
        return f"OtlpReceiver({self._port}, {state}, {len(self._requests)} requests)"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent: a client that went away is no news here."""


def _handler_of(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = receiver._take(self.path, body, {name.lower(): value for name, value in self.headers.items()})
            if answer.cut or answer.raw is not None:
                self.close_connection = True
                self.wfile.write(answer.raw or b"")
                return
            content = answer.body or b""
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/x-protobuf", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
            """Keep silent."""

    return Handler


# --- from OTLP to plain dicts -------------------------------------------------------------------------------


def _unpacked(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _message(request_class: Any, body: bytes, headers: Mapping[str, str]) -> Any:
    """Return a request; in OTLP's JSON ids are hexadecimal, in protobuf's they are base64."""
    if not headers.get("content-type", "").startswith("application/json"):
        return request_class.FromString(body)
    from google.protobuf.json_format import ParseDict

    return ParseDict(json.loads(body, object_hook=_with_base64), request_class(), ignore_unknown_fields=True)


def _with_base64(found: Plain) -> Plain:
    for name in _IDS & found.keys():
        found[name] = base64.b64encode(bytes.fromhex(found[name])).decode()
    return found


def _decoders() -> dict[str, tuple[Callable[[Any], Iterable[Plain]], Any, Any, str]]:
    try:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
    except ImportError:
        raise MissingExtra("OtlpReceiver", "otlp", "opentelemetry-proto") from None
    return {
        "logs": (
            _logs, logs.ExportLogsServiceRequest,
            logs.ExportLogsServiceResponse, "rejected_log_records",
        ),
        "spans": (
            _spans, trace.ExportTraceServiceRequest,
            trace.ExportTraceServiceResponse, "rejected_spans",
        ),
        "metrics": (
            _metrics, metrics.ExportMetricsServiceRequest,
            metrics.ExportMetricsServiceResponse, "rejected_data_points",
        ),
    }  # fmt: skip


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [_value(item) for item in found.values]
    return _attributes(found.values) if kind == "kvlist_value" else found


def _attributes(pairs: Iterable[Any]) -> Plain:
    return {pair.key: _value(pair.value) for pair in pairs}


def _logs(request: Any) -> Iterable[Plain]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for log in scope.log_records:
                yield {
                    "event_name": log.event_name,
                    "timestamp": log.time_unix_nano,
                    "observed_timestamp": log.observed_time_unix_nano,
                    "severity_number": log.severity_number,
                    "severity_text": log.severity_text,
                    "body": _value(log.body),
                    "trace_id": log.trace_id.hex(),
                    "span_id": log.span_id.hex(),
                    "attributes": _attributes(log.attributes),
                    "scope": scope.scope.name,
                    "resource": _attributes(resource.resource.attributes),
                }


def _spans(request: Any) -> Iterable[Plain]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "name": span.name,
                    "kind": span.kind,
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_id": span.parent_span_id.hex() or None,
                    "attributes": _attributes(span.attributes),
                    "status": {"code": span.status.code, "description": span.status.message},
                    "events": [{"name": e.name, "attributes": _attributes(e.attributes)} for e in span.events],
                    "links": [{"attributes": _attributes(link.attributes)} for link in span.links],
                    "scope": scope.scope.name,
                    "resource": _attributes(resource.resource.attributes),
                }


def _metrics(request: Any) -> Iterable[Plain]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                points = getattr(metric, kind).data_points if kind else ()
                yield {
                    "name": metric.name,
                    "kind": kind,
                    "unit": metric.unit,
                    "description": metric.description,
                    "points": [_point(point) for point in points],
                    "scope": scope.scope.name,
                    "resource": _attributes(resource.resource.attributes),
                }


def _point(point: Any) -> Plain:
    found: Plain = {"attributes": _attributes(point.attributes)}
    if hasattr(point, "count"):
        return {**found, "count": point.count, "sum": point.sum}
    kind = point.WhichOneof("value")
    return {**found, "value": getattr(point, kind) if kind else None}
