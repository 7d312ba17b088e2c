"""Wiring: one policy makes providers, guard and hooks; what the doors without code call.

In code: :func:`configure`. Without code: :func:`start_process`, from the sitecustomize module that
``mobius-otel run`` puts in front, and :func:`arm_hook`, the ``opentelemetry_pre_instrument`` entry point.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider

from mobius_otel import compat, conventions
from mobius_otel.compat import logs_api
from mobius_otel.errors import AuditUnavailable, ConfigurationError, MobiusError, PolicyError
from mobius_otel.instrumentation import (
    Reach,
    audit_function,
    guard_frameworks,
    supervises,
    time_function,
    wait_for_settings,
)
from mobius_otel.opening import check_policy, open_keys, open_ledger, open_rotator, redaction_policy
from mobius_otel.policy import Policy, load_policy
from mobius_otel.sigterm import before_default, leave_to_exit
from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit.bridge import bridge_logging, unbridge_logging
from mobius_otel.telemetry.audit.fail_modes import FailModes
from mobius_otel.telemetry.audit.logger import prepare
from mobius_otel.telemetry.audit.observe import observe_ledger
from mobius_otel.telemetry.audit.shipper import Shipper
from mobius_otel.telemetry.audit.windows import tell_the_rest
from mobius_otel.telemetry.redaction import (
    Redactor,
    configured_redactor,
    cover_baggage,
    cover_logging,
    cover_sdk,
)
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.streams import renew_on_fork
from mobius_otel.web import Guard, install_guard
from mobius_otel.web.prometheus import attach_reader, attach_sidecar, detach_sidecar
from mobius_otel.web.recorder import RouteRecorder
from mobius_otel.web.throttle import FailureThrottle

__all__ = [
    "EXIT_REFUSED",
    "Runtime",
    "arm_hook",
    "configure",
    "start_process",
]

#: The status of a process that refuses to start: EX_CONFIG of sysexits.h.
EXIT_REFUSED = 78
_FLUSH_SECONDS = 3.0
#: What the end of a process is delayed by at most, and how much of it the audit stream lets the last metrics go first.
_END_SECONDS = _FLUSH_SECONDS + 1
_METRICS_SECONDS = 1.0
#: What a process that has only started others is delayed by: it waited for them before, and has little to send.
_SUPERVISOR_SECONDS = 1.0

_log = logging.getLogger("mobius_otel")
_lock = threading.RLock()
_current: Runtime | None = None
_armed_in = 0


class Runtime:
    """What one policy set up in this process. A context manager.

    Args:
        policy: The policy.

    Attributes:
        policy: The policy.
        keys: The key manager, where the policy demands keys.
        ledger: The audit ledger, where the policy names one.
        guard: The guard.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        check_policy(policy)  # before anything is opened; a missing extra is told now, not by the first scrape
        self.ledger = open_ledger(policy)
        try:
            redactor = Redactor(redaction_policy(policy))
            throttle = FailureThrottle(policy.api_keys.failures)
            self.keys = open_keys(policy, throttle) if policy.wants_keys else None
            fail_modes = FailModes(policy.audit.fail_modes)
            self.guard = Guard(policy, self.keys, RouteRecorder(policy.audit.actor))
            section = policy.api_keys
            rotates = self.keys is not None and section.maintain_every_hours is not None
            self._rotator = open_rotator(policy, self.keys) if rotates and self.keys is not None else None
        except BaseException:
            self._close()
            raise
        self._defaults = defaults.Defaults(
            redactor=redactor, ledger=self.ledger, fail_mode=policy.audit.fail_mode, fail_modes=fail_modes,
            severity=policy.audit.severity,
        )  # fmt: skip
        self._reach = Reach(policy, self.guard)
        self._before: defaults.Defaults | None = None
        self._shipper: Shipper | None = None
        self._connected = False
        self._installed = False

    def arm(self) -> None:
        """Put the guard in front of the service and redaction in front of every exit."""
        tell_the_rest()  # what was refused before is none of this ledger's
        self._before = defaults.install(self._defaults)
        self._installed = True
        prepare()
        cover_sdk(configured_redactor)
        cover_logging(configured_redactor)
        cover_baggage(configured_redactor)
        install_guard(self.guard)
        guard_frameworks()
        for spec in self.policy.instrument:
            time_function(spec.target, spec.timer)
        for target in self.policy.audit.functions:
            audit_function(target, self.policy.audit.actor)
        if self.policy.audit.logging:
            bridge_logging()
        if self.policy.audit.ledger is None and (self.policy.audit.routes or self.policy.audit.functions):
            _log.warning("mobius_otel: no [audit] ledger: audit events go straight to the log pipeline, at most once")

    def connect(self) -> None:
        """Start what needs OpenTelemetry's providers: the scrape endpoint, observed gauges, the shipper."""
        if self._connected:
            return
        self._connected = True
        with guarded("runtime"):
            if not compat.sdk_disabled():
                self._show_metrics()
            emitter = defaults.emitter()
            armed = conventions.GUARD_ARMED
            emitter.observe(armed.name, self._reach.measured, armed.unit, armed.meaning)
            self._reach.start()
            if self.keys is not None:
                self.keys.observe(emitter)
            if self._rotator is not None:
                self._rotator.start()
            if self.ledger is not None:
                observe_ledger(emitter, self.ledger)
                self._shipper = Shipper.from_environment(self.ledger, resource=compat.resource_attributes())
                if self._shipper is not None:
                    self._shipper.start()
                elif self.ledger.durability == "sink":
                    _log.error(
                        'mobius_otel: [audit] durability = "sink", but no collector is configured'
                        " (OTEL_EXPORTER_OTLP_ENDPOINT): every audited action waits in vain"
                    )

    def _show_metrics(self) -> None:
        section = self.policy.metrics
        if section.sidecar is not None:
            attach_sidecar(_meter_provider(), section.sidecar)
        elif section.path is not None:
            attach_reader(_meter_provider())
        else:
            renew_on_fork(metrics_api.get_meter_provider())

    def shutdown(self) -> None:
        """Send what can be sent, end the audit stream, and put everything back. A second call does nothing."""
        global _current
        with _lock:
            if _current is self:
                _current = None
        if self._installed:
            self._installed = False
            self._reach.stop()
            install_guard(None)
            unbridge_logging()
            tell_the_rest()  # after the last refusal, while there is a ledger
            detach_sidecar()
            defaults.install(self._after())
            self._defaults.emitter.close()
        if self._rotator is not None:
            self._rotator.stop(_FLUSH_SECONDS)
        if self._shipper is not None and self.ledger is not None:
            with guarded("audit"), contextlib.suppress(AuditUnavailable):
                self.ledger.end()  # before the last look, so that the collector learns of it
            with guarded("audit"):
                self._shipper.stop(_FLUSH_SECONDS)
            self._shipper = None
        self._close()

    def _after(self) -> defaults.Defaults:
        """Return what holds from now on: what was before, but what still leaves is redacted by the same policy.

        Providers send their last metrics when the process ends. And ``strict`` stays strict where no ledger is left.
        """
        before, own = self._before or defaults.Defaults(), self._defaults
        if before.redactor is None:
            before = dataclasses.replace(before, redactor=own.redactor)
        if self.ledger is None or before.ledger is not None:
            return before
        return dataclasses.replace(
            before, fail_mode=own.fail_mode, fail_modes=own.fail_modes, ended=str(self.ledger.path), ended_said=False
        )

    def _close(self) -> None:
        with guarded("audit"):
            if self.ledger is not None:
                self.ledger.close()
        guard = getattr(self, "guard", None)
        if guard is not None:
            with guarded("rate_limit"):
                guard.close()
        keys = getattr(self, "keys", None)
        if keys is not None:
            with guarded("api_keys"):
                keys.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"Runtime({'connected' if self._connected else 'armed'}, policy={self.policy.file})"


