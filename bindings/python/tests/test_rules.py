"""Rules: conversions, errors, and what each call does. The semantics are tested in Rust."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest
from ratelimit import ClosedError, Error, ManualClock, OptionError, Rules

TEXT = """
[[rule]]
name = "login"
when = { path = { prefix = "/login" } }
by = ["ip"]
limits = "2/minute"
[rule.tiers.tier]
gold = "3/minute"
"""


def test_a_rule_binds_and_says_so(clock: ManualClock) -> None:
    rules = Rules(TEXT, clock=clock)
    login = {"ip": "192.0.2.7", "path": "/login", "unknown": 5, "tier": None}
    first = rules.check(login)
    assert first and first.rule == "login" and (first.limit, first.remaining, first.retry_after) == (2, 1, 0.0)
    assert rules.is_allowed({"ip": b"192.0.2.7", "path": "/login"})
    denied = rules.check(login)
    assert not denied and denied.retry_after == 30.0 and denied.reset_after == 60.0
    assert 'rule="login"' in repr(denied)
    assert rules.check(login, 3).retry_after == math.inf
    assert rules.peek({**login, "tier": "gold"}).limit == 3
    free = rules.check({"path": "/"})
    assert free and free.rule is None and free.remaining == 2**64 - 1
    rules.refund(login)
    assert rules.is_allowed(login)
    rules.reset(login)
    assert rules.peek(login).remaining == 2
    assert rules.check(login, now=1000.0)
    assert rules.stats()["login"] == {"allowed": 4, "denied": 2, "would_deny": 0, "shadow": False}
    assert 'ratelimit_rule_decisions_total{rule="login",outcome="denied"} 2' in rules.prometheus()


def test_changes_at_run_time(clock: ManualClock) -> None:
    rules = Rules(TEXT, clock=clock)
    login = {"ip": 7, "path": "/login"}
    assert rules.is_allowed(login)
    # Half of the burst is spent, of the other limit too.
    rules.replace(TEXT.replace("2/minute", "4/minute"))
    assert [rules.is_allowed(login) for _ in range(3)] == [True, True, False]
    rules.set_override("login", "8", ["1/minute", "5/day"])
    assert [rules.is_allowed({"ip": 8, "path": "/login"}) for _ in range(2)] == [True, False]
    rules.set_override("login", "8", None)
    rules.reset({"ip": 8, "path": "/login"})
    assert rules.peek({"ip": 8, "path": "/login"}).limit == 4
    with pytest.raises(Error, match=r'there is no rule "log"'):
        rules.set_override("log", "8", None)


def test_wrong_things_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"line 2: .*name"):
        Rules("\n[[rule]]\n")
    with pytest.raises(OptionError, match="leave the options out"):
        Rules(TEXT, limits="1/s")
    with pytest.raises(OptionError, match="there is no option"):
        Rules(TEXT, max_kyes=5)
    rules = Rules(TEXT, path=tmp_path / "rules.snapshot")
    with pytest.raises(TypeError, match='attribute "ip" is list'):
        rules.check({"ip": []})
    with pytest.raises(TypeError):
        rules.check([("ip", "a")])  # type: ignore[arg-type]
    rules.is_allowed({"ip": "a", "path": "/login"})
    rules.close()
    rules.close()
    with pytest.raises(ClosedError):
        rules.check({})
    with Rules(TEXT, path=tmp_path / "rules.snapshot") as again:
        assert again.peek({"ip": "a", "path": "/login"}).remaining == 1


def test_threads_get_the_limit_together(clock: ManualClock) -> None:
    rules = Rules(TEXT.replace("2/minute", "500/day"), clock=clock)
    admitted: list[int] = []

    def work() -> None:
        admitted.append(sum(rules.is_allowed({"ip": "a", "path": "/login"}) for _ in range(300)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        rules.replace(TEXT.replace("2/minute", "500/day"))
    for thread in threads:
        thread.join()
    assert sum(admitted) == 500
