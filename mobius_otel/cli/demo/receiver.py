"""The demo's stand-in collector: takes OTLP over HTTP, prints what it received, one JSON object a line.

It is a process of its own: ``python -m mobius_otel.cli.demo.receiver``. Needs the extra ``otlp``.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

__all__ = ["main"]

_LARGEST = 64 * 1024 * 1024


def main() -> None:
    """Serve until the process ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    _print({"listening": f"http://127.0.0.1:{server.server_port}"})
    server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    """Answers the three OTLP paths."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        """Take one export."""
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > _LARGEST:
            self._answer(413, b"")
            return
        body = self.rfile.read(int(size))
        found = _PATHS.get(self.path)
        if found is None:
            self._answer(404, b"")
            return
        request_type, response_type, records = found
        try:
            data = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            request = request_type.FromString(data)
        except Exception:  # not ours to judge how it is broken
            self._answer(400, b"")
            return
        for record in records(request):
            _print(record)
        self._answer(200, response_type().SerializeToString())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that the base class gave it
        """Keep silent: standard output belongs to the records."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        if status != 200:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


_lock = threading.Lock()


def _print(record: dict[str, Any]) -> None:
    line = json.dumps(record)  # ASCII, so that no console's encoding can refuse it
    with _lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    inner = getattr(value, kind)
    if kind == "array_value":
        return ", ".join(str(_value(item)) for item in inner.values)
    if kind == "kvlist_value":
        return ", ".join(f"{pair.key}:{_value(pair.value)}" for pair in inner.values)
    return inner.hex() if isinstance(inner, bytes) else inner


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _everything(pairs: Any) -> list[Any]:
    """Return attributes that are shown nowhere, so that they are searched for secrets all the same."""
    return [[pair.key, _value(pair.value)] for pair in pairs]


def _spans(request: Any) -> Iterator[dict[str, Any]]:
    for resource in request.resource_spans:
        yield {"resource": _everything(resource.resource.attributes)}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "span": {
                        "name": span.name,
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_id": span.parent_span_id.hex(),
                        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                        "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "attributes": _attributes(span.attributes),
                        "events": [event.name for event in span.events],
                    },
                    "message": span.status.message,
                    "event_attributes": [_everything(event.attributes) for event in span.events],
                    "link_attributes": [_everything(link.attributes) for link in span.links],
                }


def _logs(request: Any) -> Iterator[dict[str, Any]]:
    for resource in request.resource_logs:
        yield {"resource": _everything(resource.resource.attributes)}
        for scope in resource.scope_logs:
            for log in scope.log_records:
                yield {
                    "log": {
                        "event_name": log.event_name,
                        "scope": scope.scope.name,
                        "severity": log.severity_text,
                        "body": str(_value(log.body)),
                        "trace_id": log.trace_id.hex(),
                        "span_id": log.span_id.hex(),
                        "attributes": _attributes(log.attributes),
                    }
                }


def _points(request: Any) -> Iterator[dict[str, Any]]:
    for resource in request.resource_metrics:
        yield {"resource": _everything(resource.resource.attributes)}
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data") or "gauge")
                for point in data.data_points:
                    yield {
                        "point": {
                            "name": metric.name,
                            "value": _number(point),
                            "attributes": _attributes(point.attributes),
                        },
                        "exemplars": [_everything(exemplar.filtered_attributes) for exemplar in point.exemplars]
                        if hasattr(point, "exemplars")
                        else [],
                    }


def _number(point: Any) -> float:
    if hasattr(point, "count"):
        return float(point.count)
    return float(getattr(point, point.WhichOneof("value") or "as_int"))


_PATHS: dict[str, tuple[Any, Any, Callable[[Any], Iterator[dict[str, Any]]]]] = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, _spans),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse, _points),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, _logs),
}

if __name__ == "__main__":
    main()
