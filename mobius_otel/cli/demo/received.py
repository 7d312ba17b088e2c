"""What the demo's collector received, read back from what it printed.

Two forms are read: the text of ``rotel-agent --debug-log-verbosity detailed``, and the JSON lines of the
receiver that stands in where there is no rotel.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Log", "Point", "Received", "Span", "read_lines", "read_rotel"]

_ATTRIBUTE = re.compile(r"^ +-> (.+?): ([A-Z][A-Za-z]*)(?:\((.*))?$", re.DOTALL)
_WRAPPED = re.compile(r"\b(?:Str|Int|Double|Bool)\(([^()]*)\)")
_NO_TRACE = "0" * 32


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Args:
        name: Its name.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: The same, or empty.
        kind: ``SERVER``, ``INTERNAL``, …
        status: ``UNSET``, ``OK``, ``ERROR``.
        start: Unix nanoseconds.
        end: Unix nanoseconds.
        attributes: Names and values.
        events: The names of its events.
    """

    name: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    kind: str = ""
    status: str = "UNSET"
    start: int = 0
    end: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """One log record. Other libraries name their events too; an audit event has ``audit.*`` attributes beside."""

    event_name: str = ""
    scope: str = ""
    severity: str = ""
    body: str = ""
    trace_id: str = ""
    span_id: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_audit(self) -> bool:
        """Whether it is an audit event."""
        return bool(self.event_name) and any(name.startswith("audit.") for name in self.attributes)


@dataclass(frozen=True, slots=True)
class Point:
    """One data point of a metric: the value of a sum or gauge, the count of a histogram."""

    name: str = ""
    value: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """Everything that arrived."""

    spans: tuple[Span, ...] = ()
    logs: tuple[Log, ...] = ()
    points: tuple[Point, ...] = ()

    def span_counts(self) -> dict[str, int]:
        """Return how many spans came, by name, the most frequent first."""
        return dict(Counter(span.name for span in self.spans).most_common())

    def event_counts(self) -> dict[str, int]:
        """Return how many different audit events came, by name; a record that was sent twice counts once."""
        audits = [log for log in self.logs if log.is_audit]
        ids = {(log.event_name, log.attributes.get("log.record.uid", n)) for n, log in enumerate(audits)}
        return dict(Counter(name for name, _ in ids).most_common())

    def plain_logs(self) -> int:
        """Return how many ordinary log records came."""
        return sum(not log.is_audit for log in self.logs)

    def metric_values(self, *, without: frozenset[str] = frozenset()) -> dict[str, dict[str, float]]:
        """Return the newest value of every series, by metric and then by its attributes' values.

        Args:
            without: Attributes over which the series are summed.
        """
        newest = {(point.name, tuple(sorted(point.attributes.items()))): point.value for point in self.points}
        found: dict[str, dict[str, float]] = {}
        for (name, attributes), value in newest.items():
            series = ", ".join(str(each) for key, each in attributes if key not in without)
            values = found.setdefault(name, {})
            values[series] = values.get(series, 0.0) + value
        return found

    def trace(self, trace_id: str) -> tuple[list[Span], list[Log]]:
        """Return the spans, in order of their start, and the log records of one trace."""
        spans = sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda s: (s.start, -s.end))
        return spans, [log for log in self.logs if log.trace_id == trace_id]


class _RotelText:
    """Goes through rotel's lines and keeps the record, the table and the value that the next line belongs to."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.points: list[dict[str, Any]] = []
        self._record: dict[str, Any] = {}
        self._table: dict[str, Any] = {}
        self._open: tuple[dict[str, Any], str] | None = None  # the text value that may go on in the next line
        self._metric = ""
        self._scope = ""
        self._exemplar = False

    def line(self, text: str) -> None:
        """Read one line."""
        for start, read in _STARTS:
            if text.startswith(start):
                self._open = None
                read(self, text[len(start) :].strip())
                return
        if found := _ATTRIBUTE.match(text):
            self._set(self._table, found[1], f"{found[2]}({found[3]}" if found[3] is not None else found[2])
        elif self._open is not None:
            table, key = self._open
            table[key] += "\n" + text

    def _set(self, table: dict[str, Any], key: str, value: str) -> None:
        table[key] = value
        self._open = (table, key)

    def begin_span(self, _: str) -> None:
        self._record = {"attributes": {}, "events": []}
        self.spans.append(self._record)
        self._table, self._exemplar = {}, False

    def begin_log(self, _: str) -> None:
        self._record = {"attributes": {}, "scope": self._scope}
        self.logs.append(self._record)
        self._table, self._exemplar = {}, False

    def begin_point(self, _: str) -> None:
        self._record = {"attributes": {}, "name": self._metric, "value": 0.0}
        self.points.append(self._record)
        self._table, self._exemplar = {}, False

    def begin_metric(self, _: str) -> None:
        self._record, self._table, self._metric = {}, {}, ""

    def begin_exemplars(self, _: str) -> None:
        self._table, self._exemplar = {}, True

    def begin_event(self, _: str) -> None:
        self._table = {}

    def attributes(self, _: str) -> None:
        self._table = self._record.setdefault("attributes", {}) if not self._exemplar else {}

    def elsewhere(self, _: str) -> None:
        self._table = {}

    def scope(self, name: str) -> None:
        self._scope, self._table = name, {}

    def named(self, name: str) -> None:
        """Read ``-> Name:``, which a span's event and a metric both have."""
        if "events" in self._record:
            self._record["events"].append(name)
        elif not self._metric:
            self._metric = name

    def body(self, value: str) -> None:
        self._set(self._record, "body", value)

    def value(self, text: str) -> None:
        if "value" in self._record and not self._exemplar:
            self._record["value"] = _number(text)


