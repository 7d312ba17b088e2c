"""What the demo found out: the checks at its end, and the report that they make."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

from mobius_otel import conventions
from mobius_otel.cli.demo.received import Log, Received, Span
from mobius_otel.cli.demo.story import EVENTS, METRICS, Check, Step, Story
from mobius_otel.cli.demo.world import World

__all__ = ["Report", "look_for_secrets", "wait_for_telemetry", "write_report"]

_ALL = "1000000"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the demo has to say.

    Args:
        steps: What the clients did.
        checks: What was looked at afterwards.
        received: What arrived at the collector.
        trace: Spans and log records of the refund's trace.
        record: One audit record, as it stands in the ledger.
        pairs: ``(where, what came in, what was kept)``.
        collector: Which collector it was.
        remark: Why it was not rotel, or empty.
        seconds: How long it took.
    """

    steps: Sequence[Step]
    checks: Sequence[Check]
    received: Received = field(default_factory=Received)
    trace: tuple[Sequence[Span], Sequence[Log]] = ((), ())
    record: Mapping[str, Any] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str, str]] = ()
    collector: str = ""
    remark: str = ""
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """What was not as it should be, one sentence each."""
        steps = [f"{s.who}: {s.does}: {s.answer}, expected {s.expected}" for s in self.steps if not s.ok]
        return steps + [f"{check.what}: {check.detail}" for check in self.checks if not check.ok]

    @property
    def ok(self) -> bool:
        """Whether everything was."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {
            "ok": self.ok,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
            "collector": {"name": self.collector, "remark": self.remark or None},
            "steps": [
                {"who": s.who, "does": s.does, "answer": s.answer, "expected": s.expected, "ok": s.ok}
                for s in self.steps
            ],
            "checks": [{"what": c.what, "ok": c.ok, "detail": c.detail} for c in self.checks],
            "received": {
                "spans": self.received.span_counts(),
                "events": self.received.event_counts(),
                "log_lines": self.received.plain_logs(),
                "metrics": self.received.metric_values(),
            },
            "audit_record": dict(self.record),
            "redaction": [{"where": w, "before": b, "after": a} for w, b, a in self.pairs],
        }


def wait_for_telemetry(world: World, story: Story, seconds: float) -> None:
    """Wait until what the story leaves behind has arrived, or for `seconds`.

    Args:
        world: Where the collector is.
        story: What happened.
        seconds: The longest wait.
    """
    _until(lambda: not _missing(world.received(), story), seconds)


def _missing(received: Received, story: Story) -> list[str]:
    events, metrics = received.event_counts(), received.metric_values()
    spans, logs = received.trace(story.trace_id)
    missing = [name for name in EVENTS if name not in events]
    missing += [name for name in METRICS if name not in metrics]
    if not any(span.kind == "SERVER" for span in spans):
        missing.append("the server span of the refund")
    if not any(log.body.startswith("refund:") for log in logs):
        missing.append("the log line of the refund")
    # An event of the span, or a log record: OpenTelemetry moves from the one to the other.
    told = any("exception" in span.events for span in received.spans)
    if not told and not any("exception.type" in log.attributes for log in received.logs):
        missing.append("the exception of the report")
    return missing


def write_report(world: World, story: Story, steps: Sequence[Step], metrics_page: str, started: float) -> Report:
    """Look at everything that the story left behind.

    Args:
        world: Where it happened.
        story: What happened.
        steps: How it went.
        metrics_page: What ``/metrics`` answered.
        started: When it began, in monotonic seconds.

    Raises:
        DemoFailed: A command that it needs failed.
    """
    records = _records(world)
    ids = {str(record.get("attributes", {}).get(conventions.AUDIT_RECORD_ID)) for record in records}
    received = _arrived(world, ids)
    checks = [
        *story.checks,
        _telemetry(received, story),
        _delivery(received, ids),
        _swallowed(received),
        _scraped(metrics_page),
        _verdict(world),
        look_for_secrets(world, story, metrics_page),
    ]
    record: Mapping[str, Any] = next(
        (r for r in reversed(records) if r.get("event_name") == conventions.HTTP_REQUEST.name), {}
    )
    return Report(
        steps=steps, checks=checks, received=received, trace=received.trace(story.trace_id), record=record,
        pairs=_pairs(world, story, record, received), collector=world.collector, remark=world.remark,
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _records(world: World) -> list[Mapping[str, Any]]:
    _, found = world.command("audit", "tail", str(world.ledger), "-n", _ALL)
    return found if isinstance(found, list) else [found]


def _arrived(world: World, ids: set[str]) -> Received:
    received = world.received()

    def complete() -> bool:
        nonlocal received
        received = world.received()
        return ids <= _uids(received)

    _until(complete, 3.0)
    return received


def _uids(received: Received) -> set[str]:
    return {str(log.attributes.get(conventions.LOG_RECORD_UID)) for log in received.logs if log.is_audit}


def _telemetry(received: Received, story: Story) -> Check:
    missing = _missing(received, story)
    text = f"{len(received.spans)} spans, {len(received.logs)} log records, {len(received.metric_values())} metrics"
    return Check("telemetry arrives at the collector", not missing, text if not missing else f"missing: {missing}")


def _delivery(received: Received, ids: set[str]) -> Check:
    lost = len(ids - _uids(received))
    detail = f"{len(ids) - lost} of {len(ids)}"
    return Check("every audit record arrives at the collector", not lost and bool(ids), detail)


def _swallowed(received: Received) -> Check:
    """Look at what the guard of telemetry swallowed: nothing of ours may fail, and be it in silence."""
    errors = received.metric_values().get(conventions.INTERNAL_ERRORS.name, {})
    text = ", ".join(f"{series}: {count:g}" for series, count in errors.items())
    return Check("nothing of mobius_otel failed in silence", not errors, text or "no internal errors")


def _scraped(page: str) -> Check:
    names = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line.startswith("mobius_")}
    return Check("/metrics shows them too", "mobius_guard_requests_total" in names, f"{len(names)} mobius_* names")


def _verdict(world: World) -> Check:
    status, answer = world.command("audit", "verify", str(world.ledger))
    facts = answer if isinstance(answer, dict) else {}
    whole = status == 0 and facts.get("ok") is True
    detail = f"{facts.get('records')} records in {facts.get('streams')} streams" if whole else str(facts)
    return Check("the audit ledger is whole (mobius-otel audit verify)", whole, detail)


def look_for_secrets(world: World, story: Story, metrics_page: str) -> Check:
    """Look for every secret of the demo in every byte that left the process.

    Args:
        world: Where the files are.
        story: What was sent.
        metrics_page: What ``/metrics`` answered.
    """
    places = {path.name: path for pattern in ("*.log", "*.db", "*.db-*") for path in world.folder.glob(pattern)}
    texts: dict[str, bytes] = {"/metrics": metrics_page.encode()}
    for name, path in places.items():
        with contextlib.suppress(OSError):
            texts[name] = path.read_bytes()
    texts["answers"] = b"\n".join(
        answer.body + repr(answer.headers).encode() for answer in story.answers
    )  # fmt: skip
    needles = _needles(world, story)
    found = [f"{name} in {place}" for place, text in texts.items() for name, each in needles if each in text]
    size = sum(map(len, texts.values()))
    looked = f"{len(needles)} forms looked for in {size:,} bytes of {', '.join(sorted(texts))}"
    return Check("no secret left the process", not found, ", ".join(found) if found else looked)


def _needles(world: World, story: Story) -> list[tuple[str, bytes]]:
    """Return what to look for: of a key its random part alone, so that a masked key is found as well."""
    hidden = world.secrets
    texts = {
        "the card number": hidden.card,
        "the card number's digits": hidden.card.replace(" ", ""),
        "the customer's password": hidden.password,
        "the database's password": hidden.database,
        "the pepper": hidden.pepper,
    }
    for owner, key in story.keys.items():
        texts[f"{owner}'s key"] = str(key["secret"]).rsplit("_", 1)[-1][:43]
    forms = {(name, form) for name, text in texts.items() for form in (text, quote(text), quote_plus(text))}
    return sorted((name, form.encode()) for name, form in forms)


def _pairs(world: World, story: Story, record: Mapping[str, Any], received: Received) -> list[tuple[str, str, str]]:
    _, logs = received.trace(story.trace_id)
    lines = world.service_log.read_text(encoding="utf-8", errors="replace").splitlines()
    key = str(story.keys["alice"]["secret"])
    shown_key = f"{key[:13]}…"
    kept_path = record.get("attributes", {}).get(conventions.URL_PATH, "")
    return [
        ("audit record", story.card_path, str(kept_path)),
        ("log record", f"refund: {story.refund}", _first(log.body for log in logs if log.body.startswith("refund:"))),
        (
            "service's log",
            f"ConnectionError: cannot reach postgresql://shop:{world.secrets.database}@db.internal:5432/shop",
            _first(line for line in lines if "cannot reach postgresql" in line),
        ),
        (
            "access log",
            f"GET /v1/items?api_key={shown_key}",
            _first(line[line.find("GET ") :] for line in lines if "/v1/items?" in line),
        ),
    ]


def _first(found: Any) -> str:
    return next(iter(found), "").strip()


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
