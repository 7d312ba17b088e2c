"""The guard in front of a WSGI application; only translates between the two."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from opentelemetry import trace

from mobius_otel import conventions
from mobius_otel.telemetry.defaults import SCOPE, version_
from mobius_otel.telemetry.safety import guarded
from mobius_otel.telemetry.spans import annotate
from mobius_otel.web.facts import Facts
from mobius_otel.web.guard import Guard, answer_headers, current_guard
from mobius_otel.web.principal import principal_variable
from mobius_otel.web.problems import unavailable
from mobius_otel.web.prometheus import metrics_wsgi_app, tell_hidden
from mobius_otel.web.verdict import Verdict

__all__ = ["SPAN_TO_COME", "WSGISecurityMiddleware"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

_JUDGED = "mobius_otel.verdict"
#: Set in the environment of a request whose server span is started by what is inside the guard: where the guard refuses
#: it makes that span itself. OpenTelemetry's Flask instrumentation has a sign of its own, but sets it further inside.
SPAN_TO_COME = "mobius_otel.span_to_come"
_SPAN_SIGNS = (SPAN_TO_COME, "opentelemetry-flask.starttime_key")


class WSGISecurityMiddleware:
    """Puts the guard in front of a WSGI application.

    Args:
        app: The application.
        guard: The guard; default: the one that ``configure()`` made.

    Raises:
        RuntimeError: There is no guard.

    Example:
        >>> from mobius_otel.policy import Policy
        >>> guarded_app = WSGISecurityMiddleware(lambda environ, start: [b"hello"], Guard(Policy()))
    """

    def __init__(self, app: App, guard: Guard | None = None) -> None:
        found = guard or current_guard()
        if found is None:
            raise RuntimeError("there is no guard: call mobius_otel.configure() first, or pass guard=")
        self.app = app
        self.guard = found
        found.stands = True
        self.at_server = False
        self._metrics: Any = metrics_wsgi_app() if found.policy.metrics.path else None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        start_ns = time.time_ns()
        if (earlier := environ.get(_JUDGED)) is not None:
            if earlier.holds_for(*_line(environ)):
                return self.app(environ, start_response)
            return self._serve_again(environ, start_response, earlier)
        verdict = environ[_JUDGED] = self.guard.judge(_facts(environ))
        verdict.at_server = self.at_server
        if verdict.problem is None and self._metrics is not None and self.guard.serves_metrics(verdict.facts):
            tell_hidden(self.guard.policy.metrics.path)
            served: Iterable[bytes] = self._metrics(environ, start_response)
            return served
        recorder = self.guard.recorder if verdict.audited is not None else None
        if verdict.problem is None and recorder is not None and not recorder.before(verdict):
            verdict.result, verdict.problem = "unavailable", unavailable()
            self.guard.count(verdict, None)
        if verdict.problem is not None:
            return self._refuse(environ, start_response, verdict, start_ns)
        return self._pass(environ, start_response, verdict)

    def _serve_again(self, environ: Environ, start_response: StartResponse, verdict: Verdict) -> Iterable[bytes]:
        """Serve a request that was judged outside, and of which middleware in between made another one.

        The answer passes the outer one on its way out, which counts and completes it.
        """
        was_audited = verdict.audited
        self.guard.judge_again(_facts(environ), verdict)
        recorder = self.guard.recorder if verdict.audited is not None and was_audited is None else None
        if verdict.problem is None and recorder is not None and not recorder.before(verdict):
            verdict.result, verdict.problem = "unavailable", unavailable()
        if verdict.problem is not None:
            verdict.audited = was_audited  # the guard's refusals have events of their own
            return self._refuse(environ, start_response, verdict, time.time_ns())
        token = principal_variable.set(verdict.key)
        try:
            return self.app(environ, start_response)
        finally:
            principal_variable.reset(token)

    def _pass(self, environ: Environ, start_response: StartResponse, verdict: Verdict) -> Iterable[bytes]:
        """Let the request through, and finish the answer's head on its way out."""
        answer = _Answer(self.guard, verdict, environ, start_response)
        token = principal_variable.set(verdict.key)
        try:
            body = self.app(environ, answer.start)
        except BaseException as error:
            answer.finish(500, error)
            raise
        finally:
            principal_variable.reset(token)
        return body

    def _refuse(
        self, environ: Environ, start_response: StartResponse, verdict: Verdict, start_ns: int
    ) -> Iterable[bytes]:
        problem = verdict.problem or unavailable()
        present = dict(problem.headers)
        headers = [*problem.headers, *answer_headers(self.guard, verdict, present, own=True)]
        if any(sign in environ for sign in _SPAN_SIGNS) and not trace.get_current_span().is_recording():
            with guarded("spans"):
                _refusal_span(environ, verdict, problem.status, start_ns)
        start_response(
            f"{problem.status} {HTTPStatus(problem.status).phrase}", [(_title(name), value) for name, value in headers]
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else problem.body]


