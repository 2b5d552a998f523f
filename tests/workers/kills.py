"""Processes that are killed with SIGKILL, wherever they happen to be.

What a victim acknowledged it has written to a pipe, which outlives it. Victims are forks of a new process that never
opened a store.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from fairtouch import Governor
from fairtouch.testing import FrozenClock
from tests.workers import HOUR, NOON, PATIENCE, SPAWN, Sections, govern
from tests.workers.forks import forked, joined

Tell = Callable[[str], Any]
CUSTOMERS = 40


def killed_after(work: Callable[..., None], *arguments: Any) -> Any:
    """Start a process that does `work(tell, *arguments)`, kill it when it has told something, and return that."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_tell_and_block, args=(theirs, work, *arguments), daemon=True)
    process.start()
    assert ours.poll(PATIENCE)
    told = ours.recv()
    process.kill()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL
    process.close()
    return told


def _tell_and_block(theirs: Connection, work: Callable[..., None], *arguments: Any) -> None:
    def tell(message: Any) -> None:
        theirs.send(message)
        theirs.recv()

    work(tell, *arguments)


def reserve_and_tell(tell: Tell, url: str, sections: Sections, touch_id: str) -> None:
    """Reserve, and tell the reservation; nothing comes after."""
    governor = govern(url, sections, clock=FrozenClock(NOON))
    reservation = governor.reserve("ada", channel="email", id=touch_id).reservation
    assert reservation is not None
    tell(reservation.to_json())


def send_and_tell(tell: Tell, url: str, sections: Sections, touch_id: str) -> None:
    """Send within `touch`, and tell when the message is out and the touch not yet confirmed."""
    governor = govern(url, sections, clock=FrozenClock(NOON))
    with governor.touch("ada", channel="email", id=touch_id):
        tell("sent")


@dataclass(frozen=True)
class Line:
    """A victim's own end of its two pipes."""

    telling: int
    hearing: int

    def tell(self, text: str) -> None:
        """Tell something to those who live longer."""
        os.write(self.telling, f"{text}\n".encode())

    def wait(self) -> None:
        """Wait until told to go on."""
        os.read(self.hearing, 1)


