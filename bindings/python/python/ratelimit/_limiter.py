"""The limiter: the native one, with what is written in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Union, overload

from ratelimit import _aio, _decorator, _exit, _native

if TYPE_CHECKING:
    import asyncio
    import weakref
    from collections.abc import Coroutine, Sequence

    from typing_extensions import ParamSpec, Unpack

    _LimitText = Union[str, _native.Limit]
    P = ParamSpec("P")
    R = TypeVar("R")
    F = TypeVar("F", bound=Callable[..., Any])

    #: What names a client: `"1"`, `b"1"` and `1` are one.
    Key = Union[str, bytes, int, _native.ClientKey]

    class _Skipping(Protocol):
        """A decorator whose function answers None when it is denied."""

        @overload
        def __call__(
            self, func: Callable[P, Coroutine[Any, Any, R]], /
        ) -> Callable[P, Coroutine[Any, Any, R | None]]: ...
        @overload
        def __call__(self, func: Callable[P, R], /) -> Callable[P, R | None]: ...


class Limiter(_native.Limiter):
    """Decides whether a client's request may go on.

    ``Limiter(100, 60)``: 100 requests per 60 seconds; ``Limiter("100/minute burst 20")``; ``Limiter(["10/s",
    "1000/day"])``: a request must fit all limits. A limit holds on average: an idle client may spend its burst at once
    and the refill after it, up to twice the limit in one window. With ``strict`` at most so many pass in any window.

    Any number of threads may use one limiter. A denial is a value; misuse raises `ratelimit.Error` or `TypeError`.
    """

    __slots__ = ("__weakref__", "_waiting")

    #: Who waits, for each event loop; unset until someone does. See `_aio`.
    _waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _aio._Waiting]

    def __init__(
        self,
        rate_limit: int | _LimitText | Sequence[_LimitText] | None = None,
        time_window: float | None = None,
        **options: Unpack[_native._Options],
    ) -> None:
        # Made already, by `__new__`. Who keeps snapshots wants the last one too, also when nobody closes; and a node
        # of a cluster says goodbye, so that the others need not find out.
        if options.get("path") is not None or options.get("cluster"):
            _exit.close_at_exit(self)

    async def aacquire(self, key: Key, cost: int = 1, timeout: float | None = None) -> bool:
        """Waits, without stopping the event loop, until the request is allowed, and charges it.

        False if it cannot be within `timeout` seconds (None: however long it takes), or ever: that is said as soon as
        it is known. Of several that wait for one client in one event loop the first is served first. Who is cancelled
        is not charged. Needs asyncio, or uvloop in its place.
        """
        return await _aio.acquire(self, key, cost, timeout)

    @overload
    def limit(
        self,
        *,
        key: Key | Callable[..., Key] | None = None,
        cost: int | Callable[..., int] = 1,
        on_denied: Literal["raise", "wait"] = "raise",
    ) -> Callable[[F], F]: ...
    @overload
    def limit(
        self,
        *,
        key: Key | Callable[..., Key] | None = None,
        cost: int | Callable[..., int] = 1,
        on_denied: Literal["skip"],
    ) -> _Skipping: ...
    def limit(
        self,
        *,
        key: Any = None,
        cost: Any = 1,
        on_denied: str = "raise",
    ) -> Any:
        """A decorator for functions and coroutine functions: each call is a request.

        key: a function of the call's arguments that says who the client is, or one key for all; without it the function
        has a budget of its own, by its module and name. cost: a number, or a function of the call's arguments.
        on_denied: "raise" raises `RateLimitExceeded`, "skip" answers None, "wait" waits until the call is allowed, and
        raises only if it never will be.

        A generator is charged when it is called, not for what it yields.
        """
        return _decorator.decorator(self, key, cost, on_denied)
