"""A thousand processes that write to one file, three at a time, and are killed wherever they happen to be.

A process tells each thing twice: "?" before it does it, "!" after the call returned; and "sent" in between, when a
message goes out. Lines come through a pipe that outlives it. Victims are forks of a process in which everything is
imported and the policy compiled, so that they get to work at once.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import fairtouch.stores.sqlite  # noqa: F401 - imported before the forks
from fairtouch import Governor, Policy
from tests.workers import codes, integrity, used
from tests.workers.kills import Line, Victim

CAP = 3
CUSTOMERS = 80  # per round; those of earlier rounds are full
IDS = 6  # per customer: more than slots, and several processes want the same one
VICTIMS = 3
LINES_MAX = 3  # after so many lines at most, read one after the other, a victim is killed
MOMENT_SECONDS = 0.004  # the length of a few writes
_POLICY = Policy.model_validate(
    {
        "name": "kills",
        "customer": {"timezones": ["UTC"]},
        "caps": {"monthly": {"limit": f"{CAP} per 30 days", "select": {"channels": ["email"]}}},
    }
)


# The victims


class Life:
    """What a victim does until it is killed; a hasty one says that it has done something before it does it."""

    def __init__(self, line: Line, url: str, number: int, names: list[str], *, is_hasty: bool) -> None:
        self._line, self._names, self._is_hasty = line, names, is_hasty
        self._dice, self._numbers = random.Random(number), (f"{number}-{index}" for index in count())
        self._governor = Governor(_POLICY, url)

    def live(self) -> None:
        """Do anything, for ever."""
        while True:
            deed = self._dice.choices([self._send, self._fail, self._opt_out, self._suppress], [60, 12, 14, 14])[0]
            deed(self._dice.choice(self._names))

    def _do(self, what: str, about: str, call: Callable[[], Any]) -> Any:
        self._line.tell(f"? {what} {about}")
        if self._is_hasty:
            self._line.tell(f"! {what} {about}")
            return call()
        result = call()
        if what != "reserve" or result:
            self._line.tell(f"! {what} {about}")
        else:
            self._line.tell(f"- {what} {about}")
        return result

    def _send(self, name: str) -> None:
        self._reserved(name, f"id-{self._dice.randrange(IDS)}", fails=False)

    def _fail(self, name: str) -> None:
        self._reserved(name, next(self._numbers), fails=True)

    def _reserved(self, name: str, touch_id: str, *, fails: bool) -> None:
        about, governor = f"{name} {touch_id}", self._governor
        decision = self._do("reserve", about, lambda: governor.reserve(name, channel="email", id=touch_id))
        if decision.reservation is None:
            return
        if fails:
            self._do("release", about, lambda: governor.release(decision.reservation))
            return
        self._line.tell(f"! sent {about}")
        self._do("confirm", about, lambda: governor.confirm(decision.reservation))

    def _opt_out(self, name: str) -> None:
        topic = next(self._numbers)
        self._do("opt_out", f"{name} {topic}", lambda: self._governor.consent.opt_out(name, channel="sms", topic=topic))

    def _suppress(self, name: str) -> None:
        address = f"{next(self._numbers)}@example.org"
        self._do("suppress", f"{name} {address}", lambda: self._governor.suppressions.add(address, "email"))


def _live(line: Line, url: str, number: int, names: list[str], is_hasty: bool) -> None:
    Life(line, url, number, names, is_hasty=is_hasty).live()


# The killer

PROMISES = [
    "opt-outs lost",
    "suppressions lost",
    "reservations lost",
    "confirmations lost",
    "releases lost",
    "sends lost",
    "sent twice",
    "over the cap",
    "counted otherwise",
    "counted without being asked",
    "damage",
]


@dataclass
class Toll:
    """What was found: how many were killed, in the middle of what, how much was acknowledged, what was broken."""

    kills: int = 0
    killed_in: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=lambda: {promise: [] for promise in PROMISES})


def kill_many(url_path: str, rounds: int, kills: int, seed: int, is_hasty: bool) -> Toll:
    """In so many rounds, kill so many processes, and look at the file."""
    toll, path = Toll(), Path(url_path)
    for number in range(rounds):
        dice = random.Random(f"{seed}-{number}")
        names = [f"customer-{number}-{index}" for index in range(CUSTOMERS)]
        lives = (Victim(_live, f"sqlite:///{path}", dice.getrandbits(40), names, is_hasty) for _ in range(kills))
        lines = list(_killed(lives, dice, toll))
        _look(path, names, lines, toll)
    return toll


def _killed(lives: Iterator[Victim], dice: random.Random, toll: Toll) -> Iterator[list[str]]:
    """Keep three alive, kill one of them again and again, and yield each line that any of them told, in words."""
    alive = list(islice(lives, VICTIMS))
    while alive:
        index = dice.randrange(len(alive))
        told = list(islice(alive[index].lines(), dice.randint(0, LINES_MAX)))
        time.sleep(dice.random() * MOMENT_SECONDS)  # waits for nothing: wherever the victim is then
        told += alive[index].kill()
        toll.kills += 1
        words = [line.split() for line in told]
        toll.killed_in[words[-1][1] if words and words[-1][0] == "?" else "between"] += 1
        yield from words
        alive[index : index + 1] = islice(lives, 1)


def _look(path: Path, names: list[str], lines: Iterable[list[str]], toll: Toll) -> None:
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for mark, what, name, which in lines:
        said[mark + what].append((name, which))
        toll.told[mark + what] += 1
    with Governor(_POLICY, f"sqlite:///{path}") as governor:
        for name, topic in said["!opt_out"]:
            if codes(governor.check(name, channel="sms", topic=topic)) != ["opted_out"]:
                toll.broken["opt-outs lost"].append(f"{name} {topic}")
        for name, address in said["!suppress"]:
            if not governor.suppressions.contains(address, "email"):
                toll.broken["suppressions lost"].append(f"{name} {address}")
        for name in names:
            _look_at_ledger(governor, name, {key: _of(name, told) for key, told in said.items()}, toll)
    if integrity(path) != ["ok"]:
        toll.broken["damage"] += integrity(path)


def _of(name: str, told: Iterable[tuple[str, str]]) -> Counter[str]:
    return Counter(which for who, which in told if who == name)


def _look_at_ledger(governor: Governor, name: str, said: dict[str, Counter[str]], toll: Toll) -> None:
    def ids(key: str) -> set[str]:
        return set(said.get(key, ()))

    entries = governor.history(name)
    states = {entry.id: entry.state for entry in entries}
    sent = said.get("!sent", Counter())
    findings = {
        "reservations lost": ids("!reserve") - ids("?release") - set(states),
        "sends lost": set(sent) - set(states),
        "confirmations lost": {touch_id for touch_id in ids("!confirm") if states.get(touch_id) != "confirmed"},
        "releases lost": ids("!release") & set(states),
        "counted without being asked": set(states) - ids("?reserve"),
        "sent twice": {touch_id for touch_id, times in sent.items() if times > 1},
        "over the cap": {f"{len(entries)} in the ledger, {sent.total()} sent"}
        if max(len(entries), sent.total()) > CAP
        else set(),
        "counted otherwise": {str(len(entries))} - {str(used(governor.check(name, channel="email"))["monthly"])},
    }
    for promise, found in findings.items():
        if found:
            toll.broken[promise].append(f"{name}: {sorted(found)}")
