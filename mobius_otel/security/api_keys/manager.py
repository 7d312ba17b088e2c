"""The key manager: issues, verifies, rotates, revokes and purges API keys."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from mobius_otel import conventions
from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys.checks import checked_reason, checked_text, key_not_found, seconds_of
from mobius_otel.security.api_keys.core import KeyManagerCore
from mobius_otel.security.api_keys.frames import emptied
from mobius_otel.security.api_keys.imported import ImportKind
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState
from mobius_otel.security.api_keys.stores import Census, Selection
from mobius_otel.security.api_keys.succession import first_that_opens
from mobius_otel.security.api_keys.twins import twin

__all__ = ["ApiKeyManager"]


class ApiKeyManager(KeyManagerCore):
    """Issues, verifies, rotates, revokes and purges API keys. A context manager.

    Args:
        store: Where keys are kept: ``"memory://"``, ``"sqlite:///keys.db"``, or a store object.
        ttl: How long a new key lives; None: for ever.
        grace_period: How long the old secret works after a rotation.
        pepper: What keys the digests at rest, bytes or text; keep it apart from the store. Or several, the newest
            first, while one follows another; None among them stands for digests that were made without one.
        prefix: The first part of new secrets.
        environment: The second part; secrets of another environment open nothing here.
        clock: Seconds since the epoch. One of your own also times the cache.
        cache_ttl: Seconds until a change that another process has made holds here, 0 to 5; 0: every verification
            asks the store. What is changed by this manager holds at once.
        cache_size: How many keys are remembered.
        mac: True: the last six digits of a secret are a keyed tag, so that forged keys never reach the store;
            ``"transition"``: new keys have it, and those with a plain checksum are still accepted.
        imported: What keys that were made elsewhere look like: regular expressions for a whole secret, with a group
            ``(?P<id>...)`` around what a slow hash is found by and ``(?P<secret>...)`` around what was hashed.
        throttle: Given a source, returns how many seconds it has to wait; asked before each look-up and refusal.
        on_rejected: Given a source, notes that a key of it was refused.
        on_reuse: What happens when a revoked, retired or expired key is presented: ``"report"``, or
            ``"revoke_lineage"``, which revokes its successors too.
        purge_after: How long dead keys are kept, so that their reuse is noticed.
        audit_success: Which verifications that let somebody in are recorded: ``"never"``, ``"first_use"`` (of each
            key) or ``"all"``.
        channel: Tells the processes that share the store of changes, so that they hold there at once; default: the
            store's own, where it has one.

    Attributes:
        store: The store.
        succession: How its keys get successors, step by step.
        grace: The grace period in seconds.
        clock: The clock.
        run_on_loop: Calls something that uses the store without holding up an event loop; None: nothing would.

    Raises:
        ConfigurationError: A value breaks its rule, or the store cannot be opened.

    Example:
        >>> with ApiKeyManager("memory://", pepper="a made-up pepper") as manager:
        ...     issued = manager.issue("alice", scopes={"read"})
        ...     manager.verify(issued.secret, scopes={"read"}).owner
        'alice'
    """

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
        if_none: bool = False,
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
            if_none: Only where the owner has no key of this name that opens.

        Returns:
            The key and its secret, which is shown this once; the key that is there already, with secret None.

        Raises:
            ConfigurationError: A value breaks its rule.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        record = self._record(
            owner, scopes, name=name, ttl=ttl, metadata=metadata, tenant=tenant, networks=networks, limit=limit,
            issued_by=issued_by,
        )  # fmt: skip
        with self._reporter.changing(conventions.API_KEY_ISSUED, record.id, by=record.issued_by) as told:
            with self._access.changing("add") as change:
                if if_none and (there := first_that_opens(change, record)) is not None:
                    return IssuedKey(there, None)
                issued = self._added(change, record)
            told.done({conventions.API_KEY_SCOPES: sorted(record.scopes)})
        return issued

    def import_key(
        self,
        secret: str | bytes,
        owner: str,
        scopes: Iterable[str] = (),
        *,
        kind: ImportKind = "plain",
        found_by: str | None = None,
        name: str = "",
        ttl: timedelta | float | None = None,
        metadata: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        networks: Iterable[str] = (),
        limit: object = None,
        issued_by: str | None = None,
    ) -> ApiKey:
        """Take over a key that was made elsewhere, under its secret; what is kept of it becomes ours at its first use.

        Args:
            secret: The secret, or what another system has kept of it.
            owner: Who it belongs to.
            scopes: What it may do.
            kind: ``plain``, ``sha256`` or ``sha512`` (hexadecimal or base64), ``bcrypt`` or ``argon2``.
            found_by: For the slow ones: the part of the secret that names the key.
            name: As for :meth:`issue`.
            ttl: As for :meth:`issue`.
            metadata: As for :meth:`issue`.
            tenant: As for :meth:`issue`.
            networks: As for :meth:`issue`.
            limit: As for :meth:`issue`.
            issued_by: As for :meth:`issue`.

        Raises:
            ConfigurationError: A value breaks its rule; the secret matches none of the manager's `imported` forms, so
                that it would never open; it could be guessed; or it is in the store already.
            MissingExtra: The library that compares such hashes is not installed.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        try:
            record = self._record(
                owner, scopes, name=name, ttl=ttl, metadata=metadata, tenant=tenant, networks=networks, limit=limit,
                issued_by=issued_by,
            )  # fmt: skip
            stored = self._importer.prepare(replace(record, prefix=""), secret, kind, found_by)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del secret
        return self._add_imported(stored)

    async def import_key_async(
        self,
        secret: str | bytes,
        owner: str,
        scopes: Iterable[str] = (),
        *,
        kind: ImportKind = "plain",
        found_by: str | None = None,
        name: str = "",
        ttl: timedelta | float | None = None,
        metadata: Mapping[str, Any] | None = None,
        tenant: str | None = None,
        networks: Iterable[str] = (),
        limit: object = None,
        issued_by: str | None = None,
    ) -> ApiKey:
        """Do as :meth:`import_key` does, without holding up the event loop."""
        try:
            record = self._record(
                owner, scopes, name=name, ttl=ttl, metadata=metadata, tenant=tenant, networks=networks, limit=limit,
                issued_by=issued_by,
            )  # fmt: skip
            stored = await asyncio.to_thread(self._importer.prepare, replace(record, prefix=""), secret, kind, found_by)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del secret
        add = partial(self._add_imported, stored)
        key: ApiKey = add() if self.run_on_loop is None else await self.run_on_loop(add)
        return key

    def verify(
        self, secret: object, scopes: Iterable[str] = (), *, source: str | None = None, network: str | None = None
    ) -> ApiKey:
        """Return the key that a secret opens.

        Args:
            secret: What the client sent: text or bytes; anything at all is answered, at worst with a refusal.
            scopes: What the action asks for; the key must hold all of them.
            source: The client's address, for throttling and for the audit trail.
            network: The address that must lie in the networks of the key, where it has any; default: `source`.

        Raises:
            InvalidApiKey: It opens nothing; the text is the same for every cause.
            InsufficientScope: The key is good, but does not hold a scope.
            KeyThrottled: The source has presented too many wrong keys.
            KeyStoreUnavailable: The store does not work, so nobody is let in.
            ConfigurationError: `scopes` are no scopes.
        """
        try:
            found = self._begin(secret, scopes, source, network)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del secret  # whoever prints the variables of an error's frames shall find none
        return found if type(found) is ApiKey else self._verifier.conclude(found, source)  # type: ignore[arg-type]

    async def verify_async(
        self, secret: object, scopes: Iterable[str] = (), *, source: str | None = None, network: str | None = None
    ) -> ApiKey:
        """Do as :meth:`verify` does, without holding up the event loop."""
        try:
            return await self._verifier.verify_async(secret, scopes, source, network, self.run_on_loop)
        finally:
            del secret

    def identify(self, secret: object) -> ApiKey | None:
        """Return the key whose secret this is, whatever its state, for somebody who has found one.

        It is no verification: nothing is counted, noted or let in.

        Args:
            secret: A secret of our own form.

        Raises:
            KeyStoreUnavailable: The store does not work.
        """
        try:
            found = self._verifier.identify(secret)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del secret
        return None if found is None else found.key.at(self.clock())

    def rotate(
        self,
        key_id: str,
        *,
        grace_period: timedelta | float | None = None,
        request_id: str | None = None,
        confirm_by_first_use: bool = False,
        issued_by: str | None = None,
    ) -> IssuedKey:
        """Give a key a successor; the old secret works until its grace ends.

        The successor has the owner, the scopes, the networks, the limit, the lifetime and the metadata of the old one.
        Of several rotations at once one wins.

        Args:
            key_id: The key's public id.
            grace_period: How long the old secret works, at most until its own expiry; 0: no longer; default:
                the manager's.
            request_id: Names this rotation: the same one again gives the same successor, with secret None.
            confirm_by_first_use: The grace of the old secret begins when the new one is first used; until then the
                old one goes on, and revoking the new one makes the old one as it was.
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
        request = checked_text("request_id", request_id)
        return self.succession.rotate(key_id, grace, request, by, on_first_use=bool(confirm_by_first_use))

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
        return self._ending.revoke(key_id, checked_reason(reason), checked_text("revoked_by", revoked_by))

    def revoke_lineage(
        self, key_id: str, *, reason: str | None = None, revoked_by: str | None = None
    ) -> builtins.list[ApiKey]:
        """Revoke a key, its predecessors and its successors, all of them or none.

        Args:
            key_id: The public id of any of them.
            reason: Why, for the audit trail.
            revoked_by: Who revokes them, for the audit trail.

        Returns:
            Those that opened something until now.

        Raises:
            As :meth:`revoke`.
        """
        by, why = checked_text("revoked_by", revoked_by), checked_reason(reason)
        return self._ending.revoke_lineage(self.get(key_id).lineage_id, why, by)

    def revoke_owner(
        self, owner: str, *, reason: str | None = None, revoked_by: str | None = None
    ) -> builtins.list[ApiKey]:
        """Revoke every key of an owner, all of them or none.

        Args:
            owner: The owner.
            reason: Why, for the audit trail.
            revoked_by: Who revokes them, for the audit trail.

        Returns:
            Those that opened something until now.

        Raises:
            As :meth:`revoke`, but for ``KeyNotFound``.
        """
        by, why = checked_text("revoked_by", revoked_by), checked_reason(reason)
        return self._ending.revoke_owner(checked_text("owner", owner, needed=True) or "", why, by)

    def purge(
        self,
        *,
        older_than: timedelta | float | None = None,
        dry_run: bool = False,
        batch: int = 1000,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Remove the keys that have opened nothing for a while: expired, retired or revoked ones.

        Until then they are kept, so that the reuse of one is noticed.

        Args:
            older_than: How long they must have been dead; default: the manager's `purge_after`.
            dry_run: Only count them.
            batch: How many are removed in one transaction.
            progress: Told how many are gone, and of how many, after each batch.

        Returns:
            How many there were.

        Raises:
            ConfigurationError: `older_than` is below zero, or `batch` below one.
            KeyStoreUnavailable: The store does not work.
            AuditUnavailable: The audit record cannot be kept, and the fail mode is strict.
        """
        age = self._purge_after if older_than is None else seconds_of("older_than", older_than, zero=True)
        if not isinstance(batch, int) or batch < 1:
            raise ConfigurationError("batch", batch, "a whole number above zero")
        dead_by = self.clock() - age
        return self._ending.count_dead(dead_by) if dry_run else self._ending.purge(dead_by, batch, progress)

    def get(self, key_id: str) -> ApiKey:
        """Return the key with a public id.

        Raises:
            KeyNotFound: No key has this id.
            KeyStoreUnavailable: The store does not work.
        """
        self._last_used.flush()
        with self._access.asking("get") as store:
            key = store.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise key_not_found(key_id)
        return key.at(self.clock())

    def list(
        self,
        owner: str | None = None,
        state: KeyState | str | None = None,
        *,
        tenant: str | None = None,
        lineage: str | None = None,
        expires_within: timedelta | float | None = None,
        after: ApiKey | None = None,
        most: int | None = None,
    ) -> builtins.list[ApiKey]:
        """Return keys, oldest first.

        Args:
            owner: Only those of this owner.
            state: Only those in this state.
            tenant: Only those of this tenant.
            lineage: Only those of this lineage.
            expires_within: Only those whose own expiry lies within this time, or is past.
            after: Only what comes after this key, for pages.
            most: How many at most.

        Raises:
            ConfigurationError: There is no such state, or a value breaks its rule.
            KeyStoreUnavailable: The store does not work.
        """
        if state is not None and state not in set(KeyState):
            raise ConfigurationError("state", state, f"one of {', '.join(KeyState)}")
        for setting, value in (("owner", owner), ("tenant", tenant), ("lineage", lineage)):
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(setting, type(value).__qualname__, "a text")
        if most is not None and (not isinstance(most, int) or most < 1):
            raise ConfigurationError("most", most, "a whole number above zero")
        self._last_used.flush()
        now = self.clock()
        ahead = None if expires_within is None else seconds_of("expires_within", expires_within, zero=True)
        selection = Selection(
            owner=owner, tenant=tenant, lineage=lineage, state=KeyState(state) if state else None, now=now, most=most,
            expires_by=None if ahead is None else now + ahead, after=(after.created_at, after.id) if after else None,
        )  # fmt: skip
        with self._access.asking("list") as store:
            return [key.at(now) for key in store.list(selection)]

    def census(self) -> tuple[Census, Mapping[str, int]]:
        """Return how many keys there are, and how many under which pepper (by label, the newest is `pepper_labels[0]`).

        Raises:
            KeyStoreUnavailable: The store does not work.
        """
        with self._access.asking("list") as store:
            return store.census(self.clock(), self._gauges.within), store.peppers()

    @property
    def pepper_labels(self) -> tuple[str, ...]:
        """What the peppers are called in the store, the newest first."""
        return self._peppers.labels

    issue_async = twin(issue)
    rotate_async = twin(rotate)
    identify_async = twin(identify)
    revoke_async = twin(revoke)
    revoke_lineage_async = twin(revoke_lineage)
    revoke_owner_async = twin(revoke_owner)
    purge_async = twin(purge)
    get_async = twin(get)
    list_async = twin(list)  # noqa: A003 - the method above is meant
    census_async = twin(census)
    close_async = twin(KeyManagerCore.close)
