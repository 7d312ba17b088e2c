"""The key manager: issues, verifies, rotates, revokes and purges API keys."""

from __future__ import annotations

import asyncio
import builtins
import functools
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import (
    ConfigurationError,
    InsufficientScope,
    InvalidApiKey,
    KeyStoreUnavailable,
    KeyThrottled,
)
from mobius_otel.security.api_keys import secret as secrets
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.census import StoreGauges
from mobius_otel.security.api_keys.checks import (
    checked_limit,
    checked_metadata,
    checked_networks,
    checked_reason,
    checked_scopes,
    checked_text,
    decide,
    key_not_found,
    seconds_of,
    shown_id,
)
from mobius_otel.security.api_keys.last_used import LastUsed
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import KeyStore, Selection, StoredKey, Transaction, open_store
from mobius_otel.security.api_keys.succession import Succession, deadline, existing
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.spans import started

__all__ = ["ApiKeyManager"]

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("mobius_otel")
_DAY = timedelta(days=1)


def _twin(
    method: Callable[Concatenate[ApiKeyManager, P], R],
) -> Callable[Concatenate[ApiKeyManager, P], Coroutine[Any, Any, R]]:
    """Return the asynchronous twin of a method: the same decision, in a thread where the store may wait."""

    @functools.wraps(method)
    async def twin(self: ApiKeyManager, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.store.blocking:
            return method(self, *args, **kwargs)
        return await asyncio.to_thread(method, self, *args, **kwargs)

    twin.__name__ = f"{method.__name__}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = f"Do as :meth:`{method.__name__}` does, without holding up the event loop."
    return twin


class ApiKeyManager:
    """Issues, verifies, rotates, revokes and purges API keys. A context manager.

    Args:
        store: Where keys are kept: ``"memory://"``, ``"sqlite:///keys.db"``, or a store object.
        ttl: How long a new key lives; None: for ever.
        grace_period: How long the old secret works after a rotation.
        pepper: What keys the digests at rest, bytes or text; keep it apart from the store.
        prefix: The first part of new secrets.
        environment: The second part; secrets of another environment open nothing here.
        clock: Seconds since the epoch.
        throttle: Given a source, returns how many seconds it has to wait; asked before each look-up.
        on_rejected: Given a source, notes that a look-up of it was refused.
        audit_success: ``"all"`` records every verification that lets somebody in.

    Attributes:
        store: The store.
        succession: How its keys get successors, step by step.
        grace: The grace period in seconds.
        clock: The clock.

    Raises:
        ConfigurationError: A value breaks its rule, or the store cannot be opened.

    Example:
        >>> with ApiKeyManager("memory://", pepper="a made-up pepper") as manager:
        ...     issued = manager.issue("alice", scopes={"read"})
        ...     manager.verify(issued.secret, scopes={"read"}).owner
        'alice'
    """

    def __init__(
        self,
        store: str | KeyStore,
        *,
        ttl: timedelta | float | None = timedelta(days=90),
        grace_period: timedelta | float = timedelta(hours=24),
        pepper: bytes | str | None = None,
        prefix: str = "mob",
        environment: str = "live",
        clock: Clock = time.time,
        throttle: Callable[[str], float] | None = None,
        on_rejected: Callable[[str], None] | None = None,
        audit_success: Literal["never", "all"] = "never",
    ) -> None:
        self.prefix = secrets.checked_part("prefix", prefix)
        self.environment = secrets.checked_part("environment", environment)
        self._ttl = math.inf if ttl is None else seconds_of("ttl", ttl)
        self.grace = seconds_of("grace_period", grace_period, zero=True)
        if audit_success not in {"never", "all"}:
            raise ConfigurationError("audit_success", audit_success, '"never" or "all"')
        self._digester = secrets.Digester(pepper)
        self.clock = clock
        self._throttle = throttle
        self._on_rejected = on_rejected
        self.store: KeyStore = open_store(store)
        self._reporter = Reporter(audit_success=audit_success == "all")
        self._access = StoreAccess(self.store, self._reporter)
        self.succession = Succession(self._access, self._reporter, clock, self._added)
        self._gauges = StoreGauges(self.store, clock)
        self._last_used = LastUsed(self.store)
        if not self._digester.keyed:
            _log.warning("mobius_otel: API keys are digested without a pepper; a stolen store can be tested offline")

    def issue(
        self,
        owner: str,
        scopes: Iterable[str] = (),
        *,
        name: str = "",
        ttl: timedelta | float | None = None,
        metadata: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        networks: Iterable[str] = (),
        limit: object = None,
        issued_by: str | None = None,
    ) -> IssuedKey:
        """Issue a key.

        Args:
            owner: Who it belongs to.
            scopes: What it may do; ``*`` is everything, ``refund:*`` everything that begins with ``refund:``.
            name: What it is for.
            ttl: How long it lives; default: the manager's; infinite: for ever.
            metadata: Facts of your own, at most 8 KiB as JSON.
            tenant: On whose behalf it acts.
            networks: The networks that it may come from (CIDR); none: any.
            limit: A rate limit of its own such as ``"100/minute"``, a ``RateLimit``, or a list of those.
            issued_by: Who issues it, for the audit trail.

        Returns:
            The key and its secret, which is shown this once.

        Raises:
            ConfigurationError: A value breaks its rule.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        now = self.clock()
        key_id = secrets.new_id()
        record = ApiKey(
            id=key_id,
            owner=checked_text("owner", owner, needed=True) or "",
            name=checked_text("name", name) or "",
            scopes=checked_scopes(scopes),
            environment=self.environment,
            prefix=self.prefix,
            created_at=now,
            expires_at=deadline(now, self._ttl if ttl is None else seconds_of("ttl", ttl)),
            lineage_id=key_id,
            tenant=checked_text("tenant", tenant),
            networks=checked_networks(networks),
            limit=checked_limit(limit),
            issued_by=checked_text("issued_by", issued_by),
            metadata=checked_metadata(metadata),
        )
        with self._reporter.changing(conventions.API_KEY_ISSUED, key_id, by=record.issued_by) as told:
            with self._access.changing("add") as change:
                issued = self._added(change, record)
            told.done({conventions.API_KEY_SCOPES: sorted(record.scopes)})
        return issued

    def verify(self, secret: object, scopes: Iterable[str] = (), *, source: str | None = None) -> ApiKey:
        """Return the key that a secret opens.

        Args:
            secret: What the client sent: text or bytes; anything at all is answered, at worst with a refusal.
            scopes: What the action asks for; the key must hold all of them.
            source: The client's address, for throttling and for the audit trail.

        Raises:
            InvalidApiKey: It opens nothing; the text is the same for every cause.
            InsufficientScope: The key is good, but does not hold a scope.
            KeyThrottled: The source has presented too many wrong keys.
            KeyStoreUnavailable: The store does not work, so nobody is let in.
            ConfigurationError: `scopes` are no scopes.
        """
        required = checked_scopes(scopes) if scopes else frozenset()
        start_ns = time.time_ns()
        key, asked, wait, failure, now = None, False, 0.0, None, 0.0
        try:
            raw = secrets.parse(secret)
            if secrets.environment_of(raw) != self.environment:
                raise InvalidApiKey("unknown")
            if source is not None and self._throttle is not None:
                wait = self._throttle(source)
            if wait > 0:
                result = "throttled"
            else:
                asked = True
                found = self._access.find([self._digester.digest(raw)])
                key = found.key if found is not None else None
                now = self.clock()  # read last, so that a slow store never stretches a deadline
                result = decide(key, now, required)
        except InvalidApiKey as error:
            result = error.reason
        except KeyStoreUnavailable as error:
            result, failure = "error", error
        # What is raised below carries this frame along; whoever prints its variables shall find no secret.
        del secret
        raw = b""
        self._reporter.verified(
            result, key, now=now, source=source, required=required, start_ns=start_ns, asked=asked,
            error=type(failure.__cause__).__qualname__ if failure is not None else None,
        )  # fmt: skip
        if result == "valid" and key is not None:
            self._last_used.note(key, now)
            return key.at(now)
        if failure is not None:
            raise failure
        if result == "throttled":
            raise KeyThrottled(wait)
        if result == "insufficient_scope":
            raise InsufficientScope(required, key.id if key is not None else None)
        if asked and source is not None and self._on_rejected is not None:
            self._on_rejected(source)
        raise InvalidApiKey(result, key.id if key is not None else None)

    def rotate(
        self,
        key_id: str,
        *,
        grace_period: timedelta | float | None = None,
        request_id: str | None = None,
        issued_by: str | None = None,
    ) -> IssuedKey:
        """Give a key a successor; the old secret works until its grace ends.

        The successor has the owner, the scopes, the lifetime and the metadata of the old one. Of several
        rotations at once one wins.

        Args:
            key_id: The key's public id.
            grace_period: How long the old secret works, at most until its own expiry; 0: no longer; default:
                the manager's.
            request_id: Names this rotation: the same one again gives the same successor, with secret None.
            issued_by: Who rotates it, for the audit trail.

        Raises:
            KeyNotFound: No key has this id.
            RotationConflict: The key has a successor by another request, or is not active any more.
            ConfigurationError: A value breaks its rule.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        grace = self.grace if grace_period is None else seconds_of("grace_period", grace_period, zero=True)
        by = checked_text("issued_by", issued_by)
        return self.succession.begin(key_id, grace, checked_text("request_id", request_id), by)

    def revoke(self, key_id: str, *, reason: str | None = None, revoked_by: str | None = None) -> ApiKey:
        """Revoke a key, at once and for ever; a second time changes nothing.

        Args:
            key_id: The key's public id.
            reason: Why, for the audit trail; the store does not keep it.
            revoked_by: Who revokes it, for the audit trail.

        Raises:
            KeyNotFound: No key has this id.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        by, why = checked_text("revoked_by", revoked_by), checked_reason(reason)
        with self._reporter.changing(conventions.API_KEY_REVOKED, shown_id(key_id), by=by, reason=why) as told:
            now = self.clock()
            with self._access.changing("update") as change:
                key = existing(change, key_id)
                first = key.revoked_at is None
                if first:
                    change.change(key.id, {"revoked_at": now})
                    key = replace(key, revoked_at=now)
            if first:
                told.done(target=key.id)
        return key.at(now)

    def purge(self, *, older_than: timedelta | float = 30 * _DAY, dry_run: bool = False) -> int:
        """Remove the keys that have opened nothing for a while: expired, retired or revoked ones.

        Until then they are kept, so that the reuse of one is noticed.

        Args:
            older_than: How long they must have been dead.
            dry_run: Only count them.

        Returns:
            How many there were.

        Raises:
            ConfigurationError: `older_than` is below zero.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        dead_by = self.clock() - seconds_of("older_than", older_than, zero=True)
        if dry_run:
            with self._access.asking("list") as store:
                return store.count_dead(dead_by)
        with started(conventions.API_KEY_PURGE) as span:
            try:
                with self._reporter.changing(
                    conventions.API_KEY_PURGED_EVENT, "api_keys", by=None, target_type="key_store"
                ) as told:
                    with self._access.changing("purge") as change:
                        count = change.purge(dead_by, 1_000_000_000)
                    if count:
                        told.done({conventions.COUNT: count})
            except BaseException:
                span.set_attribute(conventions.OUTCOME, "failure")
                raise
            span.set_attributes({conventions.COUNT: count, conventions.OUTCOME: "success"})
        if count:
            self._reporter.counted(conventions.API_KEY_PURGED, count, "success")
        return count

    def get(self, key_id: str) -> ApiKey:
        """Return the key with a public id.

        Raises:
            KeyNotFound: No key has this id.
            KeyStoreUnavailable: The store does not work.
        """
        with self._access.asking("get") as store:
            key = store.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise key_not_found(key_id)
        return key.at(self.clock())

    def list(self, owner: str | None = None, state: KeyState | str | None = None) -> builtins.list[ApiKey]:
        """Return keys, oldest first.

        Args:
            owner: Only those of this owner.
            state: Only those in this state.

        Raises:
            ConfigurationError: There is no such state.
            KeyStoreUnavailable: The store does not work.
        """
        if state is not None and state not in set(KeyState):
            raise ConfigurationError("state", state, f"one of {', '.join(KeyState)}")
        with self._access.asking("list") as store:
            now = self.clock()
            found = store.list(Selection(owner=owner, state=KeyState(state) if state else None, now=now))
        return [key.at(now) for key in found]

    def observe(self, emitter: MetricEmitter) -> None:
        """Report how many keys there are, by state and by how soon they expire, whenever `emitter` is collected.

        Args:
            emitter: Who reports it.
        """
        self._gauges.observe(emitter)

    def close(self) -> None:
        """Write down what is still in memory and close the store."""
        self._last_used.flush()
        self._reporter.flush()
        self.store.close()

    def _added(self, change: Transaction, record: ApiKey) -> IssuedKey:
        secret = secrets.generate(self.prefix, self.environment)
        record = replace(record, prefix=self.prefix, environment=self.environment)
        change.add(StoredKey(record, self._digester.digest(secret.encode("ascii"))))
        return IssuedKey(record, secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ApiKeyManager({self.store!r}, prefix={self.prefix!r}, environment={self.environment!r})"

    issue_async = _twin(issue)
    verify_async = _twin(verify)
    rotate_async = _twin(rotate)
    revoke_async = _twin(revoke)
    purge_async = _twin(purge)
    get_async = _twin(get)
    list_async = _twin(list)  # noqa: A003 - the method above is meant
    close_async = _twin(close)
