"""One OTLP request and what its answer means: only a true acknowledgement is one."""

from __future__ import annotations

import email.utils
import gzip
import http.client
import io
import json
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

from mobius_otel.errors import MissingExtra
from mobius_otel.forks import importing
from mobius_otel.telemetry.audit.settings import Settings
from mobius_otel.telemetry.defaults import version_

__all__ = ["Answer", "GrpcTransport", "HttpTransport", "Transport", "transport_for"]

#: ``accepted``: the collector has every record. ``refused``: it will not have all of them, as they are.
#: ``failed``: it could not take them now, whatever they are. ``broken``: it failed, perhaps over one of them.
Verdict = Literal["accepted", "refused", "failed", "broken"]
_LARGEST_ANSWER: Final = 1 << 20
_LONGEST_WAIT: Final = 3600.0
# OTLP has 200 alone. Collectors that are in use answer 201 (Fluent Bit, by default), 202 (what queues) and 204 (Loki),
# and mean the same; 203, 205, 206 and what has no meaning yet are the words of something in between.
_ACKNOWLEDGING: Final = frozenset({200, 201, 202, 204})
_OTLP_TYPES: Final = frozenset({"application/x-protobuf", "application/protobuf", "application/json"})
_REFUSING: Final = frozenset({400, 413, 422})
_COMPRESS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda body: gzip.compress(body, 4, mtime=0), "deflate": lambda body: zlib.compress(body, 4),
}  # fmt: skip
_GRPC_PATH: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Args:
        verdict: See `Verdict`.
        reason: In a few words, without any content of the records.
        retry_after: Seconds that the collector asked to be left alone, where it did.
    """

    verdict: Verdict
    reason: str = ""
    retry_after: float | None = None


class Transport(Protocol):
    """Sends one request and says what its answer means."""

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send an encoded request, within `timeout` seconds; never raises."""
        ...

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        ...


def transport_for(settings: Settings) -> Transport:
    """Return the transport of a protocol.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """
    return GrpcTransport(settings) if settings.protocol == "grpc" else HttpTransport(settings)


class HttpTransport:
    """OTLP over HTTP, protobuf or JSON, on the standard library; redirects are not followed.

    Args:
        settings: Where to.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        _response_class()
        url = urlsplit(settings.endpoint)
        self._secure = url.scheme == "https"
        self._host, self._port = url.hostname or "", url.port
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._settings = settings
        self._compress = _COMPRESS.get(settings.compression)
        self._headers = {
            "User-Agent": f"mobius_otel/{version_}", **settings.headers,
            "Content-Type": "application/json" if settings.protocol == "http/json" else "application/x-protobuf",
        }  # fmt: skip
        if self._compress is not None:
            self._headers["Content-Encoding"] = settings.compression
        if self._secure:
            self._context()  # a file that cannot be read is told now
        self._connection: http.client.HTTPConnection | None = None

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send an encoded request, within `timeout` seconds; never raises."""
        reused = self._connection is not None
        if self._compress is not None:
            body = self._compress(body)
        try:
            try:
                return self._post(body, timeout)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not reused:  # a collector may end an idle connection; the second try has a new one
                    raise
                self.close()
                return self._post(body, timeout)
        except Exception as error:  # what a socket, TLS or a strange answer may raise is not a short list
            self.close()
            return Answer("failed", _why(error))

    def _post(self, body: bytes, timeout: float) -> Answer:
        end = time.monotonic() + timeout
        connection = self._connection or self._connect(timeout)
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request("POST", self._path, body, self._headers)
        response = connection.getresponse()
        content = _read(response, end)
        response.close()
        if response.will_close or content is None:
            self.close()
        if content is None:
            return Answer("failed", "its answer is cut, too long, or does not end")
        return _http_answer(response, content)

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._secure:
            context = self._context()
            self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
        else:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        self._connection.response_class = _Response
        return self._connection

    def _context(self) -> ssl.SSLContext:
        """Read the certificates: at every connection anew, because they are changed while a service runs."""
        own = self._settings
        context = ssl.create_default_context(cafile=own.certificate)
        if own.client_certificate:
            context.load_cert_chain(own.client_certificate, own.client_key)
        return context

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Response(http.client.HTTPResponse):
    """An answer whose head is whole: the standard library takes one that is cut, or holds what is no header."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _Lines(self.fp.detach())

    def begin(self) -> None:
        """Read the head.

        Raises:
            HTTPException: It is cut or garbled.
        """
        super().begin()
        if self.headers.defects:
            raise http.client.HTTPException("what stands in the head is no header")


class _Lines(io.BufferedReader):
    """Lines that end: a status line, a header, the size of a chunk, a trailer."""

    _any = False

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line; an empty one where there is none at all.

        Raises:
            HTTPException: It does not end, or none comes any more.
        """
        line = super().readline(size)
        if not line.endswith(b"\n") and (line or self._any):
            raise http.client.HTTPException("a line does not end")
        self._any = True
        return line


def _why(error: Exception) -> str:
    """Say what went wrong, without any content of records or answers."""
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return words
    return type(error).__name__


_WORDS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (socket.gaierror, "nobody knows its name"),
    (ConnectionRefusedError, "it refuses connections"),
    ((ConnectionResetError, BrokenPipeError), "it closed the connection without an answer"),
    (TimeoutError, "it did not answer in time"),
    (http.client.HTTPException, "its answer is cut, or is not HTTP"),
)