def configure(service_name: str | None = None, policy: str | os.PathLike[str] | Policy | None = None) -> Runtime:
    """Set up everything that a policy asks for, in this process.

    OpenTelemetry's providers are made from the standard ``OTEL_*`` environment where none is installed and
    an exporter is asked for; providers that exist stay as they are.

    Args:
        service_name: The service's name; ``OTEL_SERVICE_NAME`` wins over it, it wins over the policy.
        policy: A policy, or its file; default: ``MOBIUS_OTEL_POLICY``, else ``mobius.toml`` if it exists,
            else a policy with nothing in it.

    Returns:
        The runtime; call its ``shutdown()``, or use it as a context manager.

    Raises:
        PolicyError: The policy breaks a rule.
        ConfigurationError: Something that the policy names cannot be opened, or an extra is missing.
    """
    global _current
    loaded = policy if isinstance(policy, Policy) else load_policy(policy) or Policy()
    with _lock:
        if _current is not None:
            raise ConfigurationError(
                "configure", "a second call", "the only one of its process", "Call shutdown() on the first runtime."
            )
        _name_service(service_name or loaded.service.name)
        runtime = Runtime(loaded)
        try:
            runtime.arm()
        except BaseException:
            runtime.shutdown()
            raise
        _current = runtime
    _ensure_sdk()
    runtime.connect()
    atexit.register(runtime.shutdown)
    return runtime


