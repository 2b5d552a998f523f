"""Power cuts: a process works on a disk that writes everything down, and every cut leaves what such a disk may leave.

Rule 1: what was synced is there. Rule 2: of what was not, each write is there, is not, or is there in some of its
sectors; each truncation, new name and deleted name is there or not; independently of each other, whatever the order.
Rule 3: -shm files are memory, and gone. Rule 4: a cut is judged by what the process had acknowledged before it; the
one operation that was under way may have happened or not, and nothing else may.
"""

import random
import shutil
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fairtouch import FairtouchError, Governor, Policy, Reservation
from fairtouch.testing import FrozenClock
from tests.faulty_disk import Event, lay_disk
from tests.workers import HOUR, NOON, codes, integrity

SECTOR = 512
REOPENED_AFTER = {10, 30, 80}  # operations; from then on the log grows until it is copied and begun anew
LONG = 12_000  # characters of evidence, which fill three pages
DATABASE = "touches.db"
NAMES = [f"customer-{number}" for number in range(8)]
CAPS = {"email": 3, "sms": 2, "push": 1}  # per lifetime, per week, per day
TOPICS = ["one", "two"]
WEEK = timedelta(days=7)
EVER = datetime.min.replace(tzinfo=UTC)
POLICY = {
    "name": "power cuts",
    "ledger": {"keep": "30 days"},
    "customer": {"timezones": ["UTC"]},
    "caps": {
        "ever": {"limit": "3 per lifetime", "select": {"channels": ["email"]}},
        "weekly": {"limit": "2 per 7 days", "select": {"channels": ["sms"]}},
        "daily": {"limit": "1 per 1 day", "select": {"channels": ["push"]}},
    },
}

Word = Literal[
    *("admitted", "refused", "confirmed", "released", "recorded", "opted_in", "opted_out", "suppressed"),
    *("unsuppressed", "set", "pruned", "closed", "reopened"),
]
Key = tuple[str, ...]
Said = tuple[Any, ...]  # the word, the customer unless everybody is meant, and what else
View = tuple[Any, ...]
_POLICY = Policy.model_validate(POLICY)
Lie = Callable[[Event], bool]

# Disks that lie: which syncs they only pretend to have done.
LIES: dict[str, Lie] = {
    "nothing": lambda event: False,
    "every sync": lambda event: True,
    "the log": lambda event: event.kind == "sync" and event.name.endswith("-wal"),
    "the database": lambda event: event.kind == "sync" and event.name == DATABASE,
    "the folder": lambda event: event.kind == "sync folder",
}


# The work


@dataclass
class Note:
    """One operation: after which event it had been acknowledged, when, what it came to, and how people look since."""

    word: Word
    key: Key
    now: datetime
    end: int
    views: dict[str, View]


def view(governor: Governor, name: str) -> View:
    """All that can be read about a customer; how full caps are is found out by sending."""
    return (
        tuple(governor.history(name)),
        tuple(governor.consent.history(name)),
        governor.customers.get(name),
        governor.suppressions.contains(f"{name}@example.org", "email"),
    )


