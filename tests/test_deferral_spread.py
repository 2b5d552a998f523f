"""Ten thousand deferred touches become due when a window opens: they are spread, and each is judged again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deferring import BY_DAY, DAY, MINUTE, MORNING, Shop, counts

NUMBER = 10_000
SPREAD_MINUTES = 10
SECTIONS = {**BY_DAY, "caps": {"daily": {"limit": "1 per calendar day"}}}
GONE = range(0, NUMBER, 20)  # who opts out before the morning
FULL = range(1, NUMBER, 20)  # whose cap is full by then
KOLMOGOROV = 1.95  # times the root of the number: farther from uniform is one sample in a thousand

Opened = Callable[[], Shop]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the shop, as often as it was closed; the one in memory stays open."""
    if request.param == "memory":
        shop = Shop("memory://", SECTIONS)
        return lambda: shop
    url = f"sqlite:///{tmp_path}/touches.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    return lambda: Shop(url, SECTIONS)


def reopened(shop: Shop, opened: Opened) -> Shop:
    """The shop after a restart."""
    shop.close()
    return opened()


def test_ten_thousand_touches_are_spread(opened):
    """They are due uniformly over ten minutes, go in the minute in which they are due, and nobody who opted out or was
    contacted meanwhile gets one; restarts change nothing.
    """
    shop = opened()
    due = {number: shop.defer(f"customer-{number}", number).due_at - MORNING for number in range(NUMBER)}
    shares = sorted(wait / (SPREAD_MINUTES * MINUTE) for wait in due.values())
    farthest = max(abs(share - place / NUMBER) for place, share in enumerate(shares))
    assert farthest < KOLMOGOROV / NUMBER**0.5
    assert 0 <= shares[0] < shares[-1] < 1

    shop = reopened(shop, opened)
    assert [due[number] for number in range(100)] == [
        shop.defer(f"customer-{number}").due_at - MORNING for number in range(100)
    ]
    for number in GONE:
        shop.governor.consent.opt_out(f"customer-{number}")
    shop.clock.set(MORNING)
    for number in FULL:
        shop.governor.record(f"customer-{number}", MORNING, channel="email", id="another")

    came: dict[int, list[int]] = {}
    ends: Counter[str] = Counter()
    for minute in range(1, SPREAD_MINUTES + 1):
        report = shop.run_at(MORNING + minute * MINUTE, lambda _, number: came.setdefault(minute, []).append(number))  # noqa: B023
        ends.update(counts(report))
        if minute == SPREAD_MINUTES // 2:
            shop = reopened(shop, opened)

    assert {"sent": NUMBER - len(GONE) - len(FULL), "refused": len(GONE), "deferred": len(FULL)} == ends
    sent = [number for numbers in came.values() for number in numbers]
    assert set(range(NUMBER)) - {*GONE, *FULL} == set(sent)
    assert len(sent) == len(set(sent))
    assert {minute: {number for number in sent if minute - 1 < due[number] / MINUTE <= minute} for minute in came} == {
        minute: set(numbers) for minute, numbers in came.items()
    }
    assert {"sent": len(FULL)} == counts(shop.run_at(MORNING + DAY + SPREAD_MINUTES * MINUTE))
    shop.close()
