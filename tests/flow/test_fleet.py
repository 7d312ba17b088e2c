"""Several workers, one limit: the guard counts on a Valkey server, and goes on when that is gone."""

import json
import os

import pytest

from tests.services.service import open_shop
from tests.services.valkeys import server, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server is driven with POSIX signals here")

POLICY = """\
[service]
name = "shop"
[rate_limit]
backend = "valkey://:${VALKEY_PASSWORD}@127.0.0.1:${VALKEY_PORT}/0"
deadline = 0.5
local_share = 0.5
[[rate_limit.rules]]
name = "per-client"
paths = ["/v1/*"]
limit = ["20/hour", "1000/day"]
by = "client_address"
[[rate_limit.rules]]
name = "all"
paths = ["/v1/items"]
limit = "500/hour"
by = "global"
[audit]
ledger = "audit.db"
[metrics]
path = "/metrics"
"""


@pytest.fixture
def valkey(tmp_path):
    """A server with a password."""
    with server(tmp_path / "valkey") as one:
        one.client().config_set("requirepass", "hunter2")
        yield one


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_workers_share_one_limit_and_go_on_without_the_server(tmp_path, valkey, framework):
    """Exactly the limit passes, whoever answers; the loss is said once by each worker, without the password."""
    if framework == "flask":
        argv = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:PORT", "shop:app"]
    else:
        argv = ["uvicorn", "shop:app", "--port", "PORT", "--workers", "2", "--timeout-worker-healthcheck", "60"]
    with open_shop(tmp_path, framework, POLICY) as shop:
        environ = {"VALKEY_PASSWORD": "hunter2", "VALKEY_PORT": str(valkey.port)}
        service = shop.start(argv=argv, **environ)
        replies = [service.get("/v1/items") for _ in range(60)]
        assert [reply.status for reply in replies] == [200] * 20 + [429] * 40
        assert replies[0]["ratelimit-policy"].startswith('"per-client-1";q=20;w=3600')
        assert int(replies[-1]["retry-after"]) > 3000
        valkey.client(password="hunter2").flushall()
        valkey.kill()
        replies = [service.get("/v1/items") for _ in range(60)]
        assert 10 <= [reply.status for reply in replies].count(200) <= 20  # half of the limit for each worker
        valkey.start().client().config_set("requirepass", "hunter2")
        wait_until(lambda: service.get("/v1/items").status == 200, every=0.1)  # it begins with nothing
        assert "hunter2" not in service.log
        assert 1 <= service.log.count("limit 'per-client' lost its backend (ConnectionError)") <= 2
        names = [
            json.loads(line)["event_name"]
            for line in shop.cli("audit", "export", "--json", **environ).stdout.splitlines()
        ]
        assert 1 <= names.count("rate_limit.backend_lost") <= 4


def test_policy_check_and_doctor_say_what_is_needed(tmp_path, valkey):
    """A URL that is none, a server that is there, one that is not; never the password."""
    environ = {"VALKEY_PASSWORD": "hunter2", "VALKEY_PORT": str(valkey.port)}
    with open_shop(tmp_path, "fastapi", POLICY) as shop:
        assert f"by valkey://127.0.0.1:{valkey.port}, for all workers" in shop.cli("policy", "check", **environ).stdout
        findings = json.loads(shop.cli("doctor", "--json", **environ).stdout)["findings"]
        assert {f["what"]: f["verdict"] for f in findings}["rate limit server"] == "ok"
        wrong = {**environ, "VALKEY_PASSWORD": "hunter3"}
        said = shop.cli("doctor", **wrong).stdout
        assert "cannot count (AuthenticationError)" in said
        assert "hunter" not in said
        bad = shop.cli("policy", "check", check=False, **{**environ, "VALKEY_PORT": "0"})
        assert bad.returncode == 1
        assert "mobius.toml:4: rate_limit.backend: " in bad.stderr
        assert "hunter" not in bad.stderr + bad.stdout
