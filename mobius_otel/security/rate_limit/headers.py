"""What a client is told about its limits: the one serializer of header fields.

Sources: draft-ietf-httpapi-ratelimit-headers, whose wire form changed twice (three fields up to -06, one
dictionary in -07, lists of named policies since -08); RFC 9110 section 10.2.3 (``Retry-After``); RFC 9651
(structured fields).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from typing import Final, Literal, get_args

from mobius_otel.errors import ConfigurationError
from mobius_otel.security.rate_limit.limit import RateLimit

__all__ = ["DRAFTS", "FIRST_NAMED", "Draft", "limit_headers", "limit_item", "policy_items", "policy_name"]

Draft = Literal[0, 6, 7, 8, 9, 10, 11]
DRAFTS: Final = get_args(Draft)
#: The first draft in which policies have names.
FIRST_NAMED: Final = 8
# RFC 9651 section 3.3.1: an Integer has at most 15 digits.
_LARGEST: Final = 999_999_999_999_999


def _whole(seconds: float) -> int:
    return min(_LARGEST, max(0, math.ceil(seconds)))


def policy_name(name: str, limits: Sequence[RateLimit], limit: RateLimit) -> str:
    """Return what one of a limiter's limits is called: the limiter's name, with a number where it has several.

    Example:
        >>> limits = [RateLimit(10, 1.0), RateLimit(1000, 3600.0)]
        >>> policy_name("api", limits, limits[1])
        'api-2'
    """
    return name if len(limits) == 1 or limit not in limits else f"{name}-{list(limits).index(limit) + 1}"


@functools.lru_cache(maxsize=256)  # the same for every request
def policy_items(name: str, limits: tuple[RateLimit, ...], draft: Draft = 11) -> str:
    """Return the value of ``RateLimit-Policy``.

    Example:
        >>> policy_items("api", (RateLimit(10, 1.0), RateLimit(1000, 3600.0)))
        '"api-1";q=10;w=1, "api-2";q=1000;w=3600'
    """
    items = []
    for limit in limits:
        # A window is a whole number of seconds above zero: one that is shorter is not said.
        window = f";w={math.ceil(limit.per)}" if limit.per >= 1 else ""
        named = f'"{policy_name(name, limits, limit)}";q={limit.limit}'
        items.append((named if draft >= FIRST_NAMED else str(limit.limit)) + window)
    return ", ".join(items)


def limit_item(name: str, *, remaining: int, seconds: float) -> str:
    """Return one item of ``RateLimit``: how many units are left, and for how many seconds that holds at most."""
    return f'"{name}";r={max(0, int(remaining))};t={_whole(seconds)}'


def limit_headers(
    name: str,
    limits: tuple[RateLimit, ...],
    shown: RateLimit,
    *,
    remaining: int,
    reset_after: float,
    retry_after: float,
    draft: Draft = 11,
    legacy: bool = False,
) -> dict[str, str]:
    """Return the header fields of one decision.

    Args:
        name: The limiter's name.
        limits: Its limits.
        shown: The one that the decision is about.
        remaining: Units left of it.
        reset_after: Seconds until all of it is free.
        retry_after: Seconds until the same cost would pass; 0 when it was allowed.
        draft: See ``Decision.headers``.
        legacy: Whether the ``X-RateLimit`` fields are wanted.

    Raises:
        ConfigurationError: There is no such draft.
    """
    if draft not in DRAFTS:
        raise ConfigurationError("draft", draft, f"one of {', '.join(map(str, DRAFTS))}")
    seconds = retry_after if 0 < retry_after < math.inf else reset_after
    fields: dict[str, str] = {}
    if draft >= FIRST_NAMED:
        fields["RateLimit-Policy"] = policy_items(name, limits)
        fields["RateLimit"] = limit_item(policy_name(name, limits, shown), remaining=remaining, seconds=seconds)
    elif draft == 7:
        fields["RateLimit-Policy"] = policy_items(name, limits, draft)
        fields["RateLimit"] = f"limit={shown.limit}, remaining={remaining}, reset={_whole(seconds)}"
    elif draft:
        fields["RateLimit-Limit"] = str(shown.limit)
        fields["RateLimit-Remaining"] = str(remaining)
        fields["RateLimit-Reset"] = str(_whole(seconds))
    if legacy:
        fields["X-RateLimit-Limit"] = str(shown.limit)
        fields["X-RateLimit-Remaining"] = str(remaining)
        fields["X-RateLimit-Reset"] = str(_whole(time.time() + seconds))
    if 0 < retry_after < math.inf:
        fields["Retry-After"] = str(_whole(retry_after))
    return fields