def start_process() -> None:
    """Arm the guard, then start OpenTelemetry.

    A failure of the first ends the process; a failure of the second costs telemetry.
    """
    _arm_or_exit()
    try:
        _default_environment()
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        initialize()  # logs and swallows what its parts raise; calls arm_hook on its way
    except Exception:
        _log.exception("mobius_otel: OpenTelemetry's auto-instrumentation failed; the guard stands")
    _connect()


def arm_hook() -> None:
    """Arm the guard: the ``opentelemetry_pre_instrument`` entry point."""
    _arm_or_exit()
    wait_for_settings()
    _connect()


def _connect() -> None:
    try:
        if not compat.has_configurator():  # a distribution that brings one has had its turn, well or badly
            _ensure_sdk()
    except Exception:
        _log.exception("mobius_otel: OpenTelemetry's SDK could not be set up; the guard stands")
    if _current is not None:
        _current.connect()
        atexit.unregister(_leave)  # what is registered last runs first: before the providers would end one by one
        atexit.register(_leave, _current)


def _arm_or_exit() -> None:
    """Arm by the policy file, if there is one; where that fails, end the process: it must not run open."""
    global _armed_in, _current
    with _lock:
        if _current is not None:
            return
        try:
            policy = load_policy()
            if policy is None:
                return
            _name_service(policy.service.name)
            runtime = Runtime(policy)
            runtime.arm()
        except Exception as error:
            _refuse(error)
        _current = runtime
    _armed_in = os.getpid()
    before_default(_terminate)


def _terminate() -> None:
    """Before a SIGTERM ends the process: end the audit stream and send what can be sent.

    What was counted since the last report would be lost without that. What is in the ledger would not, but it would
    wait for the next start; and a pod whose volume goes with it has none. A server that has a handler of its own keeps
    it: uvicorn puts the default back when it is done and raises the signal again, gunicorn leaves by ``sys.exit``.

    It happens in another thread, and for so long: the one that was interrupted may hold any lock.
    """
    runtime = _current
    if runtime is not None:
        _beside(_end, runtime)(_seconds_to_end())


def _seconds_to_end() -> float:
    """Return how long an end may take; what leaves the serving to others has waited for theirs."""
    return _SUPERVISOR_SECONDS if supervises() else _END_SECONDS


