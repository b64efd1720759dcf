"""Waiting in an event loop: one timer for each limiter and loop, no task for a call.

Those who wait for one client stand in a lane, first come first served. A lane asks the limiter for its first waiter,
and sleeps for as long as the answer says; the timer of the loop rings for the earliest lane or the earliest timeout.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratelimit import _native
    from ratelimit._limiter import Key, Limiter

_creating = threading.Lock()


async def acquire(limiter: Limiter, key: Key, cost: int, timeout: float | None) -> bool:
    client = limiter.key(key)
    loop = asyncio.get_running_loop()
    waiting = _waiting_of(limiter, loop)
    lane = waiting.lanes.get(client) if waiting is not None else None
    # Who comes to a lane may not overtake those in it, but may be told at once that waiting is of no use.
    step = limiter._acquire_step(client, cost, timeout, look=lane is not None)
    if step == 0.0 and lane is None:
        return True
    if step == math.inf:
        return False
    if waiting is None:
        waiting = _create(limiter, loop)
    return await waiting.stand(client, cost, timeout, step)


def _waiting_of(limiter: Limiter, loop: asyncio.AbstractEventLoop) -> _Waiting | None:
    loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] | None = getattr(limiter, "_waiting", None)
    return None if loops is None else loops.get(loop)


def _create(limiter: Limiter, loop: asyncio.AbstractEventLoop) -> _Waiting:
    # Two threads with a loop each may come here for one limiter.
    with _creating:
        loops = getattr(limiter, "_waiting", None)
        if loops is None:
            loops = limiter._waiting = weakref.WeakKeyDictionary()
        waiting = loops.get(loop)
        if waiting is None:
            waiting = loops[loop] = _Waiting(limiter, loop)
        return waiting


class _Waiter:
    __slots__ = ("cost", "deadline", "future", "lane")

    def __init__(self, lane: _Lane, future: asyncio.Future[bool], cost: int, deadline: float | None) -> None:
        self.lane = lane
        self.future = future
        self.cost = cost
        self.deadline = deadline


class _Lane:
    """Those who wait for one client, and when to ask for the first of them."""

    __slots__ = ("client", "gone", "rings", "waiters")

    def __init__(self, client: _native.ClientKey) -> None:
        self.client = client
        self.waiters: deque[_Waiter] = deque()
        #: Entries of the heap for other times are out of date.
        self.rings = math.inf
        #: How many of those behind the first have given up and still stand there.
        self.gone = 0


class _Waiting:
    """All who wait for one limiter in one event loop. Used by that loop's thread alone."""

    def __init__(self, limiter: Limiter, loop: asyncio.AbstractEventLoop) -> None:
        # Neither is kept alive from here: the loop is the key under which this object is kept, and the limiter keeps
        # it. While someone waits, his coroutine keeps the limiter and the loop keeps the timer.
        self._limiter = weakref.ref(limiter)
        self._loop = weakref.ref(loop)
        self.lanes: dict[_native.ClientKey, _Lane] = {}
        self._heap: list[tuple[float, int, Any]] = []
        self._stale = 0
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def stand(self, client: _native.ClientKey, cost: int, timeout: float | None, step: float) -> bool:
        """Waits in the lane of a client. `step` is how long its first has to wait, as far as is known."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = None if timeout is None or math.isinf(timeout) else now + timeout
        lane = self.lanes.get(client)
        if lane is None:
            lane = self.lanes[client] = _Lane(client)
            lane.rings = now + step
            self._push(lane.rings, lane)
        waiter = _Waiter(lane, loop.create_future(), cost, deadline)
        lane.waiters.append(waiter)
        if deadline is not None:
            self._push(deadline, waiter)
        self._set_timer()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None and future.result():
                # Charged, but whoever asked is gone before he heard of it.
                limiter = self._limiter()
                if limiter is not None and not limiter.closed:
                    limiter.refund(client, cost)
                    following = self.lanes.get(client)
                    if following is not None:
                        self._serve(following)
            elif future.cancelled():
                if deadline is not None:
                    self._stale += 1
                self._leave(waiter)
            self._set_timer()
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """After a waiter gave up."""
        lane = waiter.lane
        if lane.waiters and lane.waiters[0] is waiter:
            # The next one may cost less.
            self._serve(lane)
            return
        lane.gone += 1
        if lane.gone > 64 and lane.gone * 2 > len(lane.waiters):
            # The first may wait for long, and others come and go behind it.
            lane.waiters = deque(waiter for waiter in lane.waiters if not waiter.future.done())
            lane.gone = 0

    def _serve(self, lane: _Lane) -> None:
        """Asks for the first of a lane, and the next, until one has to wait."""
        limiter = self._limiter()
        loop = self._loop()
        waiters = lane.waiters
        while waiters and limiter is not None and loop is not None:
            waiter = waiters[0]
            if not waiter.future.done():
                now = loop.time()
                left = None if waiter.deadline is None else max(0.0, waiter.deadline - now)
                try:
                    step = limiter._acquire_step(lane.client, waiter.cost, left)
                except Exception as error:
                    # The limiter was closed meanwhile.
                    waiter.future.set_exception(error)
                else:
                    if step not in (0.0, math.inf):
                        if lane.rings != math.inf:
                            self._stale += 1
                        lane.rings = now + step
                        self._push(lane.rings, lane)
                        return
                    waiter.future.set_result(step == 0.0)
                if waiter.deadline is not None:
                    self._stale += 1
            elif lane.gone:
                lane.gone -= 1
            waiters.popleft()
        if lane.rings != math.inf:
            self._stale += 1
            lane.rings = math.inf
        if self.lanes.get(lane.client) is lane:
            del self.lanes[lane.client]

    def _ring(self) -> None:
        self._timer = None
        loop = self._loop()
        if loop is None:
            return
        # As the loop does for its own timers: what is due within its resolution is due.
        due = loop.time() + 1e-9
        while self._heap and self._heap[0][0] <= due:
            when, _, who = heapq.heappop(self._heap)
            if isinstance(who, _Lane):
                if who.rings == when:
                    who.rings = math.inf
                    self._serve(who)
                else:
                    self._stale -= 1
            elif who.future.done():
                self._stale -= 1
            else:
                who.future.set_result(False)
                self._leave(who)
        self._set_timer()

    def _push(self, when: float, who: _Lane | _Waiter) -> None:
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            # Timeouts of those who were served would stay until they are over.
            self._heap = [entry for entry in self._heap if _is_current(entry)]
            heapq.heapify(self._heap)
            self._stale = 0
        heapq.heappush(self._heap, (when, next(self._numbers), who))

    def _set_timer(self) -> None:
        loop = self._loop()
        if not self._heap or not self.lanes or loop is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._heap.clear()
            self._stale = 0
            return
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._ring)


def _is_current(entry: tuple[float, int, Any]) -> bool:
    when, _, who = entry
    return who.rings == when if isinstance(who, _Lane) else not who.future.done()
