"""Verification: from what a client presents to the key that it opens, or the one refusal.

The order is that of the cost: shape and checksum, what was found lately, the throttle of the source, the store.
The decision is :func:`~mobius_otel.security.api_keys.checks.decide`; it is taken anew each time, so that no cache
and no late job ever stretches a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from mobius_otel.clock import Clock
from mobius_otel.errors import InsufficientScope, InvalidApiKey, KeyStoreUnavailable, KeyThrottled
from mobius_otel.security.api_keys import secret as secrets
from mobius_otel.security.api_keys.access import StoreAccess
from mobius_otel.security.api_keys.cache import Entry, KeyCache
from mobius_otel.security.api_keys.checks import checked_scopes, decide
from mobius_otel.security.api_keys.digests import Peppers
from mobius_otel.security.api_keys.flights import AsyncFlights, Flights
from mobius_otel.security.api_keys.frames import emptied
from mobius_otel.security.api_keys.imported import (
    Foreign,
    ForeignForms,
    derive_slowly,
    is_weak,
    matches_slowly,
)
from mobius_otel.security.api_keys.last_used import NOTED_EVERY, LastUsed
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import StoredKey
from mobius_otel.telemetry.safety import guarded

__all__ = ["Attempt", "Recognition", "Verifier"]

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
_log = logging.getLogger("mobius_otel")
_NOTHING: Final[frozenset[str]] = frozenset()
_MOST_SCOPE_SETS: Final = 1000
_LONGEST: Final = secrets.LONGEST
_has_shape: Final = secrets.has_shape_as_text


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a secret of this manager looks like.

    Args:
        environment: The environment that it names.
        is_genuine: Returns whether its last digits fit the rest.
        forms: What keys that were made elsewhere look like.
    """

    environment: str
    is_genuine: Callable[[bytes], bool]
    forms: ForeignForms


class Attempt:
    """One verification that the cache alone could not let in.

    Attributes:
        result: A value of ``mobius.api_key.result``, once it is known.
        key: The key, once it is known.
        stored: What the store said.
        kind: How the secret is kept, for a key that was made elsewhere.
        slow_hash: How it shall be kept from now on, where it can be guessed.
        entry: The key in the cache.
        raw: The secret; emptied before anything is raised.
    """

    __slots__ = (
        "asked", "digest", "entry", "failure", "foreign", "key", "kind", "leads", "looked", "network", "now", "raw",
        "required", "result", "slow_hash", "source", "start_ns", "stored", "wait",
    )  # fmt: skip

    def __init__(self, result: str | None, required: frozenset[str], source: str | None, network: str | None) -> None:
        self.result = result
        self.required = required
        self.source = source
        self.network = network if network is not None else source
        self.start_ns = time.time_ns()
        self.raw = self.digest = b""
        self.foreign: Foreign | None = None
        self.kind = ""
        self.key: ApiKey | None = None
        self.stored: StoredKey | None = None
        self.entry: Entry | None = None
        self.slow_hash: str | None = None
        self.failure: KeyStoreUnavailable | None = None
        self.asked = self.looked = self.leads = False
        self.now = self.wait = 0.0


