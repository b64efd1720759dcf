"""What several tests need."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import ratelimit

#: The root of the repository: the shared vectors, the documents.
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clock() -> ratelimit.ManualClock:
    return ratelimit.ManualClock()


@pytest.fixture
def shared_name() -> Iterator[str]:
    """A name that nobody else has; its table is removed afterwards."""
    name = f"python-test-{uuid.uuid4().hex}"
    yield name
    # Limiters that are gone but not collected yet still hold the table.
    gc.collect()
    ratelimit.unshare(name)


@pytest.fixture
def hooks() -> None:
    if not ratelimit._native.TEST_HOOKS:
        pytest.skip("needs a build with the cargo feature test-hooks")
