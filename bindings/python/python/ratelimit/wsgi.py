"""Middleware for WSGI: Flask, Django, Pyramid, or any other. Needs none of them.

app.wsgi_app = RateLimitMiddleware(app.wsgi_app, ratelimit.Limiter("100/minute"))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ratelimit._web import Deciding, key_behind, missing, peer_key, proxies_of, warn_no_address

if TYPE_CHECKING:
    from ratelimit._limiter import Key, Limiter
    from ratelimit._native import TrustedProxies

__all__ = ["RateLimitMiddleware", "client_address"]


def client_address(environ: dict[str, Any]) -> str | None:
    """The key by default: the address of the transport's peer, an IPv6 address by its /64. Never a header field.

    Behind a proxy that is the proxy's address: give the middleware `trusted_proxies`, put
    `werkzeug.middleware.proxy_fix.ProxyFix` around it, or give a key of your own. Whoever sends a request can write any
    header field.
    """
    key = peer_key(environ.get("REMOTE_ADDR") or "")
    if key is None:
        warn_no_address()
    return key


def _address_behind(proxies: TrustedProxies, environ: dict[str, Any]) -> str | None:
    # Servers join fields of one name by commas.
    value = environ.get("HTTP_" + proxies.header.upper().replace("-", "_"))
    key = key_behind(proxies, environ.get("REMOTE_ADDR") or "", [] if value is None else [value])
    if key is None:
        warn_no_address()
    return key


class RateLimitMiddleware:
    """Limits each client of a WSGI application.

    Denied requests get a 429 with `Retry-After` and a problem+json body; allowed ones reach the application. Both get
    `RateLimit` and `RateLimit-Policy`.

    key: a function of the environ that says whose budget a request spends; None: not limited. cost: a number, or a
    function of the environ. exempt: a function of the environ; true: not limited, and without header fields. names,
    ratelimit, x_ratelimit, draft_6, cap_remaining: see `ratelimit.Headers`.
    trusted_proxies: networks or addresses of proxies (["10.0.0.0/8"]), how many of them a request passes (1), or a
    `ratelimit.TrustedProxies`: the key by default is then the client that they speak for in `X-Forwarded-For`.
    """

    def __init__(
        self,
        app: Any,
        limiter: Limiter,
        *,
        key: Callable[[dict[str, Any]], Key | None] = client_address,
        cost: int | Callable[[dict[str, Any]], int] = 1,
        exempt: Callable[[dict[str, Any]], bool] | None = None,
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

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        deciding = self._deciding
        exempt = deciding.exempt is not None and deciding.exempt(environ)
        key = None if exempt else deciding.key(environ)
        if key is None:
            return self._next(environ, start_response)
        cost = deciding.cost(environ) if callable(deciding.cost) else deciding.cost
        decision = deciding.limiter.check(key, cost)
        if not decision:
            fields, body = deciding.denial(decision)
            start_response("429 Too Many Requests", fields)
            # A response to HEAD says how long the body would be, and has none.
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]
        fields = deciding.headers.fields(decision)

        def start_with_fields(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            added = missing(fields, (name.lower() for name, _ in headers))
            return start_response(status, [*headers, *added], *exc_info)

        return self._next(environ, start_with_fields)

    def _next(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body: Iterable[bytes] = self.app(environ, start_response)
        return body
