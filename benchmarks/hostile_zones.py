"""`python -m benchmarks.hostile_zones`: how long a governor takes to refuse a value that is no time zone.

Two thousand of them, as the zone of a touch and as that of a customer, each the fastest of five: another program's
turn is not the value's doing. The first of a process is shown by itself: it reads the list of zones that the machine
knows.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fairtouch import Governor, Policy, Touch, TouchError
from tests.hostile_zones import hostile_zones

TURNS: Final = 5


def microseconds(call: Callable[[], object]) -> float:
    """How long one call takes to raise."""
    start = time.perf_counter()
    try:
        call()
    except TouchError:
        return (time.perf_counter() - start) * 1_000_000
    raise AssertionError("a hostile zone was accepted")


def main() -> None:
    """Prints a row per call."""
    with Governor(Policy.model_validate({"caps": {"daily": {"limit": "1 per calendar day"}}}), "memory://") as governor:
        calls: dict[str, Callable[[Any], object]] = {
            "check": lambda zone: governor.check(Touch("ada", channel="email", timezone=zone)),
            "customers.set": lambda zone: governor.customers.set("ada", timezone=zone),
        }
        first = microseconds(partial(calls["check"], "Mars/Olympus"))
        print(f"{'the first in a process':24} {first:8.1f} us")
        zones = hostile_zones()
        for name, call in calls.items():
            times = sorted(min(microseconds(partial(call, zone)) for _ in range(TURNS)) for zone in zones)
            median, p99 = statistics.median(times), times[len(times) * 99 // 100]
            print(f"{name:24} {median:8.1f} us median {p99:8.1f} us p99 {times[-1]:8.1f} us worst of {len(times)}")


if __name__ == "__main__":
    main()
