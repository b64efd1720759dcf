"""`Limiter.limit`: the decorator."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ratelimit import _native
from ratelimit.exception import RateLimitException

if TYPE_CHECKING:
    from ratelimit._limiter import Limiter


class RateLimitExceeded(RateLimitException):
    """A call was denied. `decision` says by how much; `period_remaining` is its `retry_after`."""

    decision: _native.Decision

    def __init__(self, decision: _native.Decision) -> None:
        wait = decision.retry_after
        text = "it costs more than is ever allowed at once" if math.isinf(wait) else f"try again in {wait:.3f} seconds"
        super().__init__(f"too many calls: {text}", wait)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.decision,))


def decorator(
    limiter: Limiter, key: Any, cost: Any, on_denied: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if on_denied not in ("raise", "skip", "wait"):
        raise ValueError(f'on_denied is {on_denied!r}: it takes "raise", "skip" or "wait"')

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        return _wrap(limiter, func, key, cost, on_denied)

    # What is wrong with a fixed key or cost is said where it was written, not at the first call.
    if key is not None and not callable(key):
        key = limiter.key(key)
    if not callable(cost):
        limiter.peek("", cost)
    return decorate


def _wrap(limiter: Limiter, func: Callable[..., Any], key: Any, cost: Any, on_denied: str) -> Callable[..., Any]:
    if not callable(func):
        raise TypeError(f"{func!r} is not a function: write @limiter.limit(...) with its parentheses")
    key_of = key if callable(key) else _always(limiter.key(_name(func)) if key is None else key)
    cost_of = cost if callable(cost) else _always(cost)

    if _is_coroutine_function(func):

        @functools.wraps(func)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            client, units = key_of(*args, **kwargs), cost_of(*args, **kwargs)
            if on_denied == "wait":
                if not await limiter.aacquire(client, units):
                    raise RateLimitExceeded(limiter.peek(client, units))
            else:
                decision = limiter.check(client, units)
                if not decision:
                    if on_denied == "raise":
                        raise RateLimitExceeded(decision)
                    return None
            return await func(*args, **kwargs)

        return async_wrapper

    if on_denied == "wait" and inspect.isasyncgenfunction(func):
        raise TypeError(
            f"{_name(func)} is an asynchronous generator, which cannot wait when it is called: "
            "use `await limiter.aacquire(...)` in it"
        )

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        client, units = key_of(*args, **kwargs), cost_of(*args, **kwargs)
        if on_denied == "wait":
            if not limiter.acquire(client, units):
                raise RateLimitExceeded(limiter.peek(client, units))
        else:
            decision = limiter.check(client, units)
            if not decision:
                if on_denied == "raise":
                    raise RateLimitExceeded(decision)
                return None
        return func(*args, **kwargs)

    return wrapper


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _name(func: Callable[..., Any]) -> str:
    inner: Any = func
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', '')}.{name}"


def _is_coroutine_function(func: Any) -> bool:
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.iscoroutinefunction(func):
        return True
    # An object that is called like one.
    return not inspect.isroutine(func) and inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004
