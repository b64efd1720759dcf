"""The shared test data in vectors/, through the public interface. See vectors/README.md for its shape."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from conftest import ROOT
from ratelimit import InvalidLimitError, Limit, Limiter, ManualClock, client_ip

FILES = sorted((ROOT / "vectors").glob("*.json"))
CASE_FILES = ("gcra.json", "strict.json", "several.json", "clock.json")


class Reading:
    """An object of the data that knows which of its fields were read."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.unread = set(fields)

    def __getitem__(self, name: str) -> Any:
        self.unread.discard(name)
        return self.fields[name]

    def finish(self) -> None:
        assert not self.unread, f"nobody reads {sorted(self.unread)} of {self.fields}"


def seconds(ns: Any) -> float:
    return math.inf if ns == "never" else int(ns) / 1e9


def survives(ns: int) -> bool:
    # Exactly what is done with it: the nearest nanosecond to the float.
    return round(Fraction(seconds(ns)) * 10**9) == ns


def same(answer: float, expected: Any) -> bool:
    wanted = seconds(expected)
    return answer == wanted or abs(answer - wanted) <= max(abs(wanted) * 1e-12, 0.5e-9)


def run_case(case: Reading) -> tuple[int, int]:
    run = left_out = 0
    assert case["name"] and case["why"]
    limiter = Limiter(case["limit"], clock=ManualClock())
    calls = case["calls"]
    case.finish()
    if any(not survives(int(call["now_ns"])) for call in calls):
        return 0, len(calls)
    for call in map(Reading, calls):
        key, now = call["key"], seconds(call["now_ns"])
        run += 1
        if call["op"] == "reset":
            assert limiter.reset(key, now=now) is None
        elif call["op"] == "refund":
            assert limiter.refund(key, int(call["cost"]), now=now) is None
        else:
            ask = {"check": limiter.check, "peek": limiter.peek}[call["op"]]
            decision = ask(key, int(call["cost"]), now=now)
            if call["expected"]:
                expected = Reading(call["expected"])
                place = f"{call.fields}: {decision}"
                assert decision.allowed is expected["allowed"], place
                assert bool(decision) is decision.allowed
                assert decision.limit == int(expected["limit"]), place
                assert decision.remaining == int(expected["remaining"]), place
                assert same(decision.retry_after, expected["retry_after_ns"]), place
                assert same(decision.reset_after, expected["reset_after_ns"]), place
                expected.finish()
        call.finish()
    return run, left_out


def run_poll(poll: Reading) -> tuple[int, int]:
    assert poll["name"]
    limiter = Limiter(poll["limit"], clock=ManualClock())
    start, every, calls, cost = (int(poll[field]) for field in ("start_ns", "every_ns", "calls", "cost"))
    times = [start + every * call for call in range(calls)]
    least, most = int(poll["allowed_min"]), int(poll["allowed_max"])
    poll.finish()
    if not all(map(survives, times)):
        return 0, calls
    allowed = sum(limiter.check("a", cost, now=seconds(ns)).allowed for ns in times)
    assert least <= allowed <= most, f"{poll.fields}: {allowed}"
    return calls, 0


def run_accepted(text: Reading) -> tuple[int, int]:
    limit = Limit(text["text"])
    assert limit.rate_limit == int(text["rate_limit"])
    assert same(limit.time_window, text["window_ns"])
    assert limit.burst == int(text["burst"])
    assert limit.strict is text["strict"]
    assert str(limit) == text["canonical"]
    assert Limit(str(limit)) == limit and hash(Limit(str(limit))) == hash(limit)
    limiter = Limiter(text["text"])
    assert limiter.limits == [limit]
    assert limiter.check("a").limit == limit.burst
    text.finish()
    return 1, 0


def run_refused(text: Reading) -> tuple[int, int]:
    # Python has one class for all kinds; the sentence tells them apart.
    assert text["kind"] and text["why"]
    with pytest.raises(InvalidLimitError):
        Limit(text["text"])
    with pytest.raises(InvalidLimitError):
        Limiter(text["text"])
    text.finish()
    return 1, 0


def run_client_ip(one: Reading) -> tuple[int, int]:
    assert one["why"]
    trusted = one["trusted"]
    name = one["header"] if "header" in one.fields else None
    bits = one["ipv6_prefix"] if "ipv6_prefix" in one.fields else None
    # Among others, and with names as anybody writes them.
    sent = [("Host", "example.org")] + [((name or "X-Forwarded-For").title(), value) for value in one["values"]]
    for given in (trusted, trusted.split(","), int(trusted) if trusted.isdigit() else trusted):
        assert client_ip(one["peer"], sent, given, header=name, ipv6_prefix=bits) == one["expected"], one.fields
    one.finish()
    return 1, 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_vectors(path: Any) -> None:
    file = Reading(json.loads(path.read_text(encoding="utf-8")))
    assert file["about"]
    if path.name in CASE_FILES:
        done = [run_case(Reading(case)) for case in file["cases"]]
    elif path.name == "rates.json":
        done = [run_poll(Reading(poll)) for poll in file["polls"]]
    elif path.name == "text.json":
        done = [run_accepted(Reading(text)) for text in file["accepted"]]
        done += [run_refused(Reading(text)) for text in file["refused"]]
    elif path.name == "client_ip.json":
        done = [run_client_ip(Reading(one)) for one in file["client_ips"]]
    else:
        pytest.fail(f"vectors/{path.name} has no reader here")
    file.finish()
    run, left_out = sum(run for run, _ in done), sum(left for _, left in done)
    print(f"{path.name}: {run} run, {left_out} left out, since their times do not survive as floats")
    assert run > 30
    assert left_out <= run / 5


def test_all_files_are_there() -> None:
    assert len(FILES) >= 7
