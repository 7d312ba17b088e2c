"""Rotation by the clock: keys that end soon get a successor, and somebody who takes it.

In a fleet every process may run a rotator; each period is run by one of them, which takes it by a compare and
set in the store. Whoever dies in the middle costs that one period: what it left is tidied up by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mobius_otel.errors import ApiKeyError, ConfigurationError, KeyNotFound, RotationConflict
from mobius_otel.forks import on_fork
from mobius_otel.security.api_keys.checks import seconds_of
from mobius_otel.security.api_keys.record import ApiKey, IssuedKey, KeyState

if TYPE_CHECKING:
    from mobius_otel.security.api_keys.manager import ApiKeyManager

__all__ = ["KeyRotator", "RotationRun", "RotationSink"]

_log = logging.getLogger("mobius_otel")
_JITTER = 0.1
_WHO = "key_rotator"
_JOB = "rotate"
_PAGE = 500
# A delivery that takes longer than this is taken for one whose process has died.
_LONGEST_DELIVERY = 600.0
_STOPS_WITHIN = 10.0
# A thread that starts while its process is being forked must not touch what is not there yet.
_FIRST_IN_CHILD = 1.0

#: What a run does next: something that uses the store, or a delivery. What comes of it is sent back.
_Step = tuple[str, Callable[[], Any]]


class RotationSink(Protocol):
    """Takes new secrets to where they are used."""

    def deliver(self, owner: str, issued: IssuedKey) -> object:
        """Take a new key to its owner; return something true once it has arrived (or an awaitable of it)."""


@dataclass(frozen=True, slots=True)
class RotationRun:
    """What one run did.

    Args:
        rotated: The ids of the keys that have a successor now.
        undelivered: The ids of the keys that go on, because their successor did not arrive.
        failed: The ids of the keys that could not be rotated.
        unused: The ids of the keys that nobody uses in their grace any more: it can be ended.
        purged: How many dead keys were removed.
    """

    rotated: tuple[str, ...] = ()
    undelivered: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    purged: int = 0


class KeyRotator:
    """Rotates keys before they end, and hands each new secret over. A context manager that starts and stops it.

    The grace of the old key begins when its successor has arrived. Without an acknowledgement the successor
    is revoked and the old key goes on, also when this process is killed in between. Every process of a fleet may
    run one; a forked child goes on with its own. ``async with`` runs it as a task of the event loop.

    Args:
        manager: The manager.
        sink: An object with ``deliver(owner, issued)``, or a callable with the same arguments, that returns
            something true once the secret has arrived; in ``async with`` it may be a coroutine function.
        every: How often it looks: once in each such period, whoever of the fleet it is; what was missed while a
            machine slept is made up for once.
        rotate_before: How long before its expiry a key is rotated.
        grace_period: How long the old secret works then; default: the manager's.
        unused_after: How long the old secret must not have been used, while the new one was, until it is said that its
            grace can be ended; a last use is known to a minute.
        purge: Whether dead keys are removed too.

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
        unused_after: timedelta | float = timedelta(hours=1),
        purge: bool = False,
    ) -> None:
        deliver = getattr(sink, "deliver", sink)
        if not callable(deliver):
            raise ConfigurationError("sink", type(sink).__qualname__, "callable, or an object with deliver()")
        self._manager = manager
        self._deliver: Callable[[str, IssuedKey], object] = deliver
        self._held: Callable[[str], str | None] | None = getattr(sink, "held", None)
        self._every = seconds_of("every", every)
        self._before = seconds_of("rotate_before", rotate_before)
        self._grace = manager.grace if grace_period is None else seconds_of("grace_period", grace_period, zero=True)
        self._unused_after = seconds_of("unused_after", unused_after)
        self._purge = purge
        self._warned = False
        self._task: asyncio.Task[None] | None = None
        self._stopping_task: asyncio.Event
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- one run ----------------------------------------------------------------------------------------------

    def run_once(self) -> RotationRun:
        """Rotate every key that is due, whatever other processes do; for cron, and for a CronJob of Kubernetes.

        Raises:
            KeyStoreUnavailable: The store does not work.
            ConfigurationError: The sink is a coroutine function; see :meth:`run_once_async`.
        """
        if _is_async(self._deliver):
            raise ConfigurationError(
                "sink", self._deliver, "no coroutine function", "await run_once_async(), or `async with`"
            )
        steps = self._steps()
        try:
            _, work = next(steps)
            while True:
                try:
                    found = work()
                except Exception as error:
                    _, work = steps.throw(error)
                else:
                    _, work = steps.send(found)
        except StopIteration as end:
            run: RotationRun = end.value
            return run

    async def run_once_async(self) -> RotationRun:
        """Do as :meth:`run_once` does without holding up the event loop; the sink may be a coroutine function."""
        steps = self._steps()
        try:
            kind, work = next(steps)
            while True:
                try:
                    found = await self._awaited(kind, work)
                except Exception as error:
                    kind, work = steps.throw(error)
                else:
                    kind, work = steps.send(found)
        except StopIteration as end:
            run: RotationRun = end.value
            return run

    async def _awaited(self, kind: str, work: Callable[[], Any]) -> Any:
        if kind == "deliver":
            if _is_async(self._deliver):
                return await work()
            return await asyncio.to_thread(work)
        run = self._manager.run_on_loop
        return work() if run is None else await run(work)

    def _steps(self) -> Generator[_Step, Any, RotationRun]:
        """Say step by step what is to be done; the thread and the event loop each do it their way."""
        manager = self._manager
        rotated: list[str] = []
        undelivered: list[str] = []
        failed: list[str] = []
        after: ApiKey | None = None
        made: set[str | None] = set()
        while True:
            page: list[ApiKey] = yield (
                "store",
                partial(manager.list, state=KeyState.ACTIVE, expires_within=self._before, after=after, most=_PAGE),
            )
            for key in page:
                if key.rotated_from in made:  # a short-lived one of this very run
                    continue
                try:
                    arrived: bool = yield from self._rotation(key)
                    (rotated if arrived else undelivered).append(key.id)
                    made.add(key.id)
                except RotationConflict:  # somebody else is at it
                    continue
                except ApiKeyError as error:
                    failed.append(key.id)
                    _log.warning("mobius_otel: key %s was not rotated: %s", key.id, type(error).__qualname__)
            if len(page) < _PAGE:
                break
            after = page[-1]
        unused: list[str] = yield "store", partial(manager.succession.note_unused, self._unused_after)
        purged: int = (yield "store", manager.purge) if self._purge else 0
        return RotationRun(tuple(rotated), tuple(undelivered), tuple(failed), tuple(unused), purged)

    def _rotation(self, old: ApiKey) -> Generator[_Step, Any, bool]:
        """Give `old` a successor; whether that has arrived is what comes of it."""
        manager, succession = self._manager, self._manager.succession
        self._warn_of_short_life(old)
        if old.rotated_to is not None:
            try:
                successor: ApiKey = yield "store", partial(manager.get, old.rotated_to)
            except KeyNotFound:  # somebody removed it
                pass
            else:
                begun = successor.created_at
                if successor.grace_on_first_use is not None or begun > manager.clock() - _LONGEST_DELIVERY:
                    raise RotationConflict(old.id)
            yield "store", partial(succession.withdraw, old.id, old.rotated_to, "its delivery was never finished")
        if (yield "store", partial(self._would_replace_another, old)):
            return False
        issued: IssuedKey = yield "store", partial(succession.begin, old.id, _WHO)
        try:
            answer = yield "deliver", partial(self._deliver, old.owner, issued)
            arrived = bool(answer) and not inspect.isawaitable(answer)
        except Exception as error:
            _log.warning("mobius_otel: the successor of key %s was not delivered: %s", old.id, type(error).__qualname__)
            arrived = False
        if arrived:
            yield "store", partial(succession.confirm, old.id, issued.key.id, self._grace)
        else:
            yield "store", partial(succession.withdraw, old.id, issued.key.id, "it was not delivered")
        return arrived

    def _would_replace_another(self, old: ApiKey) -> bool:
        """Whether the file for the successor of `old` holds the secret of another key: nobody would have that then."""
        held = None if self._held is None else self._held(old.owner)
        other = self._manager.identify(held) if held else None
        if other is None or other.lineage_id == old.lineage_id or not other.state.lets_in:
            return False
        _log.warning(
            "mobius_otel: key %s was not rotated: the sink's file holds the secret of key %s; name a folder, where each"
            " owner has a file, or a command",
            old.id,
            other.id,
        )
        return True

    def _warn_of_short_life(self, key: ApiKey) -> None:
        if key.expires_at is not None and key.expires_at - key.created_at <= self._before and not self._warned:
            self._warned = True
            _log.warning(
                "mobius_otel: key %s lives shorter than the %g s before its end at which it is rotated,"
                " so every run rotates it; make rotate_before shorter",
                key.id,
                self._before,
            )

    # --- again and again ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look, in a thread of its own; a second call does nothing."""
        self._start(0.0)

    def _start(self, delay: float) -> None:
        with self._lock:
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(
                    target=self._run, args=(delay,), name="mobius-otel-key-rotator", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float = _STOPS_WITHIN) -> None:
        """Stop looking; a delivery that is under way is waited for.

        Args:
            timeout: Seconds to wait at most.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None:
            thread.join(timeout)

    def _run(self, delay: float) -> None:
        stopping = self._stopping
        stopping.wait(delay)
        while not stopping.is_set():
            try:
                if self._takes_period():
                    self.run_once()
            except Exception as error:
                _log.warning("mobius_otel: the key rotator's run failed: %s", type(error).__qualname__)
            stopping.wait(self._until_next())

    async def _run_async(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                if await self._awaited("store", self._takes_period):
                    await self.run_once_async()
            except Exception as error:
                _log.warning("mobius_otel: the key rotator's run failed: %s", type(error).__qualname__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._until_next())

    def _takes_period(self) -> bool:
        """Take the present period for this process; False: another one has it."""
        period = int(self._manager.clock() // self._every)
        return self._manager.claim(f"{_JOB}:{self._every:g}", period, f"{socket.gethostname()}:{os.getpid()}")

    def _until_next(self) -> float:
        """Return the seconds until the next period, and a little: not all at the same moment."""
        left = self._every - self._manager.clock() % self._every
        return left + self._every * random.uniform(0, _JITTER)  # noqa: S311

    def _after_fork_in_child(self) -> None:
        runs = self._thread is not None
        self._task = None  # the event loop is the parent's
        self._begin()
        if runs:
            self._start(_FIRST_IN_CHILD)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        if self._task is None:
            self._stopping_task = asyncio.Event()
            self._task = asyncio.create_task(self._run_async(self._stopping_task), name="mobius-otel-key-rotator")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:  # a delivery that is under way is waited for
            self._stopping_task.set()
            await asyncio.wait([task], timeout=_STOPS_WITHIN)
            task.cancel()

    def __repr__(self) -> str:
        return f"KeyRotator({'running' if self._thread is not None or self._task is not None else 'stopped'})"


def _is_async(deliver: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(deliver) or inspect.iscoroutinefunction(getattr(deliver, "__call__", None))  # noqa: B004
