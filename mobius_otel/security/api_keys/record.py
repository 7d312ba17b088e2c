"""What is known about an API key; its secret is not among it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NoReturn

__all__ = ["ApiKey", "IssuedKey", "KeyState"]


class KeyState(StrEnum):
    """The state of a key; it follows from the key's deadlines and the time alone."""

    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"
    EXPIRED = "expired"
    REVOKED = "revoked"

    @property
    def lets_in(self) -> bool:
        """Whether a key in this state opens anything."""
        return self in {KeyState.ACTIVE, KeyState.RETIRING}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, without its secret.

    Times are seconds since the epoch. At exactly a deadline the key is out.

    Args:
        id: The public id.
        owner: Who the key belongs to.
        name: What it is for.
        scopes: What it may do.
        environment: The environment its secret names.
        prefix: The prefix its secret names.
        state: Its state when the manager handed this record out.
        created_at: When it was issued.
        expires_at: When it ends; None: never.
        retire_at: When its grace ends, once it has a successor.
        revoked_at: When it was revoked.
        last_used_at: When it last let somebody in, to a minute.
        lineage_id: What it has in common with its predecessors and successors.
        generation: Its number in the lineage, from 1.
        rotated_from: The id of its predecessor.
        rotated_to: The id of its successor.
        overlap_until: When its predecessor's grace ends.
        grace_on_first_use: Seconds of grace that its predecessor gets when this one is first used; None: that has
            begun already, or there is no predecessor.
        unused_since: When it was noted that nobody uses it in its grace any more; not before `retire_at` where it
            got none: then it is out whatever the clock says.
        request_id: The request that made it by rotation.
        tenant: On whose behalf it acts.
        networks: The networks it may come from (CIDR); none: any.
        limit: Rate limits of its own such as ``"100/minute"``, shared by its lineage; none: those of the policy.
        issued_by: Who issued it.
        metadata: The caller's own facts.
    """

    id: str
    owner: str
    name: str = ""
    scopes: frozenset[str] = frozenset()
    environment: str = "live"
    prefix: str = "mob"
    state: KeyState = KeyState.ACTIVE
    created_at: float = 0.0
    expires_at: float | None = None
    retire_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    lineage_id: str = ""
    generation: int = 1
    rotated_from: str | None = None
    rotated_to: str | None = None
    overlap_until: float | None = None
    grace_on_first_use: float | None = None
    unused_since: float | None = None
    request_id: str | None = None
    tenant: str | None = None
    networks: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    issued_by: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def state_at(self, now: float) -> KeyState:
        """Return the state at `now`, in seconds since the epoch.

        Example:
            >>> key = ApiKey(id="key_1", owner="alice", expires_at=100.0)
            >>> key.state_at(99.9), key.state_at(100.0)
            (<KeyState.ACTIVE: 'active'>, <KeyState.EXPIRED: 'expired'>)
        """
        if self.revoked_at is not None:  # whatever the clock says: a revocation is never undone
            return KeyState.REVOKED
        retired = self.retire_at is not None and (
            now >= self.retire_at or (self.unused_since is not None and self.unused_since >= self.retire_at)
        )
        if self.expires_at is not None and now >= self.expires_at:
            earlier = retired and self.retire_at is not None and self.retire_at < self.expires_at
            return KeyState.RETIRED if earlier else KeyState.EXPIRED
        if retired:
            return KeyState.RETIRED
        return KeyState.ACTIVE if self.retire_at is None else KeyState.RETIRING

    def at(self, now: float) -> ApiKey:
        """Return this record with its state at `now`."""
        state = self.state_at(now)
        return self if state is self.state else replace(self, state=state)

    def own(self) -> ApiKey:
        """Return this record with metadata that nobody else can change."""
        return replace(self, metadata=_copied(self.metadata)) if self.metadata else self

    @property
    def dead_since(self) -> float | None:
        """The first of its deadlines; from then on it opens nothing."""
        deadlines = [at for at in (self.expires_at, self.retire_at, self.revoked_at) if at is not None]
        return min(deadlines, default=None)

    def holds(self, required: Iterable[str]) -> bool:
        """Return whether the key has every scope in `required`.

        ``*`` holds every scope, ``refund:*`` holds ``refund:read``.

        Example:
            >>> ApiKey(id="key_1", owner="alice", scopes=frozenset({"refund:*"})).holds({"refund:read"})
            True
        """
        return all(_holds(self.scopes, scope) for scope in required)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _holds(scopes: frozenset[str], required: str) -> bool:
    if required in scopes or "*" in scopes:
        return True
    place = required.rfind(":")
    while place >= 0:
        if f"{required[: place + 1]}*" in scopes:
            return True
        place = required.rfind(":", 0, place)
    return False


class IssuedKey:
    """A new key with its secret, which exists nowhere else.

    It never shows the secret by itself: not printed, not formatted, not pickled, not copied.

    Example:
        >>> issued = IssuedKey(ApiKey(id="key_1", owner="alice"), "a-secret")
        >>> print(issued), issued.secret
        IssuedKey('key_1')
        (None, 'a-secret')
    """

    __slots__ = ("_secret", "key")

    def __init__(self, key: ApiKey, secret: str | None) -> None:
        self.key = key
        self._secret = secret

    @property
    def secret(self) -> str | None:
        """The secret; None when a rotation was repeated, since the first answer took it away."""
        return self._secret

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an IssuedKey holds a secret and cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("an IssuedKey holds a secret and cannot be pickled or copied")
