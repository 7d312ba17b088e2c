"""How the demo is shown: a live table where rich is there and somebody watches, plain lines where not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mobius_otel import conventions
from mobius_otel.cli.demo.received import Log, Received, Span
from mobius_otel.cli.demo.report import Report
from mobius_otel.cli.demo.story import Step
from mobius_otel.cli.output import plain_table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["NEXT", "JsonView", "PlainView", "RichView", "View", "choose_view", "facts_of", "tree_of"]

#: What to type next.
NEXT = (
    ("mobius-otel demo --keep", "leave it running, and try it by hand"),
    ("mobius-otel keys issue alice --scope read", "a key for your own service"),
    ("mobius-otel run -- uvicorn yourservice:app", "your service, guarded by the mobius.toml beside it"),
    ("mobius-otel policy check", "what your mobius.toml demands"),
)
_RECORD_FIELDS = (
    conventions.AUDIT_RECORD_ID, conventions.AUDIT_ACTOR_ID, conventions.AUDIT_ACTION, conventions.AUDIT_TARGET_ID,
    conventions.AUDIT_SOURCE_ID, conventions.AUDIT_OUTCOME, conventions.URL_PATH, conventions.HTTP_STATUS,
    conventions.REDACTION_COUNT, conventions.REDACTION_KINDS, conventions.AUDIT_SEQUENCE,
    conventions.AUDIT_PREVIOUS_HASH, conventions.AUDIT_INTEGRITY_VALUE,
)  # fmt: skip
_SUMMED = frozenset({conventions.HTTP_ROUTE, conventions.REDACTION_LOCATION})
_WIDEST = 100
_PIECES = (" http send", " http receive", ".dependencies", ".endpoint", ".serialization")


class View(Protocol):
    """What a view does. A context manager."""

    def say(self, text: str) -> None:
        """Tell what goes on."""
        ...

    def step(self, step: Step) -> None:
        """Show one step."""
        ...

    def finish(self, report: Report) -> None:
        """Show the end."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...


def choose_view(as_json: bool) -> View:
    """Return the view that fits where standard output goes."""
    if as_json:
        return JsonView()
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        try:
            from rich.console import Console
        except ImportError:
            return PlainView()
        return RichView(Console())
    return PlainView()


