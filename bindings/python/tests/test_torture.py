"""What a hostile or careless caller does."""

from __future__ import annotations

import contextlib
import inspect
import os
import resource
import sys
import threading
from typing import Any

import pytest
import ratelimit
from ratelimit import ClosedError, Decision, Headers, Limit, Limiter, ManualClock, Rules, TrustedProxies, _native

#: How many limiters are opened and closed: a million in the long campaigns, fewer in CI.
OPENED = 1_000_000 if os.environ.get("RATELIMIT_FULL") else 20_000


def entries() -> dict[str, Any]:
    """A call of every entry of the native module, by name."""
    limiter = Limiter("10/s", clock=ManualClock())
    native = _native.Limiter("10/s")
    decision, key, limit, clock = limiter.check("a"), limiter.key("a"), Limit("1/s"), ManualClock()
    headers = Headers(limiter)
    text = '[[rule]]\nname = "all"\nby = ["ip"]\nlimits = "1000/s"\n'
    rules, closing, proxies = Rules(text), Rules(text), TrustedProxies(1)
    told = rules.check({"ip": "a"})
    return {
        "Limiter.__new__": lambda: _native.Limiter("1/s"),
        "Limiter.is_allowed": lambda: limiter.is_allowed("a"),
        "Limiter.check": lambda: limiter.check("a"),
        "Limiter.check_many": lambda: limiter.check_many(["a"]),
        "Limiter.allowed_many": lambda: limiter.allowed_many(["a"]),
        "Limiter.peek": lambda: limiter.peek("a"),
        "Limiter.refund": lambda: limiter.refund("a"),
        "Limiter.reset": lambda: limiter.reset("a"),
        "Limiter.block": lambda: limiter.block("a", 0),
        "Limiter.acquire": lambda: limiter.acquire("b"),
        "Limiter._acquire_step": lambda: limiter._acquire_step("c", 1, None),
        "Limiter.limits": lambda: limiter.limits,
        "Limiter.set_limit": lambda: limiter.set_limit("10/s"),
        "Limiter.set_limits": lambda: limiter.set_limits(["10/s"]),
        "Limiter.set_override": lambda: limiter.set_override("a", None),
        "Limiter.clear_overrides": limiter.clear_overrides,
        "Limiter.key": lambda: limiter.key("a"),
        "Limiter.stats": limiter.stats,
        "Limiter.peers": limiter.peers,
        "Limiter.ready": limiter.ready,
        "Limiter.prometheus": limiter.prometheus,
        "Limiter.snapshot": native.snapshot,
        "Limiter.close": native.close,
        "Limiter.closed": lambda: limiter.closed,
        "Limiter.__enter__": limiter.__enter__,
        "Limiter.__exit__": lambda: native.__exit__(None, None, None),
        "Limiter.__repr__": lambda: repr(limiter),
        "Decision.allowed": lambda: decision.allowed,
        "Decision.limit": lambda: decision.limit,
        "Decision.remaining": lambda: decision.remaining,
        "Decision.retry_after": lambda: decision.retry_after,
        "Decision.reset_after": lambda: decision.reset_after,
        "Decision.headers": decision.headers,
        "Decision.__bool__": lambda: bool(decision),
        "Decision.__eq__": lambda: decision == decision,
        "Decision.__hash__": lambda: hash(decision),
        "Decision.__repr__": lambda: repr(decision),
        "Decision.__reduce__": decision.__reduce__,
        "Limit.__new__": lambda: Limit("1/s"),
        "Limit.rate_limit": lambda: limit.rate_limit,
        "Limit.time_window": lambda: limit.time_window,
        "Limit.burst": lambda: limit.burst,
        "Limit.strict": lambda: limit.strict,
        "Limit.__str__": lambda: str(limit),
        "Limit.__repr__": lambda: repr(limit),
        "Limit.__eq__": lambda: limit == limit,
        "Limit.__hash__": lambda: hash(limit),
        "Limit.__reduce__": limit.__reduce__,
        "ClientKey.__eq__": lambda: key == key,
        "ClientKey.__hash__": lambda: hash(key),
        "ClientKey.__repr__": lambda: repr(key),
        "ManualClock.__new__": ManualClock,
        "ManualClock.advance": lambda: clock.advance(1),
        "ManualClock.set": lambda: clock.set(1),
        "ManualClock.now": clock.now,
        "ManualClock.__call__": clock,
        "ManualClock.__repr__": lambda: repr(clock),
        "Headers.__new__": lambda: Headers(limiter),
        "Headers.fields": lambda: headers.fields(decision),
        "Headers.problem": lambda: headers.problem(decision),
        "Rules.__new__": lambda: Rules(text),
        "Rules.check": lambda: rules.check({"ip": "a"}),
        "Rules.is_allowed": lambda: rules.is_allowed({"ip": "a"}),
        "Rules.peek": lambda: rules.peek({"ip": "a"}),
        "Rules.refund": lambda: rules.refund({"ip": "a"}),
        "Rules.reset": lambda: rules.reset({"ip": "a"}),
        "Rules.replace": lambda: rules.replace(text),
        "Rules.set_override": lambda: rules.set_override("all", "a", None),
        "Rules.stats": rules.stats,
        "Rules.prometheus": rules.prometheus,
        "Rules.snapshot": rules.snapshot,
        "Rules.close": closing.close,
        "Rules.__enter__": rules.__enter__,
        "Rules.__exit__": lambda: closing.__exit__(None, None, None),
        "RuleDecision.allowed": lambda: told.allowed,
        "RuleDecision.limit": lambda: told.limit,
        "RuleDecision.remaining": lambda: told.remaining,
        "RuleDecision.retry_after": lambda: told.retry_after,
        "RuleDecision.reset_after": lambda: told.reset_after,
        "RuleDecision.rule": lambda: told.rule,
        "RuleDecision.shadow": lambda: told.shadow,
        "RuleDecision.__bool__": lambda: bool(told),
        "RuleDecision.__repr__": lambda: repr(told),
        "TrustedProxies.__new__": lambda: TrustedProxies(1),
        "TrustedProxies.header": lambda: proxies.header,
        "TrustedProxies.client_ip": lambda: proxies.client_ip("10.0.0.1", []),
        "unshare": lambda: _native.unshare("python-test-there-is-none"),
        "address_key": lambda: _native.address_key("1.2.3.4"),
        "_decision": lambda: _native._decision(True, 1, 1, 0, 0, ["1/s"]),
    }


