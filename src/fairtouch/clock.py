"""The one place that reads the time."""

import time
from collections.abc import Callable
from datetime import datetime

from fairtouch.instants import to_ms

Clock = Callable[[], datetime]
"""A callable that returns an aware datetime; with it, every store uses that time instead of its own."""


def system_now() -> int:
    """This machine's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def seconds_running() -> float:
    """Seconds that only ever grow, for deadlines."""
    return time.monotonic()


def injected_now(clock: Clock) -> int:
    """What the caller's clock says. Raises TouchError when it returns a naive datetime."""
    return to_ms(clock(), "the clock's time")
