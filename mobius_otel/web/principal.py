"""Who the current request comes from."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobius_otel.security.api_keys import ApiKey

__all__ = ["current_principal", "principal_variable"]

principal_variable: ContextVar[ApiKey | None] = ContextVar("mobius_otel_principal", default=None)


def current_principal() -> ApiKey | None:
    """Return the API key that the current request was let in with, or None.

    Example:
        >>> current_principal() is None   # outside a request
        True
    """
    return principal_variable.get()
