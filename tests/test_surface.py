"""What the package shows: its names, its shelves, and the registry that everything emitted is named by."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import mobius_otel
from mobius_otel import conventions

FILE = "mobius.toml"
PACKAGE = Path(mobius_otel.__file__).parent
SHELVES = sorted(
    ["mobius_otel"] + [info.name for info in pkgutil.walk_packages(mobius_otel.__path__, "mobius_otel.") if info.ispkg]
)
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(mobius_otel.__path__, "mobius_otel.")
    if not info.ispkg and not info.name.startswith("mobius_otel.autostart") and not info.name.endswith("__main__")
)
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "conventions.py")

#: The pinned public names, by the second door that they are importable from.
PUBLIC = {
    "mobius_otel.telemetry": [
        "Actor", "AuditEvent", "AuditLogger", "InMemoryMetricsBackend", "MetricEmitter", "RedactingLogRecordExporter",
        "RedactingLogRecordProcessor", "RedactingSpanExporter", "RedactingSpanProcessor", "RedactionPolicy",
        "RedactionResult", "Redactor", "Target", "metric_timer",
    ],
    "mobius_otel.security": [
        "ApiKeyManager", "IssuedKey", "KeyRotator", "KeyState", "RateLimit", "RateLimitExceeded", "RateLimiter",
    ],
    "mobius_otel.errors": [
        "InsufficientScope", "InvalidApiKey", "KeyStoreUnavailable", "KeyThrottled", "RotationConflict",
    ],
    "mobius_otel.runtime": ["Runtime", "configure"],
}  # fmt: skip
#: Names that have one door alone.
ELSEWHERE = {
    "mobius_otel.web": [
        "SecurityMiddleware", "WSGISecurityMiddleware", "current_principal", "metrics_app", "metrics_wsgi_app",
    ],
    "mobius_otel.testing": ["KeyStoreKit", "LimiterBackendKit", "TelemetryCapture"],
}  # fmt: skip

#: Who reads emitted names, where it says more to spell them: what is trusted when seen, what the demo must have seen.
READERS = {"telemetry/redaction/names.py", "cli/demo/story.py"}

POLICY = "mobius.rate_limit.policy"
#: The pinned table of metrics: kind, unit, attributes.
METRICS: dict[str, tuple[str, str, set[str]]] = {
    "mobius.rate_limit.requests": ("counter", "{request}", {POLICY, "mobius.rate_limit.result"}),
    "mobius.rate_limit.saturation": ("gauge", "1", {POLICY}),
    "mobius.rate_limit.degraded": ("gauge", "1", {POLICY}),
    "mobius.rate_limit.tracked_keys": ("gauge", "{key}", {POLICY}),
    "mobius.rate_limit.backend.duration": ("histogram", "s", {POLICY, "mobius.rate_limit.backend", "error.type"}),
    "mobius.api_key.verifications": ("counter", "{verification}", {"mobius.api_key.result"}),
    "mobius.api_key.retiring.verifications": ("counter", "{verification}", {"mobius.api_key.generation"}),
    "mobius.api_key.store.duration": ("histogram", "s", {"mobius.api_key.operation", "error.type"}),
    "mobius.api_key.keys": ("gauge", "{key}", {"mobius.api_key.state"}),
    "mobius.api_key.expiring": ("gauge", "{key}", {"mobius.within"}),
    "mobius.api_key.rotations": ("counter", "{rotation}", {"mobius.outcome"}),
    "mobius.api_key.purged": ("counter", "{key}", {"mobius.outcome"}),
    "mobius.audit.records": ("counter", "{record}", {"mobius.audit.result"}),
    "mobius.audit.backlog": ("gauge", "{record}", set()),
    "mobius.api_key.never_used": ("gauge", "{key}", set()),
    "mobius.api_key.oldest_active_age": ("gauge", "s", set()),
    "mobius.audit.oldest": ("gauge", "s", set()),
    "mobius.audit.quarantined": ("gauge", "{record}", set()),
    "mobius.audit.stream.records": ("gauge", "{record}", {"audit.sequence.stream_id"}),
    "mobius.audit.stream.head": ("gauge", "1", {"audit.sequence.stream_id"}),
    "mobius.guard.requests": ("counter", "{request}", {"http.route", "mobius.guard.result"}),
    "mobius.guard.armed": ("gauge", "1", set()),
    "mobius.internal.errors": ("counter", "{error}", {"mobius.component", "error.type"}),
    "mobius.redaction.matches": ("counter", "{match}", {"mobius.redaction.kind", "mobius.redaction.location"}),
}
#: The pinned values of attributes.
VALUES = {
    "mobius.rate_limit.result": ("allowed", "denied", "shadow_denied", "error"),
    "mobius.api_key.result": (
        "valid", "malformed", "unknown", "expired", "revoked", "retired", "insufficient_scope", "throttled", "error",
    ),
    "mobius.api_key.generation": ("old", "new"),
    "mobius.within": ("1d", "7d", "30d"),
    "mobius.audit.result": ("recorded", "exported", "quarantined", "rejected"),
    "mobius.guard.result": ("passed", "unauthenticated", "forbidden", "limited", "refused", "unavailable"),
}  # fmt: skip
SPANS = ["rate_limit.acquire", "api_key.verify", "api_key.rotate", "api_key.purge", "audit.export", "audit.seal"]
EVENTS = [
    "rate_limit.exceeded",
    *(f"api_key.{what}" for what in
      ("issued", "verified", "rejected", "rotated", "revoked", "expired", "purged", "reused")),
]  # fmt: skip


# --- shelves and names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHELVES)
def test_a_shelf_says_what_stands_on_it(name: str) -> None:
    """Every package has a docstring, a sorted list of names, and each of them."""
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(module.__all__) == len(set(module.__all__))
    assert list(module.__all__) == sorted(module.__all__, key=_shelf_order)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


#: Shelves that look a name up when it is used, for they are imported where hardly any is.
LAZY = {"mobius_otel", "mobius_otel.testing"}


@pytest.mark.parametrize("name", [name for name in SHELVES if name not in LAZY])
def test_a_shelf_holds_re_exports_and_nothing_else(name: str) -> None:
    """What a shelf imports is what it offers: nothing is defined there, nothing is left out."""
    tree = ast.parse(Path(importlib.import_module(name).__file__ or "").read_text(encoding="utf-8"))
    allowed = (ast.ImportFrom, ast.Assign, ast.Expr)
    assert [type(node).__name__ for node in tree.body if not isinstance(node, allowed)] == []
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert imported == set(importlib.import_module(name).__all__)


@pytest.mark.parametrize(("door", "name"), [(door, name) for door, names in PUBLIC.items() for name in names])
def test_a_public_name_is_the_same_object_through_both_doors(door: str, name: str) -> None:
    """Other people's code is written against these."""
    assert name in mobius_otel.__all__
    assert getattr(mobius_otel, name) is getattr(importlib.import_module(door), name)


