"""A service with several workers whose keys are in PostgreSQL, by one policy file."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mobius_otel.security import ApiKeyManager
from tests.services.postgres import running, wait_until
from tests.services.service import PEPPER, open_shop

POLICY = """\
[api_keys]
store = "postgresql+psycopg://${KEYS_USER}:${KEYS_PASSWORD}@/postgres?host=${KEYS_HOST}&timeout=${KEYS_TIMEOUT:-5}"
require = ["/v1/*"]
"""
WORKERS = 2


@pytest.fixture(scope="module")
def postgres():
    """A server of this module's own: it is stopped."""
    with running() as postgres:
        yield postgres


@pytest.fixture
def shop(tmp_path, postgres):
    """A shop whose keys are in PostgreSQL; the password stands in the environment alone."""
    url = sa.make_url(postgres.database())
    with open_shop(tmp_path, policy=POLICY) as shop:
        shop.environ |= {
            "KEYS_USER": url.username, "KEYS_PASSWORD": "pg-canary-4711%2F%40x", "KEYS_HOST": str(url.query["host"]),
        }  # fmt: skip
        shop.url = url.render_as_string(hide_password=False)
        yield shop


def statuses(service, key, count=12):
    return {service.get("/v1/items", key).status for _ in range(count)}


def test_workers_share_keys_and_hear_of_a_revocation_at_once(shop, postgres):
    """Long before the cache's time is over; they make one schema together, and they outlive the database."""
    service = shop.start("--workers", str(WORKERS), "--timeout-worker-healthcheck", "60", KEYS_TIMEOUT="2")
    assert service.get("/v1/items", "mob_live_" + "0" * 49).status == 401
    keys = ApiKeyManager(shop.url, pepper=PEPPER)
    issued = keys.issue("alice")
    assert wait_until(lambda: statuses(service, issued.secret) == {200})
    assert service.get("/v1/items").status == 401
    assert service.get("/health").status == 200

    keys.revoke(issued.key.id)
    assert wait_until(lambda: statuses(service, issued.secret) == {401}, 2.0)  # the cache would take five seconds

    other = keys.issue("bob")
    assert statuses(service, other.secret) == {200}
    postgres.stop()
    fresh = "mob_live_" + "0" * 49
    assert wait_until(lambda: statuses(service, other.secret) == {503}, 10.0)
    assert service.get("/v1/items", fresh).status == 401
    assert service.get("/health").status == 200
    doctor = shop.cli("doctor", "--json", check=False)
    assert doctor.returncode == 1
    assert "DatabaseUnreachable" in doctor.stdout
    postgres.start()
    assert wait_until(lambda: statuses(service, other.secret) == {200})

    third = keys.issue("carol")
    with postgres.frozen(), ThreadPoolExecutor(8) as clients:
        begin = time.monotonic()
        refused = [clients.submit(service.get, "/v1/items", third.secret) for _ in range(8)]
        while not all(one.done() for one in refused):
            asked = time.monotonic()
            assert service.get("/health").status == 200
            assert time.monotonic() - asked < 5  # the loop goes on while the store hangs
        assert {one.result().status for one in refused} == {503}
        assert time.monotonic() - begin < 14
    assert wait_until(lambda: statuses(service, third.secret) == {200})
    keys.close()
    service.stop()
    for text in (service.log, doctor.stdout, doctor.stderr):
        assert "canary-4711" not in text


def test_the_command_line_says_what_is_wrong_with_a_store(shop, postgres):
    """The extra, the URL, the server; never the password."""
    assert shop.cli("policy", "check").returncode == 0
    good = shop.cli("doctor", "--json", check=False)
    assert '"verdict": "ok", "text": "SqlKeyStore(postgresql+psycopg:///postgres)"' in good.stdout.replace(
        '"what": "key store", ', ""
    )
    for timeout, expected in (("none", "timeout="), ("600", "0.1 to 60")):
        result = shop.cli("policy", "check", check=False, KEYS_TIMEOUT=timeout)
        assert result.returncode != 0
        assert expected in result.stderr + result.stdout
    listed = shop.cli("keys", "list", "--json", check=False, KEYS_HOST="/nowhere")
    assert listed.returncode != 0
    for told in (good, result, listed):
        assert "canary-4711" not in told.stdout + told.stderr
        assert "Traceback" not in told.stderr
