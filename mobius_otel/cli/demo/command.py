"""``mobius-otel demo``: a collector, a service that knows nothing of us, its clients; then what became of it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from mobius_otel.cli.common import Subparsers, add_json
from mobius_otel.cli.demo.report import Report, wait_for_telemetry, write_report
from mobius_otel.cli.demo.story import Step, Story
from mobius_otel.cli.demo.view import View, choose_view
from mobius_otel.cli.demo.world import DemoFailed, Secrets, World, find_shop, need_packages
from mobius_otel.cli.output import json_line, note

__all__ = ["add_parser", "play"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="see it work: a collector, a guarded service, its clients, and what became of it",
        description="Start an OTLP collector and an example service under `mobius-otel run`, drive it as clients"
        " would, and show what arrived. Status 0: everything was as it should be. It leaves nothing behind.",
    )
    add_json(parser)
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, and say where")
    parser.add_argument(
        "--collector", choices=["auto", "rotel", "builtin"], default="auto",
        help="which collector; auto: rotel where it runs, else a small receiver of our own",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Args:
        args: ``json``, ``keep``, ``collector``.

    Returns:
        0: everything was as it should be; 1: something was not; 130: it was interrupted.

    Raises:
        ConfigurationError: A package that the demo drives is not installed.
    """
    need_packages()
    find_shop()
    try:
        with _ending_as_interrupt(), World(Secrets.make(), args.collector) as world:
            with choose_view(args.json) as view:
                report = play(world, view, stop=not args.keep)
                view.finish(report)
            if args.keep:
                _keep(world, quiet=args.json)
            return 0 if report.ok else 1
    except BrokenPipeError:  # the reader went away; the command line knows what to do
        raise
    except (DemoFailed, OSError) as error:
        if args.json:
            json_line({"ok": False, "problems": [str(error)]})
        else:
            note(f"mobius-otel demo: {error}")
        return 1
    except KeyboardInterrupt:
        note("mobius-otel demo: ended; nothing is left behind")
        return 0 if args.keep else 130


def play(world: World, view: View, *, stop: bool = True, patience: float = 15.0) -> Report:
    """Start everything, let the story happen, and report.

    Args:
        world: Where.
        view: Who is told.
        stop: Whether the service ends before its files are looked at.
        patience: The longest wait for telemetry, in seconds.

    Raises:
        DemoFailed: Something did not start, or did not answer.
    """
    started = time.monotonic()
    steps: list[Step] = []
    world.start_collector()
    if world.remark:
        view.say(f"{world.remark}: a small receiver in another process stands in for it")
    view.say(f"collector: {world.collector}, {world.endpoint}, a process of its own")
    world.write_service()
    story = Story(world)
    for step in story.issue():
        steps.append(step)
        view.step(step)
    world.start_service()
    for step in story.run():
        steps.append(step)
        view.step(step)
    wait_for_telemetry(world, story, patience)
    page = world.ask("GET", "/metrics").body.decode("utf-8", "replace")
    if broken := world.broken():
        raise DemoFailed(broken)
    if stop:
        world.stop_service()
    return write_report(world, story, steps, page, started)


def _keep(world: World, *, quiet: bool) -> None:
    """Say where everything is, and wait until somebody ends it.

    Raises:
        DemoFailed: Something ended by itself.
    """
    _, key = world.command("keys", "issue", "you", "--scope", "read", "--scope", "refund")
    grpc = f", {world.grpc_endpoint} (OTLP/gRPC)" if world.grpc_endpoint else ""
    if quiet:
        json_line(
            {"service": world.url, "collector": world.endpoint, "folder": str(world.folder), "key": key["secret"]}
        )
    else:
        print(
            "\nIt goes on until Ctrl-C:\n"
            f"  the shop       {world.url}, its metrics: {world.url}/metrics\n"
            f"  the collector  {world.endpoint} (OTLP/HTTP){grpc}\n"
            f"  the files      {world.folder}\n"
            f"  to try         curl -i {world.url}/v1/items -H 'X-API-Key: {key['secret']}'\n"
            f"                 mobius-otel audit tail -f {world.ledger}",
            flush=True,
        )
    while not (broken := world.broken()):
        time.sleep(0.5)
    raise DemoFailed(broken)


@contextlib.contextmanager
def _ending_as_interrupt() -> Iterator[None]:
    """Let a request to end arrive as Ctrl-C does, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
