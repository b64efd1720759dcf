"""Forks, other ways to start processes, and servers that do."""

from __future__ import annotations

import gc
import http.client
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest
from ratelimit import Limiter, ShareMismatchError, ShareNameError, ShareUnavailableError, unshare

APP = """
import os
import ratelimit
from ratelimit.wsgi import RateLimitMiddleware

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

app = RateLimitMiddleware(hello, ratelimit.Limiter("40/day"{options}), key=lambda environ: "everybody")
"""


def decide(limiter: Limiter, key: str, calls: int) -> int:
    return sum(limiter.is_allowed(key) for _ in range(calls))


def spent_in_child(answers: Any, options: dict[str, Any]) -> None:
    answers.put(decide(Limiter("40/day", **options), "a", 100))


def in_processes(method: str, options: dict[str, Any]) -> list[int]:
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    children = [context.Process(target=spent_in_child, args=(answers, options)) for _ in range(3)]
    for child in children:
        child.start()
    allowed = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    return sorted(allowed)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_have_limits_of_their_own(method: str) -> None:
    assert in_processes(method, {}) == [40, 40, 40]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_share_by_name(method: str, shared_name: str) -> None:
    with Limiter("40/day", share=shared_name):
        assert sum(in_processes(method, {"share": shared_name})) == 40


def test_a_shared_table_has_one_limit_and_ends_by_name(shared_name: str) -> None:
    with Limiter("1/day", share=shared_name) as one:
        assert one.is_allowed("a") and not Limiter("1/day", share=shared_name).is_allowed("a")
        with pytest.raises(ShareMismatchError):
            Limiter("2/day", share=shared_name)
        with pytest.raises(ShareUnavailableError, match="is in use"):
            unshare(shared_name)
        assert Limiter("2/day", share=shared_name, replace_limits=True).limits == one.limits
    del one
    gc.collect()
    assert unshare(shared_name) and not unshare(shared_name)
    with pytest.raises(ShareNameError):
        Limiter("1/day", share="../no/name")


def test_a_fork_inherits_a_limiter_and_both_go_on() -> None:
    limiter = Limiter("40/day")
    assert decide(limiter, "a", 10) == 10
    # Another thread is in the middle of calls while the process forks.
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            limiter.check_many([f"k{number}" for number in range(100)])

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(50):
            child = os.fork()
            if child == 0:
                # The child has what was spent before, and its own from then on.
                right = decide(limiter, "a", 100) == 30 and limiter.stats()["allowed"] > 0
                os._exit(0 if right else 1)
            deadline = time.monotonic() + 60
            while True:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                assert time.monotonic() < deadline, "the child hangs"
                time.sleep(0.005)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        thread.join()
    assert decide(limiter, "a", 100) == 30, "children spent nothing of ours"


def test_importing_starts_no_thread_and_few_modules() -> None:
    code = """
import os, sys, threading
import ratelimit
assert threading.active_count() == 1, threading.enumerate()
assert not os.path.isdir("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
limiter = ratelimit.Limiter("1/s")
limiter.is_allowed("a")
assert not os.path.isdir("/proc/self/task") or len(os.listdir("/proc/self/task")) == 1
assert "importlib.metadata" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


class Gunicorn:
    """A server with four workers, started and stopped by its id."""

    def __init__(self, folder: Any, options: str, *arguments: str) -> None:
        (folder / "app.py").write_text(APP.format(options=options))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "app:app", "--workers=4", "--bind=127.0.0.1:0", *arguments],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.log: list[str] = []
        self.port = 0
        ready = 0
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"Listening at: http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
            ready += "Booting worker" in line
            if self.port and ready == 4:
                break
        assert self.port, "".join(self.log)
        # Read on, so that the pipe never fills.
        self.reading = threading.Thread(target=self.process.stderr.read)
        self.reading.start()

    def ask(self, requests: int) -> tuple[Counter[int], set[str]]:
        statuses: Counter[int] = Counter()
        workers = set()
        for _ in range(requests):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read().decode()
            statuses[response.status] += 1
            if response.status == 200:
                workers.add(body)
            connection.close()
        return statuses, workers

    def ask_at_once(self, threads: int, requests: int) -> tuple[Counter[int], set[str]]:
        answers: list[tuple[Counter[int], set[str]]] = []
        asking = [threading.Thread(target=lambda: answers.append(self.ask(requests))) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert len(answers) == threads
        return sum((statuses for statuses, _ in answers), Counter()), set().union(*(workers for _, workers in answers))

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.reading.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["each loads", "preload"])
def test_gunicorn_without_share(tmp_path: Any, arguments: tuple[str, ...]) -> None:
    with Gunicorn(tmp_path, "", *arguments) as server:
        statuses, workers = server.ask_at_once(4, 75)
    # Each worker has a limit of its own: what `share` is for.
    assert set(statuses) <= {200, 429} and sum(statuses.values()) == 300
    assert statuses[200] <= 160 and statuses[200] >= 40
    assert 1 <= len(workers) <= 4


@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["each loads", "preload"])
def test_four_gunicorn_workers_hold_one_limit(tmp_path: Any, arguments: tuple[str, ...], shared_name: str) -> None:
    with Gunicorn(tmp_path, f', share="{shared_name}"', *arguments) as server:
        statuses, _ = server.ask_at_once(4, 75)
    assert statuses == {200: 40, 429: 260}


def test_share_true_holds_over_forks() -> None:
    with Limiter("40/day", share=True) as limiter:
        children = []
        for _ in range(4):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writing, decide(limiter, "a", 100).to_bytes(2, "big"))
                os._exit(0)
            os.close(writing)
            children.append((child, reading))
        total = 0
        for child, reading in children:
            total += int.from_bytes(os.read(reading, 2), "big")
            os.close(reading)
            os.waitpid(child, 0)
        assert total == 40 and not limiter.is_allowed("a")
