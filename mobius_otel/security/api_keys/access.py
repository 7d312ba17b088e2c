"""The way to the store: every call is timed, and no failure of it lets anybody in."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mobius_otel.errors import AuditUnavailable, KeyNotFound, KeyStoreUnavailable, RotationConflict
from mobius_otel.security.api_keys.reporting import Reporter
from mobius_otel.security.api_keys.stores import KeyStore, StoredKey, Transaction
from mobius_otel.security.api_keys.stores.failures import StoreFailure

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
            raise _unavailable(error) from error
        finally:
            self._reporter.store_call(operation, time.perf_counter() - begin, kind)

    @contextmanager
    def changing(self, operation: str) -> Iterator[Transaction]:
        """Run a block inside a transaction of the store.

        Args and Raises: as :meth:`asking`.
        """
        with self.asking(operation) as store, store.changing() as change:
            yield change

    def find(self, digests: Sequence[bytes]) -> StoredKey | None:
        """Return the key that is found by one of these digests.

        Raises:
            KeyStoreUnavailable: The store failed.
        """
        begin = time.perf_counter()
        kind: str | None = None
        try:  # as asking() does, without its block: this is what every cold verification waits for
            found = self._store.find(digests)
            if found is None:
                return None
            # The store looked for equality its own way (a collation, a prefix): look again, in constant time.
            same = [hmac.compare_digest(found.digest, digest) for digest in digests]
            return found if any(same) else None
        except Exception as error:
            kind = type(error).__qualname__
            raise _unavailable(error) from error
        finally:
            self._reporter.store_call("get", time.perf_counter() - begin, kind)


def _unavailable(error: Exception) -> KeyStoreUnavailable:
    """Return what the manager raises; what our own stores say holds nothing that is nobody's business."""
    kind = type(error).__qualname__
    told = f"{kind}: {error}" if isinstance(error, StoreFailure) else kind
    return KeyStoreUnavailable(f"the key store does not answer ({told})")