def _end(runtime: Runtime, *, leaves: bool = False) -> None:
    """Send what providers hold, all at once, and shut down.

    Args:
        runtime: What to shut down.
        leaves: Also the providers: the process leaves in good order, and a forked child as its parent.
    """
    tell_the_rest()
    metrics, *others = [
        _beside(_flush, provider, leaves)
        for provider in (metrics_api.get_meter_provider(), trace.get_tracer_provider(), logs_api.get_logger_provider())
    ]
    metrics(_METRICS_SECONDS)  # the package's own have to be collected before the emitter is closed
    if leaves or os.getpid() == _armed_in:
        runtime.shutdown()
    elif runtime.ledger is not None:
        runtime.ledger.close()  # a forked child ends its own stream alone: its parent ships, and may be waiting for it
    for wait in (metrics, *others):
        wait(None)


def _beside(function: Callable[..., None], *args: Any, **named: Any) -> Callable[[float | None], None]:
    """Call a function in another thread; return what waits for its end, at most so many seconds."""
    thread = threading.Thread(target=function, args=args, kwargs=named, name="mobius_otel-end", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Python 3.12.1 begins none while the interpreter ends
        function(*args, **named)
        return lambda _: None
    return thread.join


def _flush(provider: object, leaves: bool) -> None:
    method = "shutdown" if leaves and compat.leaves_at_exit(provider) else "force_flush"
    send = getattr(provider, method, None)
    if send is not None:
        with guarded("runtime"):
            send() if method == "shutdown" else send(round(_FLUSH_SECONDS * 1000))


def _leave(runtime: Runtime) -> None:
    """Shut down at the end of the process; a SIGTERM asks for what is happening, and does not cut it off.

    The providers too: each would wait for its exporter, and that for its collector, one after another.
    """
    if os.getpid() == _armed_in:
        leave_to_exit()
    _beside(_end, runtime, leaves=True)(_seconds_to_end())
    for provider in (metrics_api.get_meter_provider(), trace.get_tracer_provider(), logs_api.get_logger_provider()):
        compat.stay_at_exit(provider)  # what did not come to its end by now does not either


def _refuse(error: Exception) -> NoReturn:
    """Say why, and end. An exception would be swallowed by whoever called the hook, and the service would run open."""
    text = str(error) if isinstance(error, MobiusError) else f"{type(error).__qualname__} while arming the guard"
    hint = "" if not isinstance(error, PolicyError) else "\nTo check the policy: mobius-otel policy check"
    print(f"mobius-otel: the service does not start: {text}{hint}", file=sys.stderr, flush=True)
    os._exit(EXIT_REFUSED)


def _name_service(name: str | None) -> None:
    if name and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", name)


def _default_environment() -> None:
    """Let an endpoint be enough: what has one goes there, by the protocol that its port is known for."""
    shared = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    for kind in ("TRACES", "METRICS", "LOGS"):
        own = os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT")
        if not (endpoint := own or shared):
            continue
        protocol = "grpc" if ":4317" in endpoint else "http/protobuf"
        if "OTEL_EXPORTER_OTLP_PROTOCOL" not in os.environ:
            os.environ.setdefault(f"OTEL_EXPORTER_OTLP_{kind}_PROTOCOL", protocol)
        if compat.installed("opentelemetry-exporter-otlp-proto-http"):
            os.environ.setdefault(f"OTEL_{kind}_EXPORTER", "otlp")


def _ensure_sdk() -> None:
    """Set the SDK up from the standard environment where nobody has done it and an exporter is asked for."""
    if compat.sdk_disabled() or not compat.sdk_is_missing():
        return
    _default_environment()
    asked = (*(f"OTEL_{kind}_EXPORTER" for kind in ("TRACES", "METRICS", "LOGS")), "OTEL_CONFIG_FILE")
    if any(os.environ.get(name) for name in asked):
        compat.configure_sdk()


def _meter_provider() -> MeterProvider:
    """Return the SDK's meter provider, a new one where there is none."""
    found = metrics_api.get_meter_provider()
    if not isinstance(found, MeterProvider):
        metrics_api.set_meter_provider(MeterProvider(views=compat.server_views()))
        found = metrics_api.get_meter_provider()
    if not isinstance(found, MeterProvider):
        raise ConfigurationError("metrics.path", type(found).__name__, "served from the SDK's meter provider")
    return found
