"""Writes the pages that are made from the code: ``python docs/generate.py``; ``--check`` only compares."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from opentelemetry._logs import SeverityNumber

from mobius_otel import conventions
from mobius_otel.policy import model
from mobius_otel.telemetry.audit import AuditEvent
from mobius_otel.telemetry.audit.event import ActorType, Outcome, SourceType
from mobius_otel.telemetry.audit.risk import BANDS
from mobius_otel.telemetry.redaction.kinds import MEANINGS

HERE = Path(__file__).parent

POLICY_HEAD = """\
# The policy file

<!-- Made from mobius_otel/policy/model.py by docs/generate.py: change the classes, then run the script. -->

One TOML file says everything; every key has a default, so an empty file is valid. It is read from
`MOBIUS_OTEL_POLICY`, else from `mobius.toml` where that exists. `mobius-otel policy check` checks it,
`mobius-otel policy schema` prints its JSON Schema for an editor. An unknown key is an error that names the line and the
nearest known key. Relative files lie beside the policy. Where a list is asked for, one text will do.

Any text but that of an example may hold `${NAME}` or `${NAME:-default}` from the environment, so that no password
stands in the file. The pepper of the keys comes from `MOBIUS_OTEL_KEY_PEPPER`, or a file that
`MOBIUS_OTEL_KEY_PEPPER_FILE` names, never from the policy; `MOBIUS_OTEL_KEY_PEPPER_ALSO` is for
[one that follows another](api-keys.md).
"""

POLICY_FOOT = """\
## Functions that somebody else has

`[audit] functions` and `[[instrument]]` put a wrapper in the function's place when its module has been imported. What
took the function itself while the module was imported calls it past the wrapper: a decorator that registers it (a
route of FastAPI or Flask, a task of Huey), a table, another name for it. That is a warning in the log at the start,
and in `mobius-otel doctor`; with `fail_mode = "strict"` too, no call is refused for it. Name a function that it
calls, or its route in `[audit] routes`. A task of Celery is reached all the same: its every run is seen, in the
worker, and that it was sent is none. A decorator that hides the function behind one of its own (`functools.wraps`)
hides nothing: what stands in the module is what is wrapped.
"""

HEAD = """\
# What mobius_otel emits

<!-- Made from mobius_otel/conventions.py by docs/generate.py: change the registry, then run the script. -->

Every metric, span, event and attribute of the package. The names are a contract: dashboards, alerts and checks can be
written against them. No raw key, secret or client identifier is ever a metric attribute. `mobius-otel conventions
--json` prints the same as data.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(names: Iterable[object]) -> str:
    """Return names as code, with commas between them."""
    return ", ".join(f"`{name}`" for name in names)


def metrics() -> str:
    """Return the table of metrics."""
    return table(
        ["metric", "kind", "unit", "attributes", "meaning", "stability"],
        (
            [code([m.name]), m.kind, code([m.unit]), code(m.attributes), m.meaning, m.stability]
            for m in conventions.METRICS.values()
        ),
    )


def histograms() -> str:
    """Return the bucket boundaries of every histogram."""
    return table(
        ["histogram", "upper bounds in seconds"],
        (
            [code([m.name]), ", ".join(f"{bound:g}" for bound in m.boundaries)]
            for m in conventions.METRICS.values()
            if m.boundaries
        ),
    )


def spans() -> str:
    """Return the table of spans."""
    return table(
        ["span", "attributes", "meaning", "also without a span around it"],
        (
            [code([s.name]), code(s.attributes), s.meaning, "yes" if s.always else ""]
            for s in conventions.SPANS.values()
        ),
    )


def events() -> str:
    """Return the table of audit events."""
    return table(
        ["event", "action", "meaning", "OWASP vocabulary", "OCSF `type_uid`", "risk", "further attributes"],
        (
            [code([e.name]), e.action, e.meaning, code([e.owasp]), str(e.ocsf), str(e.risk), code(e.attributes)]
            for e in conventions.EVENTS.values()
        ),
    )


def attributes() -> str:
    """Return the table of attributes."""
    return table(
        ["attribute", "values", "meaning", "standard"],
        (
            [code([a.name]), code(a.values), a.meaning, "yes" if a.standard else ""]
            for a in sorted(conventions.ATTRIBUTES.values(), key=lambda a: a.name)
        ),
    )


def default_of(spec: dataclasses.Field[Any]) -> str:
    """Return the default of a key as TOML has it."""
    if spec.default is dataclasses.MISSING:
        return "required" if spec.default_factory is dataclasses.MISSING else "none"
    if spec.default is None or spec.default == ():
        return "none"
    value = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return code([json.dumps(value)])


def section(name: str, cls: type[Any]) -> str:
    """Return one section of the policy file as a table."""
    rows = []
    for spec in dataclasses.fields(cls):
        if not spec.metadata:
            continue
        rule, names = spec.metadata["rule"], spec.metadata["names"]
        must = " = ".join(r.text for r in (names, rule) if r is not None and r.text != "text") or "text"
        if rule is None and names is None:
            must = f"tables, each under `[[{name.strip('[]')}.{spec.name}]]`"
        rows.append([code([spec.name]), default_of(spec), must, spec.metadata["meaning"]])
    if cls is model.HeadersSection:
        rows[-1] = ["`X-Any-Header`", "none", "text", 'Replaces the preset\'s value; `""` leaves the header out.']
    return f"## `{name}`\n\n" + table(["key", "default", "must be", "meaning"], rows)


