"""What surrounds a payload in a service: the log record, the event or the access line that it is a part of.

A payload of a template has some 200 bytes and is mostly secret. What a service writes has about a kilobyte: times,
ids, routes, user agents, versions, a sentence, a stack trace, and the payload somewhere in it. Nothing of an
envelope is a secret. The parts have envelopes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from uuid import UUID

from .kit import Kit
from .values import hexa

__all__ = ["ENVELOPES"]

#: Puts a payload into what a service would write.
Envelope: TypeAlias = Callable[[Kit, Any], Any]

_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{n} Safari",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0",
    "python-httpx/0.28.{n}",
    "okhttp/4.12.{n}",
)
_FRAME = '  File "/srv/app/{module}.py", line {n}, in {function}\n    {code}\n'
_CODE = (
    "return await self.app(scope, receive, send)",
    "row = session.execute(query, parameters).one()",
    "raise TimeoutError(f'no answer within {deadline} s')",
    "response = client.post(url, json=payload, timeout=5)",
    "for item in sorted(order.items, key=lambda item: item.sku):",
)


def _id(kit: Kit) -> str:
    return str(UUID(int=kit.rng.getrandbits(128), version=4))


def _time(kit: Kit) -> str:
    rng = kit.rng
    day, hour, minute = rng.randrange(1, 29), rng.randrange(24), rng.randrange(60)
    return f"2026-{rng.randrange(1, 13):02d}-{day:02d}T{hour:02d}:{minute:02d}:{rng.uniform(0, 59.99):09.6f}Z"


def _agent(kit: Kit) -> str:
    return str(kit.of(_AGENTS)).format(n=kit.rng.randrange(100, 150))


def _stack(kit: Kit) -> str:
    frames = "".join(
        _FRAME.format(
            module=kit.of(("views", "orders/service", "db/session", "jobs", "http/client")),
            n=kit.rng.randrange(12, 900),
            function=kit.of(("handle", "place_order", "commit", "run_once", "post")),
            code=kit.of(_CODE),
        )
        for _ in range(kit.of((2, 3, 4)))
    )
    return f"Traceback (most recent call last):\n{frames}TimeoutError: no answer within {kit.rng.randrange(2, 60)} s"


def log_record(kit: Kit, payload: Any) -> Any:
    """Return a log record as OpenTelemetry's JSON has it."""
    n = kit.rng.randrange(10, 9000)
    return {
        "timestamp": _time(kit),
        "observed_timestamp": _time(kit),
        "severity_text": kit.of(("INFO", "WARN", "ERROR")),
        "severity_number": kit.of((9, 13, 17)),
        "body": kit.clean_text(),
        "trace_id": hexa(kit.rng, 32),
        "span_id": hexa(kit.rng, 16),
        "attributes": {
            "http.request.method": kit.of(("GET", "POST", "PATCH")),
            "http.route": "/v1/orders/{order_id}/items",
            "http.response.status_code": kit.of((200, 201, 404, 500)),
            "url.path": f"/v1/orders/{n}/items",
            "user_agent.original": _agent(kit),
            "client.address": "203.0.113.9",
            "server.address": kit.host(),
            "request.id": _id(kit),
            "order.id": f"ord-2026{n:05d}",
            "duration_ms": round(kit.rng.expovariate(0.02), 3),
            "db.query.summary": "SELECT orders",
            "payload": payload,
        },
        "resource": {
            "service.name": kit.service(),
            "service.version": f"3.{n % 40}.{n % 7}",
            "service.instance.id": _id(kit),
            "host.name": kit.host(),
            "k8s.pod.name": f"{kit.service()}-{hexa(kit.rng, 10)}-{hexa(kit.rng, 5)}",
            "k8s.namespace.name": "shop",
            "telemetry.sdk.version": "1.45.1",
        },
    }


def structured_event(kit: Kit, payload: Any) -> Any:
    """Return an event as structlog renders it, now and then with a stack trace."""
    event = {
        "event": kit.clean_text(),
        "level": kit.of(("info", "warning", "error")),
        "logger": kit.of(("shop.orders", "shop.billing", "shop.http")),
        "timestamp": _time(kit),
        "request_id": _id(kit),
        "tenant": f"tenant-{kit.rng.randrange(400)}",
        "user_id": f"u-{kit.rng.randrange(10**6):06d}",
        "method": "POST",
        "path": f"/checkout/{kit.rng.randrange(9000)}/confirm?step={kit.rng.randrange(9)}&lang=de",
        "status": kit.of((200, 302, 422, 503)),
        "elapsed": kit.rng.random(),
        "retries": kit.rng.randrange(4),
        "cached": kit.chance(0.3),
        "user_agent": _agent(kit),
        "etag": f'W/"{hexa(kit.rng, 32)}"',
        "query": f"SELECT id, total FROM orders WHERE tenant = %s AND state = 'open' LIMIT {kit.rng.randrange(9, 900)}",
        "context": payload,
    }
    if kit.chance(0.3):
        event["exception"] = _stack(kit)
    return event


