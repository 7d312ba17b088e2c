"""What goes wrong with a database, in words that hold no password, no digest and no row.

The class of a failure is what telemetry shows as ``error.type``.
"""

from __future__ import annotations

__all__ = [
    "DatabaseBusy",
    "DatabaseReadOnly",
    "DatabaseRefused",
    "DatabaseTimeout",
    "DatabaseUnreachable",
    "StoreFailure",
]


class StoreFailure(Exception):
    """A store does not work; the base of what the stores of this package raise for it."""


class DatabaseUnreachable(StoreFailure, ConnectionError):
    """The server does not answer, refuses the connection, or has closed it."""


class DatabaseTimeout(StoreFailure, TimeoutError):
    """It took longer than it may; the connection was closed."""


class DatabaseBusy(StoreFailure):
    """No connection of the pool became free in time, or another transaction held what was needed."""


class DatabaseReadOnly(StoreFailure):
    """A change was asked of a replica or of a database that may only be read."""


class DatabaseRefused(StoreFailure):
    """The server answered with an error."""
