"""The policy as frozen data: every section, every key, every default, with its rule and its meaning.

The loader, the JSON Schema and the reference page are made from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mobius_otel.errors import ConfigurationError, PolicyError
from mobius_otel.policy import rules
from mobius_otel.policy.lines import key_lines, shown_path
from mobius_otel.policy.rules import Rule

__all__ = [
    "ApiKeysSection",
    "AuditSection",
    "HeadersSection",
    "InstrumentSection",
    "MetricsSection",
    "Policy",
    "RateLimitRule",
    "RateLimitSection",
    "RedactionExample",
    "RedactionRuleSection",
    "RedactionSection",
    "ServiceSection",
]


def _key(
    default: Any, meaning: str, rule: Rule | None = None, *, names: Rule | None = None, may_hold_secret: bool = False
) -> Any:
    """Declare a key: its default, its meaning, the rule of its value (or items) and, for a table, of its names.

    What may hold a password is not shown with the section.
    """
    metadata = {"meaning": meaning, "rule": rule, "names": names}
    if isinstance(default, dict):
        return field(default_factory=lambda: MappingProxyType({}), metadata=metadata)
    return field(default=default, metadata=metadata, repr=not may_hold_secret)


def _required(meaning: str, rule: Rule) -> Any:
    return field(metadata={"meaning": meaning, "rule": rule, "names": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSection:
    """``[service]``: the service itself."""

    name: str = _key("", "The service's name; OTEL_SERVICE_NAME wins.", rules.ANY)
    trusted_proxies: tuple[str, ...] = _key(
        (), "Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto count.", rules.ADDRESSES
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeysSection:
    """``[api_keys]``: who has to show a key, and where the keys are."""

    store: str = _key(
        "sqlite:///keys.db", "Where the keys are; a relative file lies beside the policy.", rules.STORE,
        may_hold_secret=True,
    )  # fmt: skip
    require: tuple[str, ...] = _key((), "Paths that open for a key alone.", rules.PATH)
    public: tuple[str, ...] = _key((), "Exceptions from `require`.", rules.PATH)
    preflight: Literal["pass", "key"] = _key(
        "pass", "Whether a CORS preflight needs a key; key: where no browser calls, or a view answers any method.",
        rules.choice("pass", "key"),
    )  # fmt: skip
    header: str = _key("X-API-Key", "The header that holds the key, beside Authorization: Bearer.", rules.HEADER_NAME)
    ttl_days: float = _key(90, "Days that a new key lives.", rules.POSITIVE)
    grace_hours: float = _key(24, "Hours that the old secret works after a rotation.", rules.NOT_NEGATIVE)
    cache_seconds: float = _key(
        5,
        "Seconds until a revocation in another process holds here, 0: at once, at a look-up each.",
        rules.AT_MOST_FIVE,
    )
    channel: str | None = _key(
        None, "Tells other processes of changed keys at once; absent: PostgreSQL's own, else cache_seconds.",
        rules.CHANNEL, may_hold_secret=True,
    )  # fmt: skip
    prefix: str = _key("mob", "The first part of a new secret.", rules.IDENTIFIER)
    environment: str = _key("live", "The second part of a new secret.", rules.IDENTIFIER)
    failures: str = _key(
        "100/minute", "How many unknown, expired, revoked or retired keys one address may show.", rules.LIMIT
    )
    mac: Literal["off", "on", "transition"] = _key(
        "off", "on: a keyed tag instead of the checksum, so that forged keys never reach the store; transition: both.",
        rules.choice("off", "on", "transition"),
    )  # fmt: skip
    imported: tuple[str, ...] = _key(
        (), "What keys that were made elsewhere look like: regular expressions for a whole secret.", rules.PATTERN
    )
    on_reuse: Literal["report", "revoke_lineage"] = _key(
        "report", "What the use of a dead key does.", rules.choice("report", "revoke_lineage")
    )
    audit_success: Literal["never", "first_use", "all"] = _key(
        "never", "Which verifications that let somebody in are recorded.", rules.choice("never", "first_use", "all")
    )
    purge_after_days: float = _key(
        30, "Days that dead keys are kept, so that their use is noticed.", rules.NOT_NEGATIVE
    )
    rotate_before_days: float = _key(7, "Days before its end at which a key is rotated.", rules.POSITIVE)
    sink: str | None = _key(
        None, "Where the secrets of rotated keys go; absent: nothing is rotated by the clock.", rules.SINK
    )
    maintain_every_hours: float | None = _key(
        None, "How often the service rotates and purges, once for all processes; absent: `mobius-otel keys maintain`.",
        rules.POSITIVE,
    )  # fmt: skip
    scopes: Mapping[str, tuple[str, ...]] = _key(
        {}, "Routes and the scopes that their key must have.", rules.SCOPE, names=rules.ROUTE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRule:
    """``[[rate_limit.rules]]``: one limit, for some paths, counted by something."""

    name: str = _required("The rule's name, as telemetry and the RateLimit headers show it.", rules.RULE_NAME)
    paths: tuple[str, ...] = _key(("/*",), "The paths that it holds for.", rules.PATH)
    limit: tuple[str, ...] = _required('"100/minute", or a list: all must allow.', rules.LIMIT)
    by: str = _key("api_key", "What is counted; api_key on an open path: the address.", rules.BY)
    mode: Literal["enforce", "shadow"] = _key(
        "enforce", "shadow: counted and shown in telemetry, never enforced.", rules.choice("enforce", "shadow")
    )
    algorithm: Literal["sliding_window_log", "gcra"] = _key(
        "sliding_window_log", "gcra: a steady rate with a burst in place of an exact window.",
        rules.choice("sliding_window_log", "gcra"),
    )  # fmt: skip
    max_keys: int | None = _key(
        None, "How many clients are told apart in memory; those that come when it is reached share one count.",
        rules.WHOLE,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitSection:
    """``[rate_limit]``: how fast."""

    backend: str = _key(
        "memory://", "Where hits are counted: in each worker, or on a server for all of them.", rules.COUNTED
    )
    on_backend_error: Literal["local", "open", "closed"] = _key(
        "local", "Who decides while the server is gone: each worker, everybody in, or nobody.",
        rules.choice("local", "open", "closed"),
    )  # fmt: skip
    local_share: float = _key(
        1, "The part of each limit that a worker allows by itself meanwhile: one by the number of workers.",
        rules.SHARE,
    )  # fmt: skip
    deadline: float = _key(0.05, "Seconds that a request waits for the server.", rules.DEADLINE)
    lease: float | None = _key(
        None, "The part of a limit that workers may have drawn from the server and not yet spent; absent: every "
        "request asks it.", rules.LEASE,
    )  # fmt: skip
    draft: Literal["11", "7", "6", "off"] = _key(
        "11", "Which draft of the RateLimit headers clients are told their limits by.",
        rules.choice("11", "7", "6", "off"),
    )  # fmt: skip
    legacy_headers: bool = _key(False, "Whether they are told by X-RateLimit-Limit and so on, too.", rules.BOOL)
    rules: tuple[RateLimitRule, ...] = _key((), "The limits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSection:
    """``[audit]``: what is written down."""

    ledger: str | None = _key(
        None, "The durable ledger, a SQLite file; absent: straight to the log pipeline, at most once.", rules.ANY
    )
    fail_mode: Literal["strict", "spool", "best_effort"] = _key(
        "spool", "What happens when a record cannot be kept.", rules.choice("strict", "spool", "best_effort")
    )
    fail_modes: Mapping[str, Literal["strict", "spool", "best_effort"]] = _key(
        {}, "The same by event name (payment.refund, payment.*) or risk (risk:critical).",
        rules.choice("strict", "spool", "best_effort"), names=rules.EVENTS,
    )  # fmt: skip
    durability: Literal["process", "power", "sink"] = _key(
        "process",
        "What an acknowledged record survives: a killed process; a power cut; the host, because a collector has it.",
        rules.choice("process", "power", "sink"),
    )  # fmt: skip
    sink_timeout: float = _key(10, 'Seconds that durability = "sink" waits for the collector.', rules.POSITIVE)
    sign: Literal["checkpoint", "record"] = _key(
        "checkpoint", "What MOBIUS_OTEL_AUDIT_KEY or the file of MOBIUS_OTEL_AUDIT_KEY_FILE signs, where there is one.",
        rules.choice("checkpoint", "record"),
    )  # fmt: skip
    max_megabytes: float | None = _key(
        None, "Size of the ledger; delivered records are removed to keep it, others never.", rules.MEGABYTES
    )
    max_age_days: float | None = _key(None, "Days that a delivered record is kept; absent: for ever.", rules.POSITIVE)
    routes: tuple[str, ...] = _key(
        (), "Routes whose every answer is audited; what the guard refuses has events of its own.", rules.ROUTE
    )
    actor: str | None = _key(None, "A function that says who did it; absent: the API key's owner.", rules.FUNCTION)
    functions: tuple[str, ...] = _key((), "Functions whose every call is audited.", rules.FUNCTION)
    logging: bool = _key(
        False,
        'Whether log records with `extra={"audit": …}` become audit events.',
        rules.BOOL,
    )
    severity: Literal["risk", "omit"] = _key(
        "risk", "risk: severity by risk and outcome; omit: none, as OpenTelemetry's audit draft has it.",
        rules.choice("risk", "omit"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionExample:
    """``[[redaction.examples]]``: a value and what must be left of it, for ``mobius-otel redact test``."""

    value: Any = _required("A text or a table that holds something to be taken out, or nothing.", rules.DATA)
    expect: Any = _required("What must be left of it.", rules.DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRuleSection:
    """``[[redaction.rules]]``: what happens to what is found, where everything that is given fits."""

    action: Literal["mask", "partial", "drop", "pseudonym", "pass"] = _required(
        "What happens.", rules.choice("mask", "partial", "drop", "pseudonym", "pass")
    )
    kind: str = _key("", "The kind of secret; absent: any.", rules.ANY)
    name: str = _key("", "The name that it stands under, also as the end of a longer one; absent: any.", rules.ANY)
    location: str = _key("", "Where it stands; absent: anywhere.", rules.LOCATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionSection:
    """``[redaction]``: what counts as a secret beside the built-in kinds."""

    names: tuple[str, ...] = _key((), "Further secret names.", rules.ANY)
    trusted: tuple[str, ...] = _key((), "Further names whose values are never looked into.", rules.ANY)
    off: tuple[str, ...] = _key((), "Kinds that are not looked for.", rules.ANY)
    actions: Mapping[str, Literal["mask", "partial", "drop", "pseudonym", "pass"]] = _key(
        {}, "What happens to each kind; absent: mask. pseudonym needs MOBIUS_OTEL_PSEUDONYM_KEY.",
        rules.choice("mask", "partial", "drop", "pseudonym", "pass"), names=rules.NAME,
    )  # fmt: skip
    patterns: Mapping[str, str] = _key({}, "Further kinds, by regular expression.", rules.ANY, names=rules.NAME)
    detectors: tuple[str, ...] = _key(
        (), "Further kinds, by functions: text in, pairs of start and end out; find_badges finds `badges`.",
        rules.FUNCTION,
    )  # fmt: skip
    examples: tuple[RedactionExample, ...] = _key((), "What `mobius-otel redact test` tries.")
    rules: tuple[RedactionRuleSection, ...] = _key((), "What happens by name or location; the first that fits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadersSection:
    """``[headers]``: security headers, set where the service sets none.

    Beside ``preset``, any header by its name: a text replaces the preset's value, ``""`` leaves it out.
    """

    preset: Literal["api", "web", "off"] = _key("api", "The set of headers.", rules.choice("api", "web", "off"))
    override: Mapping[str, str] = _key({}, "Headers by name.", rules.HEADER_VALUE, names=rules.HEADER_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSection:
    """``[metrics]``: the endpoint that Prometheus scrapes."""

    path: str | None = _key(None, "The endpoint's path; absent: no endpoint.", rules.ENDPOINT)
    sidecar: str | None = _key(
        None, "Where `mobius-otel sidecar` listens; then every worker's endpoint answers for all.", rules.SIDECAR
    )
    gauges: Mapping[str, Literal["sum", "max", "last", "worker"]] = _key(
        {}, "How the sidecar merges your gauges, by name; worker, the default: one series each.",
        rules.choice("sum", "max", "last", "worker"), names=rules.NAME,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentSection:
    """``[[instrument]]``: any function of the service, by name."""

    target: str = _required("The function.", rules.FUNCTION)
    timer: str = _required("The name of the timer that its calls are recorded in.", rules.TIMER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy file.

    Args:
        file: Where it was read from; None for defaults.
    """

    service: ServiceSection = _key(ServiceSection(), "The service.")
    api_keys: ApiKeysSection = _key(ApiKeysSection(), "API keys.")
    rate_limit: RateLimitSection = _key(RateLimitSection(), "Rate limits.")
    audit: AuditSection = _key(AuditSection(), "Audit.")
    redaction: RedactionSection = _key(RedactionSection(), "Redaction.")
    headers: HeadersSection = _key(HeadersSection(), "Security headers.")
    metrics: MetricsSection = _key(MetricsSection(), "Metrics.")
    instrument: tuple[InstrumentSection, ...] = _key((), "Instrumented functions.")
    file: Path | None = None

    @property
    def wants_keys(self) -> bool:
        """Whether anything in the policy needs the key store."""
        return bool(self.api_keys.require or self.api_keys.scopes)

    def beside(self, path: str) -> Path:
        """Return `path` as the policy means it: relative to the folder of the file."""
        return (self.file.parent if self.file else Path()).absolute() / path

    def placed(self, error: ConfigurationError) -> ConfigurationError:
        """Return an error about a value of this policy with its file and line, where it came from a file.

        Args:
            error: Its setting is the dotted key, for example ``redaction.patterns.badge`` or ``instrument[0].target``.
        """
        if self.file is None or isinstance(error, PolicyError):
            return error
        line = None
        try:
            lines = key_lines(self.file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            lines = {}
        parts = error.setting.replace("]", "").replace("[", ".").split(".")
        path: tuple[str | int, ...] = tuple(int(part) if part.isdecimal() else part for part in parts)
        while path and line is None:
            line = lines.get(path)
            path = path[:-1]
        message = str(error).removeprefix(f"{error.setting} = ")
        return PolicyError(message, file=shown_path(self.file), line=line, key=error.setting)

    @property
    def store_url(self) -> str:
        """The key store's URL with an absolute file name."""
        scheme, _, rest = self.api_keys.store.partition("sqlite:///")
        return self.api_keys.store if scheme or not rest else f"sqlite:///{self.beside(rest)}"
