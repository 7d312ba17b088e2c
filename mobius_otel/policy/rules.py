"""What a single value of the policy file must look like.

A rule is a name for people, a check, and, where it can be said so, a regular expression for the JSON Schema.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mobius_otel.conventions import METRICS
from mobius_otel.policy import routes

__all__ = [
    "ADDRESSES", "ANY", "AT_MOST_FIVE", "BOOL", "BY", "CHANNEL", "COUNTED", "DATA", "DEADLINE", "ENDPOINT",
    "FAILURES", "FUNCTION", "HEADER_NAME", "HEADER_VALUE", "IDENTIFIER", "LEASE", "LIMIT", "LOCATION", "NAME",
    "NOT_NEGATIVE", "PATH", "PATTERN", "POSITIVE", "ROUTE", "RULE_NAME", "SCOPE", "SHARE", "SIDECAR", "SINK", "STORE",
    "TIMER", "WHOLE", "Rule", "choice",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for one value.

    Args:
        text: What is asked for, as the end of "it must be ...".
        check: Returns whether a value obeys.
        pattern: The same as a regular expression, for the JSON Schema; None where it cannot be said so.
        choices: Every value, where they are few.
        instead: Returns the end of an error's text that says what to write in place of a value, or nothing.
    """

    text: str
    check: Callable[[object], bool]
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    instead: Callable[[object], str] = lambda _: ""


def _matching(
    text: str, pattern: str, instead: Callable[[object], str] = lambda _: "", taken: Collection[str] = ()
) -> Rule:
    compiled = re.compile(pattern)
    return Rule(
        text,
        lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None and value.lower() not in taken,
        f"^(?:{pattern})$",
        instead=instead,
    )


def choice(*choices: str) -> Rule:
    """Return the rule for one of `choices`."""
    return Rule("one of " + ", ".join(f'"{c}"' for c in choices), lambda value: value in choices, None, choices)


def _is_network(value: object) -> bool:
    try:
        ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return False
    return True


def _between(value: object, above: float, most: float) -> bool:
    return isinstance(value, int | float) and above < value <= most


ANY = Rule("text", lambda value: isinstance(value, str))
BOOL = Rule("true or false", lambda value: isinstance(value, bool))
DATA = Rule("a text or a table", lambda value: isinstance(value, str | dict))
NAME = _matching("a name of letters, digits, '_', '.' or '-'", r"[A-Za-z0-9_.-]{1,64}")
#: What the limiter of wrong keys is called.
FAILURES = "api_key.failures"
RULE_NAME = _matching(
    f"a name of letters, digits, '_', '.' or '-', and not \"{FAILURES}\", the limiter of [api_keys] failures",
    r"[A-Za-z0-9_.-]{1,64}",
    taken={FAILURES},
)
TIMER = _matching(
    "the name of a metric: a letter and at most 254 letters, digits, '_', '.', '-' or '/', and none of this package's"
    " own metrics",
    r"[A-Za-z][A-Za-z0-9_./-]{0,254}",
    taken=METRICS.keys(),
)
IDENTIFIER = _matching("lower-case letters and digits, beginning with a letter", r"[a-z][a-z0-9]{0,15}")
PATH = _matching(
    'a path such as "/v1/items", or one with a trailing /* such as "/v1/*"', routes.PATH_PATTERN, routes.instead_of_path
)
ROUTE = _matching(
    'a route such as "POST /v1/refunds"; "* /v1/refunds" is every method', routes.ROUTE_PATTERN, routes.instead_of_route
)
ENDPOINT = _matching('a path such as "/metrics"', routes.ENDPOINT_PATTERN, routes.instead_of_path)
LIMIT = _matching(
    'a limit such as "100/minute" or "5/10 seconds"',
    r"[1-9][0-9]{0,8}/(?:second|minute|hour|day|[1-9][0-9]{0,6} (?:seconds?|minutes?|hours?|days?))",
)
LOCATION = choice("audit", "log", "span", "resource", "metric", "logging", "baggage", "other")
BY = _matching(
    '"api_key", "client_address", "route", "global" or "header:NAME"',
    r"api_key|client_address|route|global|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+",
)
COUNTED = _matching(
    "memory://, valkey://HOST:6379/0, valkeys:// (TLS), unix:///PATH, valkey+sentinel://HOST:26379/SERVICE or "
    "valkey+cluster://HOST:6379; redis for valkey is as good",
    r"memory://|unix:///.+|(?:valkeys?|rediss?)(?:\+(?:sentinel|cluster))?://.*",
)
DEADLINE = Rule("a number of seconds above 0 and up to 10", lambda value: _between(value, 0, 10))
LEASE = Rule("a part of a limit above 0 and up to 0.5", lambda value: _between(value, 0, 0.5))
SHARE = Rule("a part of a limit above 0 and up to 1", lambda value: _between(value, 0, 1))
HEADER_NAME = _matching("the name of a header", r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# A server refuses what is no field value when it is sent, and then every answer fails (RFC 9110 section 5.5).
HEADER_VALUE = _matching(
    "text that a header can hold: one line of ASCII, without blanks around it", r"(?:[!-~](?:[\t -~]*[!-~])?)?"
)
SCOPE = _matching("a scope without blanks", r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")  # RFC 6749 section 3.3
FUNCTION = _matching(
    'a function such as "shop.billing:refund"', r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
)
ADDRESSES = Rule('an address or network such as "10.0.0.0/8"', _is_network)
STORE = _matching(
    'memory://, sqlite:///FILE, or a database such as "postgresql+psycopg://keys:${PASSWORD}@db/keys"',
    r"memory://|sqlite:///.+|[a-z][a-z0-9]*(?:\+[a-z0-9_]+)?://.+",
)
CHANNEL = _matching('a server such as "valkey://:${PASSWORD}@host:6379"', r"(?:valkey|redis)s?://.+")
SIDECAR = _matching(
    'the address of a sidecar such as "http://127.0.0.1:9464"',
    r"http://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}/?",
)
EVENTS = _matching(
    'an event\'s name, a beginning such as "payment.*", or "risk:" and info, low, medium, high or critical',
    r"[A-Za-z][A-Za-z0-9_.-]{0,127}(\.\*)?|risk:(info|low|medium|high|critical)",
)
MEGABYTES = Rule("a number of at least 1", lambda value: isinstance(value, int | float) and 1 <= value < 1e9)
WHOLE = Rule("a whole number above zero", lambda value: isinstance(value, int) and 0 < value < 1e12)
AT_MOST_FIVE = Rule("a number from 0 to 5", lambda value: isinstance(value, int | float) and 0 <= value <= 5)
NOT_NEGATIVE = Rule("zero or more", lambda value: isinstance(value, int | float) and 0 <= value < 1e9)
PATTERN = Rule(
    "a regular expression in ASCII", lambda value: isinstance(value, str) and value.isascii() and value != ""
)
SINK = _matching(
    'where new secrets go: "file:PATH", "command:PROGRAM ARGUMENT …", "https://…" or "http://127.0.0.1…"',
    r"file:.+|command:.+|https?://.+",
)
POSITIVE = Rule("a number above zero", lambda value: isinstance(value, int | float) and 0 < value < 1e9)
