"""``mobius-otel doctor``: what would hold here, and what would not."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Literal
from urllib.parse import urlsplit

from mobius_otel import compat
from mobius_otel.cli.common import Subparsers, add_json, add_policy, shown_limits, shown_store
from mobius_otel.cli.doctor_audit import audit_findings
from mobius_otel.cli.output import json_line, table, talking_aside
from mobius_otel.errors import ConfigurationError, KeyNotFound, KeyStoreUnavailable, MobiusError, shown
from mobius_otel.instrumentation.reach import SERVERS, UNREACHED
from mobius_otel.opening import check_policy, open_keys, open_ledger
from mobius_otel.policy import Policy, load_policy
from mobius_otel.secret_files import why_exposed
from mobius_otel.security.api_keys.digests import NO_PEPPER
from mobius_otel.security.rate_limit.backends import ValkeyBackend
from mobius_otel.telemetry.defaults import version_
from mobius_otel.web.limits import open_server

__all__ = ["add_parser"]


_SIGNALS = ("TRACES", "METRICS", "LOGS")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``ok``, ``warn`` (works, but not as one may think) or ``fail``."""

    what: str
    verdict: Literal["ok", "warn", "fail"]
    text: str


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor", help="look at policy, stores and environment, and say what is missing; status 1 when something fails"
    )
    add_policy(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    log = logging.getLogger("mobius_otel")
    before = log.level
    log.setLevel(logging.ERROR)  # what is opened warns of what the findings say
    try:
        with talking_aside():
            findings = _findings(args)
    finally:
        log.setLevel(before)
    if args.json:
        json_line({"ok": all(f.verdict != "fail" for f in findings), "findings": [asdict(f) for f in findings]})
    else:
        table(["", "what", "found"], [[f.verdict, f.what, f.text] for f in findings])
    return 1 if any(f.verdict == "fail" for f in findings) else 0


def _findings(args: argparse.Namespace) -> list[Finding]:
    findings = [_versions()]
    try:
        policy = load_policy(args.policy)
        if policy is not None:
            check_policy(policy)
    except MobiusError as error:
        findings.append(Finding("policy", "fail", str(error)))
        policy = None
    else:
        if policy is None:
            findings.append(
                Finding("policy", "warn", "no policy file: nothing is guarded; mobius-otel policy init writes one")
            )
    if policy is not None:
        findings.append(Finding("policy", "ok", str(policy.file)))
        findings.extend(_secret_files())
        for check in (_keys, _pepper, _ledger, _audit, _metrics, _limits):
            findings.extend(check(policy))
    findings.extend(_telemetry())
    findings.extend(_frameworks(policy))
    return findings


def _versions() -> Finding:
    python = ".".join(map(str, sys.version_info[:3]))
    sdk = compat.installed("opentelemetry-sdk")
    return Finding("versions", "ok", f"mobius_otel {version_}, Python {python}, opentelemetry-sdk {sdk}")


def _opened(what: str, open_it: Callable[[], object], good: str) -> Finding:
    try:
        found = open_it()
    except MobiusError as error:
        return Finding(what, "fail", str(error))
    close = getattr(found, "close", None)
    if close is not None:
        close()
    return Finding(what, "ok", good)


def _keys(policy: Policy) -> list[Finding]:
    if not policy.wants_keys:
        return [Finding("api keys", "warn", "the policy demands no key anywhere: [api_keys] require")]
    opened = _key_store(policy)
    if policy.api_keys.store == "memory://":
        return [opened, Finding("key store", "warn", "memory:// forgets every key at the end of its process")]
    if opened.verdict == "ok" and policy.api_keys.sink is None:
        return [opened, *_ending(policy)]
    return [opened]


def _key_store(policy: Policy) -> Finding:
    """Ask the key store for something, so that one that cannot be reached is found."""
    try:
        with open_keys(policy) as manager, contextlib.suppress(KeyNotFound):
            manager.get("key_0")
    except MobiusError as error:
        why = str(error.__cause__) if isinstance(error, KeyStoreUnavailable) else ""
        return Finding("key store", "fail", str(error) if why in str(error) else f"{error} {why}")
    store = shown_store(policy)
    return Finding("key store", "ok", repr(manager.store) if store.endswith("…") else store)


def _ending(policy: Policy) -> list[Finding]:
    """Say how many keys end soon, where nothing rotates them by itself."""
    with open_keys(policy) as manager:
        census, _ = manager.census()
    soon = census.expiring[7 * 86400.0]
    if not soon:
        return []
    return [
        Finding("keys", "warn", f"{soon} active keys end within 7 days, and there is no sink: keys rotate, or maintain")
    ]


def _pepper(policy: Policy) -> list[Finding]:
    if not policy.wants_keys:
        return []
    if not any(name in os.environ for name in ("MOBIUS_OTEL_KEY_PEPPER", "MOBIUS_OTEL_KEY_PEPPER_FILE")):
        return [Finding("pepper", "warn", "MOBIUS_OTEL_KEY_PEPPER is not set: digests are stored without a pepper")]
    found = [Finding("pepper", "ok", "keys are stored as digests under the pepper")]
    try:
        with open_keys(policy) as manager:
            counted = dict(manager.census()[1])
    except ConfigurationError:
        return []  # the key store's finding says why
    except MobiusError:
        return found  # the key store has a finding of its own
    newest, *also = manager.pepper_labels
    for label, count in counted.items():
        if label in also:
            found.append(Finding("pepper", "warn", f"{count} keys are still under a former pepper ({label}): keep it"))
        elif label not in {newest, ""}:
            lost = "without a pepper" if label == NO_PEPPER else f"under a pepper that is not given ({label})"
            also_given = "none" if label == NO_PEPPER else "the one that they were made with"
            way_out = f"issue them anew, or MOBIUS_OTEL_KEY_PEPPER_ALSO={also_given}"
            found.append(Finding("pepper", "warn", f"keys that are {lost}: {count}. They open nothing; {way_out}"))
    if also and not any(counted.get(label) for label in also):
        found.append(
            Finding("pepper", "ok", "no key is under a former pepper any more: MOBIUS_OTEL_KEY_PEPPER_ALSO may go")
        )
    return found


def _secret_files() -> list[Finding]:
    """Say which files of secrets others may read."""
    names = [f"MOBIUS_OTEL_{name}_FILE" for name in ("KEY_PEPPER", "KEY_PEPPER_ALSO", "AUDIT_KEY")]
    exposed = [(name, why_exposed(os.environ.get(name, ""))) for name in names]
    return [Finding("secret file", "warn", f"{name}: {why}") for name, why in exposed if why]


def _ledger(policy: Policy) -> list[Finding]:
    if policy.audit.ledger is None:
        return [Finding("audit ledger", "warn", "none: audit events go straight to the log pipeline, at most once")]
    return [_opened("audit ledger", lambda: open_ledger(policy), policy.audit.ledger)]


def _audit(policy: Policy) -> list[Finding]:
    return [Finding(*found) for found in audit_findings(policy)]


def _metrics(policy: Policy) -> list[Finding]:
    if policy.metrics.path is None:
        return []
    if compat.installed("opentelemetry-exporter-prometheus") is None:
        return [Finding("metrics", "fail", "metrics.path needs: pip install 'mobius_otel[prometheus]'")]
    whose = f"of all workers, by {policy.metrics.sidecar}" if policy.metrics.sidecar else "for each worker by itself"
    return [Finding("metrics", "ok", f"{policy.metrics.path}, {whose}; in the place of a page of the service")]


def _limits(policy: Policy) -> list[Finding]:
    names = ", ".join(shown_limits(policy))
    if not names:
        return [Finding("rate limits", "warn", "none: [[rate_limit.rules]]")]
    try:
        backend = open_server(policy)
    except MobiusError as error:
        return [Finding("rate limits", "fail", str(error))]
    if not isinstance(backend, ValkeyBackend):
        return [Finding("rate limits", "ok", f"{names}; counted in each worker by itself")]
    found = Finding("rate limits", "ok", f"{names}; counted by {backend.shown} for all workers")
    without = policy.rate_limit.on_backend_error
    with backend:
        missing = backend.check()
    if missing is not None:
        text = f"{backend.shown} cannot count ({missing}); without it: {without}"
        return [found, Finding("rate limit server", "warn", text)]
    return [found, Finding("rate limit server", "ok", f"{backend.shown} counts; without it: {without}")]


def _telemetry() -> list[Finding]:
    found = []
    if compat.sdk_disabled():
        found.append(Finding("telemetry", "warn", "OTEL_SDK_DISABLED=true: no telemetry; guard and ledger stay"))
    names = [f"OTEL_EXPORTER_OTLP_{part}ENDPOINT" for part in ("", "TRACES_", "METRICS_", "LOGS_")]
    given = [name for name in names if os.environ.get(name)]
    found.extend(_collector(name, os.environ[name]) for name in given)
    if not given:
        found.append(Finding("collector", "warn", "OTEL_EXPORTER_OTLP_ENDPOINT is not set: nothing leaves by OTLP"))
    if compat.installed("opentelemetry-exporter-otlp-proto-http") is None:
        found.append(Finding("otlp", "fail" if given else "warn", "not there: pip install 'mobius_otel[otlp]'"))
    found.extend(_named())
    conventions = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    if compat.has_configurator() and "http" not in [name.strip() for name in conventions]:
        text = (
            "a distribution makes the meter provider: every Host header of a client becomes a metric series of its own;"
        )
        found.append(Finding("metric series", "warn", f"{text} OTEL_SEMCONV_STABILITY_OPT_IN=http leaves it out"))
    found.append(
        Finding(
            "doors",
            "ok",
            "mobius-otel run arms the guard before anything else; under opentelemetry-instrument it is armed when the"
            " hooks are reached: an unknown exporter name keeps them from being reached, and the service runs open",
        )
    )
    return found


def _named() -> list[Finding]:
    """Say which exporters and propagators are named and not there: OpenTelemetry's SDK is then not set up at all."""
    groups = {f"OTEL_{kind}_EXPORTER": f"opentelemetry_{kind.lower()}_exporter" for kind in _SIGNALS}
    found = []
    for variable, group in {**groups, "OTEL_PROPAGATORS": "opentelemetry_propagator"}.items():
        known = {name for name in entry_points(group=group).names if not name.startswith("mobius_")} | {"none"}
        known |= {"otlp"} if variable in groups else set()  # what is missing for that one has a finding of its own
        named = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
        missing = [name for name in named if name not in known and name.lower() != "none"]
        if missing:
            text = f"{variable} names {', '.join(map(shown, missing))}, which is not installed: no telemetry leaves"
            found.append(Finding("exporters", "fail", f"{text}. There are: {', '.join(sorted(known))}"))
    return found


def _collector(name: str, endpoint: str) -> Finding:
    protocol = os.environ.get(name.replace("ENDPOINT", "PROTOCOL")) or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    grpc = protocol == "grpc" or (not protocol and ":4317" in endpoint)  # it needs no scheme
    parts = urlsplit(f"http://{endpoint}" if grpc and "://" not in endpoint else endpoint)
    try:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = "", 0
    if not host or parts.scheme not in {"http", "https"}:
        return Finding("collector", "fail", f"{name} is no URL such as http://localhost:4318: nothing leaves by it")
    shown = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=2):
            return Finding("collector", "ok", f"{shown} answers")
    except OSError as error:
        return Finding("collector", "warn", f"{shown} does not answer ({error.strerror or 'timeout'})")


