"""Middleware for ASGI: Starlette, FastAPI, Litestar, Quart, or any other. Needs none of them.

app.add_middleware(RateLimitMiddleware, limiter=ratelimit.Limiter("100/minute"))
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Literal

from ratelimit._web import Deciding, key_behind, missing, peer_key, proxies_of, warn_no_address

if TYPE_CHECKING:
    from ratelimit._limiter import Key, Limiter
    from ratelimit._native import TrustedProxies

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["RateLimitMiddleware", "client_address"]


def client_address(scope: Scope) -> str | None:
    """The key by default: the address of the transport's peer, an IPv6 address by its /64. Never a header field.

    Behind a proxy that is the proxy's address: give the middleware `trusted_proxies`, let the server put the client's
    address there (uvicorn's `--proxy-headers` with `--forwarded-allow-ips`), or give a key of your own. Whoever sends a
    request can write any header field.
    """
    client = scope.get("client")
    key = peer_key(client[0]) if client else None
    if key is None:
        warn_no_address()
    return key


def _address_behind(proxies: TrustedProxies, scope: Scope) -> str | None:
    client = scope.get("client")
    wanted = proxies.header.encode("latin-1")
    values = [
        bytes(value).decode("latin-1") for name, value in scope.get("headers") or () if bytes(name).lower() == wanted
    ]
    key = key_behind(proxies, client[0] if client else "", values)
    if key is None:
        warn_no_address()
    return key


class RateLimitMiddleware:
    """Limits each client of an ASGI application.

    Denied requests get a 429 with `Retry-After` and a problem+json body; allowed ones reach the application. Both get
    `RateLimit` and `RateLimit-Policy`. A WebSocket is one request; denied, it gets the same response if the server can
    send one, else it is closed with code 1008 before it is accepted.

    key: a function of the scope, or a coroutine function, that says whose budget a request spends; None: not limited.
    cost: a number, or a function of the scope, also an async one. exempt: a function of the scope; true: not limited,
    and without header fields. names, ratelimit, x_ratelimit, draft_6, cap_remaining: see `ratelimit.Headers`.
    trusted_proxies: networks or addresses of proxies (["10.0.0.0/8"]), how many of them a request passes (1), or a
    `ratelimit.TrustedProxies`: the key by default is then the client that they speak for in `X-Forwarded-For`.
    """

    def __init__(
        self,
        app: Any,
        limiter: Limiter,
        *,
        key: Callable[[Scope], Key | Awaitable[Key | None] | None] = client_address,
        cost: int | Callable[[Scope], int | Awaitable[int]] = 1,
        exempt: Callable[[Scope], bool] | None = None,
        names: Iterable[str] | None = None,
        ratelimit: bool = True,
        x_ratelimit: Literal["delta", "epoch"] | None = None,
        draft_6: bool = False,
        cap_remaining: int | None = None,
        trusted_proxies: int | str | Iterable[str] | TrustedProxies | None = None,
    ) -> None:
        style = {
            "ratelimit": ratelimit,
            "x_ratelimit": x_ratelimit,
            "draft_6": draft_6,
            "cap_remaining": cap_remaining,
        }
        proxies = proxies_of(trusted_proxies, key, client_address)
        if proxies is not None:
            key = functools.partial(_address_behind, proxies)
        self.app = app
        self._deciding = Deciding(limiter, key, cost, exempt, names, style)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deciding = self._deciding
        # "lifespan", and kinds that nobody has thought of yet, are no requests.
        if scope["type"] not in ("http", "websocket") or (deciding.exempt is not None and deciding.exempt(scope)):
            await self.app(scope, receive, send)
            return
        key = deciding.key(scope)
        if inspect.isawaitable(key):
            key = await key
        if key is None:
            await self.app(scope, receive, send)
            return
        cost = deciding.cost(scope) if callable(deciding.cost) else deciding.cost
        if inspect.isawaitable(cost):
            cost = await cost
        decision = deciding.limiter.check(key, cost)
        if not decision:
            fields, body = deciding.denial(decision)
            if scope["type"] == "http":
                # A response to HEAD says how long the body would be, and has none.
                body = b"" if scope.get("method") == "HEAD" else body
                await _respond(send, "http.response", fields, body)
            else:
                await _deny_websocket(scope, receive, send, fields, body)
            return
        fields = deciding.headers.fields(decision)

        async def send_with_fields(message: Message) -> None:
            if message["type"] in _WITH_HEADERS:
                headers = list(message.get("headers") or ())
                present = [bytes(name).decode("latin-1").lower() for name, _ in headers]
                message = {**message, "headers": headers + _encoded(missing(fields, present))}
            await send(message)

        await self.app(scope, receive, send_with_fields)


_WITH_HEADERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


async def _respond(send: Send, prefix: str, fields: Iterable[tuple[str, str]], body: bytes) -> None:
    await send({"type": f"{prefix}.start", "status": 429, "headers": _encoded(fields)})
    await send({"type": f"{prefix}.body", "body": body})


async def _deny_websocket(
    scope: Scope, receive: Receive, send: Send, fields: Iterable[tuple[str, str]], body: bytes
) -> None:
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _respond(send, "websocket.http.response", fields, body)
    else:
        # Before it was accepted, servers turn this into a 403 by themselves.
        await send({"type": "websocket.close", "code": 1008, "reason": "rate limit exceeded"})
