"""The one place that knows the underscored modules of the OpenTelemetry SDK and its versions."""

from __future__ import annotations

import atexit
import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from threading import Lock, RLock
from typing import Any, Literal, cast

from opentelemetry import _logs as logs_api
from opentelemetry import context, metrics, trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util import BoundedList

from mobius_otel.forks import importing

__all__ = [
    "METRIC_READERS",
    "RECEIVE_METRICS",
    "ExemplarFilter",
    "Signal",
    "bounded_like",
    "configure_sdk",
    "context_reader",
    "declared_exporter",
    "exemplar_filter",
    "has_configurator",
    "has_linear_patterns",
    "installed",
    "leaves_at_exit",
    "linear_pattern",
    "listed_like",
    "logs_api",
    "logs_export",
    "logs_sdk",
    "metric_preferences",
    "parsed_pattern",
    "plain_attributes",
    "real_instrument",
    "real_meter",
    "rebind_span",
    "renew_after_fork",
    "renew_meter_after_fork",
    "resource_attributes",
    "sdk_disabled",
    "sdk_is_missing",
    "server_views",
    "stay_at_exit",
]

#: The base class of everything that takes collected metrics, and the method in which it gets them.
METRIC_READERS = MetricReader
# Where the providers keep what they registered for the end of the process.
_AT_EXIT = ("_atexit_handler", "_at_exit_handler")
RECEIVE_METRICS = "_receive_metrics"


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def sdk_disabled() -> bool:
    """Return whether ``OTEL_SDK_DISABLED`` silences the SDK."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def has_configurator() -> bool:
    """Return whether a distribution brings a configurator that sets the SDK up in auto-instrumentation."""
    return bool(entry_points(group="opentelemetry_configurator"))


def sdk_is_missing() -> bool:
    """Return whether nobody has installed any of the three global providers."""
    return (
        isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        and not isinstance(metrics.get_meter_provider(), MeterProvider)
        and not isinstance(logs_api.get_logger_provider(), logs_sdk.LoggerProvider)
    )


class _AllBut(frozenset[str]):
    """Every name but these: what a view has no other way to say."""

    def __contains__(self, name: object) -> bool:
        return not super().__contains__(name)


# What a client's Host header decides: each value would be a series of its own, made before any key is asked for.
_OF_THE_HOST = _AllBut(("http.host", "http.server_name", "net.host.name", "server.address", "server.port"))


def server_views() -> list[View]:
    """Return the view by which metrics of HTTP servers say nothing that a client's Host header decides."""
    return [View(instrument_name="http.server.*", attribute_keys=cast("set[str]", _OF_THE_HOST))]


def configure_sdk() -> None:
    """Make the three providers from the standard ``OTEL_*`` environment, metrics by :func:`server_views`.

    Views that a file of ``OTEL_CONFIG_FILE`` asks for stay alone.

    Raises:
        Exception: As the SDK raises it, for example for an exporter that does not exist.
    """
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    _OTelSDKConfigurator().configure()  # type: ignore[no-untyped-call]
    made = getattr(metrics.get_meter_provider(), "_sdk_config", None)  # the configurator takes no views
    if made is not None and not made.views:
        made.views = server_views()


def leaves_at_exit(provider: object) -> bool:
    """Return whether a provider of the SDK shuts itself down when the process ends, and has not yet."""
    return any(getattr(provider, name, None) is not None for name in _AT_EXIT)


def stay_at_exit(provider: object) -> None:
    """Keep a provider of the SDK from shutting itself down when the process ends."""
    for name in _AT_EXIT:
        if (handler := getattr(provider, name, None)) is not None:
            atexit.unregister(handler)


def context_reader() -> Callable[[], Mapping[str, object]]:
    """Return what returns the current context, empty outside of everything; quicker than the API's own function."""
    try:
        found: Callable[[], Mapping[str, object]] = context._RUNTIME_CONTEXT._current_context.get  # type: ignore[attr-defined]
    except AttributeError:  # another implementation of contexts, or of the API
        return context.get_current
    return found


# --- exporters by name ----------------------------------------------------------------------------------------

Signal = Literal["traces", "logs", "metrics"]
#: What a configuration file calls an exporter of each signal, and where the function is that makes it.
_DECLARED = {
    "traces": ("SpanExporter", "_tracer_provider", "_create_span_exporter"),
    "logs": ("LogRecordExporter", "_logger_provider", "_create_log_record_exporter"),
    "metrics": ("PushMetricExporter", "_meter_provider", "_create_push_metric_exporter"),
}


def declared_exporter(signal: Signal, component: Mapping[str, Any]) -> Any:
    """Return the exporter that a part of a file of ``OTEL_CONFIG_FILE`` describes.

    Args:
        signal: Which signal it exports.
        component: For example ``{"otlp_http": {"endpoint": "http://localhost:4318/v1/traces"}}``.

    Raises:
        LookupError: opentelemetry-configuration is missing, or is built otherwise than the known versions.
        Exception: As that package raises it, for example for an exporter that does not exist.
    """
    model, module, factory = _DECLARED[signal]
    try:
        package = "opentelemetry.configuration"
        read = importlib.import_module(f"{package}._conversion")._dict_to_dataclass
        described = getattr(importlib.import_module(f"{package}.models"), model)
        make = getattr(importlib.import_module(f"{package}.{module}"), factory)
    except (ImportError, AttributeError) as error:
        raise LookupError(str(error)) from error
    return make(read(dict(component), described))


def metric_preferences(exporter: MetricExporter) -> dict[str, Any]:
    """Return which temporality and aggregation an exporter of metrics prefers, as arguments for another one."""
    names = ("preferred_temporality", "preferred_aggregation")
    return {name: getattr(exporter, f"_{name}", None) for name in names}


