"""The exception of the drop-in for PyPI's ratelimit 2.2.1."""

from __future__ import annotations

from typing import Any


class RateLimitException(Exception):
    """A call was denied. `period_remaining` is how many seconds to wait."""

    period_remaining: float

    def __init__(self, message: str, period_remaining: float) -> None:
        super().__init__(message)
        self.period_remaining = period_remaining

    def __reduce__(self) -> tuple[Any, ...]:
        # The args are the message alone, as in 2.2.1, whose exceptions therefore cannot be unpickled.
        return (type(self), (*self.args, self.period_remaining), self.__dict__)
