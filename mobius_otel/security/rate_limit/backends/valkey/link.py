"""The way to one server: its connections, a deadline for every call, no second try.

The connections are those of the ``valkey`` package (or of ``redis``, where a client of it was given), which knows
logins, TLS and sockets; its pools, retries and health checks are left out. A connection is made by a thread of its
own: a caller waits for it no longer than its deadline, whatever name servers and handshakes take, and a connection
that comes too late serves the next caller.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from mobius_otel.forks import on_fork
from mobius_otel.security.rate_limit.backends.valkey.breaker import Breaker

__all__ = ["CONNECT_SECONDS", "Call", "Connection", "Link", "Redirected", "ServerGone", "Unhurried"]

#: Seconds that a connection may take to be made, in its own thread.
CONNECT_SECONDS = 1.0
_IDLE_SECONDS = 1.0  # after this long it is looked at whether the other side has gone
_MOST_IDLE = 64
_MOST_AT_ONCE = 16  # tasks of one loop
_LATE, _MOST_LATE = 0.2, 3
_LEAST = 0.3  # of the deadline, for the server itself
_REDIRECTION = re.compile(r"(MOVED|ASK) ([0-9]{1,5}) (.*):([0-9]{1,5})", re.ASCII)

_ASKING = b"*1\r\n$6\r\nASKING\r\n"

Connection = Any  # of valkey or redis; nothing of them is imported unless a server is asked for
Idle = deque[tuple[Connection, float]]


class ServerGone(ConnectionError):
    """The server did not answer, or not as it should.

    Args:
        kind: The class of what went wrong; its text may hold anything and is left out.
        asked: Whether the server was asked at all.
        passing: Whether it concerns this one call, and the server is well.
    """

    def __init__(self, kind: str, *, asked: bool = True, passing: bool = False) -> None:
        self.kind = kind
        self.asked = asked
        self.passing = passing
        super().__init__(kind)


class Redirected(Exception):
    """A node of a cluster says who is to be asked.

    Args:
        address: Host (empty: this one) and port.
        once: Whether that holds for this call alone.
    """

    def __init__(self, address: tuple[str, int], *, once: bool) -> None:
        self.address = address
        self.once = once
        super().__init__()


class Call(Protocol):
    """What is asked: bytes that go over the wire as they are."""

    @property
    def known(self) -> bytes:
        """The call of a script that the server has seen already, or a plain command."""
        ...

    def whole(self) -> bytes:
        """Return the same call with the script's text."""
        ...


