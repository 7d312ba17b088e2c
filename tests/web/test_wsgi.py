"""The WSGI middleware, driven by the protocol itself."""

import pytest

from mobius_otel.web import WSGISecurityMiddleware, current_principal, install_guard


def environ(path="/v1/items", method="GET", **more):
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "http",
        **more,
    }


def drive(app, given):
    answers = []

    def start_response(status, headers, exc_info=None):
        answers.append((status, headers))

    body = b"".join(app(given, start_response))
    status, headers = answers[-1]
    return status, dict(headers), body


def hello(given, start_response):
    start_response("200 OK", [("X-Own", "1")])
    return [(current_principal().owner if current_principal() else "-").encode()]


def test_a_request_passes_with_its_principal(guard, keys):
    """The service learns who; the answer gets what is absent."""
    secret = keys.issue("alice").secret
    status, headers, body = drive(WSGISecurityMiddleware(hello), environ(HTTP_X_API_KEY=secret))
    assert (status, body, headers["X-Own"]) == ("200 OK", b"alice", "1")
    assert headers["Ratelimit"].startswith('"per-key";r=2')


def test_a_refusal_never_reaches_the_service(guard):
    """401 with a body, and without one for HEAD; a lower-case method is no way around."""

    def never(*_):
        raise AssertionError

    status, headers, body = drive(WSGISecurityMiddleware(never), environ())
    assert (status, headers["Content-Type"]) == ("401 Unauthorized", "application/problem+json")
    assert body.startswith(b'{"type"')
    assert drive(WSGISecurityMiddleware(never), environ(method="HEAD"))[2] == b""
    assert drive(WSGISecurityMiddleware(never), environ("/v1/refunds", "post"))[0] == "401 Unauthorized"


def test_a_path_of_raw_bytes_is_judged(guard):
    """PEP 3333 hands bytes over as latin-1."""
    raw = "/v1/\xc3\xa9"
    assert drive(WSGISecurityMiddleware(hello), environ(raw))[0] == "401 Unauthorized"
    mounted = environ("/items", SCRIPT_NAME="/v1")
    assert drive(WSGISecurityMiddleware(hello), mounted)[0] == "401 Unauthorized"


def test_metrics_are_served_at_the_policys_path(guard):
    """Without a redirect, and for reading alone."""
    status, headers, _ = drive(WSGISecurityMiddleware(hello), environ("/metrics"))
    assert status == "200 OK"
    assert headers["Content-Type"].startswith("text/plain")
    assert drive(WSGISecurityMiddleware(hello), environ("/metrics", "POST"))[2] == b"-"


def test_an_exception_goes_on_and_is_counted(guard, keys, telemetry):
    """The service's own error reaches the server, and the audited route its record."""
    secret = keys.issue("bob", scopes={"refund"}).secret

    def fails(*_):
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        drive(WSGISecurityMiddleware(fails), environ("/v1/refunds", "POST", HTTP_X_API_KEY=secret))
    assert telemetry.audit("http.request")["attributes"]["audit.outcome"] == "failure"


def test_without_a_guard_it_cannot_be_made():
    """A middleware that guards nothing would be a lie."""
    install_guard(None)
    with pytest.raises(RuntimeError, match=r"configure\(\)"):
        WSGISecurityMiddleware(hello)


def test_an_options_request_with_a_body_is_no_preflight(guard):
    """A view that answers any method would run."""
    asked = {"HTTP_ORIGIN": "https://a.example", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "PUT"}
    statuses = [
        drive(WSGISecurityMiddleware(hello), environ(method="OPTIONS", **asked, **more))[0][:3]
        for more in ({}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}, {"CONTENT_LENGTH": "5"})
    ]
    assert statuses == ["200", "200", "200", "401"]