#: What the interpreter derives from others, or makes by itself.
DERIVED = {"__doc__", "__module__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__new__"}


def test_every_entry_is_in_the_list() -> None:
    named = set(entries())
    for name, thing in vars(_native).items():
        if inspect.isclass(thing) and name != "_Noop":
            for member in vars(thing):
                assert member in DERIVED or f"{name}.{member}" in named, f"{name}.{member} is tested by nobody"
        elif callable(thing) and name not in ("_Noop", "_panic_next", "_engine_ns"):
            assert name in named


@pytest.mark.parametrize("name", entries())
@pytest.mark.usefixtures("hooks")
def test_a_panic_is_a_runtime_error(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    call = entries()[name]
    _native._panic_next()  # type: ignore[attr-defined]
    try:
        with pytest.raises(RuntimeError, match=r"a bug of ratelimit, please report it with this text: injected"):
            call()
    finally:
        assert not _native._panic_next(False), "no entry was made to panic"  # type: ignore[attr-defined]
    # The same call works afterwards; a snapshot needs a path.
    if not name.endswith(".snapshot"):
        call()


def test_threads_while_it_is_closed() -> None:
    for _ in range(20):
        limiter = Limiter("1000000/s")
        started = threading.Barrier(17)
        wrong: list[BaseException] = []

        def work(limiter: Limiter = limiter, started: threading.Barrier = started, wrong: list[Any] = wrong) -> None:
            started.wait()
            try:
                for number in range(100_000):
                    limiter.is_allowed("a")
                    limiter.check(number)
                    limiter.allowed_many(["a", "b", number])
            except ClosedError:
                return
            except BaseException as error:
                wrong.append(error)
            else:
                wrong.append(AssertionError("never closed"))

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        started.wait()
        limiter.close()
        limiter.close()
        for thread in threads:
            thread.join()
        assert not wrong


def mappings() -> int:
    with open("/proc/self/maps", encoding="ascii") as maps:
        return len(maps.readlines())


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_opening_and_closing_leaks_nothing() -> None:
    def open_and_close(times: int) -> None:
        for _ in range(times):
            with Limiter("10/s") as limiter:
                limiter.is_allowed("a")

    open_and_close(OPENED // 10)
    before, maps = resident(), mappings()
    files = len(os.listdir("/proc/self/fd"))
    open_and_close(OPENED)
    assert resident() - before < 4 * 2**20
    assert mappings() - maps < 20
    assert len(os.listdir("/proc/self/fd")) == files


def test_calls_leak_no_references() -> None:
    limiter = Limiter("10/s")
    for key in ("a text", b"bytes", 10**30, "\ud800", limiter.key("a"), "ü", ["no key"], True, None, 1.5):
        keys, counts = [key] * 10, []
        for _ in range(3):
            for _ in range(100):
                for call in (limiter.is_allowed, limiter.check, limiter.peek):
                    with contextlib.suppress(TypeError):
                        call(key)  # type: ignore[arg-type]
                with contextlib.suppress(TypeError):
                    limiter.allowed_many(keys)  # type: ignore[arg-type]
            counts.append(sys.getrefcount(key))
        assert counts[2] - counts[1] < 50, (key, counts)


def test_a_list_that_changes_while_it_is_read() -> None:
    limiter = Limiter("10/s")
    keys: list[Any] = []

    class Number(int):
        def __index__(self) -> int:
            keys.clear()
            return 1

        __str__ = __repr__ = lambda self: keys.clear() or "1"  # type: ignore[assignment, func-returns-value]

    keys.extend([Number(10**30)] * 100 + ["a"] * 100)
    assert len(limiter.allowed_many(keys)) == 200


def test_classes_cannot_be_made_from_nothing() -> None:
    for made in (Decision, ratelimit.ClientKey):
        with pytest.raises(TypeError):
            made()
    for final in (Decision, Limit, ManualClock, Headers, ratelimit.ClientKey):
        with pytest.raises(TypeError):
            type("Derived", (final,), {})


def test_limiters_can_be_derived_from() -> None:
    class Mine(Limiter):
        def is_allowed(self, key: Any, /) -> bool:
            return super().is_allowed(f"mine:{key}")

    mine = Mine("1/minute")
    assert mine.is_allowed("a") and not mine.is_allowed("a")
    assert not mine.check("mine:a")
