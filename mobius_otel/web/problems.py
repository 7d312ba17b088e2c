"""Answers of the guard itself: problem details (RFC 9457) with a challenge where one is due.

Every wrong key gets the same bytes; why it was wrong is in telemetry alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Problem", "forbidden", "invalid_key", "limited", "missing_key", "throttled", "unavailable"]

Headers = tuple[tuple[str, str], ...]

#: IANA HTTP Problem Types, draft-ietf-httpapi-ratelimit-headers-11 section 7.
_QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer: a status, headers beside the content's, and a body.

    Args:
        status: The HTTP status.
        headers: Names and values.
        body: JSON of the type ``application/problem+json``.
    """

    status: int
    headers: Headers
    body: bytes


def _problem(
    status: int, title: str, detail: str, headers: Headers = (), kind: str = "about:blank", **more: object
) -> Problem:
    body = json.dumps({"type": kind, "title": title, "status": status, "detail": detail, **more}).encode()
    fixed = (
        ("content-type", "application/problem+json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
    )
    return Problem(status, fixed + headers, body)


def _challenge(realm: str, header: str, extra: str = "") -> Headers:
    """Return the challenges of RFC 6750 section 3 and of the key's own header."""
    realm = "".join(letter for letter in realm if " " <= letter <= "~" and letter not in '"\\')
    return (
        ("www-authenticate", f'Bearer realm="{realm}"{extra}'),
        ("www-authenticate", f'ApiKey realm="{realm}", header="{header}"'),
    )


def missing_key(realm: str, header: str) -> Problem:
    """Return the answer to a request without a key: the bare challenge (RFC 6750 section 3.1)."""
    return _problem(
        401, "Unauthorized", f"This needs an API key, as Authorization: Bearer or as {header}.",
        _challenge(realm, header), code="missing_key",
    )  # fmt: skip


def invalid_key(realm: str, header: str) -> Problem:
    """Return the answer to every wrong key, whatever is wrong with it."""
    return _problem(
        401, "Unauthorized", "The API key is not valid.",
        _challenge(realm, header, ', error="invalid_token"'), code="invalid_key",
    )  # fmt: skip


def forbidden(realm: str, header: str, scopes: Iterable[str]) -> Problem:
    """Return the answer to a good key that lacks a scope."""
    wanted = " ".join(sorted(scopes))
    return _problem(
        403, "Forbidden", f"The API key lacks a scope; required: {wanted}.",
        _challenge(realm, header, f', error="insufficient_scope", scope="{wanted}"'), code="insufficient_scope",
    )  # fmt: skip


def limited(policies: Iterable[str], retry_after: float, headers: Headers) -> Problem:
    """Return the answer to a request that came too fast.

    Args:
        policies: The names of the limits that are used up.
        retry_after: Seconds until the next try makes sense; infinite: never.
        headers: The ``RateLimit`` fields.
    """
    return _problem(
        429, "Too Many Requests", "The limit is used up.", (*headers, *_retry(retry_after)), _QUOTA,
        **{"violated-policies": list(policies)},
    )  # fmt: skip


def throttled(retry_after: float) -> Problem:
    """Return the answer to an address that showed too many wrong keys."""
    return _problem(
        429, "Too Many Requests", "Too many wrong API keys came from this address.", _retry(retry_after),
        "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
    )  # fmt: skip


def unavailable() -> Problem:
    """Return the answer while nobody can say who may come in; it tells nothing more."""
    return _problem(503, "Service Unavailable", "Please try again later.")


def _retry(seconds: float) -> Headers:
    return (("retry-after", str(max(1, math.ceil(seconds)))),) if math.isfinite(seconds) else ()
