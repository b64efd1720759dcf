"""The drop-in for PyPI's ratelimit 2.2.1: each rule, and the same calls made to both."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import pathlib
import pickle
import random
import sys
import time
import types
from typing import Any

import pytest
import ratelimit
from ratelimit import RateLimitException, limits, sleep_and_retry


class Clock:
    def __init__(self, now: float = 0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def original() -> types.ModuleType:
    """The real 2.2.1, from the folder that `cargo xtask python` has put it into, loaded beside ours."""
    folder = os.environ.get("RATELIMIT_ORIGINAL")
    if folder is None:
        pytest.skip("RATELIMIT_ORIGINAL does not name a folder with ratelimit 2.2.1: `cargo xtask python` does")
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "ratelimit"}
    path = pathlib.Path(folder)
    # Its modules import each other by the name that ours have too.
    sys.path.insert(0, str(path))
    try:
        module = importlib.import_module("ratelimit")
        for name in [name for name in sys.modules if name.partition(".")[0] == "ratelimit"]:
            del sys.modules[name]
    finally:
        sys.path.remove(str(path))
        sys.modules.update(ours)
    assert module.__version__ == "2.2.1"
    assert str(path) in str(module.__file__)
    assert importlib.import_module("ratelimit") is ratelimit
    return module


def outcomes(module: types.ModuleType, seed: int) -> list[Any]:
    """What a random series of calls answers, and the state after each of them."""
    dice = random.Random(seed)
    clock = Clock(dice.choice([0, 0.0, -5, 1e9, 17]))
    calls = dice.choice([0, -3, 1, 2, 2.7, 5, 15, 1e30])
    period = dice.choice([0, 1, 2.5, 900])
    raises = dice.random() < 0.7
    limiter = module.limits(calls=calls, period=period, clock=clock, raise_on_limit=raises)
    functions = [limiter(lambda value, name=name: (name, value)) for name in range(dice.randint(1, 2))]
    told: list[Any] = []
    for turn in range(60):
        clock.now += dice.choice([0, 0, 0, 0.5, 1, period, -1, period / 2])
        try:
            told.append(dice.choice(functions)(turn))
        except module.RateLimitException as exception:
            told.append((exception.args, str(exception), exception.period_remaining))
        state = limiter
        told.append((state.clamped_calls, state.period, state.raise_on_limit, state.last_reset, state.num_calls))
    return told


def test_both_answer_the_same(original: types.ModuleType) -> None:
    for seed in range(400):
        assert outcomes(ratelimit, seed) == outcomes(original, seed), seed


def test_both_sleep_the_same(original: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def slept(module: types.ModuleType) -> list[float]:
        clock = Clock()
        sleeps: list[float] = []

        def sleep(seconds: float) -> None:
            sleeps.append(seconds)
            clock.now += seconds

        with monkeypatch.context() as patch:
            # Reached as users' tests reach it.
            patch.setattr(
                sys.modules[module.sleep_and_retry.__module__].time if module is ratelimit else time, "sleep", sleep
            )

            @module.sleep_and_retry
            @module.limits(calls=3, period=7, clock=clock)
            def work(number: int) -> int:
                clock.now += 0.5
                return number

            assert [work(number) for number in range(20)] == list(range(20))
        return sleeps

    ours = slept(ratelimit)
    assert ours == slept(original)
    assert len(ours) == 6


def test_both_have_the_same_names(original: types.ModuleType) -> None:
    assert set(original.__all__) <= set(ratelimit.__all__)
    theirs = inspect.signature(original.limits.__init__)
    ours = inspect.signature(limits.__init__)
    assert list(theirs.parameters) == list(ours.parameters)
    for name, parameter in theirs.parameters.items():
        assert ours.parameters[name].default == parameter.default, name
        assert ours.parameters[name].kind == parameter.kind
    state = set(vars(original.limits()))
    assert state == set(vars(limits()))


def test_names() -> None:
    assert limits is ratelimit.rate_limited is ratelimit.RateLimitDecorator
    for name in ("decorators", "exception", "utils"):
        importlib.import_module(f"ratelimit.{name}")
    from ratelimit import decorators, exception, utils

    assert decorators.RateLimitDecorator is limits and exception.RateLimitException is RateLimitException
    assert utils.now() is time.monotonic is decorators.now
    assert decorators.time is time


def test_rule_1_calls_are_clamped() -> None:
    clamped = [limits(calls=calls).clamped_calls for calls in (0, -5, 2.7, 10, 1e300)]
    assert clamped == [1, 1, 2, 10, sys.maxsize]


def test_rules_2_to_5_the_window() -> None:
    clock = Clock(100)
    limited = limits(calls=2, period=10, clock=clock)(lambda: "done")
    clock.now = 109
    assert [limited(), limited()] == ["done", "done"]
    with pytest.raises(RateLimitException) as caught:
        limited()
    # The first window started at decoration.
    assert caught.value.period_remaining == 1 and caught.value.args == ("too many calls",)
    clock.now = 110
    assert limited() == "done"
    clock.now = 119.5
    assert limited() == "done"
    with pytest.raises(RateLimitException, match="too many calls"):
        limited()
    silent = limits(calls=1, period=10, clock=clock, raise_on_limit=False)
    function = silent(lambda: "done")
    assert [function(), function(), function()] == ["done", None, None]
    assert silent.num_calls == 3, "denied attempts count"


def test_rule_6_the_function_runs_outside_the_lock() -> None:
    decorator = limits(calls=5, period=10)

    def work() -> bool:
        """What it does."""
        import threading

        free: list[bool] = []
        thread = threading.Thread(target=lambda: free.append(decorator.lock.acquire(timeout=5)))
        thread.start()
        thread.join()
        return free[0]

    limited = decorator(work)
    assert limited()
    assert (limited.__name__, limited.__doc__, limited.__wrapped__) == ("work", "What it does.", work)  # type: ignore[attr-defined]


def test_rules_7_and_8_methods_and_shared_budgets() -> None:
    class Client:
        @limits(calls=2, period=1000)
        def get(self) -> Client:
            return self

    one, other = Client(), Client()
    assert one.get() is one and other.get() is other
    with pytest.raises(RateLimitException):
        one.get()
    shared = limits(calls=2, period=1000)
    first, second = shared(lambda: 1), shared(lambda: 2)
    assert (first(), second()) == (1, 2)
    with pytest.raises(RateLimitException):
        first()


def test_rule_9_the_default_clock_is_taken_at_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: 0)
    assert limits().clock is real


def test_rule_10_the_module_time_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = Clock()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr("ratelimit.decorators.time.sleep", sleep)
    limited = sleep_and_retry(limits(calls=1, period=5, clock=clock)(lambda: "done"))
    assert [limited(), limited()] == ["done", "done"] and slept == [5]


def test_rule_11_coroutine_functions() -> None:
    async def work() -> str:
        return "done"

    limited = limits(calls=1, period=1000)(work)
    assert not inspect.iscoroutinefunction(limited)
    coroutine = limited()
    with pytest.raises(RateLimitException):
        limited()
    assert asyncio.run(coroutine) == "done"


def test_sleep_and_retry_does_not_stop_the_event_loop() -> None:
    @sleep_and_retry
    @limits(calls=1, period=0.2)
    async def work(number: int) -> int:
        return number

    assert inspect.iscoroutinefunction(work)

    async def main() -> tuple[list[int], int]:
        turns = 0

        async def beat() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        beating = asyncio.ensure_future(beat())
        done = [await work(number) for number in range(3)]
        beating.cancel()
        return done, turns

    done, turns = asyncio.run(main())
    assert done == [0, 1, 2] and turns >= 10


def test_sleep_and_retry_of_a_plain_function_around_a_coroutine_stays_plain() -> None:
    from functools import wraps

    @limits(calls=5, period=1000)
    async def work() -> str:
        return "done"

    @wraps(work)
    def run() -> str:
        return asyncio.run(work())

    assert sleep_and_retry(run)() == "done"


def test_async_sleep_and_retry_without_raise() -> None:
    @sleep_and_retry
    @limits(calls=1, period=1000, raise_on_limit=False)
    async def work() -> str:
        return "done"

    async def main() -> list[Any]:
        return [await work(), await work()]

    assert asyncio.run(main()) == ["done", None]


def test_rule_12_without_parentheses() -> None:
    with pytest.raises(TypeError):

        @limits  # type: ignore[arg-type]
        def work() -> None: ...


def test_rule_13_the_exception_can_be_pickled() -> None:
    exception = RateLimitException("too many calls", 1.5)
    again = pickle.loads(pickle.dumps(exception))
    assert (type(again), again.args, again.period_remaining) == (RateLimitException, ("too many calls",), 1.5)


def test_the_original_cannot(original: types.ModuleType) -> None:
    exception = original.RateLimitException("too many calls", 1.5)
    with pytest.raises(TypeError):
        type(exception)(*exception.__reduce__()[1])
