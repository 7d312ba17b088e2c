"""``mobius-otel run -- COMMAND``: start a service with the guard armed before anything of it runs."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mobius_otel.cli.common import Subparsers, add_json, add_policy
from mobius_otel.cli.output import json_line, note
from mobius_otel.cli.targets import are_demanded, missing_functions
from mobius_otel.errors import ConfigurationError
from mobius_otel.policy import ENVIRONMENT, find_policy, load_policy
from mobius_otel.runtime import EXIT_REFUSED

__all__ = ["add_parser"]

_AUTOSTART = Path(__file__).parent.parent / "autostart"
# Options of the interpreter that keep it from reading PYTHONPATH or sitecustomize: the guard would stay away.
_ISOLATING = set("IES")
_LAST = set("cm")  # what follows is the program's
_WITH_VALUE = set("WX")
_LONG_WITH_VALUE = "--check-hash-based-pycs"

_OPEN = (
    "mobius-otel: no policy file (mobius.toml, or MOBIUS_OTEL_POLICY): nothing is guarded. Off: API keys, rate limits,"
    " security headers, audit, redaction. On: OpenTelemetry alone, as OTEL_* say. To begin: mobius-otel policy init"
)


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="start a service with the guard in front of it",
        description="Start a service with the guard in front of it, by the policy file. No line of it is changed.",
        epilog="Example: mobius-otel run -- uvicorn shop:app",
    )
    add_policy(parser)
    add_json(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the service and its arguments")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        note("mobius-otel: what shall be run? For example: mobius-otel run -- uvicorn shop:app")
        return 2
    try:
        found = find_policy(args.policy)
        policy = load_policy(args.policy)
        executable = _executable(command)
        missing = missing_functions(policy, _folders(command)) if policy is not None else []
        if policy is not None and missing and are_demanded(policy):
            raise missing[0]
    except ConfigurationError as error:
        if args.json:
            json_line({"started": False, "error": str(error)})
        note(f"mobius-otel: the service does not start: {error}")
        return EXIT_REFUSED
    for warning in missing:
        note(f"mobius-otel: {warning}")
    if found is None:
        note(_OPEN)
    return _replace(executable, command, _environment(found))


def _folders(command: list[str]) -> list[str]:
    """Return where the modules of a service may lie: here, beside a script, in a folder that its arguments name."""
    named = [Path(argument.rpartition("=")[2]) for argument in command[1:]]
    beside = [path if path.is_dir() else path.parent for path in named if path.is_dir() or path.suffix == ".py"]
    return [os.getcwd(), *(str(folder.absolute()) for folder in beside)]


def _environment(policy: Path | None) -> dict[str, str]:
    """Return the environment in which every Python that is started arms the guard first."""
    environment = dict(os.environ)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(_AUTOSTART)]
    environment["PYTHONPATH"] = os.pathsep.join([str(_AUTOSTART), *paths])
    environment["MOBIUS_OTEL_RUN"] = "1"  # what mobius_otel_run.pth waits for, where a start script sets PYTHONPATH
    if policy is not None:
        environment[ENVIRONMENT] = str(policy)  # a service that changes its folder keeps its policy
    return environment


def _executable(command: list[str]) -> str:
    found = shutil.which(command[0])
    if found is None:
        raise ConfigurationError("COMMAND", command[0], "a program on PATH")
    option = _isolating(command[1:]) if Path(found).name.startswith("python") else None
    if option is not None:
        raise ConfigurationError(
            "COMMAND", option, "without an option that isolates Python", "The guard could not be armed."
        )
    return found


def _isolating(arguments: list[str]) -> str | None:
    """Return the argument of a Python that isolates it, or None; read as Python reads them."""
    left = iter(arguments)
    for argument in left:
        if not argument.startswith("-") or argument in {"-", "--"}:
            return None
        if argument.startswith("--"):
            if argument == _LONG_WITH_VALUE:
                next(left, None)
            continue
        for place, letter in enumerate(argument[1:], 2):
            if letter in _ISOLATING:
                return argument
            if letter in _LAST:
                return None
            if letter in _WITH_VALUE:
                if place == len(argument):  # its value is the next argument
                    next(left, None)
                break
    return None


def _replace(executable: str, command: list[str], environment: dict[str, str]) -> int:
    """Become the service, so that signals and the process id are its own."""
    sys.stdout.flush()
    if os.name == "posix":
        environment["MOBIUS_OTEL_RUN_PID"] = str(os.getpid())
        os.execve(executable, command, environment)
    try:
        return subprocess.run([executable, *command[1:]], env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 130
