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


def injected_now(clock: Clock | None) -> int | None:
    """What the caller's clock says; None without one: then the store's own counts. Raises TouchError when it returns a
    naive datetime.
    """
    return None if clock is None else to_ms(clock(), "the clock's time")