class Day:
    """A seeded day's work on a file; `notes` say what was acknowledged, and after which event."""

    def __init__(self, url: str, seed: int, events: list[Event]) -> None:
        self.notes: list[Note] = []
        self._url, self._dice, self._events = url, random.Random(seed), events
        self._clock = FrozenClock(NOON)
        self._open: list[tuple[datetime, Key, Reservation]] = []
        self._governor = self._opened()

    def _opened(self) -> Governor:
        return Governor(_POLICY, self._url, clock=self._clock)

    def work(self, operations: int) -> None:
        """Do so many things, and close the file."""
        deeds = {
            self._reserve: 34,
            self._settle: 26,
            self._opt_out: 16,
            self._opt_in: 14,
            self._record: 6,
            self._suppress: 5,
            self._set: 4,
            self._unsuppress: 2,
            self._prune: 2,
        }
        for number in range(operations):
            self._clock.advance(self._dice.choice([timedelta(seconds=1), HOUR / 4, HOUR, 6 * HOUR]))
            (deed,) = self._dice.choices(list(deeds), list(deeds.values()))
            if number in REOPENED_AFTER:
                deed = self._reopen
            word, *key = deed(self._dice.choice(NAMES), str(number))
            end = len(self._events)
            views = {name: view(self._governor, name) for name in key[:1] or NAMES}
            self.notes.append(Note(word, tuple(key), self._clock(), end, views))
        self._governor.close()
        self.notes.append(Note("closed", (), self._clock(), len(self._events), {}))

    def _reserve(self, name: str, number: str) -> Said:
        channel = self._dice.choice(list(CAPS))
        reservation = self._governor.reserve(name, channel=channel, id=number).reservation
        if reservation is None:
            return "refused", name
        self._open.append((self._clock(), (name, channel, number), reservation))
        return "admitted", name, channel, number

    def _settle(self, name: str, number: str) -> Said:
        self._open = [touch for touch in self._open if touch[0] > self._clock() - WEEK]
        if not self._open:
            return self._reserve(name, number)
        _, key, reservation = self._open.pop(self._dice.randrange(len(self._open)))
        if self._dice.random() < 0.5:
            self._governor.confirm(reservation)
            return "confirmed", *key
        self._governor.release(reservation)
        return "released", *key

    def _record(self, name: str, number: str) -> Said:
        self._governor.record(name, self._clock() - self._dice.choice([HOUR, WEEK]), channel="email", id=number)
        return "recorded", name, "email", number

    def _opt_in(self, name: str, number: str) -> Said:
        topic = self._dice.choice(TOPICS)
        self._governor.consent.opt_in(name, channel="voice", topic=topic, evidence={"text": "y" * LONG})
        return "opted_in", name, topic

    def _opt_out(self, name: str, number: str) -> Said:
        topic = self._dice.choice(TOPICS)
        self._governor.consent.opt_out(name, channel="voice", topic=topic, evidence={"text": "n" * LONG})
        return "opted_out", name, topic

    def _suppress(self, name: str, number: str) -> Said:
        self._governor.suppressions.add(f"{name}@example.org", "email", event_id=number)
        return "suppressed", name

    def _unsuppress(self, name: str, number: str) -> Said:
        self._governor.suppressions.remove(f"{name}@example.org", "email")
        return "unsuppressed", name

    def _set(self, name: str, number: str) -> Said:
        self._governor.customers.set(name, country=self._dice.choice(["AT", "US"]), groups=[f"group-{number}"])
        return "set", name

    def _prune(self, name: str, number: str) -> Said:
        self._governor.prune()
        return ("pruned",)

    def _reopen(self, name: str, number: str) -> Said:
        self._governor.close()
        self._governor = self._opened()
        return ("reopened",)


# The disk


