"""How a plan stands in calls: whichever threads tell it of kinds, and however often, each kind fills what it should."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from fairtouch import Touch
from fairtouch.plan import Plan
from fairtouch.planning import Planner
from fairtouch.stores.redis_asks import PlanWords, Told
from fairtouch.touch import Kind
from tests.workers import Ready, in_threads, worded

ROUNDS = 40
CHANNELS = [f"channel-{number}" for number in range(15)]
CAPS = {
    f"{channels[0]}-{channels[1]}": {
        "limit": "5 per 7 days",
        "select": {"channels": ["email"]},
        "counts": {"channels": channels},
    }
    for channels in ([CHANNELS[place], CHANNELS[place - 1]] for place in range(15))
}
KINDS = [
    (number, Kind(channel, "marketing", None, f"campaign-{campaign}"))
    for number, (campaign, channel) in enumerate(product(range(20), CHANNELS), start=1)
]


def a_plan() -> Plan:
    """A plan whose conditions are filled by different channels."""
    policy = worded({"channels": CHANNELS, "caps": CAPS})
    return Planner(policy, 900_000).plan(Touch("ada", channel="email"), "", 1_774_000_000_000)


def said(told: Told, conditions: int) -> dict[int, tuple[int, ...]]:
    """Which conditions each kind fills, as a call says it: the number of a kind and of a row, and what a row fills."""
    number = len(told.kinds)
    end = told.packed[-4 * number - conditions * len(told.rows) :]
    kinds, places, filled = end[: 3 * number], end[3 * number : 4 * number], end[4 * number :]
    rows = [filled[place : place + conditions] for place in range(0, len(filled), conditions)]
    return {
        int.from_bytes(kinds[3 * each : 3 * each + 3], "big"): tuple(
            index for index, fills in enumerate(rows[places[each]]) if fills
        )
        for each in range(number)
    }


@contextmanager
def switching_all_the_time() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def tell_all(ready: Ready, number: int, plans: list[PlanWords]) -> None:
    """Tell every plan of every kind, in an order of one's own, at the same time as others do."""
    kinds = random.Random(number).sample(KINDS, len(KINDS))
    ready()
    with switching_all_the_time():
        for words in plans:
            for kind in kinds:
                words.tell([kind])


def test_threads_tell_a_plan_of_kinds():
    """While threads tell the same plans of the same new kinds at once, no kind is said to fill what it does not; told
    once more, each of them is said to fill what it does.
    """
    plan = a_plan()
    plans = [PlanWords(plan, bytes(4), []) for _ in range(ROUNDS)]
    in_threads(tell_all, plans, parties=2)
    expected = {number: plan.fillings[kind] for number, kind in KINDS}
    assert all(said(words.told, len(plan.limits)).items() <= expected.items() for words in plans)
    for words in plans:
        words.tell(KINDS)
    assert [expected] * ROUNDS == [said(words.told, len(plan.limits)) for words in plans]
