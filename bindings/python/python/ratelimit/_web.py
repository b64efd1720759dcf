"""What the middleware for ASGI and for WSGI have in common."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ratelimit._native import PROBLEM_JSON, Decision, Headers, TrustedProxies, address_key

if TYPE_CHECKING:
    from ratelimit._limiter import Limiter

logger = logging.getLogger("ratelimit")

#: Both are lists: several limiters around one application are all heard. Of other fields the one that is there stays.
LISTS = ("ratelimit-policy", "ratelimit")


class Deciding:
    """A limiter, and how to ask it about a request. `Request` is whatever the interface calls one."""

    def __init__(
        self,
        limiter: Limiter,
        key: Any,
        cost: Any,
        exempt: Callable[[Any], bool] | None,
        names: Iterable[str] | None,
        style: dict[str, Any],
    ) -> None:
        if not callable(key):
            raise TypeError(
                f"key is {key!r}: it takes a function of the request that answers a key, or None for no limit"
            )
        if exempt is not None and not callable(exempt):
            raise TypeError(
                f"exempt is {exempt!r}: it takes a function of the request that answers whether it is not limited"
            )
        if not callable(cost):
            # What is wrong with a number is said now, not at the first request.
            limiter.peek("", cost)
        self.limiter = limiter
        self.key = key
        self.cost = cost
        self.exempt = exempt
        self.headers = Headers(limiter, names=None if names is None else list(names), **style)

    def denial(self, decision: Decision) -> tuple[list[tuple[str, str]], bytes]:
        """Header fields and body of a 429."""
        body = self.headers.problem(decision).encode()
        fields = [("content-type", PROBLEM_JSON), ("content-length", str(len(body)))]
        return fields + self.headers.fields(decision), body


def missing(fields: Sequence[tuple[str, str]], present: Iterable[str]) -> list[tuple[str, str]]:
    """Those of our fields that a response gets which has others already; names in lower case."""
    there = set(present)
    return [(name, value) for name, value in fields if name in LISTS or name not in there]


def peer_key(address: str) -> str | None:
    """The key for a peer's address. What is no address has one key for all; the text itself is nobody's to choose.

    None without an address, as through a Unix socket: clients that nothing tells apart must not share a limit.
    """
    if not address:
        return None
    return address_key(address) or "unknown"


def proxies_of(trusted: Any, key: Any, default: Any) -> TrustedProxies | None:
    """The proxies that a middleware was told to trust, if any. A key of the user's own does not ask for them."""
    if trusted is None:
        return None
    if key is not default:
        raise TypeError("trusted_proxies is about the key by default: leave it out, or leave key out")
    return trusted if isinstance(trusted, TrustedProxies) else TrustedProxies(trusted)


def key_behind(proxies: TrustedProxies, peer: str, values: list[str]) -> str | None:
    """As `peer_key`, behind proxies."""
    key = proxies.client_ip(peer, values)
    if key is None and peer:
        return "unknown"
    return key


@functools.lru_cache(maxsize=1)
def warn_no_address() -> None:
    """Once in a process."""
    logger.warning(
        "requests come without a peer's address (through a Unix socket?) and are not limited: give the middleware a key"
    )