class Verifier:
    """Verifies secrets.

    Args:
        recognition: What a secret looks like.
        peppers: What digests are made with.
        access: The way to the store.
        cache: What was found lately.
        last_used: Where uses are noted.
        reporter: Who is told.
        clock: Seconds since the epoch.
        upkeep: Does what a verification finds to be done for a key, and returns the record after it.
        needs_upkeep: Whether there is anything.
        throttle: Given a source, returns how many seconds it has to wait.
        on_rejected: Given a source, notes that a key of it was refused.
    """

    def __init__(
        self,
        recognition: Recognition,
        peppers: Peppers,
        *,
        access: StoreAccess,
        cache: KeyCache,
        last_used: LastUsed,
        reporter: Reporter,
        clock: Clock,
        upkeep: Callable[[Attempt], ApiKey | None],
        needs_upkeep: Callable[[Attempt], bool],
        throttle: Callable[[str], float] | None,
        on_rejected: Callable[[str], None] | None,
    ) -> None:
        self._forms = recognition.forms
        self._has_forms = bool(recognition.forms)
        self._is_genuine = recognition.is_genuine
        self._environment_part = f"_{recognition.environment}_".encode("ascii")
        self._longest = 512 if recognition.forms else secrets.LONGEST
        self._peppers = peppers
        self._digest = peppers.digest
        self._access = access
        self._cache = cache
        self._cached = cache.get
        self._last_used = last_used
        self._reporter = reporter
        self._clock = clock
        self._upkeep = upkeep
        self._needs_upkeep = needs_upkeep
        self._throttle = throttle
        self._on_rejected = on_rejected
        self._flights: Flights[StoredKey | None] = Flights()
        self._async_flights: AsyncFlights[StoredKey | None] = AsyncFlights()
        self._scopes: dict[frozenset[str], frozenset[str]] = {}

    def conclude(self, found: Attempt | None, source: str | None) -> ApiKey:
        """Go on where :meth:`begin` could not let anybody in: return the key, or raise.

        Args:
            found: How far it came; None: it cannot be a key.
            source: The client's address.

        Raises:
            As ``ApiKeyManager.verify``.
        """
        if found is None:
            self._reporter.malformed(source)
            raise InvalidApiKey("malformed")
        if found.result is None:
            self._look_up(found)
        key = self._conclude(found)
        self._last_used.write_soon()
        return key

    async def verify_async(
        self, presented: object, scopes: Iterable[str], source: str | None, network: str | None, run: Run | None
    ) -> ApiKey:
        """Do as ``ApiKeyManager.verify`` does, without holding up the event loop.

        Args:
            presented: What the client sent.
            scopes: What the action asks for.
            source: The client's address.
            network: The address that must lie in the key's networks.
            run: Calls something that uses the store; None: the store never waits.
        """
        try:
            found = self.begin(presented, scopes, source, network)
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del presented
        if isinstance(found, ApiKey):
            return found
        if found is None:
            return self.conclude(found, source)
        if found.result is None:
            if run is None and found.foreign is None:
                self._look_up(found)
            else:
                await self._look_up_async(found, run or _here)
        key = self._conclude(found)
        if run is not None:
            self._last_used.write_soon_on_loop(run)
        return key

    def identify(self, presented: object) -> StoredKey | None:
        """Return the key whose secret this is, whatever its state; see ``ApiKeyManager.identify``."""
        raw = secrets.ascii_of(presented)
        del presented
        if raw is None or secrets.has_shape(raw) is None:
            return None
        return self._access.find(self._peppers.digests(raw))

    def _required(self, scopes: Iterable[str]) -> frozenset[str]:
        """Return checked scopes; the same ones are asked for again and again."""
        try:
            return self._scopes[scopes]  # type: ignore[index]
        except (KeyError, TypeError):
            found = checked_scopes(scopes)
        if len(self._scopes) < _MOST_SCOPE_SETS:
            self._scopes[found] = found
        return found

    def begin(
        self, presented: object, scopes: Iterable[str], source: str | None, network: str | None
    ) -> ApiKey | Attempt | None:
        """Return the key that is cached and opens, else how far this came; None: it cannot be a key."""
        required = self._required(scopes) if scopes else _NOTHING
        if type(presented) is str and len(presented) <= _LONGEST and _has_shape(presented) is not None:
            raw = presented.encode("ascii")
            good = self._is_genuine(raw)
        elif type(presented) is str and not self._has_forms:
            return None
        else:
            other = secrets.ascii_of(presented, self._longest)
            if other is None:
                return None
            raw = other
            good = secrets.has_shape(raw) is not None and self._is_genuine(raw)
        if not good:
            foreign = self._forms.recognise(raw) if self._has_forms else None
            if foreign is None:
                return None
            return self._ask(Attempt(None, required, source, network), raw, self._digest(raw), foreign, None)
        if self._environment_part not in raw:  # no underscore is among the digits
            return Attempt("unknown", required, source, network)
        digest = self._digest(raw)
        entry = self._cached(digest)
        if entry is not None:
            key = entry.key
            now = self._clock()
            if now < entry.ends and not key.networks and (not required or key.holds(required)):
                self._used(entry, now)
                self._reporter.let_in(key, now, source)
                return key if not key.metadata else key.own()
        return self._ask(Attempt(None, required, source, network), raw, digest, None, entry)

    def _used(self, entry: Entry, now: float) -> None:
        entry.used = now
        if not -NOTED_EVERY < now - entry.noted < NOTED_EVERY:
            entry.noted = now
            self._last_used.note(entry.key.id, now)

    def _ask(
        self, attempt: Attempt, raw: bytes, digest: bytes, foreign: Foreign | None, entry: Entry | None
    ) -> Attempt:
        """Find out whether the store has to be asked."""
        attempt.raw, attempt.digest, attempt.foreign = raw, digest, foreign
        if entry is not None:
            attempt.key, attempt.entry, attempt.looked = entry.key, entry, True
            self._decide(attempt)
            if not _is_let(attempt.result):  # else a dead key could be told from an unknown one
                self._hold_up(attempt)
            return attempt
        # Whoever guesses at weak keys must not be told by the cache, so those are throttled first.
        if self._hold_up(attempt):
            return attempt
        attempt.looked = True
        if foreign is not None and (known := self._cached(digest)) is not None:
            attempt.key, attempt.entry = known.key, known
            self._decide(attempt)
        elif self._cache.is_unknown(digest):
            attempt.result = "unknown"
        return attempt

    def _hold_up(self, attempt: Attempt) -> bool:
        """Ask the throttle; return whether the source has to wait."""
        if attempt.source is not None and self._throttle is not None:
            with guarded("api_keys"):
                if (wait := self._throttle(attempt.source)) > 0:
                    attempt.result, attempt.wait = "throttled", wait
                    return True
        return False

    # --- the store is asked -----------------------------------------------------------------------------------

    def _look_up(self, attempt: Attempt) -> None:
        attempt.asked = True
        epoch = self._cache.epoch
        try:
            attempt.stored, attempt.leads = self._flights.do((epoch, attempt.digest), partial(self._find, attempt))
        except Exception as error:
            self._failed(attempt, error)
            return
        if attempt.foreign is not None:
            self._compare(attempt)
        self._found(attempt, epoch)
        if attempt.leads and self._needs_upkeep(attempt):
            self._kept_up(attempt, self._upkeep(attempt))

    async def _look_up_async(self, attempt: Attempt, run: Run) -> None:
        attempt.asked = True
        epoch = self._cache.epoch
        try:
            attempt.stored, attempt.leads = await self._async_flights.do(
                (epoch, attempt.digest), partial(run, partial(self._find, attempt))
            )
        except Exception as error:
            self._failed(attempt, error)
            return
        if attempt.foreign is not None:
            await asyncio.to_thread(self._compare, attempt)
        self._found(attempt, epoch)
        if attempt.leads and self._needs_upkeep(attempt):
            self._kept_up(attempt, await run(partial(self._upkeep, attempt)))

    def _find(self, attempt: Attempt) -> StoredKey | None:
        foreign = attempt.foreign
        if foreign is None:
            several = len(self._peppers.labels) > 1
            return self._access.find(self._peppers.digests(attempt.raw) if several else [attempt.digest])
        return self._access.find([digest for _, digest in foreign.lookups(self._peppers.digests)])

    def _compare(self, attempt: Attempt) -> None:
        """Say how a key that was made elsewhere is kept, and forget one whose slow hash is another's."""
        foreign, stored = attempt.foreign, attempt.stored
        assert foreign is not None
        if stored is not None:
            kinds = {digest: kind for kind, digest in foreign.lookups(self._peppers.digests)}
            attempt.kind = kinds[stored.digest]
        if attempt.kind.startswith("sha") and foreign.found_by is not None and is_weak(foreign):
            attempt.slow_hash = derive_slowly(foreign.hashed)
        if attempt.kind == "slow" and stored is not None:
            with guarded("api_keys"):
                if matches_slowly(stored.verifier, foreign.hashed):
                    return
            attempt.stored, attempt.kind = None, ""
        elif stored is None and self._forms.slow and foreign.found_by is not None:
            matches_slowly(None, foreign.hashed)  # takes the time that a wrong secret of a known key takes

    def _found(self, attempt: Attempt, epoch: int) -> None:
        attempt.now = self._clock()  # read last, so that a slow store never stretches a deadline
        stored = attempt.stored
        if stored is not None:
            attempt.key = stored.key.at(attempt.now)
        self._decide(attempt)
        if attempt.kind.startswith("sha") and attempt.slow_hash is None and is_weak(attempt.foreign):
            attempt.result = "malformed"
            _log.warning("mobius_otel: the imported key %s could be guessed and is refused", attempt.key)
            return
        attempt.entry = self._cache.put(attempt.digest, attempt.key, epoch)

    def _kept_up(self, attempt: Attempt, key: ApiKey | None) -> None:
        if key is not None:
            attempt.key = key.at(attempt.now)
            attempt.entry = self._cache.put(attempt.digest, attempt.key, self._cache.epoch)

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        reason = error.reason if isinstance(error, KeyStoreUnavailable) else "the key store does not answer"
        attempt.result = "error"
        attempt.failure = KeyStoreUnavailable(reason)
        attempt.failure.__cause__ = error.__cause__ or error

    # --- the end ------------------------------------------------------------------------------------------------

    def _decide(self, attempt: Attempt) -> None:
        attempt.now = self._clock()
        attempt.result = decide(attempt.key, attempt.now, attempt.required, attempt.network)

    def _conclude(self, attempt: Attempt) -> ApiKey:
        """Tell of it, once, and return the key or raise."""
        attempt.raw = attempt.digest = b""
        attempt.foreign = attempt.stored = None
        key, result = attempt.key, attempt.result
        assert result is not None
        cause = attempt.failure.__cause__ if attempt.failure is not None else None
        first = attempt.asked and key is not None and key.last_used_at is None and key.id not in self._last_used
        self._reporter.verified(
            result, key, now=attempt.now, source=attempt.source, required=attempt.required, first=first,
            start_ns=attempt.start_ns, asked=attempt.asked, error=type(cause).__qualname__ if cause else None,
        )  # fmt: skip
        if result == "valid" and key is not None:
            self._note(attempt, key)
            return key.at(attempt.now).own()
        if attempt.looked and attempt.source is not None and self._on_rejected is not None and not _is_let(result):
            with guarded("api_keys"):
                self._on_rejected(attempt.source)
        return _refuse(attempt)

    def _note(self, attempt: Attempt, key: ApiKey) -> None:
        now = attempt.now
        if attempt.entry is not None:
            self._used(attempt.entry, now)
            return
        lately = key.last_used_at is not None and abs(now - key.last_used_at) < NOTED_EVERY
        if not lately and not self._last_used.is_pending(key.id, now):
            self._last_used.note(key.id, now)


def _is_let(result: str | None) -> bool:
    return result in {"valid", "insufficient_scope", "error", "throttled", "malformed"}


def _refuse(attempt: Attempt) -> NoReturn:
    key_id = attempt.key.id if attempt.key is not None else None
    if attempt.failure is not None:
        raise attempt.failure
    if attempt.result == "throttled":
        raise KeyThrottled(attempt.wait)
    if attempt.result == "insufficient_scope":
        raise InsufficientScope(attempt.required, key_id)
    raise InvalidApiKey(attempt.result or "unknown", key_id)


async def _here(work: Callable[[], Any]) -> Any:
    return work()
