"""``mobius-otel policy``: begin a policy file, check it, print its JSON Schema."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

from mobius_otel.cli.common import POLICY_HELP, Subparsers, add_json, shown_limits, shown_store
from mobius_otel.cli.output import json_line, note, talking_aside
from mobius_otel.cli.targets import missing_functions
from mobius_otel.errors import ConfigurationError, PolicyError
from mobius_otel.opening import check_policy, redaction_policy
from mobius_otel.policy import Policy, json_schema, load_policy
from mobius_otel.policy.lines import key_lines, shown_path
from mobius_otel.policy.loader import DEFAULT_FILE, ENVIRONMENT
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from mobius_otel.telemetry.redaction import failed_examples
from mobius_otel.web.limits import open_server
from mobius_otel.web.paths import PathRules

__all__ = ["add_parser"]


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    group = commands.add_parser("policy", help="begin a policy file, check it, print its schema")
    group.set_defaults(group=group)
    verbs = group.add_subparsers(title="commands", metavar="COMMAND")
    init = verbs.add_parser(
        "init",
        help="write a policy file to begin with",
        description="Write a policy file to begin with: it locks nobody out, and says what to switch on next. A file"
        " that is there is not replaced.",
    )
    init.add_argument("file", nargs="?", metavar="FILE", help=f"default: {ENVIRONMENT}, else {DEFAULT_FILE}")
    add_json(init)
    init.set_defaults(run=_init)
    check = verbs.add_parser(
        "check",
        help="check a policy file; status 0 good, 1 not good",
        description="Check a policy file. Functions that it names are looked for in the service's source, in this"
        " folder and on PYTHONPATH: nothing is imported, and one that is not there is a warning. The functions of"
        " redaction.detectors alone are imported, since the examples are tried; what these print goes to standard"
        " error.",
    )
    check.add_argument("file", nargs="?", metavar="FILE", help=POLICY_HELP)
    check.add_argument("--policy", metavar="FILE", help="the same, as the other commands have it")
    add_json(check)
    check.set_defaults(run=_check)
    schema = verbs.add_parser("schema", help="print the JSON Schema of the policy file")
    add_json(schema)
    schema.set_defaults(run=_schema)


_FIRST = """\
# What mobius_otel does for this service. Every key has a default, so leave out what you do not need.
# mobius-otel policy check checks it, mobius-otel run -- COMMAND starts with it, mobius-otel policy schema has all keys.

[headers]
preset = "api"                   # security headers where the service sets none; web: for pages

[audit]
ledger = "audit.db"              # what happens to keys and limits is written down here, tamper-evident
# routes = ["POST /v1/orders"]   # routes whose every answer is written down

[[rate_limit.rules]]
name = "per-client"
paths = ["/*"]
limit = "100/minute"
by = "client_address"
mode = "shadow"                  # counted and shown in telemetry; "enforce" answers 429

# [api_keys]                     # first: mobius-otel keys issue OWNER
# require = ["/v1/*"]            # paths that open for a key alone

