"""From a limiter's key to names on the server.

``mobius:rl:<schema>:<algorithm>:{<digest>}:<window>``: the digest is of the limiter's name and the key, so that
no address or customer stands on the server in clear; it is the hash tag, so that all limits of a subject lie in
one slot of a cluster; algorithm and schema are part of the name, so that another algorithm or a later format
never meets a value that it cannot read; the window (in microseconds) tells the limits of a subject apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from mobius_otel.errors import ConfigurationError

__all__ = ["SCHEMA", "Namer"]

#: The version of what stands under a name.
SCHEMA = 1
_SHORT = {"sliding_window_log": b"log", "gcra": b"gcra"}
_SIMPLE = (int, float, UUID, IPv4Address, IPv6Address)
_RULE = "a text, bytes, a number, None, a UUID, an IP address, or a tuple of them: what every process writes alike"


class Namer:
    """Names the subjects of one limiter.

    Args:
        name: The limiter's name; limiters of one name share their counts.
        algorithm: The limiter's algorithm.

    Example:
        >>> Namer("api", "gcra").stem("client-42")
        b'mobius:rl:1:gcra:{9bb58d732f98cefedac237b4e4f18707}:'
    """

    __slots__ = ("_base", "_prefix")

    def __init__(self, name: str, algorithm: str) -> None:
        self._base = hashlib.blake2b(f"{name}\0".encode(), digest_size=16)
        self._prefix = b"mobius:rl:%d:%b:{" % (SCHEMA, _SHORT[algorithm])

    def stem(self, key: Hashable) -> bytes:
        """Return the name of a subject, to which the window of a limit is added.

        Raises:
            ConfigurationError: The key is of a type that two processes might not write alike.
        """
        digest = self._base.copy()
        digest.update(b"s" + key.encode("utf-8", "surrogatepass") if type(key) is str else _written(key))
        return b"%b%b}:" % (self._prefix, digest.hexdigest().encode())


def _written(key: Hashable) -> bytes:
    """Return the key as bytes that are different for different keys, and the same in every process."""
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if key is None:
        return b"n"
    if isinstance(key, tuple):
        parts = [_written(part) for part in key]
        return b"t" + b"".join([b"%d:%b" % (len(part), part) for part in parts])
    if isinstance(key, _SIMPLE):
        kind = next(known for known in _SIMPLE if isinstance(key, known))
        shown = str(int(key)) if isinstance(key, int) or (isinstance(key, float) and key.is_integer()) else str(key)
        return f"{'int' if kind is float and '.' not in shown else kind.__name__}:{shown}".encode()
    raise ConfigurationError("key", f"<{type(key).__name__}>", _RULE)