def audit_event(kit: Kit, payload: Any) -> Any:
    """Return an audit event with what was before and after."""
    n = kit.rng.randrange(10**6)
    return {
        "id": _id(kit),
        "eventTime": _time(kit),
        "eventName": kit.of(("settings.update", "member.invite", "invoice.export", "order.refund")),
        "actor": {"id": f"usr_{n}", "type": "user", "displayName": kit.user(), "roles": ["support", "billing"]},
        "target": {"id": _id(kit), "type": "order", "version": n % 90},
        "outcome": kit.of(("success", "success", "failure")),
        "source": {"host": kit.host(), "agent": _agent(kit), "requestId": hexa(kit.rng, 24), "region": "eu-central-1"},
        "riskScore": n % 100,
        "changes": [
            {"field": "state", "before": "open", "after": "paid"},
            {"field": "note", "before": kit.clean_text(), "after": kit.clean_text()},
            {"field": "updatedAt", "before": _time(kit), "after": _time(kit)},
        ],
        "details": payload,
        "checksum": hexa(kit.rng, 64),
        "sequence": n,
    }


def access_entry(kit: Kit, payload: Any) -> Any:
    """Return an entry of a gateway's access log."""
    n = kit.rng.randrange(10, 90000)
    upstream = f"{kit.host()}:8080"
    return {
        "ts": kit.rng.uniform(1.7e9, 1.8e9),
        "msg": f'"GET /assets/app.{hexa(kit.rng, 8)}.js HTTP/1.1" 200 {n} "https://shop.example/cart" {n % 900} ms',
        "request": {
            "host": kit.host(),
            "uri": f"/api/v2/items/{n}/reviews?page={n % 20}&per_page=50",
            "proto": "HTTP/2.0",
            "headers": {
                "Accept": "application/json, text/plain;q=0.9, */*;q=0.8",
                "Accept-Language": "de-DE,de;q=0.9,en;q=0.8",
                "If-None-Match": f'"{hexa(kit.rng, 20)}"',
                "Referer": f"https://shop.example/items/{n}",
                "User-Agent": _agent(kit),
                "X-Request-Id": _id(kit),
            },
        },
        "upstream": upstream,
        "bytes_read": n,
        "duration": kit.rng.random(),
        "tls": {"version": 772, "cipher_suite": "TLS_AES_128_GCM_SHA256", "server_name": kit.host()},
        "labels": ["edge", f"pop-{n % 12}", kit.service()],
        "extra": payload,
    }


def job_report(kit: Kit, payload: Any) -> Any:
    """Return what a worker says after a job."""
    n = kit.rng.randrange(10, 90000)
    return {
        "@timestamp": _time(kit),
        "message": f"job {_id(kit)} finished: {kit.clean_text()}",
        "log": {"level": "info", "logger": "worker.main", "origin": {"file": {"name": "worker.py", "line": n % 900}}},
        "job": {
            "id": _id(kit),
            "queue": kit.of(("mail", "exports", "thumbnails")),
            "attempt": n % 5,
            "enqueuedAt": _time(kit),
            "args": [n, f"s3://acme-media/{n}/source.mp4", {"preset": "720p", "crop": [0, 0, 1280, 720]}],
        },
        "process": {"pid": n, "args": ["python", "-m", "worker", "--queue", "exports", f"--slot={n % 8}"]},
        "labels": {"git_sha": hexa(kit.rng, 40), "image": f"registry.acme.example/worker:3.{n % 60}.1"},
        "trace": {"id": hexa(kit.rng, 32)},
        "stderr": _stack(kit) if kit.chance(0.2) else "",
        "result": payload,
    }


def span(kit: Kit, payload: Any) -> Any:
    """Return a finished span with an event."""
    start = kit.rng.randrange(17 * 10**17, 18 * 10**17)
    return {
        "name": "POST /v1/orders/{order_id}/pay",
        "traceId": hexa(kit.rng, 32),
        "spanId": hexa(kit.rng, 16),
        "parentSpanId": hexa(kit.rng, 16),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + kit.rng.randrange(10**6, 10**9)),
        "kind": 2,
        "status": {"code": kit.of((0, 1, 2)), "message": ""},
        "attributes": {
            "url.full": f"https://{kit.host()}/v1/orders/{start % 9999}/pay?currency=EUR&retry={start % 3}",
            "network.protocol.version": "1.1",
            "user_agent.original": _agent(kit),
            "http.response.status_code": 200,
            "messaging.message.id": _id(kit),
            "code.function.name": "shop.billing.pay",
            "thread.name": f"worker-{start % 16}",
            "app.feature": kit.of(("new-cart", "express", "none")),
            "app.total": f"{start % 900}.{start % 100:02d} EUR",
        },
        "events": [{"name": "cache.miss", "time": start, "attributes": {"cache.key": f"cart:{start % 99999}:lines"}}],
        "scope": {"name": "shop", "version": "2.4.1"},
        "custom": payload,
    }


#: The envelopes of each part.
ENVELOPES: dict[str, tuple[Envelope, ...]] = {
    "tuning": (log_record, structured_event, audit_event),
    "held_out": (access_entry, job_report, span),
}
