"""What tests of servers that die share: patience until another one has taken over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fairtouch import Decision, Governor, StoreUnavailable

T = TypeVar("T")
PATIENCE_SECONDS = 30


def until_it_answers(call: Callable[[], T]) -> T:
    """Repeats a call, with the same id, while the store is unavailable."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < deadline, "no primary came back"


def reserve(governor: Governor, customer: int, number: int) -> Decision:
    """The same touch, however often."""
    return until_it_answers(lambda: governor.reserve(f"customer-{customer}", channel="email", id=f"news-{number}"))
