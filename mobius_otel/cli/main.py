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
    args, more = parser.parse_known_args(argv)
    if more:  # argparse takes no more files behind an option: "redact lookup --kind password -"
        options = [given.partition("=")[0] for given in more if given[:1] == "-" and given != "-"]
        if options or not hasattr(args, "files"):  # what is no option may be a secret
            parser.error(f"unrecognized arguments: {' '.join(options) or f'{len(more)} too many'}")
        args.files += more
    if getattr(args, "run", None) is None:
        (getattr(args, "group", None) or parser).print_help()
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    status = 0
    try:
        status = int(args.run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except MobiusError as error:
        print(f"mobius-otel: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader went away: `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status
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
