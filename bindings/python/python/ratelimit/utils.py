"""Kept importable for users of PyPI's ratelimit."""

from __future__ import annotations

import time
from collections.abc import Callable


def now() -> Callable[[], float]:
    """The clock: a function, not a time."""
    return time.monotonic
