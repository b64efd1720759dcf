"""What a decision costs from Python, in ratios of one run.

    cargo xtask python            # makes the virtual environment that this needs
    target/python/venv/bin/python benches/python/bench.py [--quick] [--json]

Every case is a `for` loop in a code object of its own, so that the interpreter specialises each for itself; the empty
loop is taken off where that is said. Rounds alternate between the cases, and a ratio is the median of the rounds'
ratios: other programs on the machine then hit all of them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import limits
import limits.storage
import limits.strategies
import ratelimit
from ratelimit import _native

#: Never a denial: what is measured is an admission.
LIMIT = "10000000/s"
KEY = "client-000000000000-0007"
LOOP = """
def case(f, *args, calls):
    loop = range(calls)
    start = now()
    for _ in loop:
        {body}
    return (now() - start) / calls
"""


def case(body: str, *arguments: Any) -> Callable[[int], float]:
    names: dict[str, Any] = {"now": time.perf_counter_ns}
    code = LOOP.replace("{body}", body).replace("*args", ", ".join(f"a{i}" for i in range(len(arguments) - 1)) or "*_")
    exec(code, names)
    return lambda calls: names["case"](*arguments, calls=calls)


def cases() -> dict[str, tuple[Callable[[int], float], int]]:
    """By name: what measures nanoseconds a call, and how many calls make a slice."""
    limiter = ratelimit.Limiter(LIMIT, max_keys=100_000)
    coarse = ratelimit.Limiter(LIMIT, max_keys=100_000, clock="coarse")
    keys = [f"client-{number:012}-{number % 9973:04}" for number in range(1000)]
    client = limiter.key(KEY)
    noop = _native._Noop()  # type: ignore[attr-defined]
    item = limits.parse("10000000/second")
    fixed = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    found: dict[str, tuple[Callable[[int], float], int]] = {
        "loop": (case("pass", None), 100_000),
        "empty METH_O method(str)": (case("f(a0)", noop.call, KEY), 100_000),
        "empty pyo3 method(str)": (case("f(a0)", noop.pyo3_call, KEY), 20_000),
        "dict.get(str)": (case("f(a0)", {KEY: 1}.get, KEY), 100_000),
        "str.startswith(str)": (case("f(a0)", "another text".startswith, KEY), 50_000),
        "str.encode()": (case("f()", KEY.encode), 50_000),
        "is_allowed(str)": (case("f(a0)", limiter.is_allowed, KEY), 50_000),
        "is_allowed(str), coarse clock": (case("f(a0)", coarse.is_allowed, KEY), 50_000),
        "is_allowed(ClientKey)": (case("f(a0)", limiter.is_allowed, client), 50_000),
        "is_allowed(bytes)": (case("f(a0)", limiter.is_allowed, KEY.encode()), 50_000),
        "is_allowed(int)": (case("f(a0)", limiter.is_allowed, 1_234_567), 50_000),
        "check(str)": (case("f(a0)", limiter.check, KEY), 20_000),
        "check(str).allowed": (case("f(a0).allowed", limiter.check, KEY), 20_000),
        "allowed_many(1,000 str), per key": (per_key(limiter.allowed_many, keys), 20_000),
        "check_many(1,000 str), per key": (per_key(limiter.check_many, keys), 20_000),
        "limits fixed window, in memory": (case("f(a0, a1)", fixed.hit, item, KEY), 2_000),
        "PyPI ratelimit's decorator (ours)": (case("f()", ratelimit.limits(10**9, 900)(int)), 5_000),
        "the engine alone, from Rust": (lambda calls: _native._engine_ns(limiter, KEY, calls), 50_000),  # type: ignore[attr-defined]
    }
    return found


def per_key(many: Callable[[list[str]], Any], keys: list[str]) -> Callable[[int], float]:
    batch = case("f(a0)", many, keys)
    return lambda calls: batch(max(1, calls // len(keys))) / len(keys)


Times = dict[str, list[float]]


def bars(plain: Times, measured: Times) -> list[tuple[str, Times, str, str, float | None]]:
    """Title, times with or without the loop, case, of which, and the bar: at most; if negative, at least."""
    allowed, empty = "is_allowed(str)", "empty METH_O method(str)"
    return [
        (f"{allowed} of an {empty}", plain, allowed, empty, 3.0),
        ("the same, the empty loop taken off both", measured, allowed, empty, None),
        (f"{allowed} of an empty pyo3 method(str)", plain, allowed, "empty pyo3 method(str)", 3.0),
        (f"{allowed} of dict.get(str)", plain, allowed, "dict.get(str)", None),
        (f"limits fixed window of {allowed}", plain, "limits fixed window, in memory", allowed, -20.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    options = parser.parse_args()
    if not _native.TEST_HOOKS:
        parser.error("needs a build with the cargo feature test-hooks, for the empty methods: `cargo xtask python`")
    rounds = 3 if options.quick else 41
    measured: Times = {}
    plain: Times = {}
    all_cases = cases()
    for _, (run, calls) in all_cases.items():
        run(calls // 4)
    for _ in range(rounds):
        # The fastest of three slices: a switch to another program in one of them is not what a call costs.
        turn = {name: min(run(calls // 4) for _ in range(3)) for name, (run, calls) in all_cases.items()}
        loop = turn.pop("loop")
        for name, ns in turn.items():
            in_a_loop = "engine" not in name and "per key" not in name
            measured.setdefault(name, []).append(ns - loop if in_a_loop else ns)
            plain.setdefault(name, []).append(ns)
    ratios = {
        title: [upper / lower for upper, lower in zip(source[top], source[bottom])]
        for title, source, top, bottom, _ in bars(plain, measured)
    }
    if options.json:
        print(json.dumps({"ns": {k: statistics.median(v) for k, v in measured.items()},
                          "ratios": {k: statistics.median(v) for k, v in ratios.items()}}, indent=1))  # fmt: skip
        return
    version = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{version}, {rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print("| call | ns, median | least |\n|---|---:|---:|")
    for name, values in measured.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} |")
    print("\n| ratio | median | 10 %..90 % | bar |\n|---|---:|---:|---|")
    for title, _, _, _, bar in bars(plain, measured):
        values = sorted(ratios[title])
        middle = statistics.median(values)
        met = bar is None or (middle <= bar if bar > 0 else middle >= -bar)
        wanted = (
            "none"
            if bar is None
            else f"at {'most' if bar > 0 else 'least'} {abs(bar):.0f}: {'met' if met else '**missed**'}"
        )
        low, high = values[len(values) // 10], values[-1 - len(values) // 10]
        print(f"| {title} | {middle:.2f} | {low:.2f}..{high:.2f} | {wanted} |")
    per = statistics.median(measured["allowed_many(1,000 str), per key"])
    print(
        f"| allowed_many of 1,000 keys, ns per key | {per:.1f} | | at most 60: {'met' if per <= 60 else '**missed**'} |"
    )


if __name__ == "__main__":
    main()
