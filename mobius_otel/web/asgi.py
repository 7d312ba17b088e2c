"""The guard in front of an ASGI application; only translates between the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mobius_otel.telemetry.audit.aside import aside
from mobius_otel.telemetry.safety import guarded
from mobius_otel.web.facts import Facts
from mobius_otel.web.guard import Guard, answer_headers, current_guard
from mobius_otel.web.principal import principal_variable
from mobius_otel.web.problems import Problem, unavailable
from mobius_otel.web.prometheus import metrics_app, tell_hidden
from mobius_otel.web.verdict import Verdict

__all__ = ["SecurityMiddleware", "completing", "is_another"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JUDGED = "mobius_otel.verdict"
_STARTS = frozenset(("http.response.start", "websocket.http.response.start"))
# A refused handshake: 1008 is "policy violation" (RFC 6455 section 7.4.1); servers answer it with HTTP 403.
_WEBSOCKET_REFUSED = 1008


class SecurityMiddleware:
    """Puts the guard in front of an ASGI application.

    It only sees HTTP requests and websocket handshakes; streaming, lifespan and exceptions pass untouched.

    Args:
        app: The application.
        guard: The guard; default: the one that ``configure()`` made.

    Raises:
        RuntimeError: There is no guard.

    Example:
        >>> from mobius_otel.policy import Policy
        >>> async def hello(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 204, "headers": []})
        ...     await send({"type": "http.response.body"})
        >>> guarded_app = SecurityMiddleware(hello, Guard(Policy()))
    """

    def __init__(self, app: App, guard: Guard | None = None) -> None:
        found = guard or current_guard()
        if found is None:
            raise RuntimeError("there is no guard: call mobius_otel.configure() first, or pass guard=")
        self.app = app
        self.guard = found
        found.stands = True
        self.at_server = False
        self._metrics = metrics_app() if found.policy.metrics.path else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if (earlier := scope.get(_JUDGED)) is not None:
            serve = self.app if earlier.holds_for(*_line(scope)) else self._serve_again
            await serve(scope, receive, send)
            return
        guard, facts = self.guard, _facts(scope)
        verdict = await guard.judge_async(facts) if guard.waits else guard.judge(facts)
        scope[_JUDGED], verdict.at_server = verdict, self.at_server
        if verdict.problem is not None:
            await (_refuse if kind == "http" else _refuse_websocket)(self.guard, verdict, scope, receive, send)
        elif self._metrics is not None and kind == "http" and self.guard.serves_metrics(verdict.facts):
            tell_hidden(self.guard.policy.metrics.path)
            await self._metrics(scope, receive, send)
        else:
            await self._pass(scope, receive, send, verdict)

    async def _serve_again(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection that was judged outside, and of which middleware in between made another one.

        The answer passes the outer one on its way out, which counts and completes it.
        """
        verdict: Verdict = scope[_JUDGED]
        was_audited, guard = verdict.audited, self.guard
        await guard.judge_again_async(_facts(scope), verdict)
        recorder = guard.recorder if verdict.audited is not None and was_audited is None else None
        if verdict.problem is None and recorder is not None and not await aside(recorder.before, verdict):
            verdict.result, verdict.problem = "unavailable", unavailable()
        if verdict.problem is not None:
            verdict.audited = was_audited  # the guard's refusals have events of their own
            await (_refuse if scope["type"] == "http" else _refuse_websocket)(guard, verdict, scope, receive, send)
            return
        token = principal_variable.set(verdict.key)
        try:
            await self.app(scope, receive, send)
        finally:
            principal_variable.reset(token)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, verdict: Verdict) -> None:
        """Let the request through, and finish the answer's head on its way out."""
        recorder = self.guard.recorder if verdict.audited is not None else None
        if recorder is not None and not await aside(recorder.before, verdict):
            verdict.result, verdict.problem = "unavailable", unavailable()
            self.guard.count(verdict, None)
            await (_refuse if scope["type"] == "http" else _refuse_websocket)(self.guard, verdict, scope, receive, send)
            return
        finished = False

        async def finish(status: int, error: BaseException | None = None) -> None:
            nonlocal finished
            if finished:
                return
            finished = True
            route = _route(scope)
            with guarded("guard"):
                self.guard.count(verdict, route)
            if recorder is not None:
                await aside(recorder.after, verdict, status, route, type(error).__qualname__ if error else None)

        async def send_finished(message: Message) -> None:
            if message["type"] in _STARTS:
                await finish(message["status"])
                verdict.completed = True
                with guarded("guard"):
                    message = {**message, "headers": _completed(self.guard, verdict, message.get("headers", ()))}
            elif message["type"] == "websocket.accept":
                await finish(101)
            elif message["type"] == "websocket.close":
                await finish(403)
            await send(message)

        token = principal_variable.set(verdict.key)
        try:
            await self.app(scope, receive, send_finished)
        except BaseException as error:
            await finish(500, error)
            raise
        finally:
            await finish(499)  # the application ended without an answer
            principal_variable.reset(token)


def is_another(scope: Scope) -> bool:
    """Return whether somebody has made another path or method of a request since it was judged."""
    verdict: Verdict | None = scope.get(_JUDGED)
    if verdict is None or scope["type"] not in {"http", "websocket"}:
        return False
    return (verdict.facts.method, verdict.facts.path) != _line(scope)[:2]


def completing(scope: Scope, send: Send) -> Send:
    """Return a `send` that completes the head of an answer that was made outside the middleware.

    A framework answers an exception that nobody handled from outside of all middleware.

    Args:
        scope: The connection's scope.
        send: The server's.
    """

    async def send_completed(message: Message) -> None:
        if message["type"] in _STARTS:
            verdict, guard = scope.get(_JUDGED), current_guard()
            if verdict is not None and guard is not None and not verdict.completed:
                with guarded("guard"):
                    message = {**message, "headers": _completed(guard, verdict, message.get("headers", ()))}
        await send(message)

    return send_completed


def _line(scope: Scope) -> tuple[str, str, str]:
    """Return method, path and root of a request; a websocket's handshake is a GET."""
    return str(scope.get("method", "GET")).upper(), scope["path"], scope.get("root_path", "")


def _facts(scope: Scope) -> Facts:
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers", ()):
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    client = scope.get("client")
    return Facts(
        *_line(scope),
        scope.get("scheme", "http"),
        client[0] if client else None,
        headers,
    )


def _route(scope: Scope) -> str | None:
    """Return the route that the framework found, with its parameters' names in place of their values."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path if isinstance(path, str) else None


def _completed(guard: Guard, verdict: Verdict, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    headers = list(headers)
    present = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return headers + _raw(answer_headers(guard, verdict, present))


def _raw(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs]


def _answer(guard: Guard, verdict: Verdict) -> tuple[Problem, list[tuple[bytes, bytes]]]:
    problem = verdict.problem or unavailable()
    present = dict(problem.headers)
    return problem, _raw([*problem.headers, *answer_headers(guard, verdict, present, own=True)])


async def _refuse(guard: Guard, verdict: Verdict, scope: Scope, _: Receive, send: Send) -> None:
    problem, headers = _answer(guard, verdict)
    verdict.completed = True
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else problem.body})


async def _refuse_websocket(guard: Guard, verdict: Verdict, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _WEBSOCKET_REFUSED})
        return
    problem, headers = _answer(guard, verdict)
    await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": problem.body})