@pytest.mark.parametrize(("door", "name"), [(door, name) for door, names in ELSEWHERE.items() for name in names])
def test_a_name_of_the_edge_and_of_the_tests_has_its_own_door(door: str, name: str) -> None:
    """Middleware is imported from the web, the capture from testing."""
    assert name in importlib.import_module(door).__all__


@pytest.mark.parametrize("name", MODULES)
def test_a_module_offers_what_it_has(name: str) -> None:
    """Every module lists what others may use; each name exists, and none is private."""
    module = importlib.import_module(name)
    assert [offered for offered in module.__all__ if not hasattr(module, offered) or offered.startswith("_")] == []


def _shelf_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as Ruff sorts them."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)


# --- the registry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_the_registry_holds_the_pinned_metric(name: str) -> None:
    """Dashboards are written against the name, the kind, the unit and the attributes."""
    metric = conventions.METRICS[name]
    kind, unit, attributes = METRICS[name]
    assert (metric.name, metric.kind, metric.unit, set(metric.attributes)) == (name, kind, unit, attributes)
    assert (metric.boundaries is not None) == (kind == "histogram")


def test_the_registry_holds_no_other_metric_span_or_pinned_event() -> None:
    """A new name is a decision: it goes into the table above."""
    assert set(conventions.METRICS) == set(METRICS)
    assert set(conventions.SPANS) == set(SPANS)
    assert set(EVENTS) <= set(conventions.EVENTS)


@pytest.mark.parametrize("name", VALUES)
def test_the_registry_holds_the_pinned_values(name: str) -> None:
    """A value that is counted is a value that is documented."""
    assert conventions.ATTRIBUTES[name].values == VALUES[name]


def test_every_attribute_that_is_used_is_described() -> None:
    """A metric, span or event carries nothing that the registry does not explain."""
    entries = [*conventions.METRICS.values(), *conventions.SPANS.values(), *conventions.EVENTS.values()]
    used = {attribute for entry in entries for attribute in entry.attributes}
    assert used - set(conventions.ATTRIBUTES) == set()


def test_no_metric_may_carry_who_it_was() -> None:
    """Identifiers of clients, users and keys are on spans and records, never on metrics."""
    carried = {attribute for metric in conventions.METRICS.values() for attribute in metric.attributes}
    assert not {a for a in carried if a.endswith((".id", ".address")) or a.startswith(("user.", "enduser.", "client."))}


def test_nobody_spells_an_emitted_name_outside_the_registry() -> None:
    """A name that is written twice is a name that will differ once; a prefix is no name."""
    names = {*conventions.METRICS, *conventions.SPANS, *conventions.EVENTS}
    found = [
        f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}: {node.value}"
        for path in SOURCES
        if path.relative_to(PACKAGE).as_posix() not in READERS
        for node in _strings(path)
        if node.value in names or (node.value.startswith("mobius.") and node.value[-1] != "." and node.value != FILE)
    ]
    assert found == []


def _strings(path: Path) -> list[ast.Constant]:
    """Every string constant of a module but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
