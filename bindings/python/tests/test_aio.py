"""Waiting in an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest
from ratelimit import ClosedError, Limiter, ManualClock


def states(limiter: Limiter) -> list[Any]:
    return list(getattr(limiter, "_waiting", {}).values())


def test_allowed_at_once_makes_nothing() -> None:
    limiter = Limiter("10/s")
    assert asyncio.run(limiter.aacquire("a"))
    assert not hasattr(limiter, "_waiting")


def test_first_come_first_served_for_each_key() -> None:
    limiter = Limiter("100/s burst 1")
    order: list[tuple[str, int]] = []

    async def one(key: str, number: int) -> None:
        assert await limiter.aacquire(key)
        order.append((key, number))

    async def main() -> None:
        await asyncio.gather(*(one(key, number) for number in range(8) for key in ("a", "b")))

    start = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - start >= 0.065
    for wanted in ("a", "b"):
        assert [number for key, number in order if key == wanted] == list(range(8))


def test_one_timer_and_no_task() -> None:
    limiter = Limiter("1/hour")

    class Loop(asyncio.SelectorEventLoop):
        timers = 0

        def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            Loop.timers += 1
            return super().call_at(*args, **kwargs)

    async def main() -> None:
        for key in range(50):
            limiter.is_allowed(key)
        calls = [asyncio.ensure_future(limiter.aacquire(key, timeout=None)) for key in range(50) for _ in range(4)]
        before = len(asyncio.all_tasks())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before
        (state,) = states(limiter)
        assert len(state.lanes) == 50 and state._timer is not None
        # One for all of them; the first keys fall due first, so that it is never set anew.
        assert Loop.timers <= 3, Loop.timers
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert not state.lanes and not state._heap and state._timer is None

    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_timeouts() -> None:
    limiter = Limiter("1/hour", clock=ManualClock())
    soon = Limiter("5/s burst 1")

    async def main() -> None:
        assert await limiter.aacquire("a")
        start = time.monotonic()
        assert not await limiter.aacquire("a", timeout=10), "told at once"
        assert not await limiter.aacquire("a", 2), "never"
        assert time.monotonic() - start < 1
        assert await soon.aacquire("a")
        # The second would have to wait for two; that is known when it is first.
        results = await asyncio.gather(soon.aacquire("a", timeout=0.3), soon.aacquire("a", timeout=0.3))
        assert results == [True, False]
        assert not states(soon)[0].lanes and not states(soon)[0]._heap
        for wrong in (-1, "1"):
            with pytest.raises((ValueError, TypeError), match="timeout is"):
                await soon.aacquire("a", timeout=wrong)  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_timeout_ends_behind_one_who_waits_for_long() -> None:
    limiter = Limiter("10/s burst 10")

    async def main() -> None:
        assert await limiter.aacquire("a", 10)
        first = asyncio.ensure_future(limiter.aacquire("a", 10))
        await asyncio.sleep(0)
        start = time.monotonic()
        # By itself it would fit in time, but the first one takes all.
        assert not await limiter.aacquire("a", 1, timeout=0.3)
        assert 0.28 < time.monotonic() - start < 0.9
        first.cancel()

    asyncio.run(main())


def test_who_comes_later_does_not_overtake() -> None:
    limiter = Limiter("20/s burst 2")

    async def main() -> None:
        assert await limiter.aacquire("a", 2)
        big = asyncio.ensure_future(limiter.aacquire("a", 2))
        await asyncio.sleep(0.06)
        small = asyncio.ensure_future(limiter.aacquire("a", 1))
        done, _ = await asyncio.wait([big, small], return_when=asyncio.FIRST_COMPLETED)
        assert done == {big}
        assert await small

    asyncio.run(main())


def test_cancelling_charges_nothing_and_frees_the_next() -> None:
    clock = ManualClock()
    limiter = Limiter("10/s burst 10", clock=clock)

    async def main() -> None:
        assert await limiter.aacquire("a", 10)
        big = asyncio.ensure_future(limiter.aacquire("a", 10))
        small = asyncio.ensure_future(limiter.aacquire("a", 1))
        await asyncio.sleep(0)
        clock.advance(0.1)
        big.cancel()
        assert await asyncio.wait_for(small, 5)
        assert limiter.peek("a", 1).remaining == 0
        with pytest.raises(asyncio.CancelledError):
            await big

    asyncio.run(main())


def test_who_is_cancelled_after_the_charge_is_given_it_back() -> None:
    clock = ManualClock()
    limiter = Limiter("10/s burst 1", clock=clock)

    async def main() -> None:
        assert await limiter.aacquire("a")
        waiting = asyncio.ensure_future(limiter.aacquire("a"))
        await asyncio.sleep(0)
        (state,) = states(limiter)
        (lane,) = state.lanes.values()
        clock.advance(0.1)
        state._serve(lane)
        assert limiter.peek("a").remaining == 0, "charged"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert limiter.peek("a").remaining == 1, "and given back"

    asyncio.run(main())


def test_many_who_give_up_leave_nothing() -> None:
    limiter = Limiter("1/hour burst 2")

    async def main() -> None:
        assert await limiter.aacquire("a", 2)
        first = asyncio.ensure_future(limiter.aacquire("a", 2))
        await asyncio.sleep(0)
        for _ in range(2_000):
            other = asyncio.ensure_future(limiter.aacquire("a", timeout=100_000))
            await asyncio.sleep(0)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
        (state,) = states(limiter)
        (lane,) = state.lanes.values()
        assert len(lane.waiters) < 200 and len(state._heap) < 300, (len(lane.waiters), len(state._heap))
        first.cancel()

    asyncio.run(main())


def test_several_event_loops_at_once() -> None:
    limiter = Limiter("200/s burst 1")
    served: list[bool] = []

    async def main() -> None:
        served.extend(await asyncio.gather(*(limiter.aacquire("a") for _ in range(10))))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served == [True] * 40
    assert time.monotonic() - start >= 0.19
    gc.collect()
    assert not states(limiter), "closed loops are forgotten"


def test_nothing_keeps_limiter_or_loop() -> None:
    async def wait(limiter: Limiter) -> list[bool]:
        return await asyncio.gather(*(limiter.aacquire("a") for _ in range(3)))

    limiter = Limiter("100/s burst 1")
    assert asyncio.run(wait(limiter)) == [True] * 3
    gone = weakref.ref(limiter)
    del limiter
    gc.collect()
    assert gone() is None


def test_closing_wakes_those_who_wait() -> None:
    limiter = Limiter("5/s burst 1")

    async def main() -> None:
        assert await limiter.aacquire("a")
        waiting = [asyncio.ensure_future(limiter.aacquire("a")) for _ in range(3)]
        await asyncio.sleep(0)
        limiter.close()
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, ClosedError)

    asyncio.run(main())


def test_who_comes_later_is_not_charged_before_his_turn() -> None:
    clock = ManualClock()
    limiter = Limiter("1/hour burst 2", clock=clock)

    async def main() -> None:
        assert await limiter.aacquire("a", 2)
        waiting = [asyncio.ensure_future(limiter.aacquire("a", 2))]
        await asyncio.sleep(0)
        clock.advance(3600)
        # One would fit now, but it belongs to the first.
        waiting.append(asyncio.ensure_future(limiter.aacquire("a")))
        await asyncio.sleep(0)
        assert limiter.peek("a").remaining == 1
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
