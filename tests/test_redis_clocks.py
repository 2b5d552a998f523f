"""Redis' own clock decides: whatever the workers' clocks say, the caps are exact."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fairtouch import Governor
from tests.in_a_loop import GovernorInALoop
from tests.workers import answer, govern, in_threads, worded

MINUTE, DAY = 60_000, 86_400_000
CLOCKS: dict[str, list[Callable[[int], int]]] = {
    "right": [lambda calls: 0],
    "two minutes": [lambda calls: 0, lambda calls: 2 * MINUTE, lambda calls: -2 * MINUTE],
    "a day": [lambda calls: DAY, lambda calls: -DAY],
    "backwards": [lambda calls: -calls * 10_000, lambda calls: calls * 7_000],
}


FRONTS: dict[str, list[Callable[..., Any]]] = {
    "called": [Governor],
    "awaited": [GovernorInALoop],
    "both": [Governor, GovernorInALoop, GovernorInALoop, Governor],
}


@pytest.mark.parametrize("fronts", FRONTS)
@pytest.mark.parametrize("clocks", CLOCKS)
def test_clocks_of_workers_do_not_matter(clocks, fronts, redis_url, monkeypatch):
    """Whatever the workers' clocks say, or if they run backwards, exactly as many are accepted as the caps admit."""
    mine = threading.local()

    def wrong_now() -> int:
        mine.calls = getattr(mine, "calls", 0) + 1
        return time.time_ns() // 1_000_000 + getattr(mine, "clock", lambda calls: 0)(mine.calls)

    for module in ("clock", "governor", "governor_async"):
        monkeypatch.setattr(f"fairtouch.{module}.system_now", wrong_now)
    hour = datetime.now(UTC).hour  # somewhere it is about noon, so that no day ends while this runs
    zone = f"Etc/GMT{hour - 12:+d}"
    sections = {
        "customer": {"timezones": [zone]},
        "caps": {
            "minute": {"limit": "5 per 1 minute", "select": {"channels": ["email"]}},
            "day": {"limit": "5 per calendar day", "select": {"channels": ["sms"]}},
        },
    }

    def work(ready: Callable[[], Any], number: int) -> Counter[tuple[str, str]]:
        mine.clock = CLOCKS[clocks][number % len(CLOCKS[clocks])]
        told: Counter[tuple[str, str]] = Counter()
        governor = FRONTS[fronts][number % len(FRONTS[fronts])](worded(sections), redis_url)
        with closing(governor):
            ready()
            for name in ("ada", "bob", "eve"):
                for channel in ("email", "sms"):
                    for _ in range(4):
                        told[channel, answer(governor.reserve(name, channel=channel))] += 1
        return told

    told = sum(in_threads(work, parties=4), Counter())
    assert {(channel, "allowed"): 15 for channel in ("email", "sms")} | {
        (channel, "cap_reached"): 33 for channel in ("email", "sms")
    } == told
    with govern(redis_url, sections) as governor:
        entries = [entry for name in ("ada", "bob", "eve") for entry in governor.history(name)]
    assert all(abs(datetime.now(UTC) - entry.at) < timedelta(minutes=1) for entry in entries)
