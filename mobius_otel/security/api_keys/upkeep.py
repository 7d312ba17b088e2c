"""What a verification finds to be done for a key, and does at once.

None of it is needed to decide, so none of its failures refuses anybody: it is tried again at the next look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Literal

from mobius_otel.clock import Clock
from mobius_otel.errors import ApiKeyError, AuditUnavailable
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.digests import Peppers
from mobius_otel.security.api_keys.ending import Ending
from mobius_otel.security.api_keys.imported import is_weak, marked
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.stores import Transaction
from mobius_otel.security.api_keys.succession import end_of_grace
from mobius_otel.security.api_keys.verification import Attempt

__all__ = ["Upkeep"]

_log = logging.getLogger("mobius_otel")


class Upkeep:
    """Brings digests under the newest pepper, begins grace periods, and answers the reuse of a dead key.

    Args:
        access: The way to the store.
        peppers: What digests are made with.
        clock: Seconds since the epoch.
        ending: Who revokes.
        on_reuse: What the reuse of a dead key does: ``report`` alone, or ``revoke_lineage``.
        changed: Told the ids of keys that have changed.
    """

    def __init__(
        self,
        access: StoreAccess,
        peppers: Peppers,
        clock: Clock,
        *,
        ending: Ending,
        on_reuse: Literal["report", "revoke_lineage"],
        changed: Callable[[Collection[str]], None],
    ) -> None:
        self._access = access
        self._peppers = peppers
        self._clock = clock
        self._ending = ending
        self._revokes = on_reuse == "revoke_lineage"
        self._changed = changed

    def is_due(self, attempt: Attempt) -> bool:
        """Return whether a verification found anything to be done."""
        stored = attempt.stored
        if stored is None:
            return False
        if attempt.result in {"revoked", "retired", "expired"}:
            return self._revokes
        if attempt.result not in {"valid", "insufficient_scope"}:
            return False
        return (
            stored.pepper != self._peppers.labels[0]
            or stored.key.grace_on_first_use is not None
            or attempt.kind.startswith("sha")
            or (attempt.kind == "slow" and not is_weak(attempt.foreign))
        )

    def do(self, attempt: Attempt) -> ApiKey | None:
        """Do it; return the record after it, or None where there is nothing new to know of it."""
        stored = attempt.stored
        assert stored is not None
        try:
            if attempt.result not in {"valid", "insufficient_scope"}:
                self._ending.revoke_lineage(stored.key.lineage_id, f"the dead key {stored.key.id} was presented", None)
                return None
            with self._access.changing("update") as change:
                change.change(stored.key.id, self._kept_as(attempt))
                if stored.key.grace_on_first_use is None:
                    return stored.key
                touched = _begin_grace(change, stored.key, self._clock())
                key = change.get(stored.key.id)
            self._changed(touched)
            return key
        except (ApiKeyError, AuditUnavailable) as error:
            _log.debug("mobius_otel: the upkeep of key %s has to wait: %s", stored.key.id, type(error).__qualname__)
            return None

    def _kept_as(self, attempt: Attempt) -> dict[str, Any]:
        """Return what the store keeps of the secret from now on."""
        foreign, stored = attempt.foreign, attempt.stored
        assert stored is not None
        values: dict[str, Any] = {"pepper": self._peppers.labels[0]}
        if foreign is None or not is_weak(foreign) or foreign.found_by is None:
            return {**values, "digest": self._peppers.digest(attempt.raw), "verifier": None}
        digest = self._peppers.digest(marked("slow", foreign.found_by))
        return {**values, "digest": digest, "verifier": attempt.slow_hash or stored.verifier}


def _begin_grace(change: Transaction, key: ApiKey, now: float) -> list[str]:
    """Begin the grace of the predecessor of a key that has been seen; return the ids of what has changed."""
    if not change.change(key.id, {"grace_on_first_use": None}, {"grace_on_first_use": key.grace_on_first_use}):
        return []
    old = change.get(key.rotated_from) if key.rotated_from is not None else None
    if old is None or old.rotated_to != key.id or old.retire_at is not None:
        return [key.id]
    ends = end_of_grace(old, now, key.grace_on_first_use or 0.0)
    change.change(old.id, ends, {"rotated_to": key.id, "retire_at": None})
    change.change(key.id, {"overlap_until": ends["retire_at"]})
    return [old.id, key.id]