class _Quiet:
    """The parts of a view that need nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonView(_Quiet):
    """One JSON object at the end, nothing before."""

    def say(self, text: str) -> None:
        """Keep silent."""

    def step(self, step: Step) -> None:
        """Keep silent."""

    def finish(self, report: Report) -> None:
        """Print the report."""
        print(json.dumps(report.as_json(), ensure_ascii=True), flush=True)


class PlainView(_Quiet):
    """Lines, for a log or a terminal without rich."""

    def __init__(self, write: Callable[[str], None] = lambda text: print(text, flush=True)) -> None:
        self._out = write

    def _write(self, text: str) -> None:
        self._out(_printable(text))

    def say(self, text: str) -> None:
        """Print one line."""
        self._write(f"   {text}")

    def step(self, step: Step) -> None:
        """Print one line."""
        mark = "ok" if step.ok else "!!"
        wrong = "" if step.ok else f"  (expected {step.expected})"
        self._write(f"{mark} {step.who:<10} {step.does:<42} {step.answer:<12} {step.why}{wrong}")

    def finish(self, report: Report) -> None:
        """Print the report."""
        for title, lines in _sections(report):
            self._write(f"\n{title}")
            for line in lines:
                self._write(f"   {line}")


def _sections(report: Report) -> Iterator[tuple[str, list[str]]]:
    yield "What the collector received", plain_table(["kind", "name", "count"], _arrivals(report.received)).splitlines()
    yield "One trace: the refund", [f"{'  ' * depth}{text}" for depth, text in tree_of(*report.trace)]
    yield (
        "Before and after redaction",
        [
            line
            for where, before, after in report.pairs
            for line in (f"{where}:", f"  - {_short(before, 160)}", f"  + {_short(after, 160)}")
        ],
    )
    facts = plain_table(["field", "value"], facts_of(report.record))
    yield "One audit record, as the ledger keeps it", facts.splitlines()
    yield "Checks", [f"{'ok' if c.ok else '!!'} {c.what}: {c.detail}" for c in report.checks]
    if report.ok:
        width = max(len(command) for command, _ in NEXT)
        yield "What to type next", [f"{command.ljust(width)}   {why}" for command, why in NEXT]
    verdict = f"Everything was as it should be, in {report.seconds:.0f} s."
    yield verdict if report.ok else "Not as it should be:", list(report.problems)


class RichView:
    """A table that grows while it happens, then the report. Needs the extra ``rich``.

    Args:
        console: Where to.
        live: Whether the table grows while it happens; a picture wants it once, at the end.
    """

    def __init__(self, console: Console, *, live: bool = True) -> None:
        from rich.live import Live
        from rich.table import Table

        self._console = console
        self._table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        self._table.add_column("")
        self._table.add_column("who")
        self._table.add_column("does", no_wrap=True)
        self._table.add_column("answer", no_wrap=True)
        self._table.add_column("why", style="dim")
        self._live = Live(self._table, console=console, refresh_per_second=12, redirect_stderr=False)
        self._running = False
        self._wanted = live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._running:
            self._live.stop()
            self._running = False

    def say(self, text: str) -> None:
        """Print one line above the table."""
        self._console.print(_plain(text), style="dim")

    def step(self, step: Step) -> None:
        """Add one row."""
        from rich.text import Text

        if self._wanted and not self._running:
            self._live.start()
            self._running = True
        mark = Text("✓", "green") if step.ok else Text("✗", "bold red")
        answer = Text(step.answer if step.ok else f"{step.answer}, not {step.expected}", _colour(step))
        self._table.add_row(mark, _plain(step.who), _plain(step.does), answer, _plain(step.why))

    def finish(self, report: Report) -> None:
        """Print the report."""
        self._stop()
        if not self._wanted:
            self._console.print(self._table)
        for title, body in (
            ("What the collector received", _rich_arrivals(report.received)),
            ("One trace: the refund", _rich_tree(report)),
            ("Before and after redaction", _rich_pairs(report.pairs)),
            ("One audit record, as the ledger keeps it", _rich_record(report.record)),
            ("Checks", _rich_checks(report)),
        ):
            self._console.print()
            self._console.rule(title, align="left", style="dim")
            self._console.print(body)
        self._end(report)

    def _end(self, report: Report) -> None:
        from rich.table import Table

        self._console.print()
        if not report.ok:
            self._console.print("Not as it should be:", style="bold red")
            for problem in report.problems:
                self._console.print(_plain(f"  {problem}"))
            return
        self._console.print(f"Everything was as it should be, in {report.seconds:.0f} s.", style="bold green")
        self._console.print("What to type next:")
        grid = Table.grid(padding=(0, 3))
        for command, why in NEXT:
            grid.add_row(_plain(f"  {command}", "cyan"), _plain(why, "dim"))
        self._console.print(grid)


def _colour(step: Step) -> str:
    if not step.ok:
        return "bold red"
    return "green" if step.answer[:1] == "2" and "429" not in step.answer else "yellow"


def _plain(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(_printable(text), style)


def _rich_arrivals(received: Received) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("kind", "name"):
        table.add_column(name)
    table.add_column("count", justify="right")
    for kind, name, count in _arrivals(received):
        table.add_row(_plain(kind, "dim"), _plain(name), _plain(count, "cyan"))
    return table


def _rich_tree(report: Report) -> RenderableType:
    from rich.tree import Tree

    lines = tree_of(*report.trace)
    root = Tree(_plain(lines[0][1], "bold") if lines else "nothing", guide_style="dim")
    branches = {0: root}
    for depth, text in lines[1:]:
        branches[depth] = branches[min(depth - 1, max(branches))].add(_plain(text))
    return root


def _rich_pairs(pairs: Sequence[tuple[str, str, str]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(width=2)
    table.add_column(overflow="fold")
    for where, before, after in pairs:
        table.add_row(where, _plain("-", "red"), _plain(_short(before, 160), "red"))
        table.add_row("", _plain("+", "green"), _plain(_short(after, 160), "green"))
    return table


def _rich_record(record: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    grid = Table.grid(padding=(0, 3))
    for name, value in facts_of(record):
        grid.add_row(_plain(name, "dim"), _plain(value))
    return grid


def _rich_checks(report: Report) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    for check in report.checks:
        mark = Text("✓", "green") if check.ok else Text("✗", "bold red")
        grid.add_row(mark, _plain(check.what), _plain(check.detail, "dim" if check.ok else "red"))
    return grid


def _arrivals(received: Received) -> list[list[str]]:
    """Return ``[kind, name, count]`` rows: of the metrics our own, each with the sum of its series."""
    counts = received.span_counts()
    shown = {name: count for name, count in counts.items() if not name.endswith(_PIECES)}
    rows = [["span", name, str(count)] for name, count in shown.items()]
    if pieces := sum(counts.values()) - sum(shown.values()):
        rows.append(["span", "parts of requests (http send, http receive, …)", str(pieces)])
    rows += [["audit event", name, str(count)] for name, count in received.event_counts().items()]
    rows.append(["log record", "all others", str(received.plain_logs())])
    for name, series in sorted(received.metric_values(without=_SUMMED).items()):
        spec = conventions.METRICS.get(name)
        if spec is not None and spec.kind == "counter":
            rows += [["metric", f"{name} {{{labels}}}", f"{value:g}"] for labels, value in sorted(series.items())]
    return rows


def tree_of(spans: Sequence[Span], logs: Sequence[Log]) -> list[tuple[int, str]]:
    """Return one trace as ``(depth, text)`` lines, with the log records and audit events under their spans.

    Args:
        spans: The spans, in order of their start.
        logs: The log records.

    Example:
        >>> tree_of([Span("b", span_id="2", parent_id="1"), Span("a", span_id="1", kind="SERVER")], [])
        [(0, 'a  SERVER  0.0 ms'), (1, 'b  0.0 ms')]
    """
    known = {span.span_id for span in spans}
    lines: list[tuple[int, str]] = []
    seen: set[str] = set()

    def add(span: Span, depth: int) -> None:
        if span.span_id in seen:  # a damaged trace must not be walked for ever
            return
        seen.add(span.span_id)
        lines.append((depth, _span_line(span)))
        for child in spans:
            if child.parent_id == span.span_id:
                add(child, depth + 1)
        lines.extend((depth + 1, _log_line(log)) for log in logs if log.span_id == span.span_id)

    for span in spans:
        if span.parent_id not in known:
            add(span, 0)
    return lines


def _span_line(span: Span) -> str:
    kind = f"  {span.kind}" if span.kind not in {"", "INTERNAL"} else ""
    said = [
        str(span.attributes[name])
        for name in (conventions.GUARD_RESULT, conventions.API_KEY_RESULT, conventions.RATE_LIMIT_RESULT)
        if name in span.attributes
    ]
    said += [f"key {span.attributes[conventions.API_KEY_ID]}"] if conventions.API_KEY_ID in span.attributes else []
    return f"{span.name}{kind}  {(span.end - span.start) / 1e6:.1f} ms{'  ' + ', '.join(said) if said else ''}"


def _log_line(log: Log) -> str:
    if log.is_audit:
        actor = log.attributes.get(conventions.AUDIT_ACTOR_ID, "")
        return f"audit event {log.event_name}  {log.attributes.get(conventions.AUDIT_OUTCOME, '')}  by {actor}"
    return f"log {log.severity}  {_short(log.body, _WIDEST)}"


def facts_of(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what an audit record says first, by name.

    Args:
        record: As ``mobius-otel audit tail --json`` prints it.
    """
    attributes = record.get("attributes", {})
    shown = [("event", str(record.get("event_name", "-")))]
    shown += [(name, _short(_text(attributes[name]), 70)) for name in _RECORD_FIELDS if name in attributes]
    return shown


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _short(text: str, length: int) -> str:
    text = _printable(" ".join(text.split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # telemetry must not move the cursor
