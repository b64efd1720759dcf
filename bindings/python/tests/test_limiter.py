"""The limiter's methods, keys, options and errors."""

from __future__ import annotations

import copy
import enum
import gc
import math
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import ratelimit
from ratelimit import (
    ClosedError,
    ClusterConfigError,
    Error,
    FullError,
    Limit,
    Limiter,
    ManualClock,
    OptionError,
    _errors,
    _native,
)


def test_five_lines() -> None:
    limiter = Limiter(rate_limit=2, time_window=60)
    assert limiter.is_allowed("client-7") is True
    assert limiter.check("client-7").allowed
    assert limiter.is_allowed("client-7") is False
    assert limiter.is_allowed("client-8")


def test_constructor_forms(clock: ManualClock) -> None:
    assert Limiter(100, 60).limits == [Limit("100/minute")]
    assert Limiter(100, 1.5, burst=20).limits == [Limit("100/1.5s burst 20")]
    assert Limiter(100, 60, strict=True).limits == [Limit("100/minute strict")]
    assert Limiter("100/minute burst 20").limits == [Limit("100/minute burst 20")]
    assert Limiter(["10/s", Limit("1000/day")]).limits == [Limit("10/s"), Limit("1000/day")]
    assert Limiter(("10/s", "1000/day")).limits == Limiter(limits=["10/s", "1000/day"]).limits
    assert Limiter(Limit("5/s")).limits == [Limit("5/s")]
    assert Limiter("1/s", max_keys=1000, clock="coarse").stats()["clock"] == "coarse"
    nothing: dict[str, Any] = dict.fromkeys(
        ["burst", "strict", "max_keys", "path", "snapshot_every", "share", "cluster", "clock"]
    )
    assert Limiter(100, 60, **nothing).limits == [Limit("100/minute")]
    assert repr(Limiter(["10/s", "1000/day"])) == "Limiter(['10/second', '1000/day'])"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "there is no limit: give rate_limit and time_window"),
        ({"rate_limit": 5}, "rate_limit is given without time_window"),
        ({"rate_limit": 0, "time_window": 1}, "rate_limit is 0: it takes a whole number from 1"),
        ({"rate_limit": True, "time_window": 1}, "rate_limit is true"),
        ({"rate_limit": 5, "time_window": -1}, "time_window is -1: it takes a duration above 0, in seconds"),
        ({"rate_limit": 5, "time_window": math.nan}, "time_window is NaN"),
        ({"rate_limit": "5/s", "max_kyes": 3}, 'there is no option "max_kyes"'),
        ({"rate_limit": "5/s", "maxKeys": 3}, 'did you mean "max_keys"'),
        ({"rate_limit": "5/s", "max_keys": 10**40}, "max_keys is 1000000"),
        ({"rate_limit": "5/s", "clock": time.time}, "clock is builtin_function_or_method"),
        ({"rate_limit": "5/s", "burst": 3}, "a limit is given as text and in numbers"),
        ({"rate_limit": ["5/s", 3]}, "a list with int in it"),
        ({"rate_limit": []}, "rate_limit is a list"),
        ({"rate_limit": "5/s", "path": b"x"}, "path is bytes"),
    ],
)
def test_options_are_refused_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=re.escape(sentence)):
        Limiter(**options)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Limiter(**options)


