"""Opening connections: by what a URL says, or as a client does that somebody made already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.forks import importing
from mobius_otel.security.rate_limit.backends.valkey.link import CONNECT_SECONDS, Connection
from mobius_otel.security.rate_limit.backends.valkey.urls import Address, Target, parse_url

__all__ = ["Dialer"]

# What is taken over from a client: who it is, where, and how it is encrypted; its habits are its own.
_TAKEN = ("username", "password", "credential_provider", "db", "client_name", "path")
_TLS = (
    "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_check_hostname",
    "ssl_min_version", "ssl_ciphers", "ssl_ca_path", "ssl_password",
)  # fmt: skip
_NOT_ASYNC = ("ssl_ca_path", "ssl_password")
_CLIENT = "a URL, or a client of the package valkey or redis (not an asyncio one): valkey.Valkey, valkey.ValkeyCluster"


class Dialer:
    """Opens connections.

    Args:
        target: A URL, or a client of the ``valkey`` or ``redis`` package, whose settings are used but whose
            connections, retries and timeouts are left alone.
        deadline: Seconds that an answer may take.

    Raises:
        ConfigurationError: The URL is none, or the object no such client.
        MissingExtra: A URL was given and the ``valkey`` package is not installed.
    """

    def __init__(self, target: str | object, deadline: float) -> None:
        found = parse_url(target) if isinstance(target, str) else _of_client(target)
        self.target = found
        package = "valkey" if isinstance(target, str) else type(target).__module__.partition(".")[0]
        self._client = None if isinstance(target, str) else target  # a pool of sentinels lives with its client
        self._sync, self._async = _module(package, "connection"), (package, "asyncio.connection")
        self._name = {"unix": "UnixDomainSocketConnection"}.get(
            found.kind, "SSLConnection" if found.tls else "Connection"
        )
        self._times = {
            "socket_timeout": deadline, "socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True,
            "protocol": 2,
        }  # fmt: skip
        if found.kind == "unix":
            del self._times["socket_keepalive"]
        if package == "valkey":  # two round trips less at the beginning of each connection
            self._times |= {"lib_name": None, "lib_version": None}  # type: ignore[dict-item]

    def open(self, address: Address | None) -> Connection:
        """Open a connection to `address`; None: to where the target says, who may have to be asked for it."""
        return self._opened(self._options(self._found(address)))

    async def open_async(self, address: Address | None) -> Connection:
        """Do what :meth:`open` does, for the asyncio twin of the package."""
        if address is None and self.target.kind == "sentinel":
            address = await asyncio.to_thread(self._primary)
        options = self._options(self._found(address))
        known = {name: value for name, value in options.items() if name not in _NOT_ASYNC}
        connection = getattr(_module(*self._async), self._name)(**known)
        await connection.connect()
        return connection

    def _found(self, address: Address | None) -> Address | None:
        if address is None and self.target.kind == "sentinel":
            return self._primary()
        return address if address is not None or self.target.kind == "unix" else self.target.addresses[0]

    def _options(self, address: Address | None) -> dict[str, Any]:
        place = {} if address is None else {"host": address[0], "port": address[1]}
        return {**self.target.options, **self._times, **place}

    def _opened(self, options: Mapping[str, Any], name: str = "") -> Connection:
        connection = getattr(self._sync, name or self._name)(**options)
        connection.connect()
        return connection

    def _primary(self) -> Address:
        """Ask the sentinels, one after the other, who the primary is."""
        if self._client is not None:
            host, port = self._client.connection_pool.get_master_address()  # type: ignore[attr-defined]
            return host, port
        error: Exception = ConnectionError()
        for host, port in self.target.addresses:
            options = {**self.target.sentinel, **self._times, "host": host, "port": port}
            options |= {name: value for name, value in self.target.options.items() if name.startswith("ssl_")}
            try:
                connection = self._opened(options, "SSLConnection" if self.target.tls else "Connection")
                try:
                    connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.target.service)
                    found = connection.read_response()
                finally:
                    connection.disconnect()
            except Exception as failed:
                error = failed
            else:
                if found:
                    return found[0].decode(), int(found[1])
        raise error

    def __repr__(self) -> str:
        return f"Dialer({self.target.shown})"


def _module(package: str, name: str) -> ModuleType:
    try:
        with importing:
            return import_module(f"{package}.{name}")
    except ImportError:
        raise MissingExtra("backend", "valkey", package) from None


def _of_client(client: Any) -> Target:
    """Return what a client was made with."""
    package = type(client).__module__.partition(".")[0]
    if package not in {"valkey", "redis"} or ".asyncio" in type(client).__module__:
        raise ConfigurationError("backend", f"<{type(client).__name__}>", _CLIENT)
    if hasattr(client, "nodes_manager"):
        made = client.get_connection_kwargs()
        tls = bool(made.get("ssl")) or "SSL" in getattr(made.get("connection_class"), "__name__", "")
        addresses = tuple((node.host, node.port) for node in client.nodes_manager.startup_nodes.values())
        return Target("cluster", addresses, _ours(made, tls=tls), tls)
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise ConfigurationError("backend", f"<{type(client).__name__}>", _CLIENT)
    made = pool.connection_kwargs
    tls = "SSL" in pool.connection_class.__name__
    options = _ours(made, tls=tls)
    if hasattr(pool, "get_master_address"):
        return Target("sentinel", (), options, tls, str(pool.service_name))
    if "path" in options:
        return Target("unix", (), options)
    return Target("single", ((made.get("host", "localhost"), int(made.get("port", 6379))),), options, tls)


def _ours(options: Mapping[str, Any], *, tls: bool) -> dict[str, Any]:
    taken = (*_TAKEN, *_TLS) if tls else _TAKEN
    return {name: options[name] for name in taken if options.get(name) is not None}
