"""What clients see of a service that was started with one command and one policy file."""

import http.client
import re
import sqlite3
import time

import pytest

from tests.services.service import POLICY, open_shop

SECURITY_HEADERS = ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy")


def test_keys_scopes_limits_headers_and_metrics(shop):
    """The whole edge, in one service: who, whether, how fast, and what is told."""
    reader, refunder = shop.issue("alice", "read"), shop.issue("bob", "read", "refund")
    service = shop.start()

    assert service.get("/health").status == 200
    assert service.get("/healthz-private").status == 401
    assert service.get("/v1/items").status == 401
    good = service.get("/v1/items", reader["secret"])
    assert (good.status, good.json) == (200, [{"id": 1}])
    assert good["RateLimit-Policy"] == '"per-key";q=20;w=60'
    assert good["RateLimit"].startswith('"per-key";r=19;t=')
    for name in SECURITY_HEADERS:
        assert good[name], name
    assert good["Strict-Transport-Security"] is None
    bearer = service.request("GET", "/v1/items", {"Authorization": f"Bearer {reader['secret']}"})
    assert bearer.status == 200

    body = {"order": "order-9", "card": "4111111111111111"}
    denied = service.request("POST", "/v1/refunds", {"X-API-Key": reader["secret"]}, body)
    assert denied.status == 403
    assert 'error="insufficient_scope", scope="refund"' in denied["WWW-Authenticate"]
    allowed = service.request("POST", "/v1/refunds", {"X-API-Key": refunder["secret"]}, body)
    assert (allowed.status, allowed.json) == (200, {"refunded": "order-9"})

    for _ in range(25):
        limited = service.get("/v1/items", reader["secret"])
    assert limited.status == 429
    assert limited["Content-Type"] == "application/problem+json"
    assert limited["RateLimit"].startswith('"per-key";r=0;t=')
    assert 1 <= int(limited["Retry-After"]) <= 60
    assert limited.json["violated-policies"] == ["per-key"]
    assert service.get("/v1/items", refunder["secret"]).status == 200

    scrape = service.get("/metrics")
    assert scrape.status == 200
    text = scrape.body.decode()
    assert "mobius_guard_requests_total{" in text
    assert re.search(r"^mobius_guard_armed(_ratio)?(\{.*\})? 1\.0$", text, re.MULTILINE)
    assert reader["secret"] not in text
    assert "hunter2secret" not in service.log
    assert "4111111111111111" not in service.log
    assert "refund of order-9" in service.log


def test_every_wrong_key_gets_the_same_bytes(shop):
    """Unknown, malformed, expired, revoked, retired, doubled, absurd: one answer."""
    revoked, expired, rotated = shop.issue("r"), shop.issue("e"), shop.issue("t")
    shop.cli("keys", "revoke", revoked["id"])
    shop.cli("keys", "rotate", rotated["id"], "--grace-hours", "0")
    with sqlite3.connect(shop.folder / "keys.db") as store:
        store.execute("UPDATE api_keys SET expires_at = ? WHERE id = ?", (time.time() - 1, expired["id"]))
    store.close()
    service = shop.start()
    secret = shop.issue("ok")["secret"]
    assert service.get("/v1/items", secret).status == 200
    mistyped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    wrong = [
        revoked["secret"],
        expired["secret"],
        rotated["secret"],
        mistyped,
        "x",
        "Bearer",
        "é",
        "a" * 5000,
        f"{secret} {secret}",
    ]
    answers = {repr(service.get("/v1/items", key).comparable) for key in wrong}
    answers.add(repr(service.request("GET", "/v1/items", {"Authorization": "Bearer nonsense"}).comparable))
    assert len(answers) == 1, answers
    status, headers, _ = service.get("/v1/items", mistyped).comparable
    assert status == 401
    assert 'error="invalid_token"' in dict(headers)["www-authenticate"] or any(
        'error="invalid_token"' in v for _, v in headers
    )
    bare = service.get("/v1/items")
    assert bare.status == 401
    assert "error=" not in bare["WWW-Authenticate"]
    assert service.get(f"/v1/items?api_key={secret}&X-API-Key={secret}").status == 401
    assert secret not in service.log


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_no_way_of_writing_a_path_walks_around_the_guard(tmp_path, framework):
    """Encoded and double slashes, dots, case: 401, or the service's own 404, never its data."""
    with open_shop(tmp_path, framework) as shop:
        service = shop.start()
        for path in (
            "/v1/items", "//v1/items",
            "/v1//items", "/v1%2fitems", "/%76%31/items", "/v1/../v1/items", "/health/../v1/items",
            "/V1/items", "/v1/items/",
            "/v1/items.", "/v1/./items", "/v1/items;x=1", "/health/%2e%2e/v1/items", "/v1/items%00",
            "/healthz-private", "/healthz-private/", "/v1/items?x", "/v1/items#x", "/v1\\items",
        ):  # fmt: skip
            reply = service.request("GET", path)
            assert reply.status == 401, (path, reply.status, reply.body)
        assert service.request("HEAD", "/v1/items").status == 401
        assert service.request("OPTIONS", "/v1/items").status == 401
        assert service.request("post", "/v1/refunds", body={"order": "1"}).status in {400, 401}
        preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
        assert service.request("OPTIONS", "/v1/items", preflight).status != 401
        assert service.get("/health").status == 200


