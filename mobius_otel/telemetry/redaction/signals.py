"""Redaction of spans, log records and collected metrics, part by part.

Nothing here raises. What cannot be redacted is blanked as a whole: the record still goes out, with its ids
and times and without its contents.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status

from mobius_otel import compat, conventions
from mobius_otel.telemetry.redaction.hits import marker
from mobius_otel.telemetry.redaction.points import one_point_a_series
from mobius_otel.telemetry.redaction.redactor import RedactionResult, Redactor
from mobius_otel.telemetry.redaction.statement_logs import redacted_message

__all__ = ["redact_log", "redact_span", "redacted_log", "redacted_metrics", "redacted_span"]

_Attributes = Mapping[str, Any]
_BLANK = marker("unreadable")
_CACHED = 64
_LEVELS = frozenset({"DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL", "TRACE", "NOTSET"})
# Resources and scopes hardly ever change; keyed by identity, the object kept so that its id stays its own.
_cache: dict[int, tuple[Any, Redactor, Any]] = {}


def _cached(thing: Any, redactor: Redactor, make: Any) -> Any:
    known = _cache.get(id(thing))
    if known is not None and known[0] is thing and known[1] is redactor:
        return known[2]
    made = make(thing, redactor)
    if len(_cache) >= _CACHED:
        _cache.clear()
    _cache[id(thing)] = (thing, redactor, made)
    return made


def _resource(resource: Resource, redactor: Redactor) -> Resource:
    before = compat.plain_attributes(resource.attributes)
    after, schema = redactor.redact(before, "resource").value, redactor.text(resource.schema_url, "resource")
    return resource if after is before and schema == resource.schema_url else Resource(after, schema)


def _scope(scope: InstrumentationScope, redactor: Redactor) -> InstrumentationScope:
    said = (scope.name, scope.version, scope.schema_url)
    clean = [redactor.text(text, "resource") if text else text for text in said]
    before = compat.plain_attributes(scope.attributes)
    after = redactor.redact(before, "resource").value
    if tuple(clean) == said and after is before:
        return scope
    return InstrumentationScope(clean[0] or "", clean[1], clean[2], after)


def _resource_of(resource: Resource | None, redactor: Redactor) -> Resource | None:
    return None if resource is None else cast(Resource, _cached(resource, redactor, _resource))


def _scope_of(scope: InstrumentationScope | None, redactor: Redactor) -> InstrumentationScope | None:
    return None if scope is None else cast(InstrumentationScope, _cached(scope, redactor, _scope))


def _attributes(
    attributes: _Attributes | None, redactor: Redactor | _Noting, where: str, *, immutable: bool = True
) -> Any:
    """Return the attributes without their secrets, the same object where there is none."""
    if not attributes:
        return attributes
    before = compat.plain_attributes(attributes)
    after = redactor.redact(before, where).value
    if after is before:
        return attributes
    return compat.bounded_like(
        attributes, after if isinstance(after, dict) else {"redacted": after}, immutable=immutable
    )


class _Noting:
    """A redactor that notes what it finds in one record.

    Args:
        redactor: The redactor.
    """

    __slots__ = ("kinds", "redactor")

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self.kinds: list[str] = []

    def redact(self, value: Any, where: str) -> RedactionResult:
        result = self.redactor.redact(value, where)
        if result.matches:
            self.kinds += [match.kind for match in result.matches]
        return result

    def text(self, text: str, where: str) -> str:
        return str(self.redact(text, where).value)

    def noted(self, attributes: Any) -> Any:
        """Return the record's attributes with what was done, where they have room for it."""
        if not self.kinds:
            return attributes
        own = compat.plain_attributes(attributes)
        most = getattr(attributes, "maxlen", None)
        if most is not None and len(own) + 3 > most:
            return attributes
        count = own.get(conventions.REDACTION_COUNT, 0)
        before = own.get(conventions.REDACTION_KINDS, ())
        own[conventions.REDACTION_COUNT] = len(self.kinds) + (count if isinstance(count, int) else 0)
        own[conventions.REDACTION_KINDS] = tuple(sorted({*self.kinds, *map(str, before)}))
        own[conventions.REDACTION_POLICY] = self.redactor.policy.version
        return own