def _is_there(name: str) -> bool:
    return find_spec(name.partition(".")[0]) is not None  # of a submodule it would import the package


def _frameworks(policy: Policy | None) -> list[Finding]:
    present = [name for name in ("fastapi", "starlette", "flask", "django") if find_spec(name) is not None]
    servers = [name for name in SERVERS if find_spec(name) is not None]
    others = f"other applications are guarded where one of these serves them: {', '.join(SERVERS)}"
    if not present and not servers:
        what = Finding("frameworks", "warn", f"none of FastAPI, Starlette, Flask, Django is installed; {others}")
    else:
        what = Finding("frameworks", "ok", f"{', '.join(present) or 'none'}; {others}; elsewhere take the middleware")
    found = [what, _unreached(policy, alone=what.verdict != "ok")]
    instrumented = [name for name in present if name != "django"]  # its own instrumentation is not of our extra
    missing = [n for n in instrumented if compat.installed(f"opentelemetry-instrumentation-{n}") is None]
    if missing:
        found.append(Finding("server spans", "warn", f"not for {', '.join(missing)}: pip install 'mobius_otel[http]'"))
    return found


def _unreached(policy: Policy | None, *, alone: bool) -> Finding:
    """Name what serves open under the guard; where there is nothing else, what a policy demands can hold nowhere."""
    names = [name for name in UNREACHED if _is_there(name)]
    only_python = names == ["http.server"]
    text = f"{', '.join(names)}: what they serve stays open under the guard; mobius.guard.armed is then 0,"
    text += " and the log says so"
    demands = policy is not None and (policy.wants_keys or policy.rate_limit.rules or policy.audit.routes)
    if alone and demands and not only_python:
        return Finding(
            "not reached", "fail", f"{text}. Nothing else is installed here: what the policy demands holds nowhere"
        )
    return Finding("not reached", "ok" if only_python else "warn", text)
