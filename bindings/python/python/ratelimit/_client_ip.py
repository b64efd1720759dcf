"""The client's address behind proxies, from header fields of which only a part can be believed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from ratelimit._native import TrustedProxies


@functools.lru_cache(maxsize=64)
def _proxies(trusted: int | str | tuple[str, ...], header: str | None, ipv6_prefix: int | None) -> TrustedProxies:
    given = list(trusted) if isinstance(trusted, tuple) else trusted
    return TrustedProxies(given, header=header, ipv6_prefix=ipv6_prefix)


def client_ip(
    peer: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    trusted_proxies: int | str | Sequence[str] | TrustedProxies,
    *,
    header: str | None = None,
    ipv6_prefix: int | None = None,
) -> str | None:
    """The key of the client that a request comes from, behind proxies that are trusted.

    peer: the address at the other end of the connection; "" for a Unix socket. headers: a mapping, or pairs of name and
    value, as the request has them. trusted_proxies: the proxies' networks or addresses, or how many of them a request
    passes. header: the one field that they extend or replace (default "x-forwarded-for"; "forwarded" is RFC 7239).
    ipv6_prefix: how many bits of an IPv6 address count (default 64).

    Entries are believed from the right for as long as a trusted proxy wrote them; what is no address is never believed,
    and the answer is then the peer's own. None if that is not known either.

    >>> client_ip("10.0.0.7", {"X-Forwarded-For": "192.0.2.1, 198.51.100.9"}, ["10.0.0.0/8"])
    '198.51.100.9'
    """
    if isinstance(trusted_proxies, TrustedProxies):
        proxies = trusted_proxies
    else:
        trusted = trusted_proxies if isinstance(trusted_proxies, (int, str)) else tuple(trusted_proxies)
        proxies = _proxies(trusted, header, ipv6_prefix)
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    wanted = proxies.header
    return proxies.client_ip(peer, [value for name, value in pairs if name.lower() == wanted])