def test_a_cluster_is_looked_at_when_the_limiter_is_made() -> None:
    with pytest.raises(ClusterConfigError, match="listen"):
        Limiter("1/s", cluster={"node": "a"})
    with pytest.raises(OptionError, match='no cluster option "noed"'):
        Limiter("1/s", cluster={"noed": "a"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(OptionError, match="mode is"):
        Limiter("1/s", cluster={"node": "a", "mode": "lax"})
    with pytest.raises(OptionError, match="interval is a dict"):
        Limiter("1/s", cluster={"interval": {}})  # type: ignore[typeddict-item]
    with pytest.raises(OptionError, match="not all str"):
        Limiter("1/s", cluster={1: 2})  # type: ignore[dict-item]


def test_without_a_cluster_there_is_nobody_to_wait_for() -> None:
    limiter = Limiter("1/s")
    assert limiter.ready(timeout=0)
    assert limiter.ready()
    assert limiter.peers() == []


def test_a_key_is_its_bytes(clock: ManualClock) -> None:
    limiter = Limiter("100/minute", clock=clock)

    def spent(key: Any) -> int:
        return 100 - limiter.check(key).remaining

    assert [spent("1"), spent(b"1"), spent(1)] == [1, 2, 3]
    assert [spent("é"), spent("é".encode())] == [1, 2]
    assert [spent(limiter.key("x")), spent("x")] == [1, 2]
    assert [spent(""), spent(b"")] == [1, 2]
    for number in (0, -1, 10**9, 2**63 - 1, -(2**63), 2**63, 10**40, -(10**40)):
        assert [spent(number), spent(str(number)), spent(str(number).encode())] == [1 + (number == 1), 2, 3], number

    class Text(str):
        def encode(self, *_: Any) -> bytes:  # type: ignore[override]
            return b"something else"

        def __str__(self) -> str:
            return "something else"

    assert [spent(Text("sub")), spent("sub")] == [1, 2]
    assert [spent(Text("\udc80")), spent("\udc80")] == [1, 2]

    class Number(enum.IntEnum):
        SEVEN = 7

    assert [spent(Number.SEVEN), spent("7")] == [1, 2]


def test_lone_surrogates_are_distinct_clients() -> None:
    limiter = Limiter("1/minute")
    texts = ["\ud800", "\udfff", "a\ud800", "\ud800a", "\ud83d\ude00", "\U0001f600", "?", "\ufffd", "\udcff", "\xff"]
    assert len(set(texts)) == len(texts)
    assert all(limiter.is_allowed(text) for text in texts)
    assert not any(limiter.is_allowed(text) for text in texts)
    # As bytes they are what `surrogatepass` says.
    assert not limiter.is_allowed("\ud800".encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("key", [None, 1.0, bytearray(b"a"), memoryview(b"a"), ["a"], object()])
def test_other_keys_are_refused(key: Any) -> None:
    limiter = Limiter("1/s")
    for call in (limiter.is_allowed, limiter.check, limiter.peek, limiter.refund, limiter.reset, limiter.key):
        with pytest.raises(ratelimit.ArgumentError):
            call(key)
        with pytest.raises(TypeError, match=f"a key is {type(key).__name__}: it takes str, bytes, int"):
            call(key)


def test_a_bool_is_no_key() -> None:
    with pytest.raises(TypeError, match="a key is a bool"):
        Limiter("1/s").is_allowed(True)


def test_huge_keys_and_nul_bytes() -> None:
    limiter = Limiter("1/minute")
    for key in ("\0", "a\0", "a\0b", "a" * 10_000_000, "ä" * 5_000_000, b"b" * 10_000_000):
        assert limiter.is_allowed(key)
        assert not limiter.is_allowed(key)
    assert limiter.is_allowed("a" * 9_999_999 + "b")
    with pytest.raises(ValueError, match="4300"):
        limiter.is_allowed(10**5000)


def test_costs(clock: ManualClock) -> None:
    limiter = Limiter("10/s", clock=clock)
    assert limiter.check("a", 0) and limiter.check("a").remaining == 9
    assert limiter.check("a", cost=4).remaining == 5
    never = limiter.check("a", 11)
    assert not never and never.retry_after == math.inf
    assert limiter.check("a", 10**30).retry_after == math.inf
    limiter.refund("a", 2)
    assert limiter.peek("a").remaining == 7
    limiter.refund("a", 10**30)
    assert limiter.peek("a").remaining == 10
    for cost in (-1, -(10**30)):
        with pytest.raises(ValueError, match=r"cost is -1.*: it takes a whole number from 0"):
            limiter.check("a", cost)
    for wrong in (1.5, "1", True, []):
        with pytest.raises(TypeError, match=r"cost is .*: it takes a whole number from 0"):
            limiter.check("a", wrong)  # type: ignore[arg-type]


def test_times(clock: ManualClock) -> None:
    limiter = Limiter("1/s", clock=clock)
    assert limiter.check("a", now=0)
    assert limiter.check("a", now=0.4).retry_after == pytest.approx(0.6)
    assert limiter.check("a", now=1)
    assert limiter.check("b", now=1_800_000_000)
    for wrong in (-1, -0.5, math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match=r"now is .*: it takes a number of seconds from 0"):
            limiter.check("a", now=wrong)
    for wrong_type in ("1", True):
        with pytest.raises(TypeError, match=r"now is .*: it takes a number of seconds from 0"):
            limiter.check("a", now=wrong_type)  # type: ignore[arg-type]


def test_arguments_of_check(clock: ManualClock) -> None:
    limiter = Limiter("10/s", clock=clock)
    assert limiter.check(key="a", cost=2, now=None).remaining == 8
    assert limiter.check("a", cost=2).remaining == 6
    assert limiter.check("a", 2, now=None).remaining == 4
    for arguments, named, sentence in [
        ((), {}, "missing 1 required argument: 'key'"),
        (("a", 1, 2), {}, "takes 2 positional arguments but 3 were given"),
        (("a",), {"key": "b"}, "multiple values for argument 'key'"),
        (("a",), {"costs": 1}, "unexpected keyword argument 'costs'"),
    ]:
        with pytest.raises(TypeError, match=sentence):
            limiter.check(*arguments, **named)  # type: ignore[arg-type]
    # By the class, with another object in its place.
    with pytest.raises(TypeError):
        Limiter.check(object(), "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Limiter.is_allowed(object(), "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        limiter.is_allowed()  # type: ignore[call-arg]


def test_manual_clock(clock: ManualClock) -> None:
    one, other = Limiter("1/s", clock=clock), Limiter("1/s", clock=clock)
    assert one.is_allowed("a") and other.is_allowed("a") and not one.is_allowed("a")
    clock.advance(0.5)
    assert not one.is_allowed("a")
    clock.advance(0.5)
    assert one.is_allowed("a") and other.is_allowed("a")
    clock.set(10)
    assert clock() == clock.now() == 10.0
    assert repr(clock) == "ManualClock(now=10)"
    assert one.stats()["clock"] == "manual"
    with pytest.raises(ValueError, match="seconds is -1"):
        clock.advance(-1)


def test_batches(clock: ManualClock) -> None:
    limiter = Limiter("2/minute", clock=clock)
    assert limiter.allowed_many(["a", b"a", "a", 1, "1", 1]) == [True, True, False, True, True, False]
    assert limiter.allowed_many(key for key in ("x", "y")) == [True, True]
    assert limiter.allowed_many(("x", limiter.key("x"))) == [True, False]
    assert limiter.allowed_many([]) == [] == limiter.check_many([])
    decisions = limiter.check_many(["c", "c", "c"], [0, 2, 1])
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert [decision.remaining for decision in limiter.check_many({"d": 1})] == [1]
    with pytest.raises(ratelimit.LengthsError):
        limiter.check_many(["a", "b"], [1])
    for text in ("abc", b"abc"):
        with pytest.raises(TypeError, match="it takes a list of keys"):
            limiter.allowed_many(text)  # type: ignore[arg-type]
    before = limiter.stats()
    with pytest.raises(TypeError, match="a key is NoneType"):
        limiter.allowed_many(["e", None])  # type: ignore[list-item]
    assert limiter.stats() == before, "nothing is decided"
    # Large ones let other threads run; the answers are the same.
    many = [f"client-{number}" for number in range(10_000)]
    assert limiter.allowed_many(many) == [True] * 10_000
    assert [decision.remaining for decision in limiter.check_many(many)] == [0] * 10_000
    assert not any(limiter.allowed_many(many))


def test_decision(clock: ManualClock) -> None:
    limiter = Limiter(["2/s", "1000/day"], clock=clock)
    decision = limiter.check("a")
    assert (decision.allowed, decision.limit, decision.remaining) == (True, 2, 1)
    assert (decision.retry_after, decision.reset_after) == (0.0, 0.5)
    assert repr(decision) == "Decision(allowed=True, limit=2, remaining=1, retry_after=0.0, reset_after=0.5)"
    assert decision == limiter.peek("a") != limiter.check("a")
    assert hash(decision) == hash(pickle.loads(pickle.dumps(decision)))
    assert decision != "a" and bool(decision)
    denied = limiter.check("a")
    assert not denied
    for same in (pickle.loads(pickle.dumps(denied)), copy.copy(denied), copy.deepcopy(denied)):
        assert same == denied
        assert same.headers() == denied.headers()
    assert denied.headers() == {
        "ratelimit-policy": '"2/second";q=2;w=1, "1000/day";q=1000;w=86400',
        "ratelimit": '"2/second";r=0;t=1',
        "retry-after": "1",
    }
    never = limiter.check("a", 3)
    assert pickle.loads(pickle.dumps(never)).retry_after == math.inf
    with pytest.raises(AttributeError):
        decision.allowed = False  # type: ignore[misc]
    for frozen in (decision, limiter.key("a"), Limit("1/s"), clock, limiter):
        with pytest.raises(AttributeError):
            frozen.anything = 1  # type: ignore[union-attr]


def test_limits_change_at_run_time(clock: ManualClock) -> None:
    limiter = Limiter("10/s", clock=clock)
    limiter.check("a", 5)
    limiter.set_limit("20/s")
    assert limiter.limits == [Limit("20/s")]
    assert limiter.check("a", 0).limit == 20
    assert limiter.check("a", 0).headers()["ratelimit-policy"] == '"default";q=20;w=1'
    limiter.set_limit(Limit("30/s"))
    with pytest.raises(ratelimit.LimitCountError):
        limiter.set_limits(["1/s", "2/s"])
    with pytest.raises(ratelimit.InvalidLimitError):
        limiter.set_limit("many")
    with pytest.raises(TypeError, match="a limit is int"):
        limiter.set_limit(5)  # type: ignore[arg-type]
    several = Limiter(["10/s", "1000/day"], clock=clock)
    several.set_limits(["20/s", "2000/day"])
    assert several.limits == [Limit("20/s"), Limit("2000/day")]
    limiter.set_override("vip", "100/s")
    assert limiter.peek("vip").limit == 100
    limiter.set_override("vip", None)
    assert limiter.peek("vip").limit == 30
    limiter.set_override("vip", Limit("100/s"))
    limiter.clear_overrides()
    assert limiter.peek("vip").limit == 30


def test_block_and_reset(clock: ManualClock) -> None:
    limiter = Limiter("10/s", clock=clock)
    limiter.block("a", 60)
    assert limiter.check("a").retry_after == pytest.approx(60)
    limiter.block("a", 0)
    assert limiter.check("a")
    limiter.check("a", 9)
    assert not limiter.check("a")
    limiter.reset("a")
    assert limiter.check("a", 10)
    with pytest.raises(ValueError, match="seconds is -1"):
        limiter.block("a", -1)


def test_client_keys() -> None:
    limiter = Limiter("10/s")
    key = limiter.key("a")
    assert key == limiter.key(b"a") and hash(key) == hash(limiter.key("a"))
    assert key != limiter.key("b") and key != "a"
    assert repr(key).startswith("ClientKey(")
    assert limiter.key(key) == key
    assert len({limiter.key(number % 10) for number in range(1000)}) == 10


def test_stats_and_prometheus(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)
    limiter.check("a")
    limiter.check("a")
    stats = limiter.stats()
    assert (stats["allowed"], stats["denied"], stats["live_keys"], stats["clock"]) == (1, 1, 1, "manual")
    assert "\nratelimit_allowed_total 1\n" in limiter.prometheus()


def test_close(clock: ManualClock) -> None:
    with Limiter("1/s", clock=clock) as limiter:
        assert limiter.is_allowed("a") and not limiter.closed
    assert limiter.closed
    limiter.close()
    assert repr(limiter) == "Limiter('1/second', closed)"
    calls: list[Any] = [
        lambda: limiter.is_allowed("a"),
        lambda: limiter.check("a"),
        lambda: limiter.check_many(["a"]),
        lambda: limiter.allowed_many([]),
        lambda: limiter.peek("a"),
        lambda: limiter.refund("a"),
        lambda: limiter.reset("a"),
        lambda: limiter.block("a", 1),
        lambda: limiter.acquire("a"),
        lambda: limiter.limits,
        lambda: limiter.set_limit("1/s"),
        lambda: limiter.set_limits(["1/s"]),
        lambda: limiter.set_override("a", None),
        lambda: limiter.clear_overrides(),
        lambda: limiter.key("a"),
        lambda: limiter.stats(),
        lambda: limiter.prometheus(),
        lambda: limiter.snapshot(),
        lambda: limiter.__enter__(),
        lambda: ratelimit.Headers(limiter),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="this limiter was closed"):
            call()


def test_snapshot_without_a_path() -> None:
    with pytest.raises(ratelimit.NotPersistentError, match="keeps no snapshot"):
        Limiter("1/s").snapshot()


def test_counts_survive(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "api.snapshot"
    with Limiter("10/day", path=path, snapshot_every=3600) as limiter:
        assert limiter.check("a", 7)
        limiter.snapshot()
        with pytest.raises(ratelimit.SnapshotBusyError):
            Limiter("10/day", path=path)
        assert limiter.check("a", 1)
        assert limiter.stats()["snapshot_written"] >= 1
    with Limiter("10/day", path=str(path)) as limiter:
        assert limiter.peek("a").remaining == 2


def test_the_end_of_the_program_writes_a_last_snapshot(tmp_path: pathlib.Path) -> None:
    code = (
        "import ratelimit, sys\n"
        "limiter = ratelimit.Limiter('10/day', path=sys.argv[1], snapshot_every=3600)\n"
        "print(limiter.check('a', 3).remaining)"
    )
    told = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(tmp_path / "api.snapshot")],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        for _ in range(3)
    ]
    assert [(done.stdout, done.stderr) for done in told] == [("7\n", ""), ("4\n", ""), ("1\n", "")]


def test_no_room_for_more_overrides() -> None:
    limiter = Limiter("1/s")

    def fill() -> None:
        # Each with a limit that no other has: there is room for a bounded number of those.
        for number in range(1, 1_000_000):
            limiter.set_override(number, f"{number}/day")

    with pytest.raises(FullError):
        fill()
    assert limiter.peek(1).limit == 1


def test_acquire() -> None:
    limiter = Limiter("50/s burst 1")
    start = time.monotonic()
    assert all(limiter.acquire("a") for _ in range(4))
    assert 0.059 <= time.monotonic() - start < 5
    slow = Limiter("1/hour")
    assert slow.acquire("a") and not slow.acquire("a", timeout=0.5) and not slow.acquire("a", 2)
    assert not slow.acquire("a", 1, 0)
    assert Limiter("1/s").acquire("a", timeout=math.inf)
    with pytest.raises(ValueError, match="timeout is -1"):
        slow.acquire("a", timeout=-1)


def test_acquire_lets_other_threads_run() -> None:
    limiter = Limiter("5/s burst 1")
    limiter.acquire("a")
    thread = threading.Thread(target=limiter.acquire, args=("a",))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
    thread.join()
    assert turns > 1000


def test_ctrl_c_ends_acquire_soon() -> None:
    limiter = Limiter("1/hour")
    limiter.acquire("a")
    # Whoever starts the tests in the background may have told them to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    # To this thread, as the terminal's Ctrl-C comes to it.
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("a")
    assert time.monotonic() - start < 1.0
    timer.join()
    signal.signal(signal.SIGINT, before)


def test_threads_share_one_limit() -> None:
    limiter = Limiter("1000/day")
    allowed: list[int] = []
    threads = [
        threading.Thread(target=lambda: allowed.append(sum(limiter.is_allowed("a") for _ in range(1_000))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 1000


def test_errors_are_those_of_the_crate() -> None:
    listed = {name: code for code, name, _ in _native.ERROR_CODES}
    ours = {name: error.code for name, error in _errors.CLASSES.items()}
    assert ours == listed
    for code, name, meaning in _native.ERROR_CODES:
        error = _errors.CLASSES[name]
        assert error.__name__ == "".join(part.title() for part in name.split("_")) + "Error"
        assert getattr(ratelimit, error.__name__) is error
        assert (error.__doc__ or "").replace("`", "").rstrip(".").lower() == meaning.lower(), code
    assert issubclass(_errors.CLASSES["option"], Error)
    assert type(_errors.make("one of a later version", "text")) is Error


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert ratelimit.__version__ == version("ratelimit-rs") == _native.__version__


def test_everything_is_exported() -> None:
    for name in ratelimit.__all__:
        assert getattr(ratelimit, name) is not None
    public = {name for name in dir(_native) if not name.startswith("_") and isinstance(getattr(_native, name), type)}
    assert public - {"Limiter"} <= set(ratelimit.__all__)
    assert Limiter.__mro__[1] is _native.Limiter


def test_limiters_are_collected() -> None:
    import weakref

    gone = [weakref.ref(Limiter("1/s")) for _ in range(10)]
    gc.collect()
    assert all(reference() is None for reference in gone)


def test_signatures_are_told() -> None:
    import inspect

    assert str(inspect.signature(Limiter.check)) == "(self, /, key, cost=1, *, now=None)"
    assert str(inspect.signature(Limiter.is_allowed)) == "(self, key, /)"
    for name, member in vars(_native.Limiter).items():
        if callable(member) and not name.startswith("_"):
            assert member.__doc__, name


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sub-interpreters have no public interface before")
def test_sub_interpreters_are_refused_with_an_error() -> None:
    import importlib

    try:
        interpreters: Any = importlib.import_module(
            "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        )
    except ImportError:
        pytest.skip("this interpreter has none")
    identity = interpreters.create()
    code = "try:\n import ratelimit\nexcept ImportError as e:\n pass\nelse:\n raise SystemError('imported')"
    assert interpreters.run_string(identity, code) is None
    interpreters.destroy(identity)