class Victim:
    """A fork that does `work(line, *arguments)`, until it is killed or done."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        (reading, telling), (hearing, ordering) = os.pipe(), os.pipe()
        self.process = forked(_work, (reading, ordering), work, Line(telling, hearing), *arguments)
        os.close(telling)
        os.close(hearing)
        self._told: BinaryIO = os.fdopen(reading, "rb")
        self._orders: BinaryIO = os.fdopen(ordering, "wb", buffering=0)

    def lines(self) -> Iterator[str]:
        """What it tells, until the end of its life."""
        while line := self._told.readline():
            yield line.decode().strip()

    def go_on(self) -> None:
        """Let it go on."""
        self._orders.write(b"+")

    def kill(self) -> list[str]:
        """Kill it, and return what it had told and nobody had read."""
        os.kill(self.process, signal.SIGKILL)
        return self.bury()[1]

    def bury(self) -> tuple[int, list[str]]:
        """Wait for its end: what it left with, and what it had told and nobody had read."""
        (status,) = joined([self.process])
        with self._told, self._orders:
            return status, list(self.lines())


def _work(ends: Iterable[int], work: Callable[..., None], *arguments: Any) -> None:
    for end in ends:
        os.close(end)  # so that whoever forgets a victim ends it
    work(*arguments)


# Anything, killed anywhere


def live(line: Line, url: str, sections: Sections, seed: int) -> None:
    """Reserve, confirm, release, opt out and suppress for ever, and tell what was acknowledged."""
    dice, governor = random.Random(seed), govern(url, sections)
    while True:
        customer = f"customer-{dice.randrange(CUSTOMERS)}"
        if dice.random() < 0.15:
            _leave(line.tell, governor, customer, dice.randrange(1_000_000))
        else:
            _send(line.tell, governor, customer, f"id-{dice.randrange(200)}", fails=dice.random() < 0.2)


def _leave(tell: Tell, governor: Governor, customer: str, number: int) -> None:
    topic, address = f"topic-{number}", f"{number}@example.org"
    governor.consent.opt_out(customer, channel="sms", topic=topic)
    tell(f"opted_out {customer} {topic}")
    governor.suppressions.add(address, "email")
    tell(f"suppressed {customer} {address}")


def _send(tell: Tell, governor: Governor, customer: str, touch_id: str, *, fails: bool) -> None:
    reservation = governor.reserve(customer, channel="email", id=touch_id).reservation
    if reservation is None:
        return
    if fails:
        governor.release(reservation)
        return
    tell(f"reserved {customer} {touch_id}")
    governor.confirm(reservation)
    tell(f"confirmed {customer} {touch_id}")


def kill_at_random(url: str, sections: Sections, kills: int, seed: int) -> list[tuple[str, str, str]]:
    """Keep two processes at `live`, and kill one of them again and again; what they told: (what, customer, which)."""
    dice, told = random.Random(seed), []
    victims = [Victim(live, url, sections, number) for number in range(2)]
    for number in range(kills):
        index = dice.randrange(2)
        told += islice(victims[index].lines(), dice.randrange(1, 30))
        told += victims[index].kill()
        victims[index] = Victim(live, url, sections, 2 + number)
    told += [line for victim in victims for line in victim.kill()]
    return [(what, customer, which) for what, customer, which in map(str.split, told)]


# A new file, killed while it is made


def make(line: Line, url: str) -> None:
    """Open a new file."""
    line.tell("now")
    govern(url, {}).close()


def kill_while_opening(folder: str, kills: int, seed: int) -> None:
    """Kill so many processes while each of them makes a file, a little later every time."""
    dice = random.Random(seed)
    for number in range(kills):
        victim = Victim(make, f"sqlite:///{folder}/{number}.db")
        next(victim.lines())
        deadline = time.monotonic() + dice.random() * number / kills * 0.05
        while time.monotonic() < deadline:
            pass  # a sleep would not be as exact
        victim.kill()


# A campaign, killed between reserve and confirm


def campaign(line: Line, url: str, sections: Sections, ids: int, hours: int) -> None:
    """Send what may be sent, so many hours after noon; tell every message that goes out, and wait before confirming."""
    governor = govern(url, sections, clock=FrozenClock(NOON + hours * HOUR))
    for number in range(ids):
        with_id = {"channel": "email", "id": f"id-{number}"}
        reservation = governor.reserve(f"customer-{number % CUSTOMERS}", **with_id).reservation
        if reservation is not None:
            line.tell(f"id-{number}")
            line.wait()
            governor.confirm(reservation)


def kill_campaign(url: str, sections: Sections, ids: int, kills: int, seed: int) -> list[str]:
    """Run a campaign that is killed after some messages and run again an hour later, at last to its end: its sends."""
    dice, sent = random.Random(seed), []
    for hours in range(kills):
        victim = Victim(campaign, url, sections, ids, hours)
        sent += _watch(victim, dice.randrange(1, 2 * ids // kills), confirms_last=dice.random() < 0.5)
        sent += victim.kill()
    last = Victim(campaign, url, sections, ids, kills)
    sent += _watch(last, ids, confirms_last=True)
    status, rest = last.bury()
    assert (0, []) == (status, rest)
    return sent


def _watch(victim: Victim, messages: int, *, confirms_last: bool) -> Iterator[str]:
    """So many messages of a victim; the last one it may be confirming when it is killed, or still be waiting to."""
    for count, message in enumerate(islice(victim.lines(), messages), start=1):
        if count < messages or confirms_last:
            victim.go_on()
        yield message


def after_kills(kills: int) -> FrozenClock:
    """The time when every lease of a killed campaign is over."""
    return FrozenClock(NOON + kills * HOUR + timedelta(days=1))
