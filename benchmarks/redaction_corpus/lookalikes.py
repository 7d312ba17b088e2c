"""Clean values that look like secrets, or stand under a name that sounds like one; none may be touched."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from .values import ALNUM, LOWER, UPPER, b64, digits, hexa, luhn_digit, of

__all__ = ["LOOKALIKES", "LookAlike"]


@dataclass(frozen=True, slots=True)
class LookAlike:
    """One kind of look-alike.

    Args:
        names: The names it stands under: those of the tuning part, those of the held-out part.
        make: Makes a value.
    """

    names: tuple[Sequence[str], Sequence[str]]
    make: Callable[[Random], Any]


def _uuid(rng: Random) -> str:
    h = hexa(rng, 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{rng.choice('89ab')}{h[17:20]}-{h[20:]}"


def _iso(rng: Random) -> str:
    zone = rng.choice(("Z", "+02:00", ".123456Z", ""))
    return f"{_date(rng)}T{rng.randrange(24):02d}:07:59{zone}"


def _no_luhn(rng: Random, front: str, length: int) -> str:
    body = front + of(rng, string.digits, length - len(front) - 1)
    return body + str((int(luhn_digit(body)) + rng.randrange(1, 10)) % 10)


def _imei(rng: Random) -> str:
    body = rng.choice(("86", "01", "99", "86")) + of(rng, string.digits, 12)
    return body + luhn_digit(body)


def _isbn(rng: Random) -> str:
    body = "978" + of(rng, string.digits, 9)
    check = -sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10
    plain = f"{body}{check}"
    return rng.choice((plain, f"{plain[:3]}-{plain[3]}-{plain[4:6]}-{plain[6:12]}-{plain[12]}"))


def _agent(rng: Random) -> str:
    major = rng.randrange(90, 140)
    return rng.choice(
        (
            f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.6367.{major}",
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E{major}",
            f"python-requests/2.31.0 build/4.{major}.10.7",
            f"okhttp/4.12.{major % 10}",
            f"curl/8.{major % 10}.0",
        )
    )


def _date(rng: Random) -> str:
    return f"{rng.randrange(2015, 2030)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"


def _stack(rng: Random) -> str:
    names = (
        "get_password_hash",
        "TokenRefreshView",
        "verify_api_key",
        "read_secret",
        "check_credentials",
        "parse_cookie",
    )
    return f"{rng.choice(('app', 'shop', 'core'))}.{rng.choice(('auth', 'views', 'keys'))}.{rng.choice(names)}"


def _look(first: str, second: str, make: Callable[[Random], Any]) -> LookAlike:
    return LookAlike((tuple(first.split()), tuple(second.split())), make)


LOOKALIKES: dict[str, LookAlike] = {
    "uuid": _look("id request_id order_uuid", "correlation_id jobId tenant.uuid", _uuid),
    "ulid": _look(
        "event_id ulid", "message_id sort_id", lambda r: "01H" + of(r, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", 23)
    ),
    "git_sha": _look("commit git_sha", "vcs.ref.head.revision build.revision", lambda r: hexa(r, r.choice((7, 40)))),
    "sha256": _look(
        "sha256 digest checksum", "content_hash file.hash", lambda r: r.choice(("", "sha256:")) + hexa(r, 64)
    ),
    "md5": _look("md5", "content_md5", lambda r: hexa(r, 32)),
    "etag": _look("etag ETag", "if_none_match http.response.header.etag", lambda r: f'"{hexa(r, r.choice((16, 32)))}"'),
    "iso_time": _look("created_at timestamp", "finished_at event.time", _iso),
    "date": _look("due_date password_changed_at", "birthday_sale_on secret_rotated_at", _date),
    "epoch_s": _look("ts exp", "iat started", lambda r: 1_600_000_000 + r.randrange(200_000_000)),
    "epoch_ms": _look("ts_ms at", "updated_ms when", lambda r: 1_600_000_000_000 + r.randrange(200_000_000_000)),
    "epoch_ns": _look("time_unix_nano", "observed_ns", lambda r: 1_600_000_000_000_000_000 + r.randrange(10**17)),
    "order_number": _look("order_number order", "invoice_no shipment", lambda r: _no_luhn(r, r.choice("4568"), 16)),
    "digit_run": _look(
        "sequence offset", "tracking_number lsn", lambda r: digits(r, r.choice((10, 11, 12, 20, 24, 30)))
    ),
    "big_int": _look("row_id", "snowflake", lambda r: int(_no_luhn(r, "1", r.choice((17, 18, 19))))),
    "arn": _look(
        "arn role",
        "resource topic_arn",
        lambda r: f"arn:aws:iam::{digits(r, 12)}:role/{r.choice(('reader', 'deploy'))}",
    ),
    "aws_account": _look("account_id", "cloud.account.id", lambda r: digits(r, 12)),
    "git_remote": _look(
        "remote repo", "clone_url vcs.url", lambda r: f"git@github.com:acme/{r.choice(('shop', 'auth'))}.git"
    ),
    "semver": _look(
        "version service.version", "sdk release", lambda r: f"{r.randrange(9)}.{r.randrange(30)}.{r.randrange(9)}-rc.1"
    ),
    "four_part_version": _look(
        "version app_version",
        "build_version telemetry.sdk.version",
        lambda r: f"{r.randrange(1, 9)}.{r.randrange(20)}.{r.randrange(10)}.{r.randrange(10)}",
    ),
    "user_agent": _look("user_agent user_agent.original", "http.user_agent user-agent", _agent),
    "mac": _look("mac", "hw_addr", lambda r: ":".join(hexa(r, 2) for _ in range(6))),
    "trace_id": _look("trace_id traceId", "otel.trace_id parent_trace", lambda r: hexa(r, 32)),
    "span_id": _look("span_id", "parent_span_id", lambda r: hexa(r, 16)),
    "traceparent": _look(
        "traceparent", "http.request.header.traceparent", lambda r: f"00-{hexa(r, 32)}-{hexa(r, 16)}-01"
    ),
    "image": _look(
        "thumbnail avatar",
        "icon preview",
        lambda r: "data:image/png;base64," + "iVBORw0KGgo" + "AAAANSUhEUgAA" + of(r, ALNUM + "+/", 60) + "==",
    ),
    "base64_text": _look(
        "payload", "body_b64", lambda r: b64(f"hello {r.choice(('world', 'shop'))}, page {r.randrange(99)}")
    ),
    "path": _look(
        "path file",
        "log.file.path script",
        lambda r: r.choice(("/srv/secrets", "/etc/tokens", "/home/deploy/app")) + f"/main_{r.randrange(99)}.py",
    ),
    "windows_path": _look(
        "exe", "process.executable.path", lambda r: rf"C:\Program Files\Acme\v{r.randrange(9)}\keytool.exe"
    ),
    "host_port": _look(
        "upstream peer", "backend listen", lambda r: f"db-{r.randrange(9)}.prod.internal:{r.choice((5432, 6379))}"
    ),
    "words": _look(
        "kind label",
        "category theme",
        lambda r: r.choice(
            (
                "author",
                "monkey",
                "compass",
                "keyboard",
                "tokenizer",
                "passenger",
                "bypass",
                "secretary",
                "pinned",
                "cardinal",
                "keystone",
                "spinning",
                "tokenized",
                "passage",
                "authentic",
                "turkey",
            )
        ),
    ),
    "names_of_words": _look(
        "author monkey compass keyboard",
        "passenger tokenizer secretary donkey",
        lambda r: r.choice(("Jane Roe", "north", "qwertz", "two", "bpe-32k", "seat 14C")),
    ),
    "counts": _look("token_count session_count", "max_tokens password_attempts", lambda r: r.randrange(9000)),
    "settings": _look(
        "secret_rotation_days password_min_length",
        "token_ttl_seconds session_timeout_s",
        lambda r: r.choice((30, 60, 90, 365)),
    ),
    "methods": _look(
        "auth_method token_type",
        "credential_type password_policy",
        lambda r: r.choice(("oauth2", "bearer", "mtls", "standard", "magic-link")),
    ),
    "cursor": _look(
        "next_page cursor", "page_after pagination.next", lambda r: b64(f'{{"id":{r.randrange(9999)}}}', urlsafe=True)
    ),
    "flags": _look("has_password mfa_enabled", "password_required is_secret", lambda r: r.choice((True, False))),
    "null": _look("password token api_key", "secret client_secret passphrase", lambda _: None),
    "empty": _look("password api_key", "secret access_token", lambda _: ""),
    "status": _look(
        "status http.response.status_code", "code http.status_code", lambda r: r.choice((200, 201, 301, 404, 422, 500))
    ),
    "price": _look(
        "price amount", "total net", lambda r: r.choice((f"{r.randrange(9000)}.99", r.randrange(900000) / 100))
    ),
    "coordinates": _look("geo lat", "location lon", lambda r: f"{r.uniform(-90, 90):.6f},{r.uniform(-180, 180):.6f}"),
    "isbn": _look("isbn", "book.isbn13", _isbn),
    "imei": _look("imei", "device.imei", _imei),
    "client_address": _look(
        "client.address network.peer.address",
        "server.address net.peer.ip",
        lambda r: f"10.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}",
    ),
    "route": _look(
        "http.route route",
        "url.template endpoint",
        lambda r: r.choice(
            ("/reset-password/{token}", "/v1/keys/{key_id}", "/users/<int:pin>/cards", "/auth/:provider/token")
        ),
    ),
    "identifier": _look("code.function.name func", "code.namespace handler", _stack),
    "colour": _look("color background", "fill brand", lambda r: "#" + hexa(r, r.choice((3, 6, 8)))),
    "pod": _look(
        "k8s.pod.name pod", "pod_name instance", lambda r: f"auth-token-svc-{of(r, LOWER, 10)}-{of(r, LOWER, 5)}"
    ),
    "image_digest": _look("image", "container.image.name", lambda r: f"ghcr.io/acme/shop@sha256:{hexa(r, 64)}"),
    "sql_placeholders": _look(
        "statement db.query.text",
        "sql query",
        lambda r: r.choice(
            (
                "SELECT id FROM users WHERE email = %s AND password = %s",
                "UPDATE users SET password = $1, token = $2 WHERE id = $3",
                "INSERT INTO api_keys (name, secret) VALUES (?, ?)",
                "SELECT password_hash FROM users WHERE name = :name",
            )
        ),
    ),
    "stripe_public": _look(
        "charge customer",
        "payment_intent price_id",
        lambda r: r.choice(("ch_3", "cus_", "price_1", "pi_3", "evt_1", "in_1")) + of(r, ALNUM, 23),
    ),
    "s3_url": _look(
        "object url",
        "source_url download",
        lambda r: f"https://acme-media.s3.eu-west-1.amazonaws.com/a/{hexa(r, 12)}.jpg?w=640",
    ),
    "url": _look(
        "url.full href",
        "http.url link",
        lambda r: f"https://shop.example.com/items?page={r.randrange(99)}&sort=price&key_only=1",
    ),
    "markdown": _look(
        "body description",
        "notes readme",
        lambda r: f"## Keys\n\n* **rotate** every {r.randrange(99)} days\n* see [docs](./tokens.md)",
    ),
    "emoji": _look(
        "reaction title", "status_text label", lambda r: r.choice(("🎉 shipped", "✅ 3/3 checks", "🔑 lost & found"))
    ),
    "cjk": _look(
        "title_ja message",
        "label_zh subject",
        lambda r: r.choice(("注文が完了しました", "密码长度必须为12个字符", "비밀번호를 잊으셨나요?")),
    ),
    "certificate": _look(
        "cert",
        "tls.client.certificate",
        lambda r: "-----BEGIN CERTIFICATE-----\n" + of(r, ALNUM + "+/", 64) + "\n-----END CERTIFICATE-----",
    ),
    "public_key": _look(
        "pubkey",
        "host_key_line",
        lambda r: r.choice(
            (
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + of(r, ALNUM, 43) + " deploy@web03",
                "-----BEGIN PUBLIC KEY-----\n" + of(r, ALNUM + "+/", 64) + "\n-----END PUBLIC KEY-----",
            )
        ),
    ),
    "at_signs": _look(
        "package source",
        "dependency target",
        lambda r: r.choice(
            (
                f"@babel/core@7.{r.randrange(30)}.0",
                "https://medium.com/@ann/keys-17",
                f"https://unpkg.com/react@18.{r.randrange(9)}.0/umd.js",
                "deploy@web03",
                f"com.acme.Session@{hexa(r, 7)}",
                "@app.route",
                "@media (min-width: 640px)",
            )
        ),
    ),
    "masked": _look(
        "display",
        "shown_as",
        lambda r: r.choice((f"**** **** **** {digits(r, 4)}", f"•••• {digits(r, 4)}", "a***@e***.com")),
    ),
    "sku": _look("sku", "part_no", lambda r: f"{of(r, UPPER, 3)}-{digits(r, 4)}-{of(r, UPPER, 2)}"),
    "key_name": _look(
        "key sort_key", "primary_key partition_key", lambda r: r.choice(("created_at", "id", "orders/2024", "user#17"))
    ),
    "time_of_day": _look(
        "window", "cron_at", lambda r: f"{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}"
    ),
    "duration": _look("duration_ms elapsed", "latency took", lambda r: round(r.uniform(0.1, 900.0), 3)),
}
