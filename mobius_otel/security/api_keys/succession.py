"""Rotation: how a key gets a successor.

Every step is one transaction of the store, in which the old key is read, judged and changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

from mobius_otel import conventions
from mobius_otel.clock import Clock
from mobius_otel.errors import RotationConflict
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.checks import key_not_found, shown_id
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.secret import new_id
from mobius_otel.security.api_keys.stores import Selection, Transaction
from mobius_otel.telemetry.spans import started

__all__ = ["Succession", "deadline", "end_of_grace", "existing", "first_that_opens", "successor_of"]

_TRIES = 5
#: Adds a record with a new secret to a transaction.
Add = Callable[[Transaction, ApiKey], IssuedKey]


class Succession:
    """Gives keys of one store successors.

    Args:
        access: The way to the store.
        reporter: Who is told.
        clock: Seconds since the epoch.
        add: Makes a secret and adds the record with its digest.
        changed: Told the ids of keys that have changed.
    """

    __slots__ = ("_access", "_add", "_changed", "_clock", "_reporter")

    def __init__(
        self,
        access: StoreAccess,
        reporter: Reporter,
        clock: Clock,
        add: Add,
        changed: Callable[[Collection[str]], None],
    ) -> None:
        self._changed = changed
        self._access = access
        self._reporter = reporter
        self._clock = clock
        self._add = add

    def rotate(
        self, key_id: str, grace: float, request_id: str | None, by: str | None, *, on_first_use: bool
    ) -> IssuedKey:
        """Give a key a successor; see ``ApiKeyManager.rotate``."""
        issued = self._begun(key_id, None if on_first_use else grace, request_id, by, grace if on_first_use else None)
        if issued.secret is not None:
            self._reporter.counted(conventions.API_KEY_ROTATIONS, 1, "success")
        return issued

    def begin(self, key_id: str, by: str | None) -> IssuedKey:
        """Give a key a successor that has to arrive first: the old one goes on until :meth:`confirm`.

        Or until :meth:`withdraw`.

        Args:
            key_id: The key's public id.
            by: Who asks for it.

        Raises:
            As ``ApiKeyManager.rotate``.
        """
        return self._begun(key_id, None, None, by, None)

    def _begun(
        self, key_id: str, grace: float | None, request_id: str | None, by: str | None, grace_on_first_use: float | None
    ) -> IssuedKey:
        with started(conventions.API_KEY_ROTATE) as span:
            try:
                with self._reporter.changing(conventions.API_KEY_ROTATED, shown_id(key_id), by=by) as record:
                    made = None
                    for _ in range(_TRIES):  # whoever lost the race looks again at what the winner did
                        with self._access.changing("update") as change:
                            made = self._attempt(
                                change,
                                key_id,
                                grace,
                                request_id=request_id,
                                by=by,
                                grace_on_first_use=grace_on_first_use,
                            )  # fmt: skip
                        if made is not None:
                            break
                    else:
                        raise RotationConflict(key_id)
                    issued, old_id = made
                    if old_id is None:
                        return issued
                    self._changed([old_id])
                    attributes = {conventions.API_KEY_ROTATED_FROM: old_id}
                    record.done(attributes, target=issued.key.id)
            except BaseException:
                span.set_attribute(conventions.OUTCOME, "failure")
                self._reporter.counted(conventions.API_KEY_ROTATIONS, 1, "failure")
                raise
            span.set_attributes({**attributes, conventions.API_KEY_ID: issued.key.id, conventions.OUTCOME: "success"})
        return issued

    def _attempt(
        self, change: Transaction, key_id: str, grace: float | None, *, request_id: str | None, by: str | None,
        grace_on_first_use: float | None,
    ) -> tuple[IssuedKey, str | None] | None:  # fmt: skip
        """Compare and set: return the successor, and the old key's id where it is new; None: somebody was first."""
        now = self._clock()
        old = existing(change, key_id)
        again = _repeated(change, old, request_id, now)
        if again is not None:
            return IssuedKey(again.at(now), None), None
        ends = {} if grace is None else end_of_grace(old, now, grace)
        successor = successor_of(old, now, ends.get("retire_at"), request_id, by)
        successor = replace(successor, grace_on_first_use=grace_on_first_use)
        seen = {"generation": old.generation, "rotated_to": None, "retire_at": None, "revoked_at": None}
        if not change.change(old.id, {"rotated_to": successor.id, **ends}, seen):
            return None
        return self._add(change, successor), old.id

    def confirm(self, old_id: str, new_id: str, grace: float) -> bool:
        """Begin the grace of a key whose successor has arrived.

        Args:
            old_id: The key.
            new_id: Its successor.
            grace: Seconds.

        Returns:
            Whether the successor is still the one.
        """
        with self._access.changing("update") as change:
            if not (old := _waiting(change, old_id, new_id)):
                return False
            ends = end_of_grace(old, self._clock(), grace)
            if not change.change(old_id, ends, {"rotated_to": new_id, "retire_at": None}):
                return False
            change.change(new_id, {"overlap_until": ends["retire_at"]})
        self._changed([old_id, new_id])
        self._reporter.counted(conventions.API_KEY_ROTATIONS, 1, "success")
        return True

    def withdraw(self, old_id: str, new_id: str, reason: str) -> bool:
        """Revoke a successor that has not arrived; the old key goes on and can be rotated again.

        Args:
            old_id: The key.
            new_id: Its successor.
            reason: Why, for the audit trail.

        Returns:
            Whether the successor was still the one.
        """
        with self._reporter.changing(conventions.API_KEY_REVOKED, new_id, by=None, reason=reason) as record:
            with self._access.changing("update") as change:
                if not _waiting(change, old_id, new_id):
                    return False
                if not change.change(old_id, {"rotated_to": None}, {"rotated_to": new_id, "retire_at": None}):
                    return False
                change.change(new_id, {"revoked_at": self._clock()})
            self._changed([old_id, new_id])
            record.done()
        self._reporter.counted(conventions.API_KEY_ROTATIONS, 1, "failure")
        return True

    def note_unused(self, unused_after: float) -> list[str]:
        """Look for keys in their grace that nobody uses any more though their successor is used, and tell of each once.

        Args:
            unused_after: Seconds that the old secret must not have been used.

        Returns:
            The ids of the keys whose grace can be ended.
        """
        now = self._clock()
        with self._access.asking("list") as store:
            retiring = store.list(Selection(state=KeyState.RETIRING, now=now))
        return [key.id for key in retiring if self._note_unused(key, now, unused_after)]

    def _note_unused(self, old: ApiKey, now: float, unused_after: float) -> bool:
        """Note that the grace of one key can be ended, or that it cannot any more; return whether it can."""
        with self._access.asking("get") as store:
            new = store.get(old.rotated_to) if old.rotated_to is not None else None
        if new is None or new.last_used_at is None:
            return False
        quiet_since = max(old.last_used_at or 0.0, new.created_at)
        can_end = now - quiet_since >= unused_after
        if can_end is (old.unused_since is not None):
            return can_end
        with self._reporter.changing(conventions.API_KEY_UNUSED, old.id, by=None) as record:
            with self._access.changing("update") as change:
                since = quiet_since if can_end else None
                first = change.change(old.id, {"unused_since": since}, {"unused_since": old.unused_since})
            if first and can_end:
                record.done({conventions.API_KEY_ROTATED_TO: new.id})
        return can_end


