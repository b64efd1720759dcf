"""The end of the program: limiters that keep snapshots write a last one."""

from __future__ import annotations

import atexit
import logging
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimit._limiter import Limiter

_open: weakref.WeakSet[Limiter] = weakref.WeakSet()


def close_at_exit(limiter: Limiter) -> None:
    _open.add(limiter)


@atexit.register
def _close_all() -> None:
    for limiter in list(_open):
        try:
            limiter.close()
        except Exception as error:
            # The disk failed, and there is nobody left to tell but the log.
            logging.getLogger("ratelimit").warning("no last snapshot was written: %s", error)
