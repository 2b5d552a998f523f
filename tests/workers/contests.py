"""Workers that contest the same slots: four nested caps, of which another one binds each customer."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fairtouch import AsyncGovernor, Decision, FairtouchError, Governor, Touch
from tests.workers import Ready, Sections, answer, govern, govern_async, in_two_threads, used

CUSTOMERS = 1_000
TIGHTEST = (3, 5, 8, 12)
KINDS: tuple[dict[str, str], ...] = (
    {"channel": "email", "topic": "news"},
    {"channel": "email"},
    {"channel": "sms"},
    {"channel": "sms", "category": "service"},
)


def nested_caps() -> Sections:
    """Four caps, each over a wider selection than the one before, in a zone where it is about noon."""
    offset = 12 - datetime.now(UTC).hour
    return {
        "customer": {"timezones": [f"Etc/GMT{-offset:+d}"]},
        "caps": {
            "daily": {"limit": "3 per calendar day", "select": {"channels": ["email"], "topics": ["news"]}},
            "weekly": {"limit": "5 per 7 days", "select": {"channels": ["email"], "categories": ["marketing"]}},
            "monthly": {"limit": "8 per 30 days", "select": {"categories": ["marketing"]}},
            "ever": {"limit": "12 per lifetime"},
        },
    }


def touch_for(number: int) -> Touch:
    """What a customer is sent, over and over. Its kind says which caps apply, and so which is her tightest."""
    return Touch(f"customer-{number}", **KINDS[number % len(KINDS)])


def full(number: int) -> dict[str, int]:
    """A customer's tightest cap full, and every wider one holding as many."""
    kind = number % len(KINDS)
    return dict.fromkeys(("daily", "weekly", "monthly", "ever")[kind:], TIGHTEST[kind])


@dataclass
class Tally:
    """What became of a worker's attempts; `kept`: the slots that it took for each customer and did not give back."""

    kept: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    released: int = 0
    errors: list[str] = field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        kept, answers = self.kept + other.kept, self.answers + other.answers
        return Tally(kept, answers, self.released + other.released, self.errors + other.errors)


@dataclass
class Standing:
    """How the store stands: per customer how full each cap is, and how many touches the ledger holds."""

    caps: dict[int, dict[str, int | None]]
    ledgers: dict[int, int]


def standing(governor: Governor) -> Standing:
    """How every customer stands."""
    caps = {number: used(governor.check(touch_for(number))) for number in range(CUSTOMERS)}
    return Standing(caps, {number: len(governor.history(f"customer-{number}")) for number in range(CUSTOMERS)})


def contest(ready: Ready, number: int, governor: Governor, tries: int) -> Tally:
    """Try every customer so many times, in an order of one's own.

    One send in ten fails and is tried again, so that a slot that was given back is asked for once more. Half of the
    others are confirmed.
    """
    dice, tally = random.Random(number), Tally()
    order = list(range(CUSTOMERS)) * tries
    dice.shuffle(order)
    ready()
    for customer in order:
        try:
            _attempt(governor, customer, dice, tally)
        except FairtouchError as error:
            tally.errors.append(repr(error))
    return tally


def _attempt(governor: Governor, customer: int, dice: random.Random, tally: Tally) -> None:
    decision = _reserve(governor, customer, tally)
    if decision.reservation is not None and dice.random() < 0.1:
        governor.release(decision.reservation)
        tally.kept[customer] -= 1
        tally.released += 1
        decision = _reserve(governor, customer, tally)
    if decision.reservation is not None and dice.random() < 0.5:
        governor.confirm(decision.reservation)


def _reserve(governor: Governor, customer: int, tally: Tally) -> Decision:
    decision = governor.reserve(touch_for(customer))
    tally.kept[customer] += decision.allowed
    tally.answers[answer(decision)] += 1
    return decision


def contest_in_process(ready: Ready, number: int, url: str, sections: Sections, tries: int) -> Tally:
    """`contest`, with a governor of the process's own."""
    with govern(url, sections) as governor:
        return contest(ready, number, governor, tries)


def contest_in_process_of_threads(ready: Ready, number: int, url: str, sections: Sections, tries: int) -> Tally:
    """`contest` in two threads that share the process's governor."""
    with govern(url, sections) as governor:
        return sum(in_two_threads(ready, number, contest, governor, tries), Tally())


TASKS = 20


async def contest_in_tasks(ready: Ready, number: int, url: str, sections: Sections, tries: int) -> Tally:
    """`contest` in tasks of one event loop, which share an asynchronous governor and the work."""
    dice, tally = random.Random(number), Tally()
    order = list(range(CUSTOMERS)) * tries
    dice.shuffle(order)
    ready()
    async with govern_async(url, sections) as governor, asyncio.TaskGroup() as group:
        for task in range(TASKS):
            group.create_task(_work(governor, order[task::TASKS], random.Random(number * TASKS + task), tally))
    return tally


async def _work(governor: AsyncGovernor, order: list[int], dice: random.Random, tally: Tally) -> None:
    for customer in order:
        try:
            await _attempt_async(governor, customer, dice, tally)
        except FairtouchError as error:
            tally.errors.append(repr(error))


async def _attempt_async(governor: AsyncGovernor, customer: int, dice: random.Random, tally: Tally) -> None:
    decision = await _reserve_async(governor, customer, tally)
    if decision.reservation is not None and dice.random() < 0.1:
        await governor.release(decision.reservation)
        tally.kept[customer] -= 1
        tally.released += 1
        decision = await _reserve_async(governor, customer, tally)
    if decision.reservation is not None and dice.random() < 0.5:
        await governor.confirm(decision.reservation)


async def _reserve_async(governor: AsyncGovernor, customer: int, tally: Tally) -> Decision:
    decision = await governor.reserve(touch_for(customer))
    tally.kept[customer] += decision.allowed
    tally.answers[answer(decision)] += 1
    return decision


def contest_in_process_of_tasks(ready: Ready, number: int, url: str, sections: Sections, tries: int) -> Tally:
    """`contest_in_tasks`, in an event loop of the process's own."""
    return asyncio.run(contest_in_tasks(ready, number, url, sections, tries))


def contest_in_process_somehow(ready: Ready, number: int, url: str, sections: Sections, tries: int) -> Tally:
    """In one thread, in two that share the work, or in tasks: each of three processes does it another way."""
    if number % 3 == 0:
        return contest_in_process(ready, number, url, sections, tries)
    if number % 3 == 1:
        return contest_in_process_of_threads(ready, number, url, sections, tries // 2)
    return contest_in_process_of_tasks(ready, number, url, sections, tries)