# --- spans --------------------------------------------------------------------------------------------------


def redact_span(span: ReadableSpan, redactor: Redactor) -> None:
    """Take the secrets out of an ended span, in place, for whoever sees it later."""
    try:
        changed = _span_parts(span, redactor)
    except Exception:
        changed = _blank_span()
        redactor.redact(_Broken(), "span")  # counts it
    if changed:
        compat.rebind_span(span, **changed)


def redacted_span(span: ReadableSpan, redactor: Redactor) -> ReadableSpan:
    """Return the span without its secrets; a copy where it held any."""
    try:
        changed = _span_parts(span, redactor)
    except Exception:
        changed = _blank_span()
        redactor.redact(_Broken(), "span")
    if changed:
        span = copy.copy(span)
        compat.rebind_span(span, **changed)
    return span


class _Broken:
    """What stands for a record that could not be read, so that it is counted as such."""

    def __str__(self) -> str:
        raise ValueError


def _blank_span() -> dict[str, Any]:
    return {
        "name": _BLANK, "attributes": {}, "events": (), "links": (), "status": Status(), "resource": Resource({}),
        "instrumentation_scope": None, "instrumentation_info": None,
    }  # fmt: skip


def _span_parts(span: ReadableSpan, redactor: Redactor) -> dict[str, Any]:
    """Return the parts of a span that change."""
    changed: dict[str, Any] = {}
    noting = _Noting(redactor)
    name = noting.text(span.name, "span")
    if name != span.name:
        changed["name"] = name
    attributes = span._attributes if hasattr(span, "_attributes") else span.attributes
    clean = _attributes(attributes, noting, "span")
    if span.events:
        _note_list(changed, "events", span, [_event(event, noting) for event in span.events])
    if span.links:
        _note_list(changed, "links", span, [_link(link, noting) for link in span.links])
    if span.status.description:
        described = noting.text(span.status.description, "span")
        if described != span.status.description:
            changed["status"] = Status(span.status.status_code, described)
    if noting.kinds:
        clean = compat.bounded_like(attributes, noting.noted(clean), immutable=True)
    _note(changed, "attributes", attributes, clean)
    _note(changed, "resource", span.resource, _resource_of(span.resource, redactor))
    scope = span.instrumentation_scope
    _note(changed, "instrumentation_scope", scope, _scope_of(scope, redactor))
    return changed


def _note(changed: dict[str, Any], part: str, before: object, after: object) -> None:
    if after is not before:
        changed[part] = after


def _note_list(changed: dict[str, Any], part: str, span: ReadableSpan, after: list[Any]) -> None:
    if any(new is not old for new, old in zip(after, getattr(span, part), strict=True)):
        changed[part] = compat.listed_like(getattr(span, f"_{part}"), after)


def _event(event: Event, redactor: _Noting) -> Event:
    name = redactor.text(event.name, "span")
    attributes = _attributes(event.attributes, redactor, "span")
    if name == event.name and attributes is event.attributes:
        return event
    return Event(name, attributes, event.timestamp)


def _link(link: Link, redactor: _Noting) -> Link:
    attributes = _attributes(link.attributes, redactor, "span")
    return link if attributes is link.attributes else Link(link.context, attributes)


# --- log records --------------------------------------------------------------------------------------------


def redact_log(record: Any, redactor: Redactor) -> None:
    """Take the secrets out of a writable log record, in place; the caller's own record is not touched."""
    inner, resource, scope = _log_parts(record, redactor)
    record.log_record = inner
    record.resource = resource
    record.instrumentation_scope = scope


