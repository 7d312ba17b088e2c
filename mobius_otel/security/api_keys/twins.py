"""The asynchronous twins of the manager's methods: the same decision, where it holds up no event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from mobius_otel.security.api_keys.frames import emptied
from mobius_otel.security.api_keys.stores import KeyStore

if TYPE_CHECKING:
    from mobius_otel.security.api_keys.manager import ApiKeyManager

__all__ = ["runner_of", "twin"]

P = ParamSpec("P")
R = TypeVar("R")
Run = Callable[[Callable[[], Any]], Awaitable[Any]]


def runner_of(store: KeyStore) -> Run | None:
    """Return what calls something that uses `store` from an event loop; None where it may simply be called."""
    own: Run | None = getattr(store, "run", None)
    return own or (asyncio.to_thread if store.blocking else None)


def twin(
    method: Callable[Concatenate[ApiKeyManager, P], R],
) -> Callable[Concatenate[ApiKeyManager, P], Coroutine[Any, Any, R]]:
    """Return the asynchronous twin of a method."""

    @functools.wraps(method)
    async def call(self: ApiKeyManager, /, *args: P.args, **kwargs: P.kwargs) -> R:
        run = self.run_on_loop
        try:
            if run is None:
                return method(self, *args, **kwargs)
            found: R = await run(functools.partial(method, self, *args, **kwargs))
        except BaseException as error:
            emptied(error)
            raise
        finally:
            del args, kwargs  # a secret may be among them
        return found

    call.__name__ = f"{method.__name__}_async"
    call.__qualname__ = f"{method.__qualname__}_async"
    call.__doc__ = f"Do as :meth:`{method.__name__}` does, without holding up the event loop."
    return call
