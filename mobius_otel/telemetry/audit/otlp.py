"""Audit records as OTLP, and the standard settings that say where they go.

The message classes come with the extra ``otlp`` and are imported when a request is made, never before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from mobius_otel.errors import ConfigurationError, MissingExtra

__all__ = ["Protocol", "Settings", "encode", "settings_from_environment"]

Protocol = Literal["http/protobuf", "grpc"]
_PROTOCOLS: Final = ("http/protobuf", "grpc")
_PATH: Final = "v1/logs"
_DEFAULT_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where audit records go, and how.

    Args:
        endpoint: With ``http/protobuf`` the whole URL; with ``grpc`` a URL, or ``host:port``.
        protocol: ``http/protobuf`` or ``grpc``.
        headers: Sent with every request; their values are secrets, so no repr shows them.
        timeout: Seconds that one request may take.
        certificate: A file with the certificates to trust, for TLS.
        insecure: Whether gRPC goes without TLS, where the endpoint has no scheme to say so.

    Raises:
        ConfigurationError: A value breaks its rule.
    """

    endpoint: str
    protocol: Protocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = _DEFAULT_TIMEOUT
    certificate: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ConfigurationError("OTLP protocol", self.protocol, f"one of {', '.join(_PROTOCOLS)}")
        if not (0 < self.timeout < math.inf):
            raise ConfigurationError("OTLP timeout", self.timeout, "a number of seconds above zero")
        url = urlsplit(self.endpoint)
        if self.protocol == "http/protobuf" and (url.scheme not in ("http", "https") or not url.hostname):
            raise ConfigurationError("OTLP endpoint", self.endpoint, 'a URL such as "http://localhost:4318/v1/logs"')
        if not self.endpoint.strip():
            raise ConfigurationError("OTLP endpoint", self.endpoint, 'a URL such as "http://localhost:4317"')

    @property
    def host(self) -> str:
        """Host and port, for a log line."""
        url = urlsplit(self.endpoint if "://" in self.endpoint else f"//{self.endpoint}")
        return url.netloc.rpartition("@")[2] or "?"

    @property
    def secure(self) -> bool:
        """Whether gRPC uses TLS: the scheme says so, else `insecure`."""
        scheme = self.endpoint.partition("://")[0].lower() if "://" in self.endpoint else ""
        return scheme == "https" or (scheme != "http" and not self.insecure)


def settings_from_environment(environ: Mapping[str, str] | None = None) -> Settings | None:
    """Read the standard ``OTEL_*`` variables.

    Args:
        environ: Instead of the process's environment.

    Returns:
        None where logs are not exported (``OTEL_LOGS_EXPORTER=none``, ``OTEL_SDK_DISABLED=true``) or no endpoint
        is set anywhere.

    Raises:
        ConfigurationError: A variable breaks its rule; the error names it by what it sets.

    Example:
        >>> settings_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}).endpoint
        'http://collector:4318/v1/logs'
    """
    environ = os.environ if environ is None else environ

    def setting(name: str) -> str:
        own = environ.get(f"OTEL_EXPORTER_OTLP_LOGS_{name}", "").strip()
        return own or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()

    exporters = [name.strip() for name in environ.get("OTEL_LOGS_EXPORTER", "").lower().split(",")]
    endpoint = setting("ENDPOINT")
    if "none" in exporters or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not endpoint:
        return None
    protocol: Any = setting("PROTOCOL") or ("grpc" if "otlp_proto_grpc" in exporters else "http/protobuf")
    if protocol == "http/protobuf" and not environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip():
        endpoint = f"{endpoint.rstrip('/')}/{_PATH}"
    return Settings(
        endpoint,
        protocol,
        _headers(setting("HEADERS")),
        _seconds(setting("TIMEOUT")),
        setting("CERTIFICATE") or None,
        setting("INSECURE").lower() == "true",
    )


def _seconds(text: str) -> float:
    try:
        return float(text) if text else _DEFAULT_TIMEOUT
    except ValueError:
        raise ConfigurationError("OTLP timeout", text, "a number of seconds") from None


def _headers(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found[unquote(name).strip().lower()] = unquote(value).strip()
    return found


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
