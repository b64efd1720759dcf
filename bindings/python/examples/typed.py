"""What type checkers say about the public surface: checked by mypy --strict and by pyright, and run by the tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import ratelimit
from ratelimit import ClientKey, Decision, Limit, Limiter, ManualClock, RateLimitExceeded
from ratelimit.asgi import RateLimitMiddleware, Receive, Scope, Send
from ratelimit.wsgi import RateLimitMiddleware as WsgiMiddleware

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: object, _: object) -> object:
        return value


clock = ManualClock()
limiter = Limiter("100/minute burst 20", clock=clock, max_keys=1_000)
assert_type(limiter, Limiter)
assert_type(limiter.is_allowed("client-7"), bool)
assert_type(limiter.check("client-7", 2, now=1.5), Decision)
assert_type(limiter.check_many(["a", b"b", 3], [1, 2, 3]), list[Decision])
assert_type(limiter.allowed_many(["a", "b"]), list[bool])
assert_type(limiter.key("a"), ClientKey)
assert_type(limiter.limits, list[Limit])
assert_type(limiter.peek(limiter.key("a")).headers(), dict[str, str])


@limiter.limit(key=lambda user, count=1: user)
def send(user: str, count: int = 1) -> bytes:
    return user.encode() * count


@limiter.limit(key="all", on_denied="skip")
def maybe(user: str) -> bytes:
    return user.encode()


@limiter.limit(key="async", on_denied="skip")
async def maybe_later(user: str) -> int:
    return len(user)


@limiter.limit(key="wait", on_denied="wait")
async def later(user: str) -> int:
    return len(user)


@ratelimit.sleep_and_retry
@ratelimit.limits(calls=15, period=900)
def old(value: int) -> int:
    return value


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def main() -> None:
    assert_type(await limiter.aacquire("client-7", timeout=1), bool)
    assert_type(await maybe_later("a"), "int | None")
    assert_type(await later("a"), int)


assert_type(send("a", count=2), bytes)
assert_type(maybe("a"), "bytes | None")
assert_type(old(7), int)
asyncio.run(main())

RateLimitMiddleware(application, limiter, key=lambda scope: str(scope["path"]), exempt=lambda scope: False)
WsgiMiddleware(lambda environ, start_response: [b""], limiter, cost=lambda environ: 2, names=["api"])

try:
    for _ in range(200):
        send("b")
except RateLimitExceeded as denied:
    assert_type(denied.decision.retry_after, float)
with Limiter(100, 60, strict=True) as strict:
    assert_type(strict, Limiter)