def policy_page() -> str:
    """Return the page of the policy file."""
    sections = {
        "[service]": model.ServiceSection, "[api_keys]": model.ApiKeysSection, "[rate_limit]": model.RateLimitSection,
        "[[rate_limit.rules]]": model.RateLimitRule, "[audit]": model.AuditSection,
        "[redaction]": model.RedactionSection, "[[redaction.rules]]": model.RedactionRuleSection,
        "[[redaction.examples]]": model.RedactionExample,
        "[headers]": model.HeadersSection, "[metrics]": model.MetricsSection,
        "[[instrument]]": model.InstrumentSection,
    }  # fmt: skip
    parts = [POLICY_HEAD.rstrip(), *(section(name, cls) for name, cls in sections.items()), POLICY_FOOT.rstrip()]
    return "\n\n".join(parts) + "\n"


def page() -> str:
    """Return the page of what is emitted."""
    return "\n\n".join(
        [
            HEAD.rstrip(),
            "## Metrics\n\n" + metrics(),
            "Bucket boundaries:\n\n" + histograms(),
            "## Spans\n\n" + spans(),
            "## Audit events\n\nOpenTelemetry log records with this `event_name`, beside a service's own.",
            events(),
            "## Attributes\n\nStandard: named by OpenTelemetry's semantic conventions or its draft for audit records.",
            attributes(),
        ]
    ) + "\n"  # fmt: skip


def redaction_page() -> str:
    """Return the page of redaction, which is written by hand, with the table of kinds made anew."""
    before, begin, rest = (HERE / "redaction.md").read_text(encoding="utf-8").partition("<!-- kinds -->\n")
    _, end, after = rest.partition("\n<!-- end of kinds -->")
    kinds = table(["kind", "what it is"], ([code([kind]), meaning] for kind, meaning in sorted(MEANINGS.items())))
    return f"{before}{begin}{kinds}{end}{after}"


def fields() -> str:
    """Return the fields of an audit event, each with its rule and its name on the record."""
    rows = {
        "event_name": ("a dotted name of few values; the outcome is not part of it", "`event_name`"),
        "action": ("an upper-case verb, such as `UPDATE`", code([conventions.AUDIT_ACTION])),
        "actor": (
            f"`Actor(id, type)`; type {code(get_args(ActorType))}",
            code([conventions.AUDIT_ACTOR_ID, conventions.AUDIT_ACTOR_TYPE]),
        ),
        "outcome": (code(get_args(Outcome)), code([conventions.AUDIT_OUTCOME])),
        "target": (
            "`Target(id, type)`; any type, such as `order`",
            code([conventions.AUDIT_TARGET_ID, conventions.AUDIT_TARGET_TYPE]),
        ),
        "risk_score": ("0 to 100, see below", code([conventions.AUDIT_RISK_SCORE])),
        "reason": ("in words", code([conventions.AUDIT_REASON])),
        "source": (
            f"`Source(id, type)`; type {code(get_args(SourceType))}, found out from the id",
            code([conventions.AUDIT_SOURCE_ID, conventions.AUDIT_SOURCE_TYPE, conventions.CLIENT_ADDRESS]),
        ),
        "tenant": ("on whose behalf", code([conventions.AUDIT_TENANT])),
        "attributes": ("anything of JSON's shapes, nested too; other objects become their text", "their own"),
        "timestamp": ("nanoseconds since the epoch; default: now", "`timestamp`"),
    }
    known = [field.name for field in dataclasses.fields(AuditEvent) if field.init]
    required = [field.name for field in dataclasses.fields(AuditEvent) if _has_no_default(field)]
    return table(
        ["field", "what it is", "on the record"],
        ([f"{code([name])}{' (required)' if name in required else ''}", *rows[name]] for name in known),
    )


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def risk() -> str:
    """Return the risk scale."""
    ends = [band.lowest - 1 for band in BANDS[1:]] + [100]
    severity, levels = SeverityNumber, ("Info", "Low", "Medium", "High", "Critical")
    return table(
        ["score", "band", "what it is", "severity of a success", "of a failure", "OCSF `severity_id`", "`risk_level`"],
        (
            [
                f"{band.lowest} to {end}", band.name, band.meaning, f"{band.success} {severity(band.success).name}",
                f"{band.failure} {severity(band.failure).name}", str(band.ocsf_severity), levels[band.ocsf_risk_level],
            ]
            for band, end in zip(BANDS, ends, strict=True)
        ),
    )  # fmt: skip


def audit_page() -> str:
    """Return the page of audit, which is written by hand, with its tables made anew."""
    text = (HERE / "audit.md").read_text(encoding="utf-8")
    for name, made in (("fields", fields()), ("risk", risk())):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}{begin}{made}\n{end}{after}"
    return text


PAGES = {"conventions.md": page, "policy.md": policy_page, "redaction.md": redaction_page, "audit.md": audit_page}


def main() -> int:
    """Write the pages, or say whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 when a page is stale")
    arguments = parser.parse_args()
    stale = 0
    for name, make in PAGES.items():
        path = HERE / name
        if not arguments.check:
            path.write_text(make(), encoding="utf-8", newline="\n")
        elif not path.is_file() or path.read_text(encoding="utf-8") != make():
            print(f"docs/{name} is stale; run: python docs/generate.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