class Link:
    """The way to one server.

    Args:
        dial: Opens a connection.
        dial_async: Opens one of the package's asyncio twin.
        deadline: Seconds that a call may take.
        probe: Finds out, by :meth:`tried`, whether the server can decide; it raises where it cannot.
    """

    def __init__(
        self,
        dial: Callable[[], Connection],
        dial_async: Callable[[], Coroutine[Any, Any, Connection]],
        deadline: float,
        probe: Callable[[Link], None],
    ) -> None:
        self._dial = dial
        self._dial_async = dial_async
        self._deadline = deadline
        self._probe_with = probe
        self.breaker = Breaker(self._probe)
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._idle: Idle = deque(maxlen=_MOST_IDLE)
        # Of each loop: its idle connections, and who may ask at once.
        self._loops: weakref.WeakKeyDictionary[Any, tuple[Idle, asyncio.Semaphore]] = weakref.WeakKeyDictionary()
        self._late = 0  # calls in a row that loop or thread came too late for

    def ask(self, call: Call, now: float | None = None, *, asking: bool = False) -> Any:
        """Send a call and return the answer.

        Args:
            call: The call.
            now: When the call began, by the monotonic clock; default: now.
            asking: Whether another node of the cluster has sent us here for this call alone.

        Raises:
            ServerGone: No answer came within the deadline, or an error did; from then on the breaker is open.
            Redirected: Another node of the cluster is to be asked.
        """
        if self.breaker.why is not None:
            raise ServerGone(self.breaker.why, asked=False)
        if now is None:
            now = time.monotonic()
        end = now + self._deadline
        connection = None
        try:
            connection = self._take(now, end)
            answer = _asked(connection, call, end, asking)
        except Exception as error:
            if connection is not None and not _answered(error):
                connection.disconnect()
            raise self._failed(error, connection, self._idle, end) from None
        except BaseException:  # interrupted: the answer would be taken for the next call's
            if connection is not None:
                connection.disconnect()
            raise
        self._late = 0
        self._idle.append((connection, now))
        return answer

    async def ask_async(self, call: Call, *, asking: bool = False) -> Any:
        """Do what :meth:`ask` does without blocking the loop.

        Of many tasks a few ask at once and the others wait for their turn: not for the server, since whoever asks
        it is done after the deadline, and then the breaker is open.
        """
        idle, turns = self._here()
        async with turns:
            if self.breaker.why is not None:
                raise ServerGone(self.breaker.why, asked=False)
            began = time.monotonic()
            end = began + self._deadline
            connection = None
            try:
                async with asyncio.timeout(self._deadline):
                    connection = await self._take_async(idle)
                    answer = await _asked_async(connection, call, asking)
            except Exception as error:
                if connection is not None and not _answered(error):
                    await connection.disconnect(nowait=True)
                raise self._failed(error, connection, idle, end) from None
            except BaseException:  # cancelled
                if connection is not None:
                    await connection.disconnect(nowait=True)
                raise
            self._late = 0
            idle.append((connection, began))
            return answer

    def _failed(self, error: Exception, connection: Connection, idle: Idle, end: float) -> Exception:
        """Open the breaker where the server is to blame; return what to raise.

        Args:
            error: What went wrong.
            connection: The connection, where there was one.
            idle: Where it goes if it is still good.
            end: When the time was up, by the monotonic clock.
        """
        if _answered(error):
            idle.append((connection, time.monotonic()))
            text = str(error)
            if found := _REDIRECTION.match(text):
                return Redirected((found[3], int(found[4])), once=found[1] == "ASK")
            if text.startswith("TRYAGAIN"):  # a slot on its way to another node: this subject alone cannot be asked
                return ServerGone("TryAgainError", passing=True)
        kind = type(error).__name__
        if isinstance(error, TimeoutError) and time.monotonic() - end > self._deadline * _LATE:
            self._late += 1
            if self._late <= _MOST_LATE:  # loop or thread was held up by others: the answer may have been there
                return ServerGone(kind, passing=True)
        self.lose(kind)
        return ServerGone(kind)

    def lose(self, kind: str) -> None:
        """Ask no more until the server is back; whoever it is then, the connections are made anew."""
        self.breaker.trip(kind)
        self._idle.clear()
        for idle, _ in list(self._loops.values()):
            idle.clear()

    def close(self) -> None:
        """Close the connections and try the server no more."""
        self.breaker.stop()
        while self._idle:
            self._idle.pop()[0].disconnect()

    async def close_async(self) -> None:
        """Close the connections of this loop."""
        idle, _ = self._here()
        while idle:
            await idle.pop()[0].disconnect()

    def _take(self, now: float, end: float) -> Connection:
        while self._idle:
            try:
                connection, used = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if now - used < _IDLE_SECONDS or not _hung_up(connection):
                return connection
        return Unhurried(self._dial, lambda late: self._idle.append((late, time.monotonic()))).wait(end)

    def tried(self, call: Call) -> Any:
        """Ask over a new connection, whatever the breaker says, and keep it where that succeeds."""
        connection = self._dial()
        try:
            answer = _asked(connection, call, time.monotonic() + self._deadline, asking=False)
        except BaseException:
            connection.disconnect()
            raise
        self._idle.append((connection, time.monotonic()))
        return answer

    def _probe(self) -> None:
        self._probe_with(self)

    def _here(self) -> tuple[Idle, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            with self._lock:
                here = self._loops.setdefault(loop, (deque(maxlen=_MOST_IDLE), asyncio.Semaphore(_MOST_AT_ONCE)))
        return here

    async def _take_async(self, idle: Idle) -> Connection:
        while idle:
            connection, used = idle.pop()
            if time.monotonic() - used < _IDLE_SECONDS or not await _hung_up_async(connection):
                return connection
        opening = asyncio.ensure_future(self._dial_async())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # too late for this caller
            opening.add_done_callback(lambda done: _keep(done, idle))
            raise

    def _after_fork_in_child(self) -> None:
        self._begin()

    def __repr__(self) -> str:
        return f"Link({self.breaker!r}, {len(self._idle)} idle connections)"


class Unhurried:
    """Does something in a thread; what comes too late for the caller is left for somebody else.

    Args:
        work: What is done.
        late: Called with its result, where the caller did not wait for it.
    """

    def __init__(self, work: Callable[[], Any], late: Callable[[Any], object]) -> None:
        self._work = work
        self._keep = late
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._late = False
        self._result: Any = None
        self._error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._work()
        except Exception as error:
            self._error = error
        else:
            with self._lock:
                if self._late:
                    self._keep(result)
                else:
                    self._result = result
        self._done.set()

    def wait(self, end: float) -> Any:
        """Return the result, or raise what went wrong; ``TimeoutError`` after `end` of the monotonic clock."""
        self._done.wait(max(0.0, end - time.monotonic()))
        with self._lock:
            self._late = True
        if self._result is None:
            raise self._error or TimeoutError
        return self._result


def _asked(connection: Connection, call: Call, end: float, asking: bool) -> Any:
    if asking:
        _exchanged(connection, _ASKING, end)
    try:
        return _exchanged(connection, call.known, end)
    except Exception as error:
        if type(error).__name__ != "NoScriptError":
            raise
    if asking:
        _exchanged(connection, _ASKING, end)
    return _exchanged(connection, call.whole(), end)


def _exchanged(connection: Connection, sent: bytes, end: float) -> Any:
    """Send a command and return its answer, a text or a number, until `end` whatever comes in between.

    Past the package's own reader, which waits anew for every piece of an answer, and takes longer than the script.
    """
    sock = connection._sock
    if sock is None:
        raise ConnectionError
    try:
        left = end - time.monotonic()
        if (
            left < connection.socket_timeout * 0.9
        ):  # some of the time is gone; by threads that did not let this one run?
            sock.settimeout(max(left, connection.socket_timeout * _LEAST))
        sock.sendall(sent)
        answer = sock.recv(65536)
        while answer and not _whole(answer):
            sock.settimeout(max(end - time.monotonic(), 0.001))
            more = sock.recv(65536)
            answer = answer + more if more else b""
        if sock.gettimeout() != connection.socket_timeout:
            sock.settimeout(connection.socket_timeout)
    except TimeoutError:
        raise TimeoutError from None
    except OSError:  # reset, broken, refused: the line is gone
        raise ConnectionError from None
    kind = answer[:1]
    if kind == b"$":
        return answer[answer.index(b"\n") + 1 : -2]
    if kind == b":":
        return int(answer[1:-2])
    if kind == b"-":
        raise connection._parser.parse_error(answer[1:-2].decode("utf-8", "replace"))
    if kind != b"+":
        raise ConnectionError  # nothing at all, or what nobody asked for
    return answer[1:-2]


def _whole(answer: bytes) -> bool:
    """Return whether this is all of an answer: one line, or a text after its length."""
    if answer[:1] != b"$":
        return answer.endswith(b"\r\n")
    head = answer.find(b"\n")
    return head > 0 and len(answer) >= head + 3 + int(answer[1:head])


async def _asked_async(connection: Connection, call: Call, asking: bool) -> Any:
    if asking:
        await connection.send_command("ASKING", check_health=False)
        await connection.read_response()
    await connection.send_packed_command((call.known,), check_health=False)
    try:
        return await connection.read_response()
    except Exception as error:
        if type(error).__name__ != "NoScriptError":
            raise
    if asking:
        await connection.send_command("ASKING", check_health=False)
        await connection.read_response()
    await connection.send_packed_command((call.whole(),), check_health=False)
    return await connection.read_response()


def _answered(error: Exception) -> bool:
    """Return whether the server answered with an error, so that its connection is still good."""
    return any(base.__name__ == "ResponseError" for base in type(error).__mro__)


def _hung_up(connection: Connection) -> bool:
    try:
        if not connection.can_read(0):
            return False
    except Exception:
        return True
    connection.disconnect()  # it says something that nobody asked for
    return True


async def _hung_up_async(connection: Connection) -> bool:
    try:
        if not await connection.can_read_destructive():
            return False
    except Exception:
        return True
    await connection.disconnect(nowait=True)
    return True


def _keep(done: asyncio.Future[Connection], idle: Idle) -> None:
    if not done.cancelled() and done.exception() is None:
        idle.append((done.result(), time.monotonic()))
