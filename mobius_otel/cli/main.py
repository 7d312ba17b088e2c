"""The command line: parses, calls one module per command, turns errors into one line and a status.

Status: 0 done, 1 the answer is no (a broken ledger, a failed check), 2 it could not be done, 78 a service
that must not start.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from mobius_otel.cli import audit, conventions, demo, doctor, keys, policy, redact, run, sidecar
from mobius_otel.cli.output import speak_any_encoding
from mobius_otel.errors import MobiusError
from mobius_otel.telemetry.defaults import version_

__all__ = ["main"]

_COMMANDS = (demo, run, keys, audit, redact, policy, conventions, sidecar, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments; default: those of the process.
    """
    speak_any_encoding()
    parser = _parser()
    args = parser.parse_args(argv)
    if getattr(args, "run", None) is None:
        (getattr(args, "group", None) or parser).print_help()
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return int(status)
    except MobiusError as error:
        print(f"mobius-otel: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader went away: `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mobius-otel",
        description="Security observability over OpenTelemetry: API keys, rate limits, audit, metrics.",
        epilog="To see it work: mobius-otel demo",
    )
    parser.add_argument("--version", action="version", version=f"mobius-otel {version_}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser
