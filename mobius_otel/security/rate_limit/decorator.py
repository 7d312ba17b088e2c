"""Functions whose calls are limited: plain ones, coroutines and both kinds of generators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Hashable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from mobius_otel.security.rate_limit.decision import Decision, RateLimitExceeded

if TYPE_CHECKING:
    from mobius_otel.security.rate_limit.limiter import RateLimiter

__all__ = ["limited"]

P = ParamSpec("P")
R = TypeVar("R")


def limited(
    limiter: RateLimiter, function: Callable[P, R], key: Hashable | Callable[..., Hashable], cost: int
) -> Callable[P, R]:
    """Return `function` with its calls limited; it stays what it was: a coroutine function, a generator function.

    Args:
        limiter: Who decides.
        function: What is limited.
        key: What a call is counted by: a function of its arguments, or one value; None: the function's name.
        cost: Units of a call.
    """
    name = f"{function.__module__}.{function.__qualname__}"

    def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        return name if key is None else key(*args, **kwargs) if callable(key) else key

    if inspect.iscoroutinefunction(function):
        wrapped = _coroutine(limiter, function, key_of, cost)
    elif inspect.isasyncgenfunction(function):
        wrapped = _async_generator(limiter, function, key_of, cost)
    elif inspect.isgeneratorfunction(function):
        wrapped = _generator(limiter, function, key_of, cost)
    else:
        wrapped = _function(limiter, function, key_of, cost)
    return cast(Callable[P, R], functools.update_wrapper(wrapped, function))


KeyOf = Callable[[tuple[Any, ...], dict[str, Any]], Hashable]


def _demand(decision: Decision) -> None:
    if not decision.allowed:
        raise RateLimitExceeded(decision)


def _function(limiter: RateLimiter, function: Callable[..., Any], key_of: KeyOf, cost: int) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        _demand(limiter.acquire(key_of(args, kwargs), cost))
        return function(*args, **kwargs)

    return call


def _coroutine(limiter: RateLimiter, function: Callable[..., Any], key_of: KeyOf, cost: int) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        _demand(await limiter.acquire_async(key_of(args, kwargs), cost))
        return await function(*args, **kwargs)

    return call


def _generator(
    limiter: RateLimiter, function: Callable[..., Generator[Any, Any, Any]], key_of: KeyOf, cost: int
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        _demand(limiter.acquire(key_of(args, kwargs), cost))
        return (yield from function(*args, **kwargs))

    return call


def _async_generator(
    limiter: RateLimiter, function: Callable[..., AsyncGenerator[Any, Any]], key_of: KeyOf, cost: int
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        _demand(await limiter.acquire_async(key_of(args, kwargs), cost))
        inner = function(*args, **kwargs)
        step = inner.__anext__()
        while True:  # what ``yield from`` does, which asynchronous generators have not
            try:
                item = await step
            except StopAsyncIteration:
                return
            try:
                step = inner.asend((yield item))
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:
                step = inner.athrow(error)

    return call
