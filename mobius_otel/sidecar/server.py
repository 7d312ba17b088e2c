"""The sidecar's doors: OTLP over HTTP and gRPC comes in, ``/metrics`` goes out.

Every request is bounded: its size as sent and as unpacked, how long it may take to arrive, how many are read
at once. What is wrong with a request is its sender's: 4xx, one line, and everybody else's numbers go on.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.sidecar.decode import Decoder, Rejected, messages
from mobius_otel.sidecar.merge import Merge, Merged
from mobius_otel.sidecar.page import page_app
from mobius_otel.sidecar.state import Journal
from mobius_otel.telemetry.redaction import Redactor

__all__ = ["Limits", "Sidecar"]

_log = logging.getLogger("mobius_otel")
_PROTOBUF: Final = "application/x-protobuf"
#: How many bodies of more than _SMALL bytes are read at once, so that what all of them hold is bounded.
_AT_ONCE: Final = 4
_SMALL: Final = 1 << 20
_CONNECTIONS: Final = 512
_READ_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sidecar takes.

    Args:
        body: Bytes of a request as it is sent.
        unpacked: Bytes of a request once it is decompressed.
        series: Series that are kept.
        workers: Workers that are remembered.
    """

    body: int = 16 << 20
    unpacked: int = 64 << 20
    series: int = 100_000
    workers: int = 1024


