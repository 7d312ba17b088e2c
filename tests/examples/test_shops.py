"""The example services, started as their README says: one command, one policy file, no line changed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mobius_otel.cli.demo.process import end, free_ports, is_up, listens, start

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOPS = {
    "shop_fastapi": ["-m", "uvicorn", "shop:app", "--port"],
    "shop_flask": ["-m", "flask", "--app", "shop", "run", "--port"],
}
CARD = "4111 1111 1111 1111"


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run our command in a folder."""
    return subprocess.run([sys.executable, "-m", "mobius_otel", *arguments], cwd=folder, env=environment(),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


def environment() -> dict[str, str]:
    """The caller's environment, without telemetry settings, with a pepper."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "MOBIUS_OTEL_"))}
    return {**kept, "MOBIUS_OTEL_KEY_PEPPER": "a made-up pepper", "PYTHONUNBUFFERED": "1"}


class Shop:
    """One running example."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        for file in ("shop.py", "mobius.toml"):
            shutil.copyfile(EXAMPLES / name / file, folder / file)
        issued = cli(folder, "keys", "issue", "alice", "--scope", "read", "--scope", "refund")
        assert issued.returncode == 0, issued.stderr
        self.secret = issued.stdout.strip()
        (self.port,) = free_ports(1)
        service = [sys.executable, *SHOPS[name], str(self.port)]
        command = [sys.executable, "-m", "mobius_otel", "run", "--", *service]
        self.log = folder / "log"
        self.process = start(command, self.log, folder, environment())
        assert is_up(self.process, lambda: listens(self.port), 30), self.log.read_text()

    def ask(self, method: str, path: str, *, key: str | None = None, body: object = None) -> http.client.HTTPResponse:
        """Send a request; the answer's body is in ``.text``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"X-API-Key": key} if key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        connection.close()
        return answer


@pytest.fixture(scope="module", params=sorted(SHOPS))
def shop(request, tmp_path_factory):
    """Each of the examples, running under the guard."""
    pytest.importorskip("uvicorn" if request.param == "shop_fastapi" else "flask")
    running = Shop(request.param, tmp_path_factory.mktemp(request.param))
    yield running
    end(running.process)


def test_the_open_path_is_open_and_the_others_demand_a_key(shop):
    """The first screen of the README holds: no key 401, wrong key 401, a good one 200."""
    assert shop.ask("GET", "/health").status == 200
    assert shop.ask("GET", "/v1/items").status == 401
    assert shop.ask("GET", "/v1/items", key=shop.secret[:-1] + "!").status == 401
    answer = shop.ask("GET", "/v1/items", key=shop.secret)
    assert answer.status == 200
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("RateLimit-Policy") is not None


def test_a_careless_refund_leaves_a_record_and_no_card_number(shop):
    """The service logs the body; neither its log nor its ledger holds the card number."""
    body = {"order": "order-7", "amount": 1, "card": CARD, "password": "open sesame 123", "reason": "late"}

    assert shop.ask("POST", "/v1/refunds", key=shop.secret, body=body).status == 201
    assert shop.ask("POST", f"/v1/cards/{CARD.replace(' ', '')}/block", key=shop.secret).status == 204

    log = shop.log.read_text(encoding="utf-8", errors="replace")
    assert "order-7" in log
    records = cli(shop.folder, "audit", "tail", "audit.db", "-n", "100", "--json")
    assert [json.loads(line)["event_name"] for line in records.stdout.splitlines()].count("http.request") == 2
    kept = b"".join(path.read_bytes() for path in shop.folder.glob("*.db*")).decode("latin-1")
    for secret in (CARD, CARD.replace(" ", ""), "open sesame 123", shop.secret):
        assert secret not in log
        assert secret not in kept


def test_an_exception_passes_as_before_and_hides_its_secret(shop):
    """The service's own 500 is its own; /metrics counts what the guard did."""
    assert shop.ask("GET", "/v1/report", key=shop.secret).status == 500
    page = shop.ask("GET", "/metrics").text
    assert "mobius_guard_requests_total" in page
    assert shop.secret not in page


def test_the_ledger_is_whole_while_the_service_writes_it(shop):
    """`mobius-otel audit verify` answers 0."""
    done = cli(shop.folder, "audit", "verify", "audit.db")

    assert done.returncode == 0, done.stdout + done.stderr
