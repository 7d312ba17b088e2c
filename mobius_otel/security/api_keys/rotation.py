"""Rotation by the clock: keys that end soon get a successor, and somebody who takes it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from mobius_otel.errors import ApiKeyError, ConfigurationError, RotationConflict
from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.checks import seconds_of
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState

if TYPE_CHECKING:
    from mobius_otel.security.api_keys.manager import ApiKeyManager

__all__ = ["KeyRotator", "RotationRun", "RotationSink"]

_log = logging.getLogger("mobius_otel")
_JITTER = 0.1
_WHO = "key_rotator"
# A delivery that takes longer than this is taken for one whose process has died.
_LONGEST_DELIVERY = 600.0


class RotationSink(Protocol):
    """Takes new secrets to where they are used."""

    def deliver(self, owner: str, issued: IssuedKey) -> object:
        """Take a new key to its owner; return something true once it has arrived."""


@dataclass(frozen=True, slots=True)
class RotationRun:
    """What one run did.

    Args:
        rotated: The ids of the keys that have a successor now.
        undelivered: The ids of the keys that go on, because their successor did not arrive.
        failed: The ids of the keys that could not be rotated.
    """

    rotated: tuple[str, ...] = ()
    undelivered: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class KeyRotator:
    """Rotates keys before they end, and hands each new secret over. A context manager that starts and stops it.

    The grace of the old key begins when its successor has arrived. Without an acknowledgement the successor
    is revoked and the old key goes on, also when this process is killed in between. In this version one
    process of a fleet runs it; a forked child has none until it starts its own.

    Args:
        manager: The manager.
        sink: An object with ``deliver(owner, issued)``, or a callable with the same arguments, that returns
            something true once the secret has arrived.
        every: How often it looks.
        rotate_before: How long before its expiry a key is rotated.
        grace_period: How long the old secret works then; default: the manager's.

    Raises:
        ConfigurationError: A value breaks its rule.

    Example:
        >>> from mobius_otel.security.api_keys.manager import ApiKeyManager
        >>> manager = ApiKeyManager("memory://", ttl=timedelta(days=1), pepper="a made-up pepper")
        >>> old = manager.issue("alice").key
        >>> arrived = []
        >>> rotator = KeyRotator(manager, sink=lambda owner, issued: arrived.append(owner) or True)
        >>> rotator.run_once().rotated == (old.id,), arrived
        (True, ['alice'])
    """

    def __init__(
        self,
        manager: ApiKeyManager,
        *,
        sink: RotationSink | Callable[[str, IssuedKey], object],
        every: timedelta | float = timedelta(hours=1),
        rotate_before: timedelta | float = timedelta(days=7),
        grace_period: timedelta | float | None = None,
    ) -> None:
        deliver = getattr(sink, "deliver", sink)
        if not callable(deliver):
            raise ConfigurationError("sink", type(sink).__qualname__, "callable, or an object with deliver()")
        self._manager = manager
        self._deliver: Callable[[str, IssuedKey], object] = deliver
        self._every = seconds_of("every", every)
        self._before = seconds_of("rotate_before", rotate_before)
        self._grace = manager.grace if grace_period is None else seconds_of("grace_period", grace_period, zero=True)
        self._warned = False
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def run_once(self) -> RotationRun:
        """Rotate every key that is due.

        Raises:
            KeyStoreUnavailable: The store does not work.
        """
        rotated: list[str] = []
        undelivered: list[str] = []
        failed: list[str] = []
        for key in self._manager.list(state=KeyState.ACTIVE):
            if not self._is_due(key):
                continue
            try:
                (rotated if self._rotate(key) else undelivered).append(key.id)
            except RotationConflict:  # somebody else is at it
                continue
            except ApiKeyError as error:
                failed.append(key.id)
                _log.warning("mobius_otel: key %s was not rotated: %s", key.id, type(error).__qualname__)
        return RotationRun(tuple(rotated), tuple(undelivered), tuple(failed))

    def start(self) -> None:
        """Begin to look, in a thread of its own; a second call does nothing."""
        with self._lock:
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="mobius-otel-key-rotator", daemon=True)
                self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop looking; a delivery that is under way is waited for.

        Args:
            timeout: Seconds to wait at most.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        stopping = self._stopping
        while not stopping.is_set():
            try:
                self.run_once()
            except Exception as error:
                _log.warning("mobius_otel: the key rotator's run failed: %s", type(error).__qualname__)
            # Not all at the same second, when a fleet was started at the same second.
            stopping.wait(self._every * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311

    def _is_due(self, key: ApiKey) -> bool:
        if key.expires_at is None or key.expires_at > self._manager.clock() + self._before:
            return False
        if key.expires_at - key.created_at <= self._before and not self._warned:
            self._warned = True
            _log.warning(
                "mobius_otel: key %s lives shorter than the %g s before its end at which it is rotated,"
                " so every run rotates it; make rotate_before shorter",
                key.id,
                self._before,
            )
        return True

    def _rotate(self, old: ApiKey) -> bool:
        """Give `old` a successor and return whether that has arrived."""
        manager = self._manager
        if old.rotated_to is not None:
            if manager.get(old.rotated_to).created_at > manager.clock() - _LONGEST_DELIVERY:
                raise RotationConflict(old.id)
            manager.succession.withdraw(old.id, old.rotated_to, "its delivery was never finished")
        issued = manager.succession.begin(old.id, _WHO)
        try:
            arrived = bool(self._deliver(old.owner, issued))
        except Exception as error:
            _log.warning("mobius_otel: the successor of key %s was not delivered: %s", old.id, type(error).__qualname__)
            arrived = False
        if arrived:
            manager.succession.confirm(old.id, issued.key.id, self._grace)
        else:
            manager.succession.withdraw(old.id, issued.key.id, "it was not delivered")
        return arrived

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"KeyRotator({'running' if self._thread is not None else 'stopped'})"