def _read(response: http.client.HTTPResponse, end: float) -> bytes | None:
    """Read an answer's body, but no flood and no endless trickle."""
    content = b""
    while len(content) <= _LARGEST_ANSWER and time.monotonic() < end:
        part = response.read1(65536)
        if not part:
            return content if response.length in (0, None) else None
        content += part
    return None


def _http_answer(response: http.client.HTTPResponse, content: bytes) -> Answer:
    status, headers = response.status, response.headers
    wait = _retry_after(headers.get("Retry-After"))
    if status in _ACKNOWLEDGING:
        kind = headers.get_content_type() if "Content-Type" in headers else ""
        if kind and kind not in _OTLP_TYPES:
            return Answer("failed", f"HTTP {status} of another type than OTLP's")
        return _acknowledged(content, kind)
    if status in _REFUSING:
        return Answer("refused", f"HTTP {status}", wait)
    if status in (500, 501):
        return Answer("broken", f"HTTP {status}", wait)
    return Answer("failed", f"HTTP {status}", wait)


def _retry_after(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT) if seconds == seconds else None  # noqa: PLR0124 - NaN


def _acknowledged(content: bytes, content_type: str) -> Answer:
    """Judge the body of a 2xx: it must be what OTLP says, and reject nothing."""
    read = _rejected_in_json if content_type == "application/json" else _rejected_in_protobuf
    rejected = read(content)
    if rejected is None:
        return Answer("failed", "the answer to an accepted request is not OTLP's")
    return Answer("refused", f"partial success: {rejected} rejected") if rejected else Answer("accepted")


def _rejected_in_json(content: bytes) -> int | None:
    try:
        partial = json.loads(content).get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _rejected_in_protobuf(content: bytes) -> int | None:
    response = _response_class()()
    try:
        response.ParseFromString(content)
    except Exception:  # protobuf's own error
        return None
    if content and not response.HasField("partial_success"):
        return None  # a proxy's "OK" may happen to parse as fields that nobody knows
    return int(response.partial_success.rejected_log_records)


def _response_class() -> Any:
    try:
        with importing:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    except ImportError:
        raise MissingExtra("shipping audit records", "otlp", "opentelemetry-proto") from None
    return ExportLogsServiceResponse


class GrpcTransport:
    """OTLP over gRPC.

    Args:
        settings: Where to.

    Raises:
        MissingExtra: The extra ``otlp`` is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        _response_class()
        try:
            with importing:
                import grpc
        except ImportError:
            raise MissingExtra("shipping audit records over gRPC", "otlp", "grpcio") from None
        self._grpc = grpc
        self._settings = settings
        scheme, separator, rest = settings.endpoint.partition("://")
        # A scheme of gRPC's own (dns, unix) stays; those of OTLP only say whether there is TLS.
        known = separator and scheme.lower() in ("http", "https")
        self._target = (rest if known else settings.endpoint).rstrip("/")
        self._metadata = [(name.lower(), value) for name, value in settings.headers.items()]
        self._channel: Any = None

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send an encoded request, within `timeout` seconds; never raises."""
        try:
            if self._channel is None:
                self._channel = self._connect()
            call = self._channel.unary_unary(_GRPC_PATH)
            content = call(body, timeout=timeout, metadata=self._metadata)
        except self._grpc.RpcError as error:
            return _grpc_answer(error)
        except Exception as error:
            self.close()
            return Answer("failed", type(error).__name__)
        return _acknowledged(content, "")

    def _connect(self) -> Any:
        options = [
            ("grpc.primary_user_agent", f"mobius_otel/{version_}"),
            ("grpc.enable_retries", 0),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.initial_reconnect_backoff_ms", 200),
        ]
        own, grpc = self._settings, self._grpc
        compression = grpc.Compression.Gzip if own.compression == "gzip" else None
        if not own.secure:
            return grpc.insecure_channel(self._target, options, compression)
        roots, key, chain = (_content(name) for name in (own.certificate, own.client_key, own.client_certificate))
        return grpc.secure_channel(self._target, grpc.ssl_channel_credentials(roots, key, chain), options, compression)

    def close(self) -> None:
        """Close the channel; the next request opens one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _content(path: str | None) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


def _grpc_answer(error: Any) -> Answer:
    try:
        code, details = error.code().name, str(error.details() or "")
    except Exception:
        return Answer("failed", type(error).__name__)
    reason = f"gRPC {code}"
    wait = _retry_info(error)
    if code in ("INVALID_ARGUMENT", "OUT_OF_RANGE"):
        return Answer("refused", reason, wait)
    if code == "RESOURCE_EXHAUSTED" and wait is None and "larger than max" in details:
        return Answer("refused", f"{reason}: too large")
    return Answer("broken" if code in ("INTERNAL", "UNKNOWN", "DATA_LOSS") else "failed", reason, wait)


def _retry_info(error: Any) -> float | None:
    """Return the ``google.rpc.RetryInfo`` of a refusal, in seconds."""
    try:
        with importing:
            from google.rpc.error_details_pb2 import RetryInfo
            from google.rpc.status_pb2 import Status

        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    if detail.TypeName() == RetryInfo.DESCRIPTOR.full_name:
                        delay = RetryInfo.FromString(detail.value).retry_delay
                        return min(max(0.0, float(delay.seconds + delay.nanos / 1e9)), _LONGEST_WAIT)
    except Exception:  # a wish that cannot be read is none
        return None
    return None
