"""What a server's URL says: which servers, how to get in, and nothing that an error would have to hide.

========================================================  ====================================================
``valkey://[user:password@]host[:6379][/db]``             one server (also ``redis://``)
``valkeys://…``, ``rediss://…``                           the same over TLS
``unix://[user:password@]/run/valkey.sock[?db=1]``        one server behind a socket file
``valkey+sentinel://host[:26379],host2/service[/db]``     whoever is the primary of a service
``valkey+cluster://host[:6379],host2``                    a cluster
========================================================  ====================================================

``redis+…`` and ``valkeys+…``/``rediss+…`` (TLS) likewise. A reserved character of a user or password is
percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

from mobius_otel.errors import ConfigurationError

__all__ = ["SCHEMES", "Address", "Target", "parse_url"]

Address = tuple[str, int]
Kind = Literal["single", "unix", "sentinel", "cluster"]

_PARTS = re.compile(r"(valkey|valkeys|redis|rediss)(?:\+(sentinel|cluster))?|unix", re.ASCII)
#: The schemes that are a server's.
SCHEMES = (
    "valkey", "valkeys", "redis", "rediss", "unix",
    *(f"{scheme}+{kind}" for scheme in ("valkey", "valkeys", "redis", "rediss") for kind in ("sentinel", "cluster")),
)  # fmt: skip
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", re.ASCII)
_TEXTS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_username", "sentinel_password")
_RULE = (
    '"valkey://host:6379/0", "valkeys://" (TLS), "unix:///path", "valkey+sentinel://host:26379/service" or '
    '"valkey+cluster://host:6379"'
)


@dataclass(frozen=True, slots=True)
class Target:
    """Which servers, and how to get in.

    Args:
        kind: One server, one behind a socket file, the primary of a service, or a cluster.
        addresses: Hosts and ports to begin with; none for a socket file.
        options: What a connection of the ``valkey`` package is made with, beside host and port.
        tls: Whether the connection is encrypted.
        service: The service whose primary sentinels know.
        sentinel: What a connection to a sentinel is made with.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    options: Mapping[str, object] = field(repr=False)  # it holds the password
    tls: bool = False
    service: str = ""
    sentinel: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """The servers, for a person: without user, password and options."""
        if self.kind == "unix":
            return f"unix://{self.options['path']}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.addresses)
        scheme = "valkeys" if self.tls else "valkey"
        return f"{scheme}{'' if self.kind == 'single' else '+' + self.kind}://{hosts}" + (
            f"/{self.service}" if self.service else ""
        )


def parse_url(url: str) -> Target:
    """Return what a URL says.

    Raises:
        ConfigurationError: It is not the URL of a server. The error shows no more of it than the scheme and
            the part that is wrong, and never a user or a password.

    Example:
        >>> parse_url("valkey://app:hunter2@cache.example:6380/1").shown
        'valkey://cache.example:6380'
    """
    scheme, separator, rest = url.partition("://")
    named = _PARTS.fullmatch(scheme)
    if not separator or named is None:
        plain = separator and re.fullmatch("[a-z][a-z0-9+.-]{0,30}", scheme)
        raise ConfigurationError("backend", f"{scheme}://…" if plain else "…", _RULE)
    # As far as the last "@": a password may hold one that somebody forgot to encode, or a "?", or a "/".
    userinfo, at, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    options: dict[str, object] = _login(userinfo) if at else {}
    tls = scheme.startswith(("valkeys", "rediss"))
    if tls:
        options["ssl_check_hostname"] = True
    sentinel = _read_query(query, options, tls)
    if scheme == "unix":
        if not place.startswith("/"):
            raise ConfigurationError("backend", "unix://…", 'a socket file\'s whole path: "unix:///run/valkey.sock"')
        _read_db("", options, scheme, cluster=False)
        return Target("unix", (), {**options, "path": unquote(place)})
    kind: Kind = named[2] or "single"  # type: ignore[assignment]
    hosts, _, path = place.partition("/")
    addresses = _addresses(hosts, 26379 if kind == "sentinel" else 6379, scheme)
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(
                "backend", f"{scheme}://…", 'followed by a service: "valkey+sentinel://host/service"'
            )
    if kind == "single" and len(addresses) > 1:
        raise ConfigurationError("backend", f"{scheme}://…", "one host; several belong to +sentinel or +cluster")
    _read_db(path, options, scheme, cluster=kind == "cluster")
    return Target(kind, addresses, options, tls, unquote(service), sentinel)


def _login(userinfo: str) -> dict[str, object]:
    user, _, password = userinfo.partition(":")
    found: dict[str, object] = {}
    if user:
        found["username"] = unquote(user)
    if password:
        found["password"] = unquote(password)
    return found


def _addresses(hosts: str, port: int, scheme: str) -> tuple[Address, ...]:
    found = []
    for text in hosts.split(",") if hosts else ["localhost"]:
        match = _HOST.fullmatch(text)
        if match is None or not 0 < int(match[3] or port) < 65536:
            raise ConfigurationError(
                "backend", f"{scheme}://…", "a URL whose host is host, host:port or [address]:port"
            )
        found.append((match[1] or match[2], int(match[3] or port)))
    return tuple(found)


def _read_db(path: str, options: dict[str, object], scheme: str, *, cluster: bool) -> None:
    db = str(options.pop("db", "") or path.strip("/") or "0")
    if not re.fullmatch("[0-9]{1,5}", db, re.ASCII):
        raise ConfigurationError("backend", f"{scheme}://…", "a URL whose database is a number, such as …/0")
    if cluster and db != "0":
        raise ConfigurationError("backend", f"{scheme}://…/{db}", "without a database: a cluster has one alone")
    if db != "0":
        options["db"] = int(db)


def _read_query(query: str, options: dict[str, object], tls: bool) -> dict[str, object]:
    """Add what a query says to `options`; return what it says about sentinels."""
    sentinel: dict[str, object] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "db":
            options["db"] = value
        elif name == "ssl_cert_reqs" and tls and value in {"none", "optional", "required"}:
            options[name] = value
            if value == "none":
                options["ssl_check_hostname"] = False
        elif name == "ssl_check_hostname" and tls and value.lower() in {"true", "false"}:
            options[name] = value.lower() == "true"
        elif name.startswith("sentinel_") and name in _TEXTS:
            sentinel[name.removeprefix("sentinel_")] = value
        elif name in _TEXTS and tls:
            options[name] = value
        else:
            shown = f"{name[:32]}=…" if re.fullmatch("[a-z_]+", name) else "…"
            raise ConfigurationError(
                "backend", shown, f"a URL without this option; known: db, {', '.join(_TEXTS)}, "
                "ssl_cert_reqs (none, optional, required), ssl_check_hostname (true, false); ssl_… with TLS alone",
            )  # fmt: skip
    return sentinel
