"""The decorators of PyPI's ratelimit 2.2.1, with its exact meaning: a fixed window for each decorator.

They are not GCRA and know no keys; `Limiter.limit` is the decorator for new code. What is kept on purpose, fault or
not, is listed in docs/migration/python.md.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import wraps
from math import floor
from typing import TYPE_CHECKING, Any, TypeVar

from ratelimit.exception import RateLimitException

if TYPE_CHECKING:
    F = TypeVar("F", bound=Callable[..., Any])

#: Wrappers that `limits` put around coroutine functions: plain functions by themselves, as in 2.2.1. Told apart by what
#: they are and not by `__wrapped__`, since a plain function around them may run the coroutine to its end.
_of_coroutines: weakref.WeakSet[Any] = weakref.WeakSet()

# Taken when this module is loaded, as the default below is: who patches `time.monotonic` later changes neither.
now = time.monotonic


class RateLimitDecorator:
    """At most `calls` calls in each window of `period` seconds.

    The first window starts when the decorator is made, each later one with the first call after the end of the one
    before. Every attempt counts, also one that is denied.
    """

    def __init__(
        self,
        calls: float = 15,
        period: float = 900,
        clock: Callable[[], float] = now,
        raise_on_limit: bool = True,
    ) -> None:
        self.clamped_calls = max(1, min(sys.maxsize, floor(calls)))
        self.period = period
        self.clock = clock
        self.raise_on_limit = raise_on_limit
        self.last_reset = clock()
        self.num_calls = 0
        self.lock = threading.RLock()

    def __call__(self, func: F) -> F:
        """The limited function. A denied call raises RateLimitException, or answers None without `raise_on_limit`.

        A coroutine function is counted, and may be denied, when it is called, not when it is awaited.
        """

        @wraps(func)
        def wrapper(*args: Any, **kargs: Any) -> Any:
            with self.lock:
                period_remaining = self.__period_remaining()
                if period_remaining <= 0:
                    self.num_calls = 0
                    self.last_reset = self.clock()
                self.num_calls += 1
                if self.num_calls > self.clamped_calls:
                    if self.raise_on_limit:
                        raise RateLimitException("too many calls", period_remaining)
                    return None
            # Outside the lock: a slow function must not stop the others.
            return func(*args, **kargs)

        if _is_async(func):
            _of_coroutines.add(wrapper)
        return wrapper  # type: ignore[return-value]

    def __period_remaining(self) -> float:
        return self.period - (self.clock() - self.last_reset)


def sleep_and_retry(func: F) -> F:
    """Calls again, after the rest of the window, for as long as the function raises RateLimitException.

    A coroutine function, or one under `limits`, sleeps by `asyncio.sleep`, so that the event loop goes on; the call
    then answers a coroutine, and the waiting happens when it is awaited.
    """
    if _is_async(func):

        @wraps(func)
        async def async_wrapper(*args: Any, **kargs: Any) -> Any:
            while True:
                try:
                    outcome = func(*args, **kargs)
                    # None where `raise_on_limit` is False.
                    return await outcome if inspect.isawaitable(outcome) else outcome
                except RateLimitException as exception:
                    await asyncio.sleep(exception.period_remaining)

        return async_wrapper  # type: ignore[return-value]

    @wraps(func)
    def wrapper(*args: Any, **kargs: Any) -> Any:
        while True:
            try:
                return func(*args, **kargs)
            except RateLimitException as exception:
                time.sleep(exception.period_remaining)

    return wrapper  # type: ignore[return-value]


def _is_async(func: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(func) or (inspect.isfunction(func) and func in _of_coroutines)
