"""Audit records as OTLP: requests in protobuf and in JSON, and records read back from the latter.

The message classes come with the extra ``otlp`` and are imported when a request is made, never before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from mobius_otel.errors import MissingExtra
from mobius_otel.forks import importing

__all__ = ["decode_json", "encode", "encode_json"]


def encode(records: Iterable[Mapping[str, Any]], resource: Mapping[str, Any]) -> bytes:
    """Return an OTLP ``ExportLogsServiceRequest``.

    Args:
        records: As they leave the ledger.
        resource: The attributes of the resource.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
        ValueError: A record is not one that this package wrote.
    """
    try:
        with importing:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    except ImportError:
        raise MissingExtra("shipping audit records", "otlp", "opentelemetry-proto") from None
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    _fill(logs.resource.attributes, resource)
    scope_name, scope = None, None
    for record in records:
        if scope is None or record.get("scope") != scope_name:
            scope_name, scope = record.get("scope"), logs.scope_logs.add()
            scope.scope.name = str(scope_name or "")
        _fill_record(scope.log_records.add(), record)
    return bytes(request.SerializeToString())


def _fill_record(log: Any, record: Mapping[str, Any]) -> None:
    try:
        log.event_name = record["event_name"]
        log.time_unix_nano = int(record["timestamp"])
        log.observed_time_unix_nano = int(record["observed_timestamp"])
        log.severity_number = record.get("severity_number", 0)
        log.severity_text = record.get("severity_text", "")
        if "trace_id" in record:
            log.trace_id = bytes.fromhex(record["trace_id"])
            log.span_id = bytes.fromhex(record["span_id"])
            log.flags = record["trace_flags"]
        _fill(log.attributes, record["attributes"])
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"no audit record: {type(error).__name__}") from error


def _fill(pairs: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        pair = pairs.add()
        pair.key = key
        _set(pair.value, value)


def _set(target: Any, value: Any) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        _fill(target.kvlist_value.values, value)
    elif isinstance(value, list | tuple):
        target.array_value.SetInParent()
        for item in value:
            _set(target.array_value.values.add(), item)
    elif value is not None:
        target.string_value = str(value)


# --- JSON ---------------------------------------------------------------------------------------------------


def encode_json(records: Iterable[Mapping[str, Any]], resource: Mapping[str, Any]) -> bytes:
    """Return an ``ExportLogsServiceRequest`` in OTLP's JSON encoding; arguments and errors as for :func:`encode`."""
    scopes: list[dict[str, Any]] = []
    for record in records:
        name = str(record.get("scope") or "")
        if not scopes or scopes[-1]["scope"]["name"] != name:
            scopes.append({"scope": {"name": name}, "logRecords": []})
        scopes[-1]["logRecords"].append(_log_json(record))
    logs = [{"resource": {"attributes": _pairs_json(resource)}, "scopeLogs": scopes}]
    return json.dumps({"resourceLogs": logs}, ensure_ascii=False, separators=(",", ":")).encode()


def _log_json(record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = {
            "timeUnixNano": str(int(record["timestamp"])),
            "observedTimeUnixNano": str(int(record["observed_timestamp"])),
            "eventName": record["event_name"],
        }
        if "severity_number" in record:
            found["severityNumber"], found["severityText"] = int(record["severity_number"]), record["severity_text"]
        if "trace_id" in record:
            found["traceId"], found["spanId"] = record["trace_id"], record["span_id"]
            found["flags"] = int(record["trace_flags"])
        return {**found, "attributes": _pairs_json(record["attributes"])}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no audit record: {type(error).__name__}") from error


def _pairs_json(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value_json(value)} for key, value in values.items()]


def _value_json(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs_json(value)}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value_json(item) for item in value]}}
    return {} if value is None else {"stringValue": str(value)}


def decode_json(line: bytes) -> Iterator[dict[str, Any]]:
    """Yield the records of a request in OTLP's JSON encoding, as a collector's file exporter writes it.

    What a record of ours has not, such as a body, and an attribute that is there twice, are a field more in what is
    yielded, so that its hash is another one.

    Args:
        line: The request.

    Raises:
        ValueError: It is no such request.
    """
    try:
        for resource in json.loads(line, object_pairs_hook=_shortened)["resourceLogs"]:
            for scope in resource.get("scopeLogs", ()):
                name = (scope.get("scope") or {}).get("name", "")
                for log in scope.get("logRecords", ()):
                    yield _record_of(log, name)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no OTLP request of logs: {type(error).__name__}") from error


def _shortened(pairs: list[tuple[str, Any]]) -> Any:
    """Make a value of what OTLP wraps around it, while it is parsed: a large request is never whole in memory."""
    if len(pairs) == 2:  # first what nearly all are
        (first, key), (second, value) = pairs
        if first == "key" and second == "value":
            return key, value
    elif len(pairs) == 1:
        ((kind, value),) = pairs
        if kind in _AS_IT_IS:
            return value
        if kind in _MADE:
            return _MADE[kind](value)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    if len(found) == 2 and "key" in found:
        return found["key"], found.get("value")
    return found or None


def _mapping(pairs: Any) -> Any:
    """Return the mapping of pairs; where a name is there twice the pairs, which are no mapping."""
    found = dict(pair or ("", None) for pair in pairs or ())  # neither a key nor a value: both are empty
    return found if len(found) == len(pairs or ()) else pairs


_AS_IT_IS: Final = frozenset({"stringValue", "boolValue", "bytesValue", "values"})
_MADE: Final[dict[str, Callable[[Any], Any]]] = {
    "intValue": int,
    "doubleValue": float,
    "arrayValue": lambda items: items or [],
    "kvlistValue": _mapping,
    "key": lambda name: (name, None),
    "value": lambda value: ("", value),  # protobuf leaves out a key that is empty
}


def _record_of(log: Mapping[str, Any], scope: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "event_name": log.get("eventName", ""),
        "scope": scope,
        "timestamp": str(int(log.get("timeUnixNano", 0))),
        "observed_timestamp": str(int(log.get("observedTimeUnixNano", 0))),
    }
    if number := log.get("severityNumber"):
        found["severity_number"], found["severity_text"] = int(number), log.get("severityText", "")
    if trace := log.get("traceId"):
        found["trace_id"], found["span_id"] = trace.lower(), log.get("spanId", "").lower()
        found["trace_flags"] = int(log.get("flags", 0))
    pairs = log.get("attributes")
    attributes = _mapping(pairs)
    if not isinstance(attributes, dict):
        found["doubled"], attributes = True, dict(pair or ("", None) for pair in pairs or ())
    for name in log.keys() - _FIELDS[bool(number), bool(trace)]:
        if (value := log[name]) not in _NOTHING:  # a collector may write a field that is empty
            found[name] = value
    return {**found, "attributes": attributes}


#: What is read of a record, with a severity or without, with a trace or without.
_FIELDS: Final = {
    (severity, trace): frozenset(
        ("eventName", "timeUnixNano", "observedTimeUnixNano", "attributes")
        + (("severityNumber", "severityText") if severity else ())
        + (("traceId", "spanId", "flags") if trace else ())
    )
    for severity in (False, True)
    for trace in (False, True)
}
_NOTHING: Final[tuple[Any, ...]] = (None, "", 0, "0", [], "SEVERITY_NUMBER_UNSPECIFIED")
