"""``mobius-otel sidecar``: one ``/metrics`` for all workers of a service."""

from __future__ import annotations

import argparse
import signal
import threading
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from mobius_otel.cli.common import Subparsers, add_json, add_policy, policy_of
from mobius_otel.cli.output import json_line, note, talking_aside
from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.opening import redaction_policy
from mobius_otel.policy import Policy
from mobius_otel.telemetry.redaction import Redactor

__all__ = ["add_parser"]

_HOST, _PORT = "127.0.0.1", 9464
_MERGES = ("sum", "max", "last", "worker")


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sidecar",
        help="serve one /metrics for all workers of a service",
        description="Take OTLP metrics from all workers of a service, merge them, and serve one /metrics.",
        epilog='Example: mobius-otel sidecar, with [metrics] sidecar = "http://127.0.0.1:9464" in the service\'s'
        " policy; or point the service's OTEL_EXPORTER_OTLP_METRICS_ENDPOINT to http://127.0.0.1:9464/v1/metrics",
    )
    parser.add_argument("--host", help=f"where to listen (default: that of [metrics] sidecar, else {_HOST})")
    parser.add_argument(
        "--port", type=_number, help=f"OTLP over HTTP and /metrics (default: the policy's, else {_PORT})"
    )
    parser.add_argument("--grpc-port", type=_number, metavar="PORT", help="also take OTLP over gRPC, here")
    parser.add_argument(
        "--state", default="mobius-sidecar.state", metavar="FILE",
        help='where counters survive a restart (default: mobius-sidecar.state; "none": nowhere)',
    )  # fmt: skip
    parser.add_argument("--service", default="", metavar="NAME", help="whose metrics (default: who reports first)")
    parser.add_argument(
        "--gauge", action="append", default=[], metavar="NAME=RULE", type=_gauge,
        help="how a gauge is merged: sum, max, last, or worker, one series each (default: worker)",
    )  # fmt: skip
    parser.add_argument("--max-series", type=_number, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument("--max-workers", type=_number, default=1024, metavar="N", help="(default: 1024)")
    add_policy(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _gauge(text: str) -> tuple[str, str]:
    name, _, rule = text.partition("=")
    if not name or rule not in _MERGES:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=RULE with one of {', '.join(_MERGES)}")
    return name, rule


def _run(args: argparse.Namespace) -> int:
    try:
        from mobius_otel.sidecar import Limits, Sidecar
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("prometheus_client"):
            raise
        raise MissingExtra("mobius-otel sidecar", "prometheus", "prometheus_client") from None

    policy = policy_of(args)
    host, port = _address(policy, args)
    merges: Any = {**policy.metrics.gauges, **dict(args.gauge)}
    with talking_aside():
        redaction = redaction_policy(policy)
    sidecar = Sidecar(
        host,
        port,
        grpc_port=args.grpc_port,
        state=None if args.state == "none" else args.state,
        service=args.service,
        merges=merges,
        redactor=Redactor(redaction),
        limits=Limits(series=args.max_series, workers=args.max_workers),
    )
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, end)
    with sidecar:
        if args.json:
            json_line({"endpoint": sidecar.endpoint, "grpc_endpoint": sidecar.grpc_endpoint, "state": args.state})
        else:
            print(f"metrics of all workers: {sidecar.endpoint}/metrics")
            print(f"workers report to:      {sidecar.endpoint}/v1/metrics (OTLP over HTTP)")
            if sidecar.grpc_endpoint:
                print(f"                        {sidecar.grpc_endpoint} (OTLP over gRPC)")
            print(f"counters survive in:    {args.state}", flush=True)
        if host not in {_HOST, "localhost", "::1"}:
            note(f"mobius-otel: {host} is not loopback: whoever reaches it can read and report metrics")
        while not ended.wait(3600):
            pass
    return 0


def _address(policy: Policy, args: argparse.Namespace) -> tuple[str, int]:
    host, port = _HOST, _PORT
    if policy.metrics.sidecar is not None:
        parts = urlsplit(policy.metrics.sidecar)
        host, port = parts.hostname or host, parts.port or port
    if args.host is not None:
        host = args.host
    if args.port is not None:
        port = args.port
    if port > 65535 or (args.grpc_port or 0) > 65535:
        raise ConfigurationError("--port", port, "a port, 0 to 65535")
    return host, port
