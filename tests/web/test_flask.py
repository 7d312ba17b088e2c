"""Flask: the guard stands outside of what a service puts around ``app.wsgi_app``."""

import logging

import pytest
from flask import Flask, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from mobius_otel.instrumentation import guard_frameworks
from mobius_otel.policy import parse_policy
from mobius_otel.web import Guard, current_principal, install_guard


@pytest.fixture
def app(guard):
    """A service that knows nothing of the guard."""
    guard_frameworks()
    made = Flask("shop")

    @made.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @made.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        principal = current_principal()
        return f"{request.method} {request.path} {principal.owner if principal else '-'} {request.remote_addr}"

    return made


def reports(environ, start_response):
    """An application that is not Flask's, as those of prometheus_client are not."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"reports"]


class Rewriting:
    """Middleware that makes another request of one."""

    def __init__(self, app, **changes):
        self.app, self.changes = app, changes

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/api"):
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/api")
        environ["REQUEST_METHOD"] = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", environ["REQUEST_METHOD"])
        return self.app(environ, start_response)


def get(app, path, key=None, method="GET", **headers):
    return app.test_client().open(path, method=method, headers={**({"X-API-Key": key} if key else {}), **headers})


def test_what_is_mounted_around_wsgi_app_is_guarded(app, keys, telemetry):
    """As werkzeug and prometheus_client document it; judged and counted once."""
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/v1/reports": reports, "/open": reports})
    assert get(app, "/v1/reports/2026").status_code == 401
    assert get(app, "/open").data == b"reports"
    key = keys.issue("alice").secret
    answer = get(app, "/v1/reports/2026", key)
    assert (answer.data, answer.headers["RateLimit"][:13]) == (b"reports", '"per-key";r=2')
    assert get(app, "/v1/items", key).headers["RateLimit"][:13] == '"per-key";r=1'
    assert telemetry.metric("mobius.guard.requests", **{"mobius.guard.result": "unauthenticated"}) == 1


def test_an_application_of_flask_that_is_mounted_in_another_is_judged_once(app, keys):
    """Its path is the same one; the limit is charged once."""
    inner = Flask("inner")
    inner.add_url_rule("/2026", view_func=lambda: "inner")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/v1/reports": inner})
    assert get(app, "/v1/reports/2026").status_code == 401
    answer = get(app, "/v1/reports/2026", keys.issue("alice").secret)
    assert (answer.data, answer.headers["RateLimit"][:13]) == (b"inner", '"per-key";r=2')


def test_what_middleware_makes_of_a_path_or_method_is_judged_too(app, keys, telemetry):
    """A prefix that is taken off, a method that is overridden; no limit is charged twice, no record written twice."""
    app.wsgi_app = Rewriting(app.wsgi_app)
    assert get(app, "/api/v1/items").status_code == 401
    key, refunder = keys.issue("alice").secret, keys.issue("bob", scopes={"refund"}).secret
    for left in (2, 1):
        answer = get(app, "/api/v1/items", key)
        assert answer.text.startswith("GET /v1/items alice")
        assert answer.headers["RateLimit"].startswith(f'"per-key";r={left}')
    override = {"X-HTTP-Method-Override": "POST"}
    assert get(app, "/v1/refunds", key, **override).status_code == 403
    assert get(app, "/v1/items", key).status_code == 429  # what was refused was charged before
    answer = get(app, "/v1/refunds", refunder, **override)
    assert (answer.text[:17], answer.headers["RateLimit"][:13]) == ("POST /v1/refunds ", '"per-key";r=2')
    assert telemetry.audit("http.request")["attributes"]["audit.actor.id"] == "bob"
    assert telemetry.metric("mobius.guard.requests", **{"mobius.guard.result": "passed"}) == 3
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET", **override}
    assert get(app, "/v1/items", method="OPTIONS", **preflight).status_code == 401


def test_a_proxy_fix_stands_inside_and_the_policy_names_the_proxy(app, keys, caplog):
    """The service sees what ProxyFix makes of the address; the guard asks trusted_proxies, and says so."""
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
    sent = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Prefix": "/api"}
    with caplog.at_level(logging.WARNING, "mobius_otel"):
        assert get(app, "/v1/items", **sent).status_code == 401
        answer = get(app, "/v1/items", keys.issue("alice").secret, **sent)
    assert answer.text == "GET /v1/items alice 203.0.113.9"
    assert answer.headers["RateLimit"].startswith('"per-key";r=2')
    assert "trusted_proxies" not in caplog.text
    install_guard(Guard(parse_policy("")))
    with caplog.at_level(logging.WARNING, "mobius_otel"):
        other = Flask("other")
        other.wsgi_app = ProxyFix(other.wsgi_app)
        get(other, "/")
        get(other, "/")
    assert caplog.text.count("trusted_proxies") == 1


def test_a_server_that_is_given_wsgi_app_is_guarded_too(app):
    """Not everybody calls the application itself."""
    statuses = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/items", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
    app.wsgi_app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    assert statuses == ["401 Unauthorized"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_refused_request_keeps_its_server_span(app, telemetry, wrapped):
    """OpenTelemetry's instrumentation starts the span inside the guard, so the guard makes it where it refuses."""
    FlaskInstrumentor.instrument_app(app)
    try:
        if wrapped:
            app.wsgi_app = DispatcherMiddleware(app.wsgi_app)
        assert get(app, "/v1/items").status_code == 401
        assert get(app, "/open").status_code == 200
        found = [(span["name"], span["attributes"]["mobius.guard.result"]) for span in telemetry.spans]
        assert found == [("GET", "unauthenticated"), ("GET /<path:path>", "passed")]
    finally:
        FlaskInstrumentor.uninstrument_app(app)
