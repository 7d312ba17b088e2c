"""Valkey's PUBLISH and SUBSCRIBE: a revoked key is out everywhere at once, whatever store the keys are in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from mobius_otel.errors import ConfigurationError, MissingExtra
from mobius_otel.security.api_keys.stores.channel import CHANNEL, ListeningChannel, payloads
from mobius_otel.security.api_keys.stores.failures import DatabaseUnreachable

__all__ = ["ValkeyChannel"]

_SCHEME = re.compile(r"(?:valkey|redis)(s?)://", re.ASCII)
_TIMEOUT = 2.0
_LOOK_SECONDS = 1.0
_HEALTH_SECONDS = 10


class ValkeyChannel(ListeningChannel):
    """Tells by a Valkey or Redis server, which keeps nothing of it.

    Args:
        url: ``"valkey://host:6379"``, ``valkeys://`` (TLS), ``redis://`` or ``rediss://``.

    Raises:
        MissingExtra: The ``valkey`` package is not installed.
        ConfigurationError: The URL is none.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str) or not _SCHEME.match(url):
            raise ConfigurationError("channel", "…", 'a URL such as "valkey://:${PASSWORD}@host:6379"')
        self._url = _SCHEME.sub(r"valkey\1://", url)
        self._client = self._connected()
        super().__init__()

    def _connected(self) -> Any:
        try:
            import valkey
        except ImportError:
            raise MissingExtra("channel", "valkey", "valkey") from None
        try:
            return valkey.Valkey.from_url(
                self._url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT,
                health_check_interval=_HEALTH_SECONDS,
            )  # fmt: skip
        except Exception:  # its text may hold the password
            raise ConfigurationError("channel", "…", 'a URL such as "valkey://:${PASSWORD}@host:6379"') from None

    def publish(self, key_ids: Collection[str]) -> None:
        """Tell everybody that these keys have changed.

        Raises:
            StoreFailure: It did not work; others know when their cache's time is over.
        """
        failure = None
        try:
            for payload in payloads(key_ids):
                self._client.publish(CHANNEL, payload)
        except Exception as error:
            failure = DatabaseUnreachable(type(error).__name__)
        if failure is not None:
            raise failure

    def _listening(self) -> Any:
        listening = self._client.pubsub()
        try:
            listening.subscribe(CHANNEL)
            confirmed = listening.get_message(timeout=_TIMEOUT)
            if confirmed is None or confirmed["type"] != "subscribe":
                raise ConnectionError("the server did not confirm")
        except BaseException:
            listening.close()
            raise
        return listening

    def _heard(self, connection: Any) -> Iterator[str]:
        told = connection.get_message(timeout=_LOOK_SECONDS)
        if told is not None and told["type"] == "message":
            yield told["data"].decode("ascii", "replace")

    def _interrupt(self, connection: Any) -> None:
        """Do nothing: it looks up every second."""

    def _after_fork_in_child(self) -> None:
        self._abandoned.append(self._client)
        self._client = self._connected()
        super()._after_fork_in_child()
