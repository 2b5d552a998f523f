"""Processes that send for one queue of deferred touches, all at once, or until they are killed wherever they are.

A victim tells what goes out as it goes out, and what it drops before it leaves the queue, through a pipe that outlives
it. Victims are forks of a new process that never opened a store.
"""

import random
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import fairtouch.stores.redis_urls
import fairtouch.stores.sqlite  # noqa: F401 - imported before the forks, as the line above
from fairtouch import Governor
from fairtouch.deferral import Deferrals, Dropped
from fairtouch.testing import FrozenClock
from tests.workers import HOUR, NOON, Ready, Sections, govern
from tests.workers.kills import Line, Victim

CUSTOMERS = 40
SENDERS = 2
LINES_MAX = 12
MOMENT_SECONDS = 0.004  # the length of a few writes
LONG = 300 * 86_400


def opened(url: str, sections: Sections, at: datetime) -> tuple[Governor, Deferrals]:
    """A governor and its queue, where nothing expires."""
    governor = govern(url, sections, clock=FrozenClock(at))
    return governor, Deferrals(governor, expires_after_seconds=LONG)


# All at once


def send_all(ready: Ready, number: int, url: str, sections: Sections) -> tuple[list[str], int]:
    """Send what is due when all are ready; what went out, and how many turns it took."""
    governor, queue = opened(url, sections, NOON)
    with governor:
        sent: list[str] = []
        ready()
        report = queue.run_due(lambda touch, _: sent.append(str(touch.id)))
        return sent, report.sent + report.deferred + report.already_sent


# Killed


def send_due(line: Line, url: str, sections: Sections, hours: int, is_hasty: bool) -> None:
    """Send what is due so many hours after noon; a hasty one takes a touch out of the queue before it sends it."""
    _, queue = opened(url, sections, NOON + hours * HOUR)

    def send(touch: Any, payload: Any) -> None:
        if is_hasty:
            queue.cancel(touch.customer, touch.id)
            _wait(MOMENT_SECONDS)
        line.tell(f"sent {payload}")

    def drop(dropped: Dropped) -> None:
        line.tell(f"{dropped.fate} {dropped.payload}")

    queue.run_due(send, on_dropped=drop)
    line.tell("done -")


def defer_many(line: Line, url: str, sections: Sections, hours: int, first: int) -> None:
    """Defer for ever, and tell what was kept."""
    _, queue = opened(url, sections, NOON + hours * HOUR)
    while True:
        touch_id = f"id-{first}"
        line.tell(f"asked {touch_id}")
        queue.defer(f"customer-{first % CUSTOMERS}", touch_id, channel="email", id=touch_id)
        line.tell(f"kept {touch_id}")
        first += 1


def kill_senders(url: str, sections: Sections, kills: int, seed: int, is_hasty: bool) -> dict[str, Any]:
    """Kill those who defer and those who send, so many of each pair of senders, hour after hour; at last let one send
    the rest. What was told: by word, how often of each id; and how many entries each ledger holds under one id.
    """
    dice, told = random.Random(seed), Counter[tuple[str, str]]()
    for hours in range(kills // SENDERS):
        keeper = Victim(defer_many, url, sections, hours, 10_000 * (hours + 1))
        kept = [*islice(keeper.lines(), dice.randrange(30, 60))]
        told.update(map(_word, kept + keeper.kill()))
        victims = [Victim(send_due, url, sections, hours, is_hasty) for _ in range(SENDERS)]
        for victim in victims:
            lines = [*islice(victim.lines(), dice.randrange(1, LINES_MAX))]
            _wait(dice.random() * MOMENT_SECONDS)
            told.update(map(_word, lines + victim.kill()))
    return told_in_the_end(url, sections, kills, told)


def told_in_the_end(url: str, sections: Sections, hours: int, told: Counter[tuple[str, str]]) -> dict[str, Any]:
    """Let one send what is left, when every claim and every lease is over, and again a day later."""
    held: Counter[str] = Counter()
    left = 0
    for later in range(3):
        governor, queue = opened(url, sections, NOON + hours * HOUR + later * timedelta(days=1))
        with governor:
            report = queue.run_due(
                lambda _, payload: told.update([("sent", payload)]),
                on_dropped=lambda dropped: told.update([(str(dropped.fate), dropped.payload)]),
                limit=100_000,
            )
            assert report.is_whole
            names = [f"customer-{number}" for number in range(CUSTOMERS)]
            held = Counter(entry.id for name in names for entry in governor.history(name))
            left = sum(queue.cancel(name) for name in names) if later == 2 else 0
    words: dict[str, Any] = {}
    for (word, touch_id), times in told.items():
        words.setdefault(word, {})[touch_id] = times
    return {**words, "held": dict(held), "left": left}


def _word(line: str) -> tuple[str, str]:
    word, touch_id = line.split()
    return word, touch_id


def _wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass  # a sleep would not be as exact
