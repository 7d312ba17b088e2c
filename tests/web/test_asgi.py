"""The ASGI middleware, driven by the protocol itself."""

import asyncio
import threading

import pytest

from mobius_otel.telemetry import defaults
from mobius_otel.telemetry.audit import Ledger, logger
from mobius_otel.telemetry.audit.fail_modes import FailModes
from mobius_otel.telemetry.audit.verify import read_records
from mobius_otel.web import SecurityMiddleware, current_principal, install_guard


def scope(path="/v1/items", method="GET", kind="http", **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "method": method, "path": path, "headers": raw, "client": ("192.0.2.1", 1), "scheme": "http"}


def drive(app, given, *received):
    sent, incoming = [], list(received) or [{"type": "http.request", "body": b""}]

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(app(given, receive, send))
    return sent


async def hello(given, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send(
        {"type": "http.response.body", "body": (current_principal().owner if current_principal() else "-").encode()}
    )


def test_a_request_passes_with_its_principal(guard, keys):
    """The service learns who; the answer gets what is absent."""
    secret = keys.issue("alice").secret
    start, body = drive(SecurityMiddleware(hello), scope(x_api_key=secret))
    assert body["body"] == b"alice"
    names = [name for name, _ in start["headers"]]
    assert b"ratelimit" in names
    assert names.count(b"x-own") == 1
    assert current_principal() is None


def test_a_refusal_never_reaches_the_service(guard):
    """401 with a body, and without one for HEAD."""

    async def never(*_):
        raise AssertionError

    start, body = drive(SecurityMiddleware(never), scope())
    assert start["status"] == 401
    assert body["body"].startswith(b'{"type"')
    start, body = drive(SecurityMiddleware(never), scope(method="HEAD"))
    assert (start["status"], body["body"]) == (401, b"")


def test_a_websocket_is_closed_where_no_answer_can_be_given(guard):
    """Without the denial-response extension: 1008; with it: the problem."""
    connect = {"type": "websocket.connect"}
    assert drive(SecurityMiddleware(hello), scope(kind="websocket"), connect) == [
        {"type": "websocket.close", "code": 1008}
    ]
    extended = {**scope(kind="websocket"), "extensions": {"websocket.http.response": {}}}
    start, _ = drive(SecurityMiddleware(hello), extended, connect)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)


def test_lifespan_and_what_was_judged_outside_pass(guard):
    """Only requests are judged, and each once."""
    seen = []

    async def app(given, receive, send):
        seen.append(given["type"])

    drive(SecurityMiddleware(app), {"type": "lifespan"})
    judged = scope("/open")
    drive(SecurityMiddleware(SecurityMiddleware(app)), judged)
    assert seen == ["lifespan", "http"]


def test_an_exception_goes_on_and_is_audited(guard, keys, telemetry):
    """The record says failure, the service's own error reaches the server."""
    secret = keys.issue("bob", scopes={"refund"}).secret

    async def fails(*_):
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        drive(SecurityMiddleware(fails), scope("/v1/refunds", "POST", x_api_key=secret))
    record = telemetry.audit("http.request")
    assert record["attributes"]["audit.outcome"] == "failure"
    assert record["attributes"]["mobius.audit.owasp"] == "sensitive_create"  # a POST
    assert record["attributes"]["mobius.audit.ocsf_type_uid"] == 600301
    assert record["attributes"]["error.type"] == "LookupError"
    assert record["attributes"]["audit.actor.id"] == "bob"


def test_a_route_is_strict_where_its_risk_is(guard, keys, telemetry):
    """The band of the record that would be made decides, and the intent comes first."""
    defaults.install(defaults.Defaults(fail_modes=FailModes({"risk:medium": "strict"})))
    drive(
        SecurityMiddleware(hello), scope("/v1/refunds", "POST", x_api_key=keys.issue("bob", scopes={"refund"}).secret)
    )
    outcomes = [r["attributes"]["audit.outcome"] for r in telemetry.audits if r["event_name"] == "http.request"]
    assert outcomes == ["unknown", "success"]


@pytest.mark.parametrize(("durability", "in_loop"), [("process", True), ("power", False)])
def test_a_loop_does_not_wait_for_the_disk(guard, keys, tmp_path, durability, in_loop):
    """Where a commit waits for it, the record is kept from a thread; the answer still leaves after it."""
    threads = []
    with Ledger(tmp_path / "audit.db", durability=durability) as ledger:
        defaults.install(defaults.Defaults(ledger=ledger))
        secret = keys.issue("bob", scopes={"refund"}).secret
        ledger.after_append(lambda: threads.append(threading.current_thread() is threading.main_thread()))
        drive(SecurityMiddleware(hello), scope("/v1/refunds", "POST", x_api_key=secret))
        assert threads[-1] is in_loop
        assert [r["event_name"] for _, r in read_records(tmp_path / "audit.db")][-1] == "http.request"


def test_the_record_is_kept_before_the_answer_leaves(guard, keys):
    """Whatever happens after the first byte, the record is there."""
    order = []
    secret = keys.issue("bob", scopes={"refund"}).secret
    listener = lambda record: order.append(record["event_name"])  # noqa: E731
    logger.listeners.append(listener)

    async def run():
        async def send(message):
            order.append(message["type"])

        await SecurityMiddleware(hello)(scope("/v1/refunds", "POST", x_api_key=secret), None, send)

    try:
        asyncio.run(run())
    finally:
        logger.listeners.remove(listener)
    assert order[:2] == ["http.request", "http.response.start"]


def test_without_a_guard_it_cannot_be_made():
    """A middleware that guards nothing would be a lie."""
    install_guard(None)
    with pytest.raises(RuntimeError, match=r"configure\(\)"):
        SecurityMiddleware(hello)
