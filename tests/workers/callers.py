"""Workers that meet: at a file that is not there yet, at one id, at one fact, and at customers who are leaving."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fairtouch import FairtouchError, Governor, IdConflict, Reservation, StoreError, Touch
from fairtouch.stores.port import Recorded
from tests.workers import NOON, Ready, Sections, answer, govern, in_threads, in_two_threads, told_to_stop


def open_new_files(ready: Ready, number: int, folder: str, count: int) -> list[str]:
    """Open so many new files at the same instant as the others, and say what went wrong."""
    errors = []
    for index in range(count):
        ready()
        try:
            govern(f"sqlite:///{folder}/{index}.db", {}).close()
        except FairtouchError as error:
            errors.append(repr(error))
    return errors


def reserve_in_pairs(ready: Ready, number: int, governor: Governor, rounds: int) -> list[str]:
    """In every round reserve an id that one other caller reserves at the same instant: "allowed", or why not."""
    answers = []
    for index in range(rounds):
        touch = Touch("ada", channel="email", id=f"{index}:{number // 2}")
        ready()
        answers.append(answer(governor.reserve(touch)))
    return answers


def reserve_in_pairs_in_process(ready: Ready, number: int, url: str, rounds: int) -> list[str]:
    """`reserve_in_pairs`, with a governor of the process's own."""
    with govern(url, {}) as governor:
        return reserve_in_pairs(ready, number, governor, rounds)


def reserve_other_content(ready: Ready, number: int, governor: Governor, rounds: int) -> list[str]:
    """In every round reserve one id for a message of one's own: "allowed", or "conflict"."""
    answers = []
    for index in range(rounds):
        touch = Touch("ada", channel="email", campaign=f"campaign-{number}", id=f"{index}")
        ready()
        try:
            answers.append(answer(governor.reserve(touch)))
        except IdConflict:
            answers.append("conflict")
    return answers


def reserve_one_id(ready: Ready, number: int, governor: Governor, count: int) -> Counter[str]:
    """Reserve one and the same id so many times."""
    ready()
    return Counter(answer(governor.reserve("ada", channel="email", id="news-1")) for _ in range(count))


def reserve_one_id_in_process(ready: Ready, number: int, url: str, sections: Sections, count: int) -> Counter[str]:
    """`reserve_one_id`, with a governor of the process's own."""
    with govern(url, sections) as governor:
        return reserve_one_id(ready, number, governor, count)


def verbs(governor: Governor, reservations: Sequence[Reservation], index: int) -> dict[str, Callable[[], Any]]:
    """Calls that change something for the first who makes them; in every round something else."""
    touch = Touch("eve", channel="email", id=f"record-{index}")
    return {
        "record": lambda: governor.record(touch, at=NOON) is Recorded.KEPT,
        "suppress": lambda: governor.suppressions.add(f"{index}@example.org", "email"),
        "hard_bounce": lambda: governor.feedback(
            "hard_bounce", address=f"b{index}@example.org", channel="email", id=f"bounce-{index}"
        ),
        "reply": lambda: governor.feedback("reply", customer="eve", channel="email", id=f"reply-{index}"),
        "confirm": lambda: governor.confirm(reservations[index]).changed,
        "release": lambda: governor.release(reservations[index]).changed,
    }


def race(ready: Ready, number: int, governor: Governor, verb: str, reservations: Sequence[Reservation]) -> list[bool]:
    """In every round make a call that everybody makes at the same instant: whether it changed anything."""
    changed = []
    for index in range(len(reservations)):
        call = verbs(governor, reservations, index)[verb]
        ready()
        changed.append(call())
    return changed


def race_in_process(ready: Ready, number: int, url: str, verb: str, reservations: Sequence[str]) -> list[bool]:
    """`race`, with a governor of the process's own."""
    with govern(url, {}) as governor:
        return race(ready, number, governor, verb, [Reservation.from_json(text) for text in reservations])


def confirm_or_release(ready: Ready, number: int, governor: Governor, reservations: Sequence[Reservation]) -> None:
    """In every round one of two callers confirms what the other one releases."""
    for index, reservation in enumerate(reservations):
        ready()
        if (number + index) % 2:
            governor.confirm(reservation)
        else:
            governor.release(reservation)


FACTS: tuple[dict[str, Any], ...] = (
    {"timezone": "Europe/Vienna"},
    {"country": "AT"},
    {"region": "AT-9"},
    {"groups": ("one", "two")},
    {"wishes": {"email": "1 per 7 days"}},
    {"quiet_hours": {"mon-sun": "09:00-18:00"}},
)


def tell_a_fact(ready: Ready, number: int, governor: Governor, rounds: int) -> None:
    """In every round store another fact about a customer than the others do at the same instant."""
    for index in range(rounds):
        ready()
        governor.customers.set(f"customer-{index}", **FACTS[number % len(FACTS)])


def tell_a_fact_in_process(ready: Ready, number: int, url: str, rounds: int) -> None:
    """`tell_a_fact`, with a governor of the process's own."""
    with govern(url, {}) as governor:
        tell_a_fact(ready, number, governor, rounds)


def change_minds(ready: Ready, number: int, governor: Governor, words: int) -> None:
    """Opt the same customer in and out, in turn, so many times."""
    ready()
    for index in range(words):
        say = governor.consent.opt_in if (number + index) % 2 else governor.consent.opt_out
        say("ada", channel="email", topic="news")


def change_minds_in_process(ready: Ready, number: int, url: str, words: int) -> None:
    """`change_minds`, with a governor of the process's own."""
    with govern(url, {}) as governor:
        change_minds(ready, number, governor, words)


def send_until_closed(ready: Ready, number: int, governor: Governor) -> int:
    """Reserve until the governor is closed, which the first worker does; how many reservations there were."""
    ready()
    for count in itertools.count():
        if (number, count) == (0, 20):
            governor.close()
        try:
            governor.reserve(f"customer-{number}", channel="email")
        except StoreError:
            return count
    raise AssertionError("counting ended")


def close_while_sending(folder: str, rounds: int) -> list[list[int]]:
    """Let threads share a governor that one of them closes, on a new file in every round; what each reserved."""
    urls = [f"sqlite:///{folder}/{index}.db" for index in range(rounds)]
    return [in_threads(send_until_closed, govern(url, {})) for url in urls]


def send_until(ready: Ready, number: int, governor: Governor, customers: int, stopped: Callable[[], bool]) -> int:
    """Reserve for everybody in turn until told to stop, then once more; how many of these last were allowed."""
    names = [f"customer-{index}" for index in range(customers)]
    random.Random(number).shuffle(names)
    ready()
    while not stopped():
        for name in names:
            governor.reserve(name, channel="email")
    return sum(governor.reserve(name, channel="email").allowed for name in names)


def send_until_in_process(ready: Ready, number: int, url: str, customers: int) -> int:
    """`send_until` in two threads that share the process's governor."""
    with govern(url, {}) as governor:
        return sum(in_two_threads(ready, number, send_until, governor, customers, told_to_stop))
