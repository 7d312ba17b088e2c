"""The plain facts about a request that the guard judges; no framework in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Facts", "Proxies"]

_OVERRIDES = frozenset(("x-http-method", "x-method"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request before it is let in.

    Args:
        method: The method, in upper case; a websocket's handshake is ``GET``.
        path: The path, as the server hands it over.
        root: The prefix that the application is mounted under.
        scheme: ``http``, ``https``, ``ws`` or ``wss``.
        peer: The address at the other end of the connection; None for a Unix socket.
        headers: Values by lower-case name; a name that came twice has two values.
    """

    method: str
    path: str
    root: str = ""
    scheme: str = "http"
    peer: str | None = None
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of a header that came exactly once, else None."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None

    @property
    def is_preflight(self) -> bool:
        """Whether it is a CORS preflight (Fetch standard, 4.8), which a browser sends without credentials.

        It has no body and nothing that asks for another method, so that a handler cannot take it for more.
        """
        return (
            self.method == "OPTIONS"
            and bool(self.header("origin") and self.header("access-control-request-method"))
            and set(self.headers.get("content-length", ())) <= {"0"}
            and "transfer-encoding" not in self.headers
            and not any(name in _OVERRIDES or "method-override" in name for name in self.headers)
        )


class Proxies:
    """Whose ``X-Forwarded-*`` headers count.

    Args:
        networks: Addresses or networks of our own proxies; with none, no header counts.

    Example:
        >>> facts = Facts("GET", "/", peer="10.0.0.2", headers={"x-forwarded-for": ["6.6.6.6, 203.0.113.9"]})
        >>> Proxies(["10.0.0.0/8"]).client(facts), Proxies([]).client(facts)
        ('203.0.113.9', '10.0.0.2')
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(n, strict=False) for n in networks)

    def client(self, facts: Facts) -> str | None:
        """Return the client's address: the right-most hop that is none of our proxies."""
        if not self._trusts(facts.peer):
            return facts.peer
        nearest = facts.peer
        for hop in reversed(",".join(facts.headers.get("x-forwarded-for", ())).split(",")):
            address = _address(hop)
            if address is None:  # a hop that cannot be read: nothing left of it can be believed
                return nearest
            nearest = str(address)
            if not self._trusts(nearest):
                return nearest
        return nearest

    def scheme(self, facts: Facts) -> str:
        """Return the scheme the client used, as far as our proxies tell it."""
        if self._trusts(facts.peer):
            forwarded = facts.headers.get("x-forwarded-proto", ())
            last = ",".join(forwarded).split(",")[-1].strip().lower()
            if last in {"http", "https", "ws", "wss"}:
                return last
        return facts.scheme

    def _trusts(self, address: str | None) -> bool:
        if not self._networks or address is None:
            return False
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def __repr__(self) -> str:
        return f"Proxies({len(self._networks)} networks)"


def _address(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found
