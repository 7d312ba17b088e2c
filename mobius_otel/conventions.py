"""Everything the package emits: one registry of metrics, spans, events and attributes.

Every emitter takes its names from here; documentation, dashboards and tests are made from it. The module is
data alone and imports nothing of the package or of OpenTelemetry.

Names: a standard one wherever it exists (OpenTelemetry semantic conventions 1.44, the ``audit.*`` draft),
else the namespace ``mobius.``. No raw key, secret or client identifier is ever a metric attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "ATTRIBUTES",
    "EVENTS",
    "FAST_SECONDS",
    "HTTP_SECONDS",
    "METRICS",
    "SPANS",
    "Attribute",
    "Event",
    "Metric",
    "Span",
]

Kind = Literal["counter", "gauge", "histogram"]
Stability = Literal["stable", "development"]

#: Bucket boundaries, in seconds, for what takes microseconds to seconds: a look-up, a decision, a script.
FAST_SECONDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
#: Bucket boundaries, in seconds, that the HTTP semantic conventions advise for ``http.server.request.duration``.
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that telemetry of this package may carry.

    Args:
        name: The dotted name.
        meaning: One sentence.
        values: Every value it can have, where they are few.
        standard: Whether the name is one of the OpenTelemetry semantic conventions or of the audit draft.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    standard: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that this package emits.

    Args:
        name: The dotted name.
        kind: ``counter``, ``gauge`` or ``histogram``.
        unit: A UCUM unit; ``{request}`` counts things.
        meaning: One sentence; it becomes the instrument's description.
        attributes: The names it may carry.
        boundaries: Bucket boundaries of a histogram.
        merge: How a bridge for several workers merges a gauge.
        stability: ``stable`` or ``development``.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()
    boundaries: tuple[float, ...] | None = None
    merge: Literal["sum", "max", "last"] = "sum"
    stability: Stability = "development"


@dataclass(frozen=True, slots=True)
class Span:
    """A span that this package starts.

    Args:
        name: The span's name.
        meaning: One sentence.
        attributes: The names it may carry.
        always: True where it is started even without a recording span around it (``spans="auto"``).
        stability: ``stable`` or ``development``.
    """

    name: str
    meaning: str
    attributes: tuple[str, ...] = ()
    always: bool = False
    stability: Stability = "development"


@dataclass(frozen=True, slots=True)
class Event:
    """An audit event that this package emits.

    Args:
        name: The dotted event name (OpenTelemetry ``event_name``).
        action: The draft's ``audit.action``, an upper-case verb.
        meaning: One sentence.
        owasp: The name in the OWASP Logging Vocabulary, without its arguments.
        ocsf: The OCSF ``type_uid`` (class * 100 + activity).
        risk: The risk score, 0 to 100, that it is recorded with by default.
        attributes: The names it may carry beside those of every audit record.
        stability: ``stable`` or ``development``.
    """

    name: str
    action: str
    meaning: str
    owasp: str
    ocsf: int
    risk: int
    attributes: tuple[str, ...] = ()
    stability: Stability = "development"


# --- attributes ---------------------------------------------------------------------------------------------

RATE_LIMIT_POLICY = "mobius.rate_limit.policy"
RATE_LIMIT_RESULT = "mobius.rate_limit.result"
RATE_LIMIT_BACKEND = "mobius.rate_limit.backend"
RATE_LIMIT_LIMIT = "mobius.rate_limit.limit"
RATE_LIMIT_REMAINING = "mobius.rate_limit.remaining"
RATE_LIMIT_RETRY_AFTER = "mobius.rate_limit.retry_after"
RATE_LIMIT_TOP = "mobius.rate_limit.top"
API_KEY_RESULT = "mobius.api_key.result"
API_KEY_ID = "mobius.api_key.id"
API_KEY_OPERATION = "mobius.api_key.operation"
API_KEY_GENERATION = "mobius.api_key.generation"
API_KEY_STATE = "mobius.api_key.state"
API_KEY_SCOPES = "mobius.api_key.scopes"
API_KEY_ROTATED_FROM = "mobius.api_key.rotated_from"
API_KEY_ROTATED_TO = "mobius.api_key.rotated_to"
API_KEY_REASON = "mobius.api_key.reason"
WITHIN = "mobius.within"
OUTCOME = "mobius.outcome"
COUNT = "mobius.count"
AUDIT_RESULT = "mobius.audit.result"
AUDIT_RISK_SCORE = "mobius.audit.risk_score"
AUDIT_REASON = "mobius.audit.reason"
AUDIT_TENANT = "mobius.audit.tenant"
AUDIT_OWASP = "mobius.audit.owasp"
AUDIT_OCSF = "mobius.audit.ocsf_type_uid"
AUDIT_INVALID = "mobius.audit.invalid"
AUDIT_SIGNATURE = "mobius.audit.signature"
AUDIT_CHECKPOINT_COUNT = "mobius.audit.checkpoint.count"
AUDIT_CHECKPOINT_HEAD = "mobius.audit.checkpoint.head"
AUDIT_STREAM_NUMBER = "mobius.audit.stream.number"
GUARD_RESULT = "mobius.guard.result"
COMPONENT = "mobius.component"
REDACTION_KIND = "mobius.redaction.kind"
REDACTION_LOCATION = "mobius.redaction.location"
REDACTION_COUNT = "mobius.redaction.count"
REDACTION_KINDS = "mobius.redaction.kinds"
REDACTION_POLICY = "mobius.redaction.policy"
AUDIT_RECORD_ID = "audit.record.id"
AUDIT_ACTOR_ID = "audit.actor.id"
AUDIT_ACTOR_TYPE = "audit.actor.type"
AUDIT_ACTION = "audit.action"
AUDIT_OUTCOME = "audit.outcome"
AUDIT_TARGET_ID = "audit.target.id"
AUDIT_TARGET_TYPE = "audit.target.type"
AUDIT_SOURCE_ID = "audit.source.id"
AUDIT_SOURCE_TYPE = "audit.source.type"
AUDIT_SCHEMA_VERSION = "audit.schema.version"
AUDIT_STREAM_ID = "audit.sequence.stream_id"
AUDIT_SEQUENCE = "audit.sequence.number"
AUDIT_PREVIOUS_HASH = "audit.sequence.previous_hash"
AUDIT_SEQUENCE_END = "audit.sequence.end"
AUDIT_INTEGRITY_VALUE = "audit.integrity.value"
AUDIT_CANONICALIZATION = "audit.integrity.canonicalization"
CLIENT_ADDRESS = "client.address"
CODE_FUNCTION = "code.function.name"
ENDUSER_PSEUDO_ID = "enduser.pseudo.id"
USER_ID = "user.id"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
LOG_RECORD_UID = "log.record.uid"
SERVICE_NAME = "service.name"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"


def _standard(name: str, meaning: str, *values: str) -> Attribute:
    return Attribute(name, meaning, values, standard=True)


_ATTRIBUTES = (
    Attribute(RATE_LIMIT_POLICY, "The name of the limit, as the policy file gives it."),
    Attribute(RATE_LIMIT_RESULT, "What was decided.", ("allowed", "denied", "shadow_denied", "error")),
    Attribute(RATE_LIMIT_BACKEND, "Where the counts stand.", ("memory", "valkey")),
    Attribute(RATE_LIMIT_LIMIT, "Units that the limit allows in a window."),
    Attribute(RATE_LIMIT_REMAINING, "Units left in the window after the decision."),
    Attribute(RATE_LIMIT_RETRY_AFTER, "Seconds until the same cost would be allowed."),
    Attribute(RATE_LIMIT_TOP, "The most denied clients as pseudonyms, with how often at least: client-5f1c=48."),
    Attribute(
        API_KEY_RESULT,
        "What a verification found.",
        ("valid", "malformed", "unknown", "expired", "revoked", "retired", "insufficient_scope", "throttled", "error"),
    ),
    Attribute(API_KEY_ID, "The key's public id; on spans and audit records, never on metrics."),
    Attribute(API_KEY_OPERATION, "What was asked of the key store.", ("get", "add", "update", "list", "purge")),
    Attribute(API_KEY_GENERATION, "Whether a key in rotation came with its old or its new secret.", ("old", "new")),
    Attribute(API_KEY_STATE, "A key's state.", ("active", "retiring", "retired", "expired", "revoked")),
    Attribute(API_KEY_SCOPES, "The key's scopes."),
    Attribute(API_KEY_ROTATED_FROM, "The public id of the key that this one replaces."),
    Attribute(API_KEY_ROTATED_TO, "The public id of the key that replaces this one."),
    Attribute(API_KEY_REASON, "Why a key was refused; in telemetry alone, never in an answer."),
    Attribute(WITHIN, "A span of time ahead.", ("1d", "7d", "30d")),
    Attribute(OUTCOME, "Whether it worked.", ("success", "failure")),
    Attribute(COUNT, "How many equal occurrences a coalesced record stands for."),
    Attribute(AUDIT_RESULT, "What became of an audit record.", ("recorded", "exported", "quarantined", "rejected")),
    Attribute(AUDIT_RISK_SCORE, "Risk from 0 (none) to 100 (critical)."),
    Attribute(AUDIT_REASON, "Why it was done or refused, in words."),
    Attribute(AUDIT_TENANT, "On whose behalf."),
    Attribute(AUDIT_OWASP, "The event's name in the OWASP Logging Vocabulary."),
    Attribute(AUDIT_OCSF, "The event's type_uid in OCSF."),
    Attribute(AUDIT_SIGNATURE, "The signature of the record's hash: algorithm, key id, what is signed, signature."),
    Attribute(AUDIT_CHECKPOINT_COUNT, "How many records a stream had when its state was noted."),
    Attribute(AUDIT_CHECKPOINT_HEAD, "The hash of its last record then."),
    Attribute(
        AUDIT_STREAM_NUMBER,
        "The stream's number in its ledger, from 1; on its first record and on what it notes about itself.",
    ),
    Attribute(
        AUDIT_INVALID, "The rule of its event that a record breaks which had to be kept: its action had happened."
    ),
    Attribute(
        GUARD_RESULT,
        "The guard's verdict on a request.",
        ("passed", "unauthenticated", "forbidden", "limited", "refused", "unavailable"),
    ),
    Attribute(COMPONENT, "Which part of this package."),
    Attribute(REDACTION_KIND, "What kind of secret was found."),
    Attribute(
        REDACTION_LOCATION,
        "Where it was found.",
        ("audit", "log", "span", "resource", "metric", "baggage", "logging", "other"),
    ),
    Attribute(REDACTION_COUNT, "How many matches were taken out of the record."),
    Attribute(REDACTION_KINDS, "The kinds of what was taken out."),
    Attribute(REDACTION_POLICY, "The version of the redaction policy that it was taken out by."),
    _standard(AUDIT_RECORD_ID, "The record's id, a UUIDv7."),
    _standard(AUDIT_ACTOR_ID, "Who did it."),
    _standard(AUDIT_ACTOR_TYPE, "What kind of actor.", "user", "service", "system"),
    _standard(AUDIT_ACTION, "What was done, an upper-case verb."),
    _standard(AUDIT_OUTCOME, "How it ended.", "success", "failure", "unknown"),
    _standard(AUDIT_TARGET_ID, "What it was done to."),
    _standard(AUDIT_TARGET_TYPE, "What kind of target."),
    _standard(AUDIT_SOURCE_ID, "Where it came from."),
    _standard(AUDIT_SOURCE_TYPE, "What kind of source.", "ipv4", "ipv6", "hostname"),
    _standard(AUDIT_SCHEMA_VERSION, "Version of the audit attributes."),
    _standard(AUDIT_STREAM_ID, "The stream that the sequence number counts in."),
    _standard(AUDIT_SEQUENCE, "The record's number in its stream, from 1."),
    _standard(AUDIT_PREVIOUS_HASH, "The hash of the stream's record before this one; absent on the first."),
    _standard(AUDIT_SEQUENCE_END, "True on the last record of a stream that ended as it should."),
    _standard(AUDIT_INTEGRITY_VALUE, "SHA-256 over the record's canonical form, in hexadecimal."),
    _standard(AUDIT_CANONICALIZATION, "How the canonical form is made.", "jcs"),
    _standard(CODE_FUNCTION, "The function's name, with its module."),
    _standard(CLIENT_ADDRESS, "The client's address, past the trusted proxies."),
    _standard(ENDUSER_PSEUDO_ID, "A pseudonym of the user."),
    _standard(USER_ID, "The user's id."),
    _standard(ERROR_TYPE, "The class of an error."),
    _standard(HTTP_METHOD, "The HTTP method."),
    _standard(HTTP_ROUTE, "The route as the service declares it, or the rule's path pattern; never the raw path."),
    _standard(HTTP_STATUS, "The HTTP status."),
    _standard(LOG_RECORD_UID, "The record's id; two records with one id are the same record."),
    _standard(URL_PATH, "The path of the request."),
    _standard(URL_SCHEME, "The scheme of the request.", "http", "https", "ws", "wss"),
)

#: Every attribute, by name.
ATTRIBUTES: dict[str, Attribute] = {attribute.name: attribute for attribute in _ATTRIBUTES}

# --- metrics ------------------------------------------------------------------------------------------------

RATE_LIMIT_REQUESTS = Metric(
    "mobius.rate_limit.requests", "counter", "{request}",
    "Decisions of a rate limiter.", (RATE_LIMIT_POLICY, RATE_LIMIT_RESULT),
)  # fmt: skip
RATE_LIMIT_SATURATION = Metric(
    "mobius.rate_limit.saturation", "gauge", "1",
    "The highest used share of a limit that a decision saw since the last collection.", (RATE_LIMIT_POLICY,),
    merge="max",
)  # fmt: skip
RATE_LIMIT_DEGRADED = Metric(
    "mobius.rate_limit.degraded", "gauge", "1",
    "1 while the limiter's backend is gone and the fallback decides.", (RATE_LIMIT_POLICY,), merge="max",
)  # fmt: skip
RATE_LIMIT_TRACKED_KEYS = Metric(
    "mobius.rate_limit.tracked_keys", "gauge", "{key}",
    "Keys whose hits a limiter remembers.", (RATE_LIMIT_POLICY,),
)  # fmt: skip
RATE_LIMIT_BACKEND_DURATION = Metric(
    "mobius.rate_limit.backend.duration", "histogram", "s",
    "What one call of a limiter's server took.", (RATE_LIMIT_POLICY, RATE_LIMIT_BACKEND, ERROR_TYPE), FAST_SECONDS,
)  # fmt: skip
API_KEY_VERIFICATIONS = Metric(
    "mobius.api_key.verifications", "counter", "{verification}",
    "Verifications of API keys.", (API_KEY_RESULT,),
)  # fmt: skip
API_KEY_RETIRING_VERIFICATIONS = Metric(
    "mobius.api_key.retiring.verifications", "counter", "{verification}",
    "Verifications of keys in rotation, by old or new secret.", (API_KEY_GENERATION,),
)  # fmt: skip
API_KEY_STORE_DURATION = Metric(
    "mobius.api_key.store.duration", "histogram", "s",
    "What one call of the key store took.", (API_KEY_OPERATION, ERROR_TYPE), FAST_SECONDS,
)  # fmt: skip
API_KEY_KEYS = Metric(
    "mobius.api_key.keys", "gauge", "{key}", "Keys in the store, by state.", (API_KEY_STATE,), merge="last",
)  # fmt: skip
API_KEY_EXPIRING = Metric(
    "mobius.api_key.expiring", "gauge", "{key}", "Active keys that expire within a span of time.", (WITHIN,),
    merge="last",
)  # fmt: skip
API_KEY_NEVER_USED = Metric(
    "mobius.api_key.never_used", "gauge", "{key}", "Active keys that have never let anybody in.", merge="last",
)  # fmt: skip
API_KEY_OLDEST_AGE = Metric(
    "mobius.api_key.oldest_active_age", "gauge", "s", "The age of the oldest active key.", merge="last",
)  # fmt: skip
API_KEY_ROTATIONS = Metric("mobius.api_key.rotations", "counter", "{rotation}", "Rotations of API keys.", (OUTCOME,))
API_KEY_PURGED = Metric("mobius.api_key.purged", "counter", "{key}", "Dead keys that were removed.", (OUTCOME,))
AUDIT_RECORDS = Metric(
    "mobius.audit.records", "counter", "{record}", "Audit records, by what became of them.", (AUDIT_RESULT,)
)
AUDIT_BACKLOG = Metric(
    "mobius.audit.backlog", "gauge", "{record}",
    "Audit records in the ledger that no collector has acknowledged.", merge="last",
)  # fmt: skip
AUDIT_OLDEST = Metric(
    "mobius.audit.oldest", "gauge", "s",
    "Age of the oldest audit record that no collector has acknowledged; 0: there is none.", merge="max",
)  # fmt: skip
AUDIT_QUARANTINED = Metric(
    "mobius.audit.quarantined", "gauge", "{record}",
    "Audit records that a collector refuses alone and that are kept in the ledger.", merge="last",
)  # fmt: skip
AUDIT_STREAM_RECORDS = Metric(
    "mobius.audit.stream.records", "gauge", "{record}",
    "Records of this process's stream; a ledger that has fewer of it was cut.", (AUDIT_STREAM_ID,), merge="max",
)  # fmt: skip
AUDIT_STREAM_HEAD = Metric(
    "mobius.audit.stream.head", "gauge", "1",
    "The first 48 bits of the stream's newest hash as a number.", (AUDIT_STREAM_ID,), merge="last",
)  # fmt: skip
GUARD_REQUESTS = Metric(
    "mobius.guard.requests", "counter", "{request}", "Requests that the guard judged.", (HTTP_ROUTE, GUARD_RESULT)
)
GUARD_ARMED = Metric(
    "mobius.guard.armed", "gauge", "1",
    "1 while the guard stands in front of an application of this process, 0 while in front of none.",
)  # fmt: skip
INTERNAL_ERRORS = Metric(
    "mobius.internal.errors", "counter", "{error}",
    "Errors of this package that were kept from the service.", (COMPONENT, ERROR_TYPE),
)  # fmt: skip
REDACTION_MATCHES = Metric(
    "mobius.redaction.matches", "counter", "{match}",
    "Secrets that were taken out of telemetry.", (REDACTION_KIND, REDACTION_LOCATION),
)  # fmt: skip

#: Every metric, by name.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        RATE_LIMIT_REQUESTS, RATE_LIMIT_SATURATION, RATE_LIMIT_DEGRADED, RATE_LIMIT_TRACKED_KEYS,
        RATE_LIMIT_BACKEND_DURATION, API_KEY_VERIFICATIONS, API_KEY_RETIRING_VERIFICATIONS, API_KEY_STORE_DURATION,
        API_KEY_KEYS, API_KEY_EXPIRING, API_KEY_NEVER_USED, API_KEY_OLDEST_AGE,
        API_KEY_ROTATIONS, API_KEY_PURGED, AUDIT_RECORDS, AUDIT_BACKLOG,
        AUDIT_OLDEST, AUDIT_QUARANTINED, AUDIT_STREAM_RECORDS, AUDIT_STREAM_HEAD,
        GUARD_REQUESTS, GUARD_ARMED, INTERNAL_ERRORS, REDACTION_MATCHES,
    )
}  # fmt: skip

# --- spans --------------------------------------------------------------------------------------------------

RATE_LIMIT_ACQUIRE = Span(
    "rate_limit.acquire", "One decision of a rate limiter: a denied one, or one that asked a server.",
    (RATE_LIMIT_POLICY, RATE_LIMIT_RESULT, RATE_LIMIT_LIMIT, RATE_LIMIT_REMAINING, RATE_LIMIT_RETRY_AFTER, ERROR_TYPE),
)  # fmt: skip
API_KEY_VERIFY = Span(
    "api_key.verify", "One verification of an API key: a refused one, or one that asked the store.",
    (API_KEY_RESULT, API_KEY_ID, ERROR_TYPE),
)  # fmt: skip
API_KEY_ROTATE = Span(
    "api_key.rotate", "A key gets a successor.", (API_KEY_ID, API_KEY_ROTATED_FROM, OUTCOME, ERROR_TYPE), always=True
)
API_KEY_PURGE = Span("api_key.purge", "Dead keys are removed.", (COUNT, OUTCOME, ERROR_TYPE), always=True)
AUDIT_SEAL = Span(
    "audit.seal", "Carries the event `audit.checkpoint` where no other span is around.",
    (AUDIT_STREAM_ID, AUDIT_CHECKPOINT_COUNT, AUDIT_CHECKPOINT_HEAD), always=True,
)  # fmt: skip
AUDIT_EXPORT = Span("audit.export", "Audit records are sent to a collector.", (COUNT, OUTCOME, ERROR_TYPE), always=True)

#: Every span, by name.
SPANS: dict[str, Span] = {
    span.name: span
    for span in (RATE_LIMIT_ACQUIRE, API_KEY_VERIFY, API_KEY_ROTATE, API_KEY_PURGE, AUDIT_EXPORT, AUDIT_SEAL)
}

# --- events -------------------------------------------------------------------------------------------------
# OWASP names: Logging Vocabulary Cheat Sheet. OCSF 1.x classes: 3001 Account Change, 3002 Authentication,
# 3003 Authorize Session, 6003 API Activity; type_uid = class * 100 + activity.

RATE_LIMIT_EXCEEDED = Event(
    "rate_limit.exceeded", "LIMIT",
    "A limit was used up: the first denial at once, the others of its window in one record, with a count.",
    "excess_rate_limit_exceeded", 600399, 30, (RATE_LIMIT_POLICY, RATE_LIMIT_LIMIT, RATE_LIMIT_TOP, COUNT),
)  # fmt: skip
RATE_LIMIT_BACKEND_LOST = Event(
    "rate_limit.backend_lost", "UPDATE", "A limiter's server is gone; what on_backend_error says decides.",
    "sys_monitor_disabled", 600399, 60, (RATE_LIMIT_POLICY, ERROR_TYPE),
)  # fmt: skip
RATE_LIMIT_BACKEND_RESTORED = Event(
    "rate_limit.backend_restored", "UPDATE", "A limiter's server is back and decides again.",
    "sys_monitor_enabled", 600399, 20, (RATE_LIMIT_POLICY,),
)  # fmt: skip
API_KEY_ISSUED = Event(
    "api_key.issued", "CREATE", "A key was issued.", "authn_token_created", 300101, 40, (API_KEY_SCOPES,)
)
API_KEY_VERIFIED = Event(
    "api_key.verified", "LOGIN", "A key was presented and let in.", "authn_login_success", 300201, 5
)
API_KEY_REJECTED = Event(
    "api_key.rejected", "LOGIN", "Keys were refused; one record a window, source and cause, with a count.",
    "authn_login_fail", 300201, 50, (API_KEY_REASON, COUNT),
)  # fmt: skip
API_KEY_ROTATED = Event(
    "api_key.rotated", "UPDATE", "A key got a successor.", "authn_token_created", 300103, 40, (API_KEY_ROTATED_FROM,)
)
API_KEY_REVOKED = Event(
    "api_key.revoked", "DELETE", "A key was revoked, or all of a lineage or an owner.", "authn_token_revoked", 300105,
    50, (API_KEY_ID, COUNT),
)  # fmt: skip
API_KEY_UNUSED = Event(
    "api_key.unused", "READ", "Nobody uses the old secret of a rotated key any more: its grace can be ended.",
    "authz_admin", 300199, 10, (API_KEY_ROTATED_TO,),
)  # fmt: skip
API_KEY_EXPIRED = Event(
    "api_key.expired", "LOGIN", "An expired key was presented.", "authn_login_fail", 300201, 40, (API_KEY_REASON, COUNT)
)
API_KEY_PURGED_EVENT = Event(
    "api_key.purged", "DELETE", "Dead keys were removed from the store.", "authn_token_delete", 300106, 30, (COUNT,)
)
API_KEY_REUSED = Event(
    "api_key.reused", "LOGIN", "A revoked, retired or expired key was presented: somebody still has it, or stole it.",
    "authn_token_reuse", 300201, 85, (API_KEY_REASON, COUNT),
)  # fmt: skip
AUTHORIZATION_FAILED = Event(
    "authorization.failed", "AUTHORIZE", "A good key lacked a scope.", "authz_fail", 300301, 60, (API_KEY_SCOPES, COUNT)
)
HTTP_REQUEST = Event(
    "http.request", "ACCESS", "A request to a route that the policy audits was answered.", "sensitive_read", 600399,
    20, (HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, URL_PATH),
)  # fmt: skip
FUNCTION_CALLED = Event(
    "function.called", "EXECUTE", "A function that the policy audits was called.", "sensitive_update", 600399, 40,
    (CODE_FUNCTION, ERROR_TYPE),
)  # fmt: skip

AUDIT_CHECKPOINT = Event(
    "audit.checkpoint", "NOTE", "A stream of the ledger takes note of its length and its last hash.",
    "sys_monitor_enabled", 600399, 0, (AUDIT_CHECKPOINT_COUNT, AUDIT_CHECKPOINT_HEAD),
)  # fmt: skip
AUDIT_STREAM_ENDED = Event(
    "audit.stream.ended", "STOP", "A stream of the ledger ended as it should.", "sys_shutdown", 600399, 0,
    (AUDIT_CHECKPOINT_COUNT, AUDIT_CHECKPOINT_HEAD, AUDIT_SEQUENCE_END),
)  # fmt: skip
AUDIT_STREAM_ADOPTED = Event(
    "audit.stream.adopted", "ADOPT", "A process was gone and had not ended its stream; another one took note of it.",
    "sys_crash", 600399, 20, (AUDIT_CHECKPOINT_COUNT, AUDIT_CHECKPOINT_HEAD),
)  # fmt: skip

#: Every event, by name.
EVENTS: dict[str, Event] = {
    event.name: event
    for event in (
        RATE_LIMIT_EXCEEDED, RATE_LIMIT_BACKEND_LOST, RATE_LIMIT_BACKEND_RESTORED,
        API_KEY_ISSUED, API_KEY_VERIFIED, API_KEY_REJECTED, API_KEY_ROTATED, API_KEY_REVOKED,
        API_KEY_UNUSED,
        API_KEY_EXPIRED, API_KEY_PURGED_EVENT, API_KEY_REUSED, AUTHORIZATION_FAILED, HTTP_REQUEST, FUNCTION_CALLED,
        AUDIT_CHECKPOINT, AUDIT_STREAM_ENDED, AUDIT_STREAM_ADOPTED,
    )
}  # fmt: skip