def _field(key: str, convert: Callable[[str], Any] = str) -> Callable[[_RotelText, str], None]:
    def read(state: _RotelText, text: str) -> None:
        state._record[key] = convert(text)

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _integer(text: str) -> int:
    return int(text) if text.isdecimal() else 0


_STARTS: tuple[tuple[str, Callable[[_RotelText, str], None]], ...] = (
    ("\x1b", lambda state, _: state.elsewhere("")),  # what rotel says about itself
    ("Resource", _RotelText.elsewhere),
    ("Scope", _RotelText.elsewhere),
    ("InstrumentationScope", _RotelText.scope),
    ("Descriptor:", _RotelText.elsewhere),
    ("Exemplars:", _RotelText.begin_exemplars),
    ("SpanEvent #", _RotelText.begin_event),
    ("Span #", _RotelText.begin_span),
    ("LogRecord #", _RotelText.begin_log),
    ("Metric #", _RotelText.begin_metric),
    ("NumberDataPoints #", _RotelText.begin_point),
    ("HistogramDataPoints #", _RotelText.begin_point),
    ("Data point attributes:", _RotelText.attributes),
    ("Attributes:", _RotelText.attributes),
    ("     -> Attributes::", _RotelText.elsewhere),
    ("     -> Name:", _RotelText.named),
    ("Events:", _RotelText.elsewhere),
    ("Links:", _RotelText.elsewhere),
    ("    Trace ID       :", _field("trace_id")),
    ("    Parent ID      :", _field("parent_id")),
    ("    ID             :", _field("span_id")),
    ("    Span ID        :", _field("span_id")),
    ("    Name           :", _field("name")),
    ("    Kind           :", _field("kind", lambda text: text.removeprefix("SPAN_KIND_"))),
    ("    Status code    :", _field("status", lambda text: text.removeprefix("STATUS_CODE_"))),
    ("    Status message :", _RotelText.elsewhere),
    ("Start time:", _field("start", _integer)),
    ("End time:", _field("end", _integer)),
    ("SeverityText:", _field("severity")),
    ("SeverityNumber:", _RotelText.elsewhere),
    ("EventName:", _field("event_name")),
    ("Body:", _RotelText.body),
    ("ObservedTimestamp:", _RotelText.elsewhere),
    ("Timestamp:", _RotelText.elsewhere),
    ("StartTimestamp:", _RotelText.elsewhere),
    ("Flags:", _RotelText.elsewhere),
    ("Value:", _RotelText.value),
    ("Count:", _RotelText.value),
    ("Buckets #", _RotelText.elsewhere),
    ("ExplicitBounds #", _RotelText.elsewhere),
)


def read_rotel(text: str) -> Received:
    r"""Return what rotel's detailed debug log says that it received.

    Args:
        text: What it printed; a last line that is not yet whole does no harm.

    Example:
        >>> received = read_rotel("Span #0\n    Name           : GET /\nAttributes:\n     -> n: Int(3)\n")
        >>> received.spans[0].name, received.spans[0].attributes
        ('GET /', {'n': 3})
    """
    state = _RotelText()
    for line in text.split("\n"):
        state.line(line.rstrip("\r"))
    return Received(
        tuple(Span(**_finished(record, Span)) for record in state.spans),
        tuple(Log(**_finished(record, Log)) for record in state.logs),
        tuple(Point(**_finished(record, Point)) for record in state.points if record["name"]),
    )


def _finished(record: dict[str, Any], kind: type[Span | Log | Point]) -> dict[str, Any]:
    known = {each.name for each in fields(kind)}
    done = {key: value for key, value in record.items() if key in known}  # a text of many lines may look like a field
    done["attributes"] = {key: _value(value) for key, value in record["attributes"].items()}
    if "events" in done:
        done["events"] = tuple(done["events"])
    if "body" in done:
        done["body"] = str(_value(done["body"]))
    if done.get("trace_id") == _NO_TRACE:
        done["trace_id"] = ""
    return done


def _value(text: str) -> Any:
    """Return ``Int(3)`` as 3; a list or a table stays text, without the names of its types."""
    kind, paren, inner = text.partition("(")
    inner = inner.rstrip("\n").removesuffix(")")  # an empty line after a value belongs to the text, not to it
    if not paren:
        return ""
    if kind == "Str":
        return inner
    if kind == "Bool":
        return inner == "true"
    if kind in {"Int", "Double"}:
        number = _number(inner)
        return int(number) if kind == "Int" else number
    return _WRAPPED.sub(r"\1", inner)


def read_lines(text: str) -> Received:
    r"""Return what the stand-in receiver printed: one JSON object a line.

    Args:
        text: The lines; a last one that is not yet whole is left out.

    Example:
        >>> read_lines('{"span": {"name": "GET /"}}\n').span_counts()
        {'GET /': 1}
    """
    spans, logs, points = [], [], []
    for line in text.split("\n")[:-1]:
        try:
            record = json.loads(line)
        except ValueError:  # what the process said about itself
            continue
        if "span" in record:
            spans.append(Span(**{**record["span"], "events": tuple(record["span"].get("events", ()))}))
        elif "log" in record:
            logs.append(Log(**record["log"]))
        elif "point" in record:
            points.append(Point(**record["point"]))
    return Received(tuple(spans), tuple(logs), tuple(points))
