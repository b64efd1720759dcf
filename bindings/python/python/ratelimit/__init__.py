"""One rate limit over every thread of a service, decided in tens of nanoseconds inside the process.

>>> import ratelimit
>>> limiter = ratelimit.Limiter("100/minute")
>>> limiter.is_allowed("client-7")
True

Also a drop-in for the module of the same name that PyPI has as ``ratelimit`` 2.2.1: ``limits``, ``rate_limited``,
``sleep_and_retry`` and ``RateLimitException`` behave as there. ``__version__`` is this package's own.
"""

from __future__ import annotations

from ratelimit import _neighbours
from ratelimit._client_ip import client_ip
from ratelimit._decorator import RateLimitExceeded
from ratelimit._errors import (
    ArgumentError,
    ClosedError,
    ClusterConfigError,
    ClusterStartError,
    Error,
    ForkedChildError,
    FullError,
    InternalError,
    InvalidLimitError,
    LengthsError,
    LimitCountError,
    MaxKeysError,
    NotPersistentError,
    OptionError,
    PersistError,
    PolicyError,
    RestoreRequiredError,
    ShareFullError,
    ShareMismatchError,
    ShareNameError,
    ShareUnavailableError,
    SnapshotBusyError,
    SnapshotWriteError,
    SystemError,  # noqa: F401
    UnsupportedError,
)
from ratelimit._limiter import Limiter
from ratelimit._native import (
    ClientKey,
    Decision,
    Headers,
    Limit,
    ManualClock,
    RuleDecision,
    Rules,
    TrustedProxies,
    __version__,
    unshare,
)
from ratelimit.decorators import RateLimitDecorator, sleep_and_retry
from ratelimit.exception import RateLimitException

#: The old names of the drop-in: both are the class itself.
limits = RateLimitDecorator
rate_limited = RateLimitDecorator

# `SystemError` is left out: `from ratelimit import *` must not hide a name of Python's.
__all__ = [
    "ArgumentError",
    "ClientKey",
    "ClosedError",
    "ClusterConfigError",
    "ClusterStartError",
    "Decision",
    "Error",
    "ForkedChildError",
    "FullError",
    "Headers",
    "InternalError",
    "InvalidLimitError",
    "LengthsError",
    "Limit",
    "LimitCountError",
    "Limiter",
    "ManualClock",
    "MaxKeysError",
    "NotPersistentError",
    "OptionError",
    "PersistError",
    "PolicyError",
    "RateLimitDecorator",
    "RateLimitExceeded",
    "RateLimitException",
    "RestoreRequiredError",
    "RuleDecision",
    "Rules",
    "ShareFullError",
    "ShareMismatchError",
    "ShareNameError",
    "ShareUnavailableError",
    "SnapshotBusyError",
    "SnapshotWriteError",
    "TrustedProxies",
    "UnsupportedError",
    "__version__",
    "client_ip",
    "limits",
    "rate_limited",
    "sleep_and_retry",
    "unshare",
]

_neighbours.warn_if_mixed()