def test_the_services_own_answers_pass_unchanged(shop):
    """Its 404, its headers, its streaming, its errors."""
    key = shop.issue("alice", "read")["secret"]
    service = shop.start()
    assert service.get("/nowhere").status == 404
    own = service.get("/own")
    assert (own.status, own.json) == (418, {"teapot": True})
    assert [v for k, v in own.headers if k.lower() == "x-frame-options"] == ["SAMEORIGIN"]
    assert own["Set-Cookie"] == "a=b"
    stream = service.get("/v1/stream", key)
    assert (stream.body, stream["X-Own"]) == (b"onetwo", "yes")
    failed = service.get("/v1/fails", key)
    assert (failed.status, failed["X-Content-Type-Options"]) == (500, "nosniff")
    service.wait_log("cannot reach postgres://shop:")
    assert "hunter2secret" not in service.log


def test_a_websocket_is_judged_at_its_handshake(fastapi_shop):
    """Without a key the handshake is refused; with one it is accepted."""
    service = fastapi_shop.start()
    key = fastapi_shop.issue("alice", "read")["secret"]
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    statuses = []
    for headers in (handshake, {**handshake, "X-API-Key": key}):
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        connection.request("GET", "/v1/ws", headers=headers)
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [401, 101]


def test_without_a_policy_file_nothing_changes(tmp_path):
    """No policy: the service answers as before, and says so once."""
    with open_shop(tmp_path, policy=None) as shop:
        service = shop.start()
        assert service.get("/v1/items").status == 200
        assert service.get("/v1/items")["X-Frame-Options"] is None
        assert "nothing is guarded" in service.log


def test_hsts_is_for_https_alone(tmp_path):
    """Behind a trusted proxy that speaks TLS the header is there; otherwise the claim is not believed."""
    policy = POLICY.replace('name = "shop"', 'name = "shop"\ntrusted_proxies = ["127.0.0.1"]')
    with open_shop(tmp_path, "flask", policy) as shop:
        service = shop.start()
        assert service.get("/health", **{"X-Forwarded-Proto": "https"})["Strict-Transport-Security"]
        assert service.get("/health")["Strict-Transport-Security"] is None


DJANGO = """
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="made-up", ROOT_URLCONF="site_django", ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("v1/items", lambda request: HttpResponse("HIT"))]
asgi, wsgi = get_asgi_application(), get_wsgi_application()
"""


@pytest.mark.parametrize("argv", [["uvicorn", "site_django:asgi", "--port", "PORT"],
                                  ["gunicorn", "site_django:wsgi", "-b", "127.0.0.1:PORT"]])  # fmt: skip
def test_django_is_guarded_without_a_line(tmp_path, argv):
    """Under any server, since the guard stands in its handlers; every method is asked for a key."""
    (tmp_path / "site_django.py").write_text(DJANGO)
    with open_shop(tmp_path) as shop:
        key = shop.issue("alice", "read")["secret"]
        service = shop.start(argv=argv)
        assert service.get("/v1/items").status == 401
        assert service.request("DELETE", "/v1/items").status == 401
        good = service.get("/v1/items", key)
        assert (good.status, good.body, good["RateLimit"][:14]) == (200, b"HIT", '"per-key";r=19')