class _Answer:
    """The head of one answer on its way out: counted, recorded and completed, once."""

    __slots__ = ("_environ", "_finished", "_guard", "_start_response", "_verdict")

    def __init__(self, guard: Guard, verdict: Verdict, environ: Environ, start_response: StartResponse) -> None:
        self._guard = guard
        self._verdict = verdict
        self._environ = environ
        self._start_response = start_response
        self._finished = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Stand for the server's ``start_response`` (PEP 3333)."""
        self.finish(int(status.split(" ", 1)[0]))
        with guarded("guard"):
            annotate(self._verdict.attributes)  # the Flask instrumentation's span exists by now
            present = {name.lower(): value for name, value in headers}
            added = answer_headers(self._guard, self._verdict, present)
            headers = headers + [(_title(name), value) for name, value in added]
        return self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)

    def finish(self, status: int, error: BaseException | None = None) -> None:
        """Count and record the answer."""
        if self._finished:
            return
        self._finished = True
        rule = getattr(getattr(self._environ.get("werkzeug.request"), "url_rule", None), "rule", None)
        route = rule if isinstance(rule, str) else None
        with guarded("guard"):
            self._guard.count(self._verdict, route)
        if self._verdict.audited is not None and self._guard.recorder is not None:
            self._guard.recorder.after(self._verdict, status, route, type(error).__qualname__ if error else None)


def _line(environ: Environ) -> tuple[str, str, str]:
    """Return method, path and root of a request."""
    root = _text(environ.get("SCRIPT_NAME", ""))
    return environ["REQUEST_METHOD"].upper(), root + _text(environ.get("PATH_INFO", "")), root


def _facts(environ: Environ) -> Facts:
    return Facts(
        *_line(environ),
        environ.get("wsgi.url_scheme", "http"),
        environ.get("REMOTE_ADDR") or None,
        dict(_headers(environ)),
    )


def _headers(environ: Environ) -> Iterator[tuple[str, list[str]]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name[5:].replace("_", "-").lower(), [value]
    if length := environ.get("CONTENT_LENGTH"):
        yield "content-length", [length]


def _text(raw: str) -> str:
    """Undo PEP 3333's "bytes as latin-1"."""
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _refusal_span(environ: Environ, verdict: Verdict, status: int, start_ns: int) -> None:
    """Make the server span that Flask's instrumentation would have made, had the request gone on."""
    from opentelemetry import propagate  # not before: it raises where OTEL_PROPAGATORS names what is not there

    carrier = {name: values[0] for name, values in _headers(environ)}
    span = trace.get_tracer(SCOPE, version_).start_span(
        verdict.facts.method,
        context=propagate.extract(carrier),
        kind=trace.SpanKind.SERVER,
        start_time=start_ns,
    )
    if span.is_recording():
        span.set_attribute(conventions.HTTP_METHOD, verdict.facts.method)
        span.set_attribute(conventions.HTTP_STATUS, status)
        span.set_attribute(conventions.URL_PATH, verdict.facts.path)
        span.set_attribute(conventions.URL_SCHEME, "https" if verdict.https else "http")
        with trace.use_span(span):
            annotate(verdict.attributes)
    span.end()