def redacted_log(record: Any, redactor: Redactor) -> Any:
    """Return a copy of a readable log record without its secrets."""
    inner, resource, scope = _log_parts(record, redactor)
    return dataclasses.replace(record, log_record=inner, resource=resource, instrumentation_scope=scope)


def _body(body: Any, scope: InstrumentationScope | None, noting: _Noting) -> Any:
    if type(body) is str and scope is not None:
        return redacted_message(scope.name, body, lambda text: noting.text(text, "log"))
    return noting.redact(body, "log").value


def _log_parts(record: Any, redactor: Redactor) -> tuple[Any, Any, Any]:
    inner = copy.copy(record.log_record)
    try:
        noting = _Noting(redactor)
        inner.body = _body(inner.body, record.instrumentation_scope, noting)
        clean = _attributes(inner.attributes, noting, "log", immutable=False)
        if inner.event_name:
            inner.event_name = noting.text(inner.event_name, "log")
        if inner.severity_text and inner.severity_text not in _LEVELS:
            inner.severity_text = noting.text(inner.severity_text, "log")
        if noting.kinds:
            clean = compat.bounded_like(inner.attributes, noting.noted(clean), immutable=False)
        inner.attributes = clean
        # Its attributes were set when the record was emitted; the live object would tell everything again.
        inner.exception = None
        return inner, _resource_of(record.resource, redactor), _scope_of(record.instrumentation_scope, redactor)
    except Exception:
        redactor.redact(_Broken(), "log")
        inner.body, inner.attributes, inner.exception = _BLANK, {}, None
        inner.event_name = None
        return inner, Resource({}), None


# --- metrics ------------------------------------------------------------------------------------------------


def redacted_metrics(data: Any, redactor: Redactor) -> Any:
    """Return collected metrics without secrets in the attributes of their points and exemplars.

    Series that differ in nothing but a secret become one; see :func:`one_point_a_series`.
    """
    try:
        return dataclasses.replace(
            data, resource_metrics=_each(data.resource_metrics, lambda part: _resource_metrics(part, redactor))
        )
    except Exception:
        redactor.redact(_Broken(), "metric")
        return dataclasses.replace(data, resource_metrics=[])


def _each(items: Sequence[Any], change: Any) -> Sequence[Any]:
    changed = [change(item) for item in items]
    return changed if any(new is not old for new, old in zip(changed, items, strict=True)) else items


def _with(thing: Any, **parts: Any) -> Any:
    """Return a frozen dataclass with other parts, the same object where none is another one."""
    changed = {name: part for name, part in parts.items() if part is not getattr(thing, name)}
    return dataclasses.replace(thing, **changed) if changed else thing


def _resource_metrics(part: Any, redactor: Redactor) -> Any:
    scopes = _each(part.scope_metrics, lambda scope: _scope_metrics(scope, redactor))
    return _with(part, resource=_resource_of(part.resource, redactor), scope_metrics=scopes)


def _scope_metrics(part: Any, redactor: Redactor) -> Any:
    metrics = _each(part.metrics, lambda metric: _metric(metric, redactor))
    return _with(part, scope=_scope_of(part.scope, redactor), metrics=metrics)


def _metric(metric: Any, redactor: Redactor) -> Any:
    points = _each(metric.data.data_points, lambda point: _point(point, redactor))
    if points is not metric.data.data_points:
        points = one_point_a_series(metric.data, points)
    return _with(metric, data=_with(metric.data, data_points=points))


def _point(point: Any, redactor: Redactor) -> Any:
    exemplars = _each(point.exemplars, lambda exemplar: _exemplar(exemplar, redactor)) if point.exemplars else ()
    parts = {"exemplars": exemplars} if point.exemplars else {}
    return _with(point, attributes=_attributes(point.attributes, redactor, "metric"), **parts)


def _exemplar(exemplar: Any, redactor: Redactor) -> Any:
    return _with(exemplar, filtered_attributes=_attributes(exemplar.filtered_attributes, redactor, "metric"))