# [metrics]
# path = "/metrics"              # for Prometheus; pip install 'mobius_otel[prometheus]'
"""


def _init(args: argparse.Namespace) -> int:
    path = Path(args.file or os.environ.get(ENVIRONMENT) or DEFAULT_FILE)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(_FIRST)
    except FileExistsError:
        raise ConfigurationError("FILE", str(path), "a file that is not there yet") from None
    except OSError as error:
        raise ConfigurationError("FILE", str(path), "in a folder that can be written", f"{error.strerror}.") from None
    if args.json:
        json_line({"file": str(path.absolute())})
        return 0
    named = "" if path == Path(DEFAULT_FILE) else f" --policy {shlex.quote(str(path))}"
    print(f"{path}: written. On: security headers, an audit ledger, redaction, a limit that only counts.")
    print(f"Next: read it, then mobius-otel run{named} -- COMMAND")
    return 0


def _check(args: argparse.Namespace) -> int:
    if args.file and args.policy and args.file != args.policy:
        raise ConfigurationError("--policy", args.policy, f"left out, or the same as FILE, {args.file!r}")
    args.file = args.file or args.policy
    try:
        policy = load_policy(args.file)
        if policy is not None:
            with talking_aside():
                check_policy(policy)
                _check_examples(policy)
    except PolicyError as error:
        if args.json:
            json_line({"ok": False, "file": error.file, "line": error.line, "key": error.key, "error": error.message})
        else:
            note(str(error))
        return 1
    except ConfigurationError as error:
        if args.json:
            json_line({"ok": False, "file": args.file, "line": None, "key": error.setting, "error": str(error)})
        else:
            note(str(error))
        return 1
    if policy is None:
        if args.json:
            json_line({"ok": False, "file": None, "error": "no policy file"})
        else:
            note("no policy file: mobius-otel policy init writes one; or name one: mobius-otel policy check FILE")
        return 1
    warnings = [*(str(error) for error in missing_functions(policy, [os.getcwd()])), *_opened(policy)]
    if args.json:
        json_line({"ok": True, "file": str(policy.file), "warnings": warnings})
    else:
        print(f"{policy.file}: good\n{_summary(policy)}", flush=True)
        for line in warnings:
            note(f"warning: {line}")
    return 0


def _opened(policy: Policy) -> list[str]:
    """Return what a policy says of keys that opens more than it looks like; it may be meant."""
    keys = policy.api_keys
    if policy.file is not None and not policy.wants_keys:
        written = key_lines(policy.file.read_text(encoding="utf-8-sig"))
        if ("api_keys", "require") in written or ("api_keys", "public") in written:
            return ["api_keys.require names no path: no key is demanded anywhere"]
    public = PathRules(keys.public, fold=False)
    opened = [path for path in keys.require if public.covers(path)]
    return [
        f"api_keys.public takes all of {path!r} of api_keys.require away: no key is demanded there" for path in opened
    ]


def _check_examples(policy: Policy) -> None:
    """Hold the policy to its own examples.

    Raises:
        PolicyError: One of them is not what was expected.
    """
    examples = [(example.value, example.expect) for example in policy.redaction.examples]
    if failed := failed_examples(redaction_policy(policy), examples):
        setting = f"redaction.examples[{failed[0].example}]" + (f".{failed[0].path}" if failed[0].path else "")
        text = f"{failed[0].got} is left, and not {failed[0].expected}. All that fail: mobius-otel redact test"
        raise PolicyError(text, file=shown_path(policy.file) if policy.file else "", key=setting)


_SURVIVES = {"process": "a killed process", "power": "a power cut", "sink": "the host: a collector has it"}


def _summary(policy: Policy) -> str:
    keys = policy.api_keys
    limits = ", ".join(shown_limits(policy))
    modes = (f"{name} {mode}" for name, mode in policy.audit.fail_modes.items())
    unkept = ", ".join([policy.audit.fail_mode, *modes])
    survives = f"{_SURVIVES[policy.audit.durability]}; where it cannot be kept: {unkept}"
    if not policy.audit.ledger:
        survives = "no end of the process: that takes a ledger"
    scoped = [f"{route} ({' '.join(scopes)})" for route, scopes in keys.scopes.items()]
    return "\n".join(
        [
            f"  keys demanded   {', '.join([*keys.require, *scoped]) or 'nowhere'}",
            f"  key store       {shown_store(policy) if policy.wants_keys else 'unused'}",
            f"  limits          {limits or 'none'}",
            f"  counted         {_counted(policy) if limits else 'nowhere'}",
            f"  audit ledger    {policy.audit.ledger or 'none: straight to the log pipeline, at most once'}",
            f"  audited routes  {', '.join(policy.audit.routes) or 'none'}",
            f"  audited calls   {', '.join(policy.audit.functions) or 'none'}",
            f"  audit survives  {survives}",
            f"  headers         {policy.headers.preset}",
            f"  metrics         {policy.metrics.path or 'no endpoint'}",
        ]
    )


def _counted(policy: Policy) -> str:
    backend = open_server(policy)
    shared = (
        f"by {backend.shown}, for all workers" if isinstance(backend, ValkeyBackend) else "in each worker by itself"
    )
    return (
        shared
        if policy.rate_limit.backend == "memory://"
        else f"{shared}; {policy.rate_limit.on_backend_error} without it"
    )


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=None if args.json else 2))
    return 0
