"""``mobius-otel audit ship`` and ``retry``: send what no collector has."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mobius_otel import compat
from mobius_otel.cli.audit_keeping import existing_ledger
from mobius_otel.cli.common import Subparsers, add_json, add_ledger
from mobius_otel.cli.output import json_line, progress
from mobius_otel.errors import AuditUnavailable, ConfigurationError
from mobius_otel.telemetry.audit.ledger import Ledger
from mobius_otel.telemetry.audit.shipper import Shipper

__all__ = ["add_parsers"]

_WHERE = "Where to: OTEL_EXPORTER_OTLP_ENDPOINT and the other standard variables."
_DRAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.2


def add_parsers(verbs: Subparsers) -> None:
    """Add the commands to the group's parser."""
    ship = verbs.add_parser(
        "ship",
        help="send what no collector has",
        description=f"{_WHERE} Status 0: nothing is left; 1: something is.",
    )
    add_ledger(ship)
    ship.add_argument("--once", action="store_true", help="until nothing is left or the collector fails, not for ever")
    add_json(ship)
    ship.set_defaults(run=_ship)
    retry = verbs.add_parser(
        "retry",
        help="offer again what a collector refused",
        description=f"Records in quarantine, one by one. {_WHERE} Status 0: it has them all now; 1: not all.",
    )
    add_ledger(retry)
    add_json(retry)
    retry.set_defaults(run=_retry)


@contextmanager
def _shipper(args: argparse.Namespace) -> Iterator[tuple[Ledger, Shipper]]:
    with existing_ledger(args) as ledger:
        shipper = Shipper.from_environment(ledger, resource=compat.resource_attributes())
        if shipper is None:
            raise _no_collector()
        try:
            yield ledger, shipper
        finally:
            shipper.stop(_DRAIN_SECONDS if not args.once else 0.0)


def _no_collector() -> ConfigurationError:
    """Return why nothing is exported."""
    for name, forbids in (("OTEL_SDK_DISABLED", "true"), ("OTEL_LOGS_EXPORTER", "none")):
        value = os.environ.get(name, "")
        if forbids in value.lower():
            return ConfigurationError(name, value, "unset for this command: it says that nothing is exported")
    return ConfigurationError(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "", "the address of a collector",
        "For example: export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318",
    )  # fmt: skip


def _ship(args: argparse.Namespace) -> int:
    with _shipper(args) as (ledger, shipper):
        if not args.once:
            return _for_ever(shipper)
        with _watched(ledger):
            shipped = shipper.run_once()
            with contextlib.suppress(AuditUnavailable):
                ledger.end()  # of the stream that notes of streams went to: its end is to be shipped too
            if not shipper.failure:
                shipped += shipper.run_once()
        quarantined = ledger.quarantine_size()
        result = {
            "shipped": shipped, "left": ledger.backlog(), "quarantined": quarantined, "failure": shipper.failure,
        }  # fmt: skip
    _tell(args, result)
    return 1 if result["left"] else 0


def _retry(args: argparse.Namespace) -> int:
    args.once = True
    with _shipper(args) as (_, shipper):
        taken, left = shipper.retry()
        result = {"shipped": taken, "left": left, "quarantined": left, "failure": shipper.failure}
    _tell(args, result)
    return 1 if left else 0


def _tell(args: argparse.Namespace, result: dict[str, Any]) -> None:
    if args.json:
        json_line(result)
        return
    why = f": {result['failure']}" if result["failure"] and result["left"] else ""
    aside = f" ({result['quarantined']:,} in quarantine: mobius-otel audit stats)" if result["quarantined"] else ""
    print(f"{result['shipped']:,} records were taken, {result['left']:,} are left{aside}{why}")


def _for_ever(shipper: Shipper) -> int:
    """Ship until somebody ends it; what comes meanwhile too."""
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        shipper.start()
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


@contextmanager
def _watched(ledger: Ledger) -> Iterator[None]:
    """Draw how far it is, from another thread: the shipper tells nobody."""
    draw = progress("shipping")
    if draw is None:
        yield
        return
    ended, total = threading.Event(), ledger.backlog()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            draw(max(0, min(total - ledger.backlog(), total - 1)), total)
        draw(total - ledger.backlog(), total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