class Sidecar:
    """Merges the metrics of all workers of a service and serves them as one page. A context manager.

    Args:
        host: The address to listen on; anything but loopback is open to whoever reaches it.
        port: The port of OTLP over HTTP and of ``/metrics``; 0: any that is free.
        grpc_port: The port of OTLP over gRPC; 0: any that is free; None: no gRPC.
        state: The file in which counters survive a restart; None: they do not.
        service: The service's name; empty: whoever reports first.
        merges: How gauges are merged, by the metric's name: ``sum``, ``max``, ``last`` or ``worker``.
        redactor: What attributes pass before they are kept; None: the default policy's.
        limits: What it takes.

    Raises:
        ConfigurationError: A port is taken, or the state file cannot be used.
        MissingExtra: The extras ``otlp`` and ``prometheus`` are not installed.

    Example:
        >>> with Sidecar(port=0, grpc_port=None) as sidecar:
        ...     sidecar.endpoint.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 9464,
        *,
        grpc_port: int | None = None,
        state: str | None = None,
        service: str = "",
        merges: dict[str, Merge] | None = None,
        redactor: Redactor | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._otlp = messages()
        self._limits = limits or Limits()
        self.merged = Merged(max_series=self._limits.series, max_workers=self._limits.workers, merges=merges)
        self._journal = Journal(state, self.merged) if state is not None else None
        known = self._journal.service if self._journal is not None else ""
        if service and known and service != known:
            raise ConfigurationError("--state", str(state), f"the state of {service!r}; it is of {known!r}")
        self._decoder = Decoder(self.merged, redactor or Redactor(), service or known)
        started, began = time.time(), time.monotonic()
        self._clock: Clock = lambda: started + time.monotonic() - began  # a clock that is put back buries no worker
        self._page = page_app(self.merged, self._clock)
        self._reading = threading.BoundedSemaphore(_AT_ONCE)
        self._threads: list[threading.Thread] = []
        self._grpc: Any = None
        try:
            self._http = _Server((host, port), type("Handler", (_Handler,), {"sidecar": self}))
        except OSError as error:
            raise ConfigurationError(
                "--port", f"{host}:{port}", "an address that nobody else listens on", str(error.strerror)
            ) from None
        #: Where workers send to and Prometheus scrapes.
        self.endpoint = f"http://{_bracketed(host)}:{self._http.server_port}"
        #: Where workers send to over gRPC; None without gRPC.
        self.grpc_endpoint: str | None = None
        if grpc_port is not None:
            self._open_grpc(host, grpc_port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve, in threads of its own."""
        if self._grpc is not None:
            self._grpc.start()
        thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), name="mobius-otel-sidecar", daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """Stop serving and write the state down."""
        if self._grpc is not None:
            self._grpc.stop(1).wait()
        if self._threads:
            self._http.shutdown()
        self._http.server_close()
        if self._journal is not None:
            with self.merged.lock:
                self._journal.close()
                self._journal = None

    def status(self) -> dict[str, Any]:
        """Return what ``/healthz`` answers."""
        with self.merged.lock:
            return {
                "service": self._decoder.service,
                "workers": len(self.merged.alive(self._clock())),
                "series": len(self.merged.series),
                "rejected_points": self._decoder.rejected,
            }

    # --- taking ---------------------------------------------------------------------------------------------

    def take(self, request: Any) -> Any:
        """Merge one OTLP request and return its response.

        Raises:
            Rejected: It is another service's.
        """
        response = self._otlp.ExportMetricsServiceResponse()
        with self.merged.lock:
            for export, refused, why in self._decoder.read(request):
                now = self._clock()
                news = self.merged.apply(export, now)
                if self._journal is not None:
                    self._journal.write(news, now, self._decoder.service)
                if refused:
                    response.partial_success.rejected_data_points += refused
                    response.partial_success.error_message = why
        return response

    def parse(self, body: bytes, encoding: str) -> Any:
        """Return the request that `body` holds.

        Raises:
            Rejected: It cannot be read, or is too large.
        """
        if encoding in {"gzip", "deflate"}:
            unpack = zlib.decompressobj(31 if encoding == "gzip" else zlib.MAX_WBITS)
            try:
                whole = unpack.decompress(body, self._limits.unpacked + 1)
            except zlib.error:
                raise Rejected(400, f"the body is no {encoding}") from None
            if len(whole) > self._limits.unpacked:
                raise Rejected(413, f"unpacked, a body may have {self._limits.unpacked} bytes")
            if not unpack.eof:
                raise Rejected(400, f"the {encoding} ends too early")
            body = whole
        elif encoding not in {"", "identity"}:
            raise Rejected(415, "Content-Encoding is gzip, deflate or none")
        try:
            return self._otlp.ExportMetricsServiceRequest.FromString(body)
        except Exception:  # however it is broken
            raise Rejected(400, "the body is no ExportMetricsServiceRequest") from None

    def _open_grpc(self, host: str, port: int) -> None:
        try:
            import grpc
        except ImportError:
            raise MissingExtra("--grpc-port", "otlp", "grpcio") from None

        def export(request: Any, context: Any) -> Any:
            try:
                return self.take(request)
            except Rejected as refused:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, refused.reason)

        handler = grpc.unary_unary_rpc_method_handler(
            export,
            request_deserializer=self._otlp.ExportMetricsServiceRequest.FromString,
            response_serializer=self._otlp.ExportMetricsServiceResponse.SerializeToString,
        )
        name = "opentelemetry.proto.collector.metrics.v1.MetricsService"
        server = grpc.server(
            ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mobius-otel-sidecar"),
            [grpc.method_handlers_generic_handler(name, {"Export": handler})],
            options=[("grpc.max_receive_message_length", self._limits.body), ("grpc.so_reuseport", 0)],
        )
        try:
            bound = server.add_insecure_port(f"{_bracketed(host)}:{port}")
        except RuntimeError:
            bound = 0
        if not bound:
            self._http.server_close()
            raise ConfigurationError("--grpc-port", f"{host}:{port}", "an address that nobody else listens on")
        self._grpc = server
        self.grpc_endpoint = f"http://{_bracketed(host)}:{bound}"

    def __repr__(self) -> str:
        return f"Sidecar({self.endpoint!r}, {len(self.merged.series)} series)"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        import socket

        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._open = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._open.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._open.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent: a client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    """Answers workers and Prometheus; :class:`Sidecar` makes a class of its own below it."""

    sidecar: Sidecar
    protocol_version = "HTTP/1.1"
    timeout = _READ_SECONDS
    disable_nagle_algorithm = True
    server_version = "mobius-otel"
    sys_version = ""

    def do_POST(self) -> None:
        try:
            if self.path.partition("?")[0] != "/v1/metrics":
                raise Rejected(404, "metrics are taken at /v1/metrics")
            if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _PROTOBUF:
                raise Rejected(415, f"Content-Type is {_PROTOBUF}")
            length = self._length(self.sidecar._limits.body)
            encoding = self.headers.get("Content-Encoding", "").strip().lower()
            if length <= _SMALL:
                response = self.sidecar.take(self.sidecar.parse(self._body(length), encoding))
            else:
                with self.sidecar._reading:
                    response = self.sidecar.take(self.sidecar.parse(self._body(length), encoding))
        except Rejected as refused:
            self.close_connection = True  # what is left of the body is not read
            self._answer(refused.status, f"{refused.reason}\n".encode(), "text/plain; charset=utf-8")
        else:
            self._answer(200, response.SerializeToString(), _PROTOBUF)

    def _length(self, most: int) -> int:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length:
            raise Rejected(411, "a body comes with Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise Rejected(400, "Content-Length is a number")
        if int(length[:20]) > most:
            raise Rejected(413, f"a body may have {most} bytes")
        return int(length)

    def _body(self, length: int) -> bytes:
        parts, missing, end = [], length, time.monotonic() + _READ_SECONDS
        while missing:
            try:
                part = self.rfile.read1(missing)
            except TimeoutError:
                part = b""
            if not part or time.monotonic() > end:
                raise Rejected(408, f"the body did not arrive within {_READ_SECONDS:.0f} s")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._scrape()
        elif path == "/healthz":
            self._answer(200, json.dumps(self.sidecar.status()).encode() + b"\n", "application/json")
        else:
            self._answer(404, b"/metrics is here, and /healthz\n", "text/plain; charset=utf-8")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _scrape(self) -> None:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": "",
            "HTTP_ACCEPT": self.headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": self.headers.get("Accept-Encoding", ""),
        }
        started: list[Any] = []
        body = b"".join(self.sidecar._page(environ, lambda status, headers, _=None: started.append((status, headers))))
        status, headers = started[0]
        self._answer(int(status.split(" ", 1)[0]), body, None, headers)

    def _answer(self, status: int, body: bytes, content_type: str | None, headers: Any = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Keep silent: a request's line is its sender's."""
