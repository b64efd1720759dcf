"""`Limiter.limit`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import pickle
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from ratelimit import Limiter, ManualClock, RateLimitExceeded, RateLimitException


def test_raise_skip(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)

    @limiter.limit(key=lambda user, **_: user)
    def send(user: str, *, text: str = "") -> str:
        """Sends."""
        return user + text

    assert send("a", text="!") == "a!" and send("b") == "b"
    with pytest.raises(RateLimitExceeded, match=r"too many calls: try again in 60.000 seconds") as caught:
        send("a")
    assert isinstance(caught.value, RateLimitException)
    assert caught.value.decision.retry_after == caught.value.period_remaining == 60
    assert (send.__name__, send.__doc__) == ("send", "Sends.")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.decision == caught.value.decision and str(again) == str(caught.value)

    @limiter.limit(key="skipping", on_denied="skip")
    def skipping() -> str:
        return "done"

    assert [skipping(), skipping()] == ["done", None]
    assert not limiter.is_allowed("skipping")


def test_wait() -> None:
    limiter = Limiter("20/s burst 1")

    @limiter.limit(on_denied="wait", cost=lambda cost=1: cost)
    def work(cost: int = 1) -> float:
        return time.monotonic()

    first, second = work(), work()
    assert second - first >= 0.045
    with pytest.raises(RateLimitExceeded, match="costs more than is ever allowed") as caught:
        work(2)
    assert caught.value.period_remaining == math.inf


def test_functions_have_budgets_of_their_own(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)
    one = limiter.limit()(test_wait)
    other = limiter.limit(on_denied="skip")(functools.partial(int, "7"))
    assert other() == 7 and other() is None
    assert limiter.is_allowed(f"{test_wait.__module__}.test_wait")
    with pytest.raises(RateLimitExceeded):
        one()


def test_methods(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)

    class Client:
        @limiter.limit(key=lambda self: id(self), on_denied="skip")
        def get(self) -> Client:
            return self

    one, other = Client(), Client()
    assert one.get() is one and one.get() is None and other.get() is other


def test_coroutine_functions(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)

    @limiter.limit(key="a")
    async def raising() -> str:
        return "done"

    @limiter.limit(key="b", on_denied="skip")
    async def skipping() -> str:
        return "done"

    class Callable:
        async def __call__(self) -> str:
            return "done"

    calling = limiter.limit(key="c", on_denied="skip")(Callable())
    partial = limiter.limit(key="d", on_denied="skip")(functools.partial(skipping))

    async def main() -> None:
        assert inspect.iscoroutinefunction(raising)
        waiting = raising()
        assert await raising() == "done"
        # Charged when it is awaited.
        with pytest.raises(RateLimitExceeded):
            await waiting
        assert [await skipping(), await skipping()] == ["done", None]
        assert [await calling(), await calling()] == ["done", None]
        assert [await partial(), await partial()] == [None, None]

    asyncio.run(main())


def test_waiting_coroutine_functions() -> None:
    limiter = Limiter("50/s burst 1")

    @limiter.limit(key="a", on_denied="wait")
    async def work(number: int) -> int:
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*map(work, range(5)))

    start = time.monotonic()
    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert time.monotonic() - start >= 0.075


def test_generators(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)

    @limiter.limit(key="a")
    def numbers() -> Iterator[int]:
        yield from range(3)

    assert list(numbers()) == [0, 1, 2]
    with pytest.raises(RateLimitExceeded):
        numbers()

    async def stream() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match="asynchronous generator, which cannot wait"):
        limiter.limit(on_denied="wait")(stream)
    assert inspect.isasyncgen(limiter.limit(key="b")(stream)())


def test_misuse_is_said_at_once() -> None:
    limiter: Any = Limiter("1/s")
    with pytest.raises(ValueError, match="on_denied is 'retry': it takes"):
        limiter.limit(on_denied="retry")
    with pytest.raises(TypeError, match="a key is float"):
        limiter.limit(key=1.5)
    with pytest.raises(ValueError, match="cost is -1"):
        limiter.limit(cost=-1)
    with pytest.raises(TypeError, match="with its parentheses"):
        limiter.limit()(5)
    with pytest.raises(TypeError):
        limiter.limit(test_wait)