def deadline(now: float, seconds: float) -> float | None:
    """Return the time in `seconds`, or None where that is never."""
    return None if math.isinf(seconds) else now + seconds


def existing(change: Transaction, key_id: str) -> ApiKey:
    """Return a key that must be there.

    Raises:
        KeyNotFound: It is not.
    """
    key = change.get(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise key_not_found(key_id)
    return key


def first_that_opens(change: Transaction, record: ApiKey) -> ApiKey | None:
    """Return a key of the same owner and name that opens something when `record` was made, the newest of them."""
    found = [key for key in change.list(Selection(owner=record.owner)) if key.name == record.name]
    open_ones = [key.at(record.created_at) for key in found if key.state_at(record.created_at).lets_in]
    return open_ones[-1] if open_ones else None


def successor_of(old: ApiKey, now: float, retire_at: float | None, request_id: str | None, by: str | None) -> ApiKey:
    """Return the record of a key's successor: the same rights, lifetime and facts; a new id.

    Args:
        old: The key that is rotated.
        now: Seconds since the epoch.
        retire_at: When the old secret's grace ends; None: that is not decided yet.
        request_id: The name of the request.
        by: Who asked for it.

    Example:
        >>> new = successor_of(ApiKey(id="key_1", owner="alice", lineage_id="key_1"), 100.0, 160.0, None, None)
        >>> new.generation, new.lineage_id, new.rotated_from
        (2, 'key_1', 'key_1')
    """
    lifetime = math.inf if old.expires_at is None else old.expires_at - old.created_at
    return replace(
        old,
        id=new_id(),
        state=KeyState.ACTIVE,
        created_at=now,
        expires_at=deadline(now, lifetime),
        retire_at=None,
        last_used_at=None,
        generation=old.generation + 1,
        rotated_from=old.id,
        rotated_to=None,
        unused_since=None,
        overlap_until=retire_at,
        request_id=request_id,
        issued_by=by,
    )


def _repeated(change: Transaction, old: ApiKey, request_id: str | None, now: float) -> ApiKey | None:
    """Return the successor that this very request made before, or None where it may make one now."""
    if old.rotated_to is not None:
        successor = change.get(old.rotated_to)
        if successor is not None and request_id is not None and successor.request_id == request_id:
            return successor
        raise RotationConflict(old.id)
    state = old.state_at(now)
    if state is not KeyState.ACTIVE:
        raise RotationConflict(old.id, state.value)
    return None


def _waiting(change: Transaction, old_id: str, new_id: str) -> ApiKey | None:
    """Return the old key if `new_id` is the successor that it waits for."""
    old = existing(change, old_id)
    return old if old.rotated_to == new_id and old.retire_at is None else None


def end_of_grace(old: ApiKey, now: float, grace: float) -> dict[str, float]:
    """Return what is written to the old key that gets so many seconds of grace.

    It never ends later than it would by itself; without any grace it is out for good, also when the clock steps back.

    Example:
        >>> end_of_grace(ApiKey(id="key_1", owner="alice", expires_at=130.0), 100.0, 60.0)
        {'retire_at': 130.0}
        >>> end_of_grace(ApiKey(id="key_1", owner="alice"), 100.0, 0.0)
        {'retire_at': 100.0, 'unused_since': 100.0}
    """
    retire_at = min(now + grace, math.inf if old.expires_at is None else old.expires_at)
    return {"retire_at": retire_at, **({} if grace else {"unused_since": retire_at})}