class Platter:
    """What is on a disk for sure, and what only in its cache."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self._files: dict[int, bytearray] = {}
        self._unsynced: dict[int, list[Event]] = {}
        self._names: dict[str, int] = {}
        self._unsynced_names: list[Event] = []

    def take(self, event: Event) -> None:
        """Let the next thing happen to the disk."""
        if event.kind in ("sync", "sync folder"):
            self._sync(event)
        elif event.kind in ("create", "unlink"):
            self._unsynced_names.append(event)
        else:
            self._unsynced.setdefault(event.file, []).append(event)

    def _sync(self, event: Event) -> None:
        if self._lie(event):
            return
        if event.kind == "sync folder":
            for change in self._unsynced_names:
                _rename(self._names, change)
            self._unsynced_names.clear()
        else:
            content = self._files.setdefault(event.file, bytearray())
            for change in self._unsynced.pop(event.file, ()):
                _change(content, change)

    def cut(self, dice: random.Random, folder: Path) -> None:
        """Write what is left of the files when the power fails now."""
        kept = dice.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        torn = dice.choice([0.0, 0.3])
        names = dict(self._names)
        for change in self._unsynced_names:
            if dice.random() < kept:
                _rename(names, change)
        for name, file in names.items():
            content = bytearray(self._files.get(file, b""))
            for change in self._unsynced.get(file, ()):
                if change.kind == "write" and dice.random() < torn:
                    for sector in _sectors(change):
                        if dice.random() < 0.5:
                            _change(content, sector)
                elif dice.random() < kept:
                    _change(content, change)
            (folder / name).write_bytes(content)

    def whole(self) -> dict[str, bytes]:
        """The files as they are while the power lasts."""
        names = dict(self._names)
        for change in self._unsynced_names:
            _rename(names, change)
        for file in names.values():
            content = self._files.setdefault(file, bytearray())
            for change in self._unsynced.pop(file, ()):
                _change(content, change)
        return {name: bytes(self._files[file]) for name, file in names.items()}


def _rename(names: dict[str, int], change: Event) -> None:
    if change.kind == "create":
        names[change.name] = change.file
    elif names.get(change.name) == change.file:
        del names[change.name]


def _change(content: bytearray, change: Event) -> None:
    if change.kind == "truncate":
        del content[change.offset :]
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _sectors(write: Event) -> Iterator[Event]:
    """A write, in the parts of it that lie in one sector each."""
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield write._replace(offset=start, data=write.data[start - write.offset : stop - write.offset])
        start = stop


# The judgement

PROMISES = [
    "the file opens",
    "the file is whole",
    "opt-outs stand",
    "suppressions stand",
    "no cap is exceeded",
    "no slot is burnt",
    "nothing is half done",
    "all was written down",
]


@dataclass
class Aftermath:
    """What was found: how many cuts there were, while what was under way, and how each promise was broken."""

    cuts: int = 0
    checkpoints: int = 0
    under_way: Counter[str] = field(default_factory=Counter)
    broken: dict[str, list[str]] = field(default_factory=lambda: {promise: [] for promise in PROMISES})

    def check(self, promise: str, is_kept: bool, how: str) -> None:
        """A promise was kept, or not."""
        if not is_kept:
            self.broken[promise].append(how)


@dataclass
class Standing:
    """What was acknowledged so far, and how people look since."""

    views: dict[str, View]
    now: datetime = NOON
    opted_out: set[Key] = field(default_factory=set)
    suppressed: set[Key] = field(default_factory=set)
    counted: dict[Key, datetime] = field(default_factory=dict)

    def hear(self, note: Note) -> None:
        """An operation was acknowledged."""
        self.views = self.views | note.views
        self.now = note.now
        match note.word:
            case "opted_out":
                self.opted_out.add(note.key)
            case "opted_in":
                self.opted_out.discard(note.key)
            case "suppressed":
                self.suppressed.add(note.key)
            case "unsuppressed":
                self.suppressed.discard(note.key)
            case "admitted" | "recorded":
                self.counted[note.key] = note.now
            case "released":
                del self.counted[note.key]

    def and_perhaps(self, note: Note | None) -> list["Standing"]:
        """How things may stand when an operation was under way."""
        if note is None:
            return [self]
        after = Standing(self.views, note.now, self.opted_out.copy(), self.suppressed.copy(), self.counted.copy())
        after.hear(note)
        return [self, after]


class Plan(NamedTuple):
    """So many operations by a seed, then so many cuts; on which disk, and in a store with which options."""

    seed: int
    operations: int
    cuts: int
    lie: str = "nothing"
    query: str = ""


def cut_and_look(folder: str, plan: Plan) -> Aftermath:
    """Do a day's work, cut the power at many points of it, and look at what each cut leaves."""
    disk, place = lay_disk(), Path(folder)
    with disk.noting() as events:
        day = Day(f"sqlite:///{place / DATABASE}{plan.query}", plan.seed, events)
        opened_at = len(events)
        day.work(plan.operations)
    found = Aftermath(checkpoints=_checkpoints(events))
    dice, platter, taken = random.Random(plan.seed), Platter(LIES[plan.lie]), 0
    standing, notes = Standing(_views_of_nothing(place / "empty")), deque(day.notes)
    for number in _cut_points(dice, events, day.notes, plan.cuts):
        for event in events[taken:number]:
            platter.take(event)
        taken = number
        while notes and notes[0].end <= number:
            standing.hear(notes.popleft())
        under_way = notes[0] if notes else None
        found.cuts += 1
        found.under_way["opening" if number < opened_at else under_way.word if under_way else "nothing"] += 1
        image = place / f"cut-{number}"
        image.mkdir()
        platter.cut(dice, image)
        where = f"{plan}, cut {number} of {len(events)}"
        _look(image / DATABASE, standing.and_perhaps(under_way), found, where)
        shutil.rmtree(image)
    for event in events[taken:]:
        platter.take(event)
    on_disk = {path.name: path.read_bytes() for path in place.glob(f"{DATABASE}*")}
    found.check("all was written down", platter.whole() == on_disk, f"{plan}")
    return found


