"""A real service in a real process, written by somebody who knows nothing of this package."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FASTAPI = """
import logging
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

log = logging.getLogger("shop")
logging.basicConfig(level=logging.INFO)

class Refund(BaseModel):
    order: str
    card: str = ""

def create_app():
    app = FastAPI()

    @app.get("/health")
    def health():
        return {"ok": True}

    @app.get("/healthz-private")
    def private():
        return {"private": True}

    @app.get("/v1/items")
    def items():
        return [{"id": 1}]

    @app.get("/v1/items/{item}")
    def item(item: str):
        return {"id": item}

    @app.post("/v1/refunds")
    def refund(body: Refund):
        log.info("refund of %s to card %s with password=hunter2secret", body.order, body.card)
        return {"refunded": body.order}

    @app.get("/v1/fails")
    def fails():
        raise ValueError("cannot reach postgres://shop:hunter2secret@db/shop")

    @app.get("/v1/stream")
    def stream():
        return StreamingResponse(iter([b"one", b"two"]), media_type="text/plain", headers={"X-Own": "yes"})

    @app.get("/own")
    def own():
        from fastapi.responses import JSONResponse
        headers = {"X-Frame-Options": "SAMEORIGIN", "Set-Cookie": "a=b"}
        return JSONResponse({"teapot": True}, status_code=418, headers=headers)

    @app.websocket("/v1/ws")
    async def ws(socket: WebSocket):
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    return app

app = create_app()
"""

FLASK = """
import logging
from flask import Flask, Response, jsonify, request

log = logging.getLogger("shop")
logging.basicConfig(level=logging.INFO)

def create_app():
    app = Flask("shop")

    @app.get("/health")
    def health():
        return jsonify(ok=True)

    @app.get("/healthz-private")
    def private():
        return jsonify(private=True)

    @app.get("/v1/items")
    def items():
        return jsonify([{"id": 1}])

    @app.get("/v1/items/<item>")
    def item(item):
        return jsonify(id=item)

    @app.post("/v1/refunds")
    def refund():
        body = request.get_json()
        log.info("refund of %s to card %s with password=hunter2secret", body["order"], body.get("card"))
        return jsonify(refunded=body["order"])

    @app.get("/v1/fails")
    def fails():
        raise ValueError("cannot reach postgres://shop:hunter2secret@db/shop")

    @app.get("/v1/stream")
    def stream():
        return Response(iter([b"one", b"two"]), mimetype="text/plain", headers={"X-Own": "yes"})

    @app.get("/own")
    def own():
        return jsonify(teapot=True), 418, {"X-Frame-Options": "SAMEORIGIN", "Set-Cookie": "a=b"}

    return app

app = create_app()
"""

POLICY = """\
[service]
name = "shop"
[api_keys]
require = ["/v1/*", "/healthz-private"]
public = ["/health"]
[api_keys.scopes]
"POST /v1/refunds" = ["refund"]
[[rate_limit.rules]]
name = "per-key"
paths = ["/v1/*"]
limit = "20/minute"
[audit]
ledger = "audit.db"
routes = ["POST /v1/refunds"]
[metrics]
path = "/metrics"
"""

PEPPER = "pepper-of-the-tests"


def command(name: str) -> str:
    """Return the path of a command that is installed beside this Python."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found, name
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def comparable(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Everything of it but the date."""
        return self.status, sorted((k.lower(), v) for k, v in self.headers if k.lower() != "date"), self.body


class Service:
    """A process that serves HTTP on a loopback port."""

    def __init__(self, argv: list[str], folder: Path, environ: dict[str, str], port: int) -> None:
        self.port = port
        self.folder = folder
        self._log = folder / f"service-{port}.log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env=environ,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait_ready(self, timeout: float = 30.0) -> Service:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.log}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
                return self
            time.sleep(0.05)
        raise AssertionError(f"the service does not answer:\n{self.log}")

    def request(self, method: str, path: str, headers: dict[str, str] | None = None, body: object = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        data = json.dumps(body).encode() if body is not None else None
        sent = {**({"Content-Type": "application/json"} if data else {}), **(headers or {})}
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path: str, key: str | None = None, **headers: str) -> Reply:
        return self.request("GET", path, {**({"X-API-Key": key} if key else {}), **headers})

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_log(self, text: str, timeout: float = 10.0) -> None:
        """Wait until the service has logged a text."""
        deadline = time.monotonic() + timeout
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in:\n{self.log}"
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, timeout: float = 20.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self.kill()
        return self.process.returncode


_EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")


class Shop:
    """A folder with a service, a policy and keys, and the processes that were started in it."""

    def __init__(self, folder: Path, framework: str = "fastapi", policy: str | None = POLICY) -> None:
        self.folder = folder
        self.framework = framework
        (folder / "shop.py").write_text(FASTAPI if framework == "fastapi" else FLASK)
        if policy is not None:
            (folder / "mobius.toml").write_text(policy)
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MOBIUS_"))
        } | {
            "MOBIUS_OTEL_KEY_PEPPER": PEPPER,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        }
        self.services: list[Service] = []

    def server(self, port: int, *extra: str) -> list[str]:
        if self.framework == "fastapi":
            return [command("uvicorn"), "shop:app", "--port", str(port), *extra]
        return [command("flask"), "--app", "shop", "run", "--port", str(port), *extra]

    def start(
        self, *extra: str, door: str = "run", argv: list[str] | None = None, ready: bool = True, **environ: str
    ) -> Service:
        port = free_port()
        if argv:
            served = [command(argv[0]), *(part.replace("PORT", str(port)) for part in argv[1:])]
        else:
            served = self.server(port, *extra)
        prefix = [command("mobius-otel"), "run", "--"] if door == "run" else [command(door)]
        service = Service([*prefix, *served], self.folder, {**self.environ, **environ}, port)
        self.services.append(service)
        return service.wait_ready() if ready else service

    def cli(self, *args: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        # What it runs would wait ten seconds at its end for a collector that nobody has started.
        silent = dict.fromkeys(_EXPORTERS, "none") if args[:1] == ("run",) else {}
        result = subprocess.run(
            [command("mobius-otel"), *args],
            cwd=self.folder,
            env={**self.environ, **silent, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert not check or result.returncode == 0, result.stderr + result.stdout
        return result

    def issue(self, owner: str = "alice", *scopes: str) -> dict[str, str]:
        wanted = [part for scope in scopes or ("read",) for part in ("--scope", scope)]
        return json.loads(self.cli("keys", "issue", owner, *wanted, "--json").stdout)

    def close(self) -> None:
        for service in self.services:
            service.kill()  # a polite stop waits for exporters whose collector is gone


@contextlib.contextmanager
def open_shop(folder: Path, framework: str = "fastapi", policy: str | None = POLICY) -> Iterator[Shop]:
    shop = Shop(folder, framework, policy)
    try:
        yield shop
    finally:
        shop.close()
