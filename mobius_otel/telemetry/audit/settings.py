"""Where audit records go: the standard ``OTEL_EXPORTER_OTLP_*`` settings."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, Literal, get_args
from urllib.parse import unquote, urlsplit

from mobius_otel.errors import ConfigurationError

__all__ = ["Compression", "Protocol", "Settings", "exporter_from_environment", "settings_from_environment"]

Protocol = Literal["http/protobuf", "http/json", "grpc"]
Compression = Literal["none", "gzip", "deflate"]
_PROTOCOLS: Final = get_args(Protocol)
_COMPRESSIONS: Final = get_args(Compression)
_OTLP: Final = {"otlp": None, "otlp_proto_http": "http/protobuf", "otlp_proto_grpc": "grpc"}
_PATH: Final = "v1/logs"
_DEFAULT_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Where audit records go, and how.

    Args:
        endpoint: With ``http/…`` the whole URL; with ``grpc`` a URL, or ``host:port``.
        protocol: ``http/protobuf``, ``http/json`` or ``grpc``.
        headers: Sent with every request; their values are secrets, so no repr shows them.
        timeout: Seconds that one request may take.
        certificate: A file with the certificates to trust, for TLS.
        insecure: Whether gRPC goes without TLS, where the endpoint has no scheme to say so.
        client_certificate: A file with the certificate that this side shows, for mutual TLS.
        client_key: A file with the key of that certificate.
        compression: ``none``, ``gzip`` or, over HTTP alone, ``deflate``.

    Raises:
        ConfigurationError: A value breaks its rule.
    """

    endpoint: str
    protocol: Protocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = _DEFAULT_TIMEOUT
    certificate: str | None = None
    insecure: bool = False
    client_certificate: str | None = None
    client_key: str | None = None
    compression: Compression = "none"

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ConfigurationError("OTLP protocol", self.protocol, f"one of {', '.join(_PROTOCOLS)}")
        allowed = _COMPRESSIONS[:2] if self.protocol == "grpc" else _COMPRESSIONS
        if self.compression not in allowed:
            raise ConfigurationError("OTLP compression", self.compression, f"one of {', '.join(allowed)}")
        if self.client_key and not self.client_certificate:
            raise ConfigurationError("OTLP client certificate", None, "given where there is a client key")
        if not (0 < self.timeout < math.inf):
            raise ConfigurationError("OTLP timeout", self.timeout, "a number of seconds above zero")
        url = urlsplit(self.endpoint)
        if self.protocol != "grpc" and (url.scheme not in ("http", "https") or not url.hostname):
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
        None where logs are not exported by OTLP (``OTEL_LOGS_EXPORTER`` names others alone, ``OTEL_SDK_DISABLED=true``)
        or no endpoint is set anywhere.

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

    exporters = _exporters(environ)
    asked = [name for name in exporters if name in _OTLP]
    endpoint = setting("ENDPOINT")
    if _is_off(environ, exporters) or (exporters and not asked) or not endpoint:
        return None
    protocol: Any = setting("PROTOCOL") or next((_OTLP[name] for name in asked if _OTLP[name]), "http/protobuf")
    if protocol != "grpc" and not environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip():
        endpoint = f"{endpoint.rstrip('/')}/{_PATH}"
    compression: Any = setting("COMPRESSION").lower() or "none"
    return Settings(
        endpoint,
        protocol,
        _headers(setting("HEADERS")),
        _seconds(setting("TIMEOUT")),
        setting("CERTIFICATE") or None,
        setting("INSECURE").lower() == "true",
        setting("CLIENT_CERTIFICATE") or None,
        setting("CLIENT_KEY") or None,
        compression,
    )


def exporter_from_environment(environ: Mapping[str, str] | None = None) -> Any:
    """Return the class of the exporter that ``OTEL_LOGS_EXPORTER`` names if none of them is OTLP's; else None.

    Raises:
        ConfigurationError: No package that is installed has an exporter of that name.
    """
    environ = os.environ if environ is None else environ
    exporters = _exporters(environ)
    if _is_off(environ, exporters) or not exporters or any(name in _OTLP for name in exporters):
        return None
    for entry_point in entry_points(group="opentelemetry_logs_exporter", name=exporters[0]):
        return entry_point.load()
    raise ConfigurationError(
        "OTEL_LOGS_EXPORTER", exporters[0], "the name of an exporter of logs, for example otlp or console"
    )


def _exporters(environ: Mapping[str, str]) -> list[str]:
    return [name.strip().lower() for name in environ.get("OTEL_LOGS_EXPORTER", "").split(",") if name.strip()]


def _is_off(environ: Mapping[str, str], exporters: list[str]) -> bool:
    return "none" in exporters or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


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
