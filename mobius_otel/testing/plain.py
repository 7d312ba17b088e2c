"""Telemetry as plain dicts: a deep copy, taken at export, of what an exporter would have sent.

A copy matters: an exporter that keeps the SDK's objects sees what a processor changes in them afterwards,
so that a redactor that came too late would look as if it had been in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Plain", "log_dict", "metric_points", "plain", "span_dict"]

Plain = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a deep copy of an attribute's value made of dicts, lists and scalars.

    Args:
        value: What telemetry may carry; anything else becomes its ``str()``, as an exporter would have it.

    Example:
        >>> plain({"roles": ("a", "b"), "n": 1})
        {'roles': ['a', 'b'], 'n': 1}
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(inner) for inner in value]
    return str(value)


def span_dict(span: ReadableSpan) -> Plain:
    """Return a finished span as a dict."""
    context, status = span.context, span.status
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace_id": f"{context.trace_id:032x}" if context else None,
        "span_id": f"{context.span_id:016x}" if context else None,
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "attributes": plain(span.attributes or {}),
        "status": {"code": status.status_code.name, "description": status.description},
        "events": [
            {"name": event.name, "timestamp": event.timestamp, "attributes": plain(event.attributes or {})}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": plain(link.attributes or {}),
            }
            for link in span.links
        ],
        **_origin(span.resource, span.instrumentation_scope),
    }


def log_dict(readable: ReadableLogRecord) -> Plain:
    """Return a log record as a dict."""
    record = readable.log_record
    return {
        "event_name": record.event_name,
        "body": plain(record.body),
        "severity_number": record.severity_number.value if record.severity_number is not None else None,
        "severity_text": record.severity_text,
        "timestamp": record.timestamp,
        "observed_timestamp": record.observed_timestamp,
        "trace_id": f"{record.trace_id:032x}" if record.trace_id else None,
        "span_id": f"{record.span_id:016x}" if record.span_id else None,
        "attributes": plain(record.attributes or {}),
        **_origin(readable.resource, readable.instrumentation_scope),
    }


def metric_points(data: MetricsData | None) -> Iterator[Plain]:
    """Yield every data point of one collection as a dict of its own."""
    for of_resource in data.resource_metrics if data is not None else ():
        for of_scope in of_resource.scope_metrics:
            origin = _origin(of_resource.resource, of_scope.scope)
            for metric in of_scope.metrics:
                head = {
                    "name": metric.name,
                    "unit": metric.unit or "",
                    "description": metric.description or "",
                    "kind": _kind(metric.data),
                }
                for point in metric.data.data_points:
                    yield {**head, "attributes": plain(point.attributes or {}), **_numbers(point), **origin}


def _kind(data: Any) -> str:
    if hasattr(data, "is_monotonic"):
        return "counter" if data.is_monotonic else "updowncounter"
    return "histogram" if hasattr(data, "aggregation_temporality") else "gauge"


def _numbers(point: Any) -> Plain:
    exemplars = [
        {"value": e.value, "attributes": plain(e.filtered_attributes or {})} for e in getattr(point, "exemplars", ())
    ]
    if hasattr(point, "value"):
        return {"value": point.value, "exemplars": exemplars}
    numbers = {"count": point.count, "sum": point.sum, "min": point.min, "max": point.max, "exemplars": exemplars}
    if hasattr(point, "bucket_counts"):
        numbers["bounds"] = list(point.explicit_bounds)
        numbers["buckets"] = list(point.bucket_counts)
    return numbers


def _origin(resource: Any, scope: Any) -> Plain:
    return {
        "scope": {"name": scope.name, "version": scope.version or ""} if scope is not None else None,
        "resource": plain(resource.attributes) if resource is not None else {},
    }