def _checkpoints(events: Sequence[Event]) -> int:
    """How often a log was begun anew after it had been copied to the database, without being closed."""
    begun = [event.file for event in events if event.kind == "write" and event.offset == 0 and "-wal" in event.name]
    return len(begun) - len(set(begun))


def _cut_points(dice: random.Random, events: Sequence[Event], notes: Sequence[Note], cuts: int) -> list[int]:
    """Half of them anywhere; the others right after an acknowledgement, or next to what is rare: a change of the
    database, of a file's size, of a name.
    """
    rare = {
        number + after
        for number, event in enumerate(events)
        if event.name == DATABASE or event.kind not in ("write", "sync")
        for after in (0, 1)
    }
    special = [sorted(rare), [note.end for note in notes]]
    chosen = set(dice.sample(range(len(events) + 1), cuts // 2))
    while len(chosen) < cuts:
        chosen.add(dice.choice(dice.choice(special)))
    return sorted(chosen)


def _opened(path: Path, now: datetime) -> Governor:
    return Governor(_POLICY, f"sqlite:///{path}", clock=FrozenClock(now))


def _views_of_nothing(folder: Path) -> dict[str, View]:
    folder.mkdir()
    with _opened(folder / DATABASE, NOON) as governor:
        return {name: view(governor, name) for name in NAMES}


def _look(path: Path, possible: list[Standing], found: Aftermath, where: str) -> None:
    try:
        with _opened(path, possible[-1].now) as governor:
            _look_at_words(governor, possible, found, where)
            views = {name: view(governor, name) for name in NAMES}
            found.check("nothing is half done", views in [standing.views for standing in possible], where)
            _look_at_slots(governor, possible, found, where)
        found.check("the file is whole", integrity(path) == ["ok"], where)
    except FairtouchError as error:
        found.check("the file opens", False, f"{where}: {error}")
    except sqlite3.DatabaseError as error:
        found.check("the file is whole", False, f"{where}: {error}")


def _look_at_words(governor: Governor, possible: list[Standing], found: Aftermath, where: str) -> None:
    for name, topic in set.intersection(*(standing.opted_out for standing in possible)):
        said = codes(governor.check(name, channel="voice", topic=topic))
        found.check("opt-outs stand", said == ["opted_out"], f"{where}: {name}, {topic}: {said}")
    for (name,) in set.intersection(*(standing.suppressed for standing in possible)):
        is_suppressed = governor.suppressions.contains(f"{name}@example.org", "email")
        found.check("suppressions stand", is_suppressed, f"{where}: {name}")


def _look_at_slots(governor: Governor, possible: list[Standing], found: Aftermath, where: str) -> None:
    """Send whatever may still be sent to everybody: as much as the acknowledged touches leave, no more and no less."""
    since = {"email": EVER, "sms": possible[-1].now - WEEK}
    counts = [
        Counter(key[:2] for key, at in standing.counted.items() if at > since.get(key[1], EVER))
        for standing in possible
    ]
    for name, channel in product(NAMES, since):
        room = [max(0, CAPS[channel] - count[name, channel]) for count in counts]
        sent = 0
        while sent <= CAPS[channel] and governor.reserve(name, channel=channel):
            sent += 1
        found.check("no cap is exceeded", sent <= max(room), f"{where}: {name}, {channel}: {sent} more of {room}")
        found.check("no slot is burnt", sent >= min(room), f"{where}: {name}, {channel}: {sent} more of {room}")