def resource_attributes() -> dict[str, str]:
    """Return the attributes of the resource that the standard environment describes."""
    return {key: str(value) for key, value in Resource.create().attributes.items()}


def parsed_pattern(pattern: str) -> Iterable[tuple[Any, Any]]:
    """Return a regular expression as Python's own parser takes it apart: pairs of an operation and its argument."""
    parser = re._parser  # type: ignore[attr-defined]
    return cast(Iterable[tuple[Any, Any]], parser.parse(pattern))


def has_linear_patterns() -> bool:
    """Return whether RE2, the engine of regular expressions that never goes back, is installed."""
    try:
        with importing:
            import re2  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def linear_pattern(pattern: str) -> Any:
    """Return a regular expression compiled by RE2, or None where that is not installed or cannot run it."""
    try:
        with importing:
            import re2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    options = re2.Options()
    options.log_errors = False  # it would print the pattern
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def linear_set(patterns: Iterable[str]) -> Callable[[bytes], list[int] | None] | None:
    """Return what tells which of some regular expressions are found in a text in latin-1, by one pass of RE2.

    Args:
        patterns: Expressions that RE2 can run.

    Returns:
        None where RE2 is not installed; else a function that returns the numbers of the expressions, or None.
    """
    try:
        with importing:
            import re2  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        found.Add(pattern.encode("latin-1"))
    found.Compile()
    return cast(Callable[[bytes], list[int] | None], found.Match)


def plain_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return attributes as a dictionary of their own."""
    if type(attributes) is BoundedAttributes:
        return cast(dict[str, Any], attributes.copy())
    return dict(attributes) if attributes else {}


def bounded_like(original: Mapping[str, Any] | None, attributes: dict[str, Any], *, immutable: bool) -> Any:
    """Return `attributes` in the container that the SDK uses, with the limits and the count of the original."""
    if not isinstance(original, BoundedAttributes):
        return attributes
    bounded = BoundedAttributes(
        maxlen=original.maxlen, attributes=attributes, immutable=immutable, max_value_len=original.max_value_len
    )
    bounded.dropped = original.dropped
    return bounded


def listed_like(original: Sequence[Any], items: list[Any]) -> Any:
    """Return `items` in the container that the SDK uses for events and links, with the count of the original."""
    if not isinstance(original, BoundedList):
        return items
    listed: BoundedList[Any] = BoundedList(len(items) or None)
    listed.extend(items)
    listed.dropped = original.dropped
    return listed


def rebind_span(span: ReadableSpan, **parts: Any) -> None:
    """Give an ended span other parts: ``name``, ``attributes``, ``events``, ``links``, ``status`` and so on.

    The spans that processors get have no public way to be changed; rebinding is seen by every later one.
    """
    for part, value in parts.items():
        setattr(span, f"_{part}", value)


# --- metrics --------------------------------------------------------------------------------------------------

ExemplarFilter = Literal["trace_based", "always_on", "always_off"]
_SILENT = (metrics.NoOpCounter, metrics.NoOpUpDownCounter, metrics.NoOpHistogram, metrics.NoOpMeter)


def real_instrument(instrument: Any) -> Any | None:
    """Return the instrument that records, behind the API's stand-in too; None while nobody listens."""
    real = getattr(instrument, "_real_instrument", instrument)
    return None if real is None or isinstance(real, _SILENT) or type(real).__name__ == "NoOpGauge" else real


def real_meter(meter: metrics.Meter) -> metrics.Meter | None:
    """Return the meter behind the API's stand-in, the meter itself where it is none, None while there is none."""
    return cast("metrics.Meter | None", getattr(meter, "_real_meter", meter))


def exemplar_filter(instrument: Any) -> ExemplarFilter:
    """Return which measurements of an SDK's instrument may become exemplars."""
    consumer = getattr(instrument, "_measurement_consumer", None)
    if consumer is None:  # not the SDK's: whether it makes exemplars is its own affair
        return getattr(instrument, "exemplar_filter", "trace_based")
    used = type(getattr(getattr(consumer, "_sdk_config", None), "exemplar_filter", None)).__name__
    return {"AlwaysOnExemplarFilter": "always_on", "AlwaysOffExemplarFilter": "always_off"}.get(  # type: ignore[return-value]
        used, "trace_based"
    )


def renew_after_fork(owner: Any) -> None:
    """Give the metrics SDK behind a provider or an instrument new locks and no sums, in a child process.

    The SDK keeps both over a fork: a child whose parent was recording or exporting at that moment hangs at its
    first measurement of the same series or its first export, and it counts what its parent counted
    (opentelemetry-python issue 4345). What cannot be renewed, since another version of the SDK is built
    otherwise, is left as it is.
    """
    try:
        consumer = owner._measurement_consumer
        consumer._lock = Lock()
        for reader, storage in consumer._reader_storages.items():
            storage._lock = RLock()
            for matches in storage._instrument_view_instrument_matches.values():
                for match in matches:
                    match._lock = Lock()
                    match._attributes_aggregation.clear()
            for name, make in (("_lock", RLock), ("_export_lock", Lock)):
                if hasattr(reader, name):
                    setattr(reader, name, make())
        for meter in getattr(owner, "_meters", {}).values():
            renew_meter_after_fork(meter)
    except AttributeError:
        return


def renew_meter_after_fork(meter: metrics.Meter) -> None:
    """Give a meter new locks in a child process, so that it can make instruments; see :func:`renew_after_fork`."""
    for each in (meter, real_meter(meter)):
        for name in ("_lock", "_instrument_ids_lock", "_instrument_registration_lock"):
            if hasattr(each, name):
                setattr(each, name, Lock())
