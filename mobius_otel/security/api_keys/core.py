"""What a key manager is made of: its parts, how they are put together, and what several of its methods share."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import ConfigurationError
from mobius_otel.security.api_keys import secret as secrets
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.cache import LONGEST_TTL, KeyCache
from mobius_otel.security.api_keys.census import StoreGauges
from mobius_otel.security.api_keys.checks import (
    checked_limit,
    checked_metadata,
    checked_networks,
    checked_scopes,
    checked_text,
    one_of,
    seconds_of,
)
from mobius_otel.security.api_keys.digests import Peppers, PeppersGiven
from mobius_otel.security.api_keys.ending import Ending
from mobius_otel.security.api_keys.frames import emptied
from mobius_otel.security.api_keys.imported import ForeignForms
from mobius_otel.security.api_keys.importing import Importer
from mobius_otel.security.api_keys.last_used import LastUsed
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import ChangeChannel, KeyStore, StoredKey, Transaction, open_store
from mobius_otel.security.api_keys.succession import Succession, deadline
from mobius_otel.security.api_keys.twins import runner_of
from mobius_otel.security.api_keys.upkeep import Upkeep
from mobius_otel.security.api_keys.verification import Recognition, Verifier
from mobius_otel.telemetry.metrics import MetricEmitter
from mobius_otel.telemetry.safety import guarded

__all__ = ["KeyManagerCore"]

_log = logging.getLogger("mobius_otel")


class KeyManagerCore:
    """The parts of a key manager; ``ApiKeyManager`` says what they are for."""

    def __init__(
        self,
        store: str | KeyStore,
        *,
        ttl: timedelta | float | None = timedelta(days=90),
        grace_period: timedelta | float = timedelta(hours=24),
        pepper: PeppersGiven = None,
        prefix: str = "mob",
        environment: str = "live",
        clock: Clock = time.time,
        cache_ttl: timedelta | float = LONGEST_TTL,
        cache_size: int = 100_000,
        mac: Literal[False, True, "transition"] = False,
        imported: Iterable[str] = (),
        throttle: Callable[[str], float] | None = None,
        on_rejected: Callable[[str], None] | None = None,
        on_reuse: Literal["report", "revoke_lineage"] = "report",
        purge_after: timedelta | float = timedelta(days=30),
        audit_success: Literal["never", "first_use", "all"] = "never",
        channel: ChangeChannel | None = None,
    ) -> None:
        try:  # before all that may be refused: a pepper is a secret too
            self._peppers = Peppers(pepper)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del pepper
        self.prefix = secrets.checked_part("prefix", prefix)
        self.environment = secrets.checked_part("environment", environment)
        self._ttl = math.inf if ttl is None else seconds_of("ttl", ttl)
        self.grace = seconds_of("grace_period", grace_period, zero=True)
        self._purge_after = seconds_of("purge_after", purge_after, zero=True)
        #: Returns whether the last six digits of a secret fit the rest.
        self._tag, self.is_genuine = _tagging(mac, self._peppers)
        recognition = Recognition(self.environment, self.is_genuine, ForeignForms(imported))
        self.clock = clock
        cache_rules = _cache_rules(cache_ttl, cache_size)
        self._reporter = Reporter(one_of("audit_success", audit_success, "never", "first_use", "all"))
        one_of("on_reuse", on_reuse, "report", "revoke_lineage")
        self.store: KeyStore = open_store(store)
        self.run_on_loop = runner_of(self.store)
        self._cache = KeyCache(
            *cache_rules,
            time.monotonic if clock is time.time else clock,
            getattr(self.store, "version", None),
        )
        self._access = StoreAccess(self.store, self._reporter)
        self._last_used = LastUsed(self.store)
        self._gauges = StoreGauges(self.store, clock)
        self._importer = Importer(recognition, self._peppers)
        self.succession = Succession(self._access, self._reporter, clock, self._added, self._changed)
        self._ending = Ending(self._access, self._reporter, clock, self._changed)
        upkeep = Upkeep(
            self._access, self._peppers, clock, ending=self._ending, on_reuse=on_reuse, changed=self._changed
        )
        self._verifier = Verifier(
            recognition, self._peppers, access=self._access, cache=self._cache, last_used=self._last_used,
            reporter=self._reporter, clock=clock, upkeep=upkeep.do, needs_upkeep=upkeep.is_due, throttle=throttle,
            on_rejected=on_rejected,
        )  # fmt: skip
        self._channel: ChangeChannel | None = channel or getattr(self.store, "channel", None)
        self._begin = self._verifier.begin
        self._unsubscribe = _listen(self._channel, self._cache)
        if not self._peppers.keyed:
            _log.warning(
                "mobius_otel: API keys are digested without a pepper; a stolen store can be tested offline:"
                " set MOBIUS_OTEL_KEY_PEPPER, or pepper="
            )

    def observe(self, emitter: MetricEmitter) -> None:
        """Report how many keys there are, by state and by how soon they expire, whenever `emitter` is collected.

        Args:
            emitter: Who reports it.
        """
        self._gauges.observe(emitter)

    def claim(self, job: str, period: int, holder: str) -> bool:
        """Take one period of a job for this process; True for one of all that share the store.

        Args:
            job: The name of the job.
            period: The number of the period.
            holder: Who asks, for people who look.

        Raises:
            KeyStoreUnavailable: The store does not work.
        """
        with self._access.asking("update") as store:
            return store.claim(job, period, holder)

    def close(self) -> None:
        """Write down what is still in memory and close the store."""
        self._unsubscribe()
        self._last_used.close(self._cache.used_since_noted())
        self._reporter.flush()
        self.store.close()

    def _record(
        self, owner: str, scopes: Iterable[str], *, name: str, ttl: timedelta | float | None,
        metadata: Mapping[str, Any] | None, tenant: str | None, networks: Iterable[str], limit: object,
        issued_by: str | None,
    ) -> ApiKey:  # fmt: skip
        """Return the record of a new key, every value checked."""
        now = self.clock()
        key_id = secrets.new_id()
        return ApiKey(
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

    def _added(self, change: Transaction, record: ApiKey) -> IssuedKey:
        secret = secrets.generate(self.prefix, self.environment, self._tag)
        record = replace(record, prefix=self.prefix, environment=self.environment)
        change.add(StoredKey(record, self._peppers.digest(secret.encode("ascii")), self._peppers.labels[0]))
        return IssuedKey(record, secret)

    def _add_imported(self, stored: StoredKey) -> ApiKey:
        record = stored.key
        with self._reporter.changing(conventions.API_KEY_ISSUED, record.id, by=record.issued_by) as told:
            known = self._access.find([stored.digest])
            if known is not None:
                raise ConfigurationError(
                    "secret", "…", "one that is not in the store yet", f"It is that of the key {known.key.id}."
                )
            with self._access.changing("add") as change:
                change.add(stored)
            self._changed([])
            told.done({conventions.API_KEY_SCOPES: sorted(record.scopes)})
        return record

    def _changed(self, key_ids: Collection[str]) -> None:
        """Forget what is known about keys that have changed, here and in the other processes."""
        self._cache.drop(key_ids)
        if self._channel is not None:
            with guarded("api_keys"):  # without it a change holds there after the cache's time
                self._channel.publish(key_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "store"):  # it was refused
            return "ApiKeyManager()"
        return f"ApiKeyManager({self.store!r}, prefix={self.prefix!r}, environment={self.environment!r})"


def _tagging(
    mac: Literal[False, True, "transition"], peppers: Peppers
) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bool]]:
    """Return what makes the last six digits of a secret, and what tells whether they are right."""
    if mac not in (False, True, "transition"):
        raise ConfigurationError("mac", mac, 'True, False or "transition"')
    if not mac:
        return secrets.checksum, secrets.has_checksum
    if not peppers.keyed:
        raise ConfigurationError("mac", mac, "False where there is no pepper", "The tag is keyed with it.")
    if mac is True:
        return peppers.tag, peppers.has_tag
    return peppers.tag, lambda raw: secrets.has_checksum(raw) or peppers.has_tag(raw)


def _cache_rules(ttl: timedelta | float, size: int) -> tuple[float, int]:
    seconds = seconds_of("cache_ttl", ttl, zero=True)
    if seconds > LONGEST_TTL:
        raise ConfigurationError(
            "cache_ttl", ttl, f"at most {LONGEST_TTL:g} seconds", "So long a revocation may go unnoticed elsewhere."
        )
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigurationError("cache_size", size, "a whole number above zero")
    return seconds, size


def _listen(channel: ChangeChannel | None, cache: KeyCache) -> Callable[[], None]:
    """Let a cache hear of changes elsewhere for as long as it lives; return what ends it earlier."""
    if channel is None:
        return lambda: None
    reference = weakref.ref(cache)

    def heard(key_ids: Collection[str] | None) -> None:
        if (alive := reference()) is not None:
            alive.drop(key_ids)

    # Once, by who closes the manager or by the collector: one that nobody closed leaves no thread and no connection.
    end = weakref.finalize(cache, channel.subscribe(heard))
    end.atexit = False
    return end
