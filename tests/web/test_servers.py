"""Applications that no hook of a framework reaches are guarded where a server takes them."""

import asyncio
import sys

import hypercorn.utils
import pytest
import uvicorn
import waitress.server
import werkzeug.serving
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router

from mobius_otel.instrumentation import guard_frameworks
from mobius_otel.web import SecurityMiddleware, WSGISecurityMiddleware

GUNICORN = sys.platform != "win32"


@pytest.fixture(autouse=True)
def _reached(guard):
    guard_frameworks()


async def plain(scope, receive, send):
    await PlainTextResponse("HIT")(scope, receive, send)


def plain_wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"HIT"]


def hit(_):
    return PlainTextResponse("HIT")


class OwnStack(Starlette):
    """Nothing of Starlette's own middleware, and no call of its method."""

    def build_middleware_stack(self):
        return self.router


class Strip:
    """Middleware around an application: it takes a prefix off."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app({**scope, "path": scope["path"].removeprefix("/api")}, receive, send)


def stripped():
    app = Starlette(routes=[Route("/v1/items", hit)])
    return Strip(app)


def rooted():
    """Middleware around an application that is told its prefix, which the path still has."""
    app = FastAPI()
    app.root_path = "/api"
    app.add_api_route("/v1/items", lambda: "HIT")

    async def around(scope, receive, send):
        await app(scope, receive, send)

    return around


def ask(app, key=None, path="/v1/items", more=()):
    """One request to an ASGI application, as a server would hand it over: the status, and the answer's headers."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [*([(b"x-api-key", key.encode())] if key else []), *more]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "",
             "scheme": "http", "query_string": b"", "headers": headers, "client": ("192.0.2.1", 1),
             "http_version": "1.1"}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    start = next(message for message in sent if message["type"] == "http.response.start")
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}


def ask_wsgi(app, key=None):
    started = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/items", "SCRIPT_NAME": "", "wsgi.url_scheme": "http",
               "REMOTE_ADDR": "192.0.2.1", **({"HTTP_X_API_KEY": key} if key else {})}  # fmt: skip
    list(app(environ, lambda status, headers, exc_info=None: started.append((status, headers))))
    status, headers = started[-1]
    return int(status[:3]), {name.lower(): value for name, value in headers}


def loaded(app, **options):
    config = uvicorn.Config(app, **options)
    config.load()
    return config.loaded_app


def of_gunicorn(app):
    """Return what the workers of a gunicorn serve, whose master has loaded an application."""
    from gunicorn.app.base import BaseApplication

    class Master(BaseApplication):
        def load_config(self):
            pass

        def load(self):
            return app

    master = Master()
    assert master.wsgi() is master.wsgi()
    return master.wsgi()


@pytest.mark.parametrize(
    ("make", "path"),
    [(lambda: plain, "/v1/items"), (lambda: Router([Route("/v1/items", hit)]), "/v1/items"),
     (lambda: OwnStack(routes=[Route("/v1/items", hit)]), "/v1/items"), (stripped, "/api/v1/items"),
     (stripped, "/v1/items"), (rooted, "/api/v1/items"), (rooted, "/v1/items")],
)  # fmt: skip
def test_whatever_a_server_of_asgi_is_given_is_guarded(keys, telemetry, make, path):
    """Without a key no handler runs; with one the request is charged and counted once."""
    app = loaded(make(), log_config=None)
    assert ask(app, path=path)[0] == 401
    status, headers = ask(app, keys.issue("alice").secret, path)
    assert (status, headers["ratelimit"][:13]) == (200, '"per-key";r=2')
    assert telemetry.metric("mobius.guard.requests") == 2


def test_a_policy_for_the_public_address_holds_behind_a_proxy_that_takes_the_prefix_off(keys):
    """The application is told the prefix; the path comes with it or without."""
    app = FastAPI()
    app.root_path = "/v1"  # the argument is deprecated in new versions
    app.add_api_route("/items", lambda: "HIT")
    key = keys.issue("alice").secret
    for path in ("/items", "/v1/items"):
        assert ask(app, path=path)[0] == 401
        assert ask(app, key, path)[0] == 200


def test_what_middleware_of_the_service_makes_of_a_request_is_judged_where_it_is_routed(keys, telemetry):
    """A language taken off the path, a method overridden: the policy names what is routed, or what is written."""
    app, mounted = FastAPI(), FastAPI()
    app.add_api_route("/v1/items", lambda: "HIT")
    app.add_api_route("/v1/refunds", lambda: "HIT", methods=["POST"])
    mounted.add_api_route("/items", lambda: "HIT")
    app.mount("/v1/sub", mounted)

    class Rewriting:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                method = dict(scope["headers"]).get(b"x-http-method-override", scope["method"].encode()).decode()
                scope = {**scope, "path": scope["path"].removeprefix("/de"), "method": method}
            await self.app(scope, receive, send)

    app.add_middleware(Rewriting)
    key = keys.issue("alice").secret
    assert ask(app, path="/de/v1/items")[0] == 401
    status, headers = ask(app, key, "/de/v1/items")
    assert (status, headers["ratelimit"][:13]) == (200, '"per-key";r=2')
    status, headers = ask(app, key, "/v1/sub/items")
    assert (status, headers["ratelimit"][:13]) == (200, '"per-key";r=1')
    assert ask(app, key, "/v1/refunds", more=[(b"x-http-method-override", b"POST")])[0] == 403
    assert telemetry.metric("mobius.guard.requests", **{"mobius.guard.result": "passed"}) == 2


def test_every_server_is_reached(keys, caplog):
    """uvicorn with and without middleware of its own, hypercorn, gunicorn's workers of both kinds, and the others."""
    with caplog.at_level(5, "uvicorn.error"):
        around = loaded(lambda: plain, factory=True, log_config=None)
    assert type(around.app).__name__ == "MessageLoggerMiddleware"
    for app in (
        around,
        loaded(plain, proxy_headers=False, log_config=None),
        *([of_gunicorn(plain)] if GUNICORN else []),
        hypercorn.utils.wrap_app(plain, 1, None).app,
    ):
        assert ask(app)[0] == 401
    with pytest.warns(DeprecationWarning, match="WSGI"):
        adapter = loaded(plain_wsgi, interface="wsgi", proxy_headers=False, log_config=None)
    server = waitress.server.create_server(plain_wsgi, port=0, host="127.0.0.1")
    other = werkzeug.serving.make_server("127.0.0.1", 0, plain_wsgi)
    key = keys.issue("alice").secret
    try:
        for app in (
            adapter.app,
            *([of_gunicorn(plain_wsgi)] if GUNICORN else []),
            hypercorn.utils.wrap_app(plain_wsgi, 1, "wsgi").app,
            server.application,
            other.app,
        ):
            assert ask_wsgi(app)[0] == 401
        assert ask_wsgi(server.application, key)[0] == 200
    finally:
        server.close()
        other.server_close()


def test_what_has_a_guard_is_left_alone():
    """There the guard stands inside of the server span, or where its author has put it."""
    for app in (Starlette(), FastAPI(), SecurityMiddleware(plain)):
        assert loaded(app, proxy_headers=False, log_config=None) is app
    guarded = WSGISecurityMiddleware(plain_wsgi)
    assert hypercorn.utils.wrap_app(guarded, 1, "wsgi").app is guarded
