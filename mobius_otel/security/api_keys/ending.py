"""The end of keys: revoked at once and for ever, removed when they have been dead for long enough."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.checks import shown_id
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import Selection, Transaction
from mobius_otel.security.api_keys.succession import existing
from mobius_otel.telemetry.spans import started

__all__ = ["Ending"]

_BATCH = 1000
Progress = Callable[[int, int], None]


class Ending:
    """Revokes and removes the keys of one store.

    Args:
        access: The way to the store.
        reporter: Who is told.
        clock: Seconds since the epoch.
        changed: Told the ids of keys that have changed.
    """

    __slots__ = ("_access", "_changed", "_clock", "_reporter")

    def __init__(
        self, access: StoreAccess, reporter: Reporter, clock: Clock, changed: Callable[[Collection[str]], None]
    ) -> None:
        self._access = access
        self._reporter = reporter
        self._clock = clock
        self._changed = changed

    def revoke(self, key_id: str, reason: str | None, by: str | None) -> ApiKey:
        """Revoke one key; see ``ApiKeyManager.revoke``."""
        with self._reporter.changing(conventions.API_KEY_REVOKED, shown_id(key_id), by=by, reason=reason) as told:
            with self._access.changing("update") as change:
                key, touched = _revoke(change, existing(change, key_id), self._clock())
            if touched:
                self._changed(touched)
                told.done(target=key.id)
        return key.at(self._clock())

    def revoke_lineage(self, lineage: str, reason: str | None, by: str | None) -> list[ApiKey]:
        """Revoke a key with its predecessors and successors; see ``ApiKeyManager.revoke_lineage``."""
        return self._revoke_all(Selection(lineage=lineage), lineage, "api_key_lineage", reason, by)

    def revoke_owner(self, owner: str, reason: str | None, by: str | None) -> list[ApiKey]:
        """Revoke every key of an owner; see ``ApiKeyManager.revoke_owner``."""
        return self._revoke_all(Selection(owner=owner), owner, "api_key_owner", reason, by)

    def _revoke_all(
        self, selection: Selection, target: str, kind: str, reason: str | None, by: str | None
    ) -> list[ApiKey]:
        """Revoke what a selection means, all of it or nothing, and record it as one change."""
        revoked: list[ApiKey] = []
        touched: list[str] = []
        with self._reporter.changing(
            conventions.API_KEY_REVOKED, target, by=by, reason=reason, target_type=kind
        ) as told:
            with self._access.changing("update") as change:
                now = self._clock()
                for record in change.list(selection):
                    if record.state_at(now).lets_in:
                        key, ids = _revoke(change, record, now)
                        revoked.append(key.at(now))
                        touched += ids
            if touched:
                self._changed(touched)
                told.done({conventions.COUNT: len(revoked), conventions.API_KEY_ID: [key.id for key in revoked][:100]})
        return revoked

    def purge(self, dead_by: float, batch: int | None, progress: Progress | None) -> int:
        """Remove what has been dead since `dead_by`, batch by batch; see ``ApiKeyManager.purge``."""
        total = self.count_dead(dead_by) if progress is not None else 0
        with started(conventions.API_KEY_PURGE) as span:
            counts: list[int] = []
            failure: Exception | None = None
            try:
                with self._reporter.changing(
                    conventions.API_KEY_PURGED_EVENT, "api_keys", by=None, target_type="key_store"
                ) as told:
                    try:
                        for count in self._purged(dead_by, batch or _BATCH):
                            counts.append(count)
                            if progress is not None:
                                progress(sum(counts), max(total, sum(counts)))
                    except Exception as error:
                        if not counts:
                            raise
                        failure = error  # what is gone already is recorded all the same
                    if counts:
                        told.done({conventions.COUNT: sum(counts)})
                if failure is not None:
                    raise failure
            except BaseException:
                span.set_attribute(conventions.OUTCOME, "failure")
                raise
            span.set_attributes({conventions.COUNT: sum(counts), conventions.OUTCOME: "success"})
        return sum(counts)

    def _purged(self, dead_by: float, batch: int) -> Iterator[int]:
        """Remove batch by batch; say how many each time."""
        removed = batch
        while removed == batch:
            with self._access.changing("purge") as change:
                removed = change.purge(dead_by, batch)
            if removed:
                self._reporter.counted(conventions.API_KEY_PURGED, removed, "success")
                yield removed

    def count_dead(self, dead_by: float) -> int:
        """Return how many keys have been dead since `dead_by`."""
        with self._access.asking("list") as store:
            return store.count_dead(dead_by)


def _revoke(change: Transaction, key: ApiKey, now: float) -> tuple[ApiKey, Sequence[str]]:
    """Revoke a key, and let its predecessor be rotated again where that still waits for it."""
    if key.revoked_at is not None or not change.change(key.id, {"revoked_at": now}, {"revoked_at": None}):
        return key, ()
    touched = [key.id]
    if key.grace_on_first_use is not None and key.rotated_from is not None:
        free = change.change(key.rotated_from, {"rotated_to": None}, {"rotated_to": key.id, "retire_at": None})
        touched += [key.rotated_from] if free else []
    return replace(key, revoked_at=now), touched
