"""Everything a piece of code told telemetry, as plain dicts: for tests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from mobius_otel.errors import ConfigurationError
from mobius_otel.testing.assertions import Nothing, find_secret, matches, only
from mobius_otel.testing.plain import Plain, plain
from mobius_otel.testing.series import Series

__all__ = ["TelemetryCapture"]

Attributes = Mapping[str, Any]


class TelemetryCapture:
    """Captures the spans, metrics, log records and audit events of a block, and of that block alone.

    Handles that were made at import (tracers, meters, loggers, counters of this package) are covered. Where no
    OpenTelemetry provider is installed the SDK's own is, once per process; one that is there stays the identical
    object. Records are copied when they are exported, as a real exporter would send them. While a capture is
    open, errors that this package would keep from a service are raised.

    What it answers stays readable after the block.

    Example:
        >>> from mobius_otel.telemetry.metrics import MetricEmitter
        >>> orders = MetricEmitter("shop").counter("orders.placed", unit="{order}")
        >>> orders.add(5, {"currency": "EUR"})
        >>> with TelemetryCapture() as telemetry:
        ...     orders.add(3, {"currency": "EUR"})
        >>> telemetry.metric("orders.placed", currency="EUR")
        3
        >>> telemetry.assert_no_secret("hunter2")
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Plain] = []
        self._logs: list[Plain] = []
        self._audits: list[Plain] = []
        self._series = Series()
        self._lines = _Lines()
        self._opened = False
        self._open = False
        self._raised_before = False

    def __enter__(self) -> Self:
        if self._opened:
            raise ConfigurationError("TelemetryCapture", self, "entered once", "Make a new one for every block.")
        # Here and not above: pytest loads this module at every start, also for tests that capture nothing.
        from mobius_otel.telemetry.audit.windows import tell_the_rest
        from mobius_otel.telemetry.safety import raise_errors
        from mobius_otel.testing.taps import taps

        tell_the_rest()  # refusals that were counted before
        taps.open(self)
        _audit_listeners().append(self.on_audit)
        self._lines.attach()
        self._raised_before = raise_errors(True)
        self._opened = self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from mobius_otel.telemetry.audit.windows import tell_the_rest
        from mobius_otel.telemetry.safety import raise_errors
        from mobius_otel.testing.taps import taps

        raise_errors(self._raised_before)
        tell_the_rest()
        self._lines.detach()
        _audit_listeners().remove(self.on_audit)
        taps.close(self)
        self._open = False

    # --- what was captured ----------------------------------------------------------------------------------

    @property
    def spans(self) -> list[Plain]:
        """The finished spans, in the order in which they ended."""
        with self._lock:
            return list(self._spans)

    @property
    def logs(self) -> list[Plain]:
        """The records that reached OpenTelemetry's log pipeline."""
        with self._lock:
            return list(self._logs)

    @property
    def audits(self) -> list[Plain]:
        """The audit records, redacted and complete, wherever they are kept."""
        with self._lock:
            return list(self._audits)

    @property
    def metrics(self) -> list[Plain]:
        """The metric series that were touched: what each grew by, a gauge's last value."""
        self._collect()
        return self._series.points()

    @property
    def text(self) -> str:
        """What the block wrote with standard :mod:`logging`, one formatted record a line."""
        return "\n".join(self._lines.texts())

    def span(self, name: str, /, attributes: Attributes | None = None, **more: Any) -> Plain:
        """Return the one span with this name.

        Args:
            name: The span's name.
            attributes: Attributes that it has, for names that are no keywords (``{"http.route": "/"}``).
            **more: Further attributes.

        Raises:
            AssertionError: None or several match; the text lists what there was.
        """
        __tracebackhide__ = True
        wanted = {**(attributes or {}), **more}
        return only(
            f"span {_shown(name, wanted)}", self.spans, lambda s: s["name"] == name and matches(s, wanted), "name"
        )

    def log(self, attributes: Attributes | None = None, /, *, event_name: str | None = None, **more: Any) -> Plain:
        """Return the one log record with this event name and these attributes.

        Args:
            attributes: Attributes that it has.
            event_name: Its event name; None: any.
            **more: Further attributes.

        Raises:
            AssertionError: None or several match; the text lists what there was.
        """
        __tracebackhide__ = True
        wanted = {**(attributes or {}), **more}
        return only(
            f"log record {_shown(event_name, wanted)}",
            self.logs,
            lambda record: (event_name is None or record["event_name"] == event_name) and matches(record, wanted),
            "event_name",
        )

    def audit(self, event_name: str, /, attributes: Attributes | None = None, **more: Any) -> Plain:
        """Return the one audit record with this event name.

        Args:
            event_name: The event's name, for example ``"payment.refund"``.
            attributes: Attributes that the record has.
            **more: Further attributes.

        Raises:
            AssertionError: None or several match; the text lists what there was.
        """
        __tracebackhide__ = True
        wanted = {**(attributes or {}), **more}
        return only(
            f"audit record {_shown(event_name, wanted)}",
            self.audits,
            lambda record: record.get("event_name") == event_name and matches(record, wanted),
            "event_name",
        )

    def metric(self, name: str, /, attributes: Attributes | None = None, **more: Any) -> float:
        """Return what a metric grew by in this block, over the series with these attributes.

        Args:
            name: The metric's name.
            attributes: Attributes that the series have, for names that are no keywords.
            **more: Further attributes.

        Returns:
            What a counter grew by; a gauge's last value; how many values a histogram or timer recorded (their sum
            stands in :attr:`metrics`). 0 where nothing was recorded; where an assertion about that fails, pytest
            shows which names, or which series of this name, there are.
        """
        self._collect()
        wanted = {**(attributes or {}), **more}
        found = self._series.matching(name, wanted)
        if not found:
            return Nothing(name, wanted, self._series.points())
        total: float = sum(point["count"] if point["kind"] == "histogram" else point["value"] for point in found)
        return total

    def assert_no_secret(self, *secrets: str | bytes) -> None:
        """Assert that none of these secrets stands in anything that was captured.

        Everything is searched: spans, log records, audit records, metric attributes, exemplars, resources and
        the text of standard logging; each secret as it is, percent-encoded, escaped, in Base64 and in
        hexadecimal.

        Args:
            *secrets: The secrets, each of at least 4 characters.

        Raises:
            AssertionError: One is found; the text says where, and does not repeat it.
            ConfigurationError: None was given, or one is too short to be told from chance.
        """
        __tracebackhide__ = True  # pytest shows what a function was called with: the secrets
        if not secrets:
            raise ConfigurationError("secrets", (), "at least one", "Nothing would be looked for.")
        document = {
            "spans": self.spans,
            "logs": self.logs,
            "audits": self.audits,
            "metrics": self.metrics,
            "logging": self._lines.texts(),
        }
        found = [
            f"  secret {number} of {len(secrets)}: {place}"
            for number, secret in enumerate(secrets, 1)
            for place in find_secret(secret, document)
        ]
        if found:
            raise AssertionError("\n".join(["a secret left the process:", *(_masked(line, secrets) for line in found)]))

    def __repr__(self) -> str:
        with self._lock:
            counts = f"{len(self._spans)} spans, {len(self._logs)} logs, {len(self._audits)} audits"
        return f"TelemetryCapture({'open' if self._open else 'closed'}, {counts})"

    # --- what the taps call ---------------------------------------------------------------------------------

    def on_span(self, span: Plain) -> None:
        """Take a finished span."""
        with self._lock:
            self._spans.append(span)

    def on_log(self, record: Plain) -> None:
        """Take a log record."""
        with self._lock:
            self._logs.append(record)

    def on_points(self, points: list[Plain]) -> None:
        """Take what the metrics grew by."""
        self._series.add(points)

    def on_audit(self, record: Mapping[str, Any]) -> None:
        """Take an audit record that was kept, or sent."""
        copy: Plain = plain(record)
        with self._lock:
            self._audits.append(copy)

    def _collect(self) -> None:
        if self._open:
            from mobius_otel.testing.taps import taps

            taps.collect()


def _audit_listeners() -> list[Callable[[Plain], None]]:
    from mobius_otel.telemetry.audit import logger

    return logger.listeners


class _Lines(logging.Handler):
    """Keeps the formatted text of every record that reaches a logger's handlers."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self._attached: list[logging.Logger] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(self.format(record))

    def texts(self) -> list[str]:
        return list(self._texts)

    def attach(self) -> None:
        """Listen at the root and at every logger that passes nothing on to it."""
        known = list(logging.root.manager.loggerDict.values())
        private = [one for one in known if isinstance(one, logging.Logger) and not one.propagate]
        self._attached = [logging.root, *private]
        for logger in self._attached:
            logger.addHandler(self)

    def detach(self) -> None:
        for logger in self._attached:
            logger.removeHandler(self)
        self._attached = []


def _shown(name: str | None, attributes: Attributes) -> str:
    return (
        f"{name!r}{f' with {dict(attributes)}' if attributes else ''}"
        if name is not None
        else f"with {dict(attributes)}"
    )


def _masked(line: str, secrets: tuple[str | bytes, ...]) -> str:
    for secret in secrets:
        text = secret.decode("utf-8", "replace") if isinstance(secret, bytes) else secret
        line = line.replace(text, "[the secret]")
    return line
