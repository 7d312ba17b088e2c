"""The way to the store: every call is timed, and no failure of it lets anybody in."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mobius_otel.errors import AuditUnavailable, KeyNotFound, KeyStoreUnavailable, RotationConflict
from mobius_otel.security.api_keys.record import ApiKey
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import KeyStore, Transaction

__all__ = ["StoreAccess"]

# What the manager itself decides inside a transaction; all else that comes out of one is the store's failure.
_DECISIONS = (AuditUnavailable, KeyNotFound, RotationConflict)


class StoreAccess:
    """Asks a store.

    Args:
        store: The store.
        reporter: Who is told how long it took.
    """

    __slots__ = ("_reporter", "_store")

    def __init__(self, store: KeyStore, reporter: Reporter) -> None:
        self._store = store
        self._reporter = reporter

    @contextmanager
    def asking(self, operation: str) -> Iterator[KeyStore]:
        """Time a block that asks the store.

        Args:
            operation: A value of ``mobius.api_key.operation``.

        Raises:
            KeyStoreUnavailable: The store failed.
        """
        begin = time.perf_counter()
        kind: str | None = None
        try:
            yield self._store
        except _DECISIONS:
            raise
        except Exception as error:
            kind = type(error).__qualname__
            raise KeyStoreUnavailable(f"the key store does not answer ({kind})") from error
        finally:
            self._reporter.store_call(operation, time.perf_counter() - begin, kind)

    @contextmanager
    def changing(self, operation: str) -> Iterator[Transaction]:
        """Run a block inside a transaction of the store.

        Args and Raises: as :meth:`asking`.
        """
        with self.asking(operation) as store, store.changing() as change:
            yield change

    def find(self, digest: bytes) -> ApiKey | None:
        """Return the key whose secret has this digest.

        Raises:
            KeyStoreUnavailable: The store failed.
        """
        with self.asking("get") as store:
            found = store.find(digest)
            # The store looked for equality its own way (a collation, a prefix): look again, in constant time.
            return found[0] if found is not None and hmac.compare_digest(found[1], digest) else None
