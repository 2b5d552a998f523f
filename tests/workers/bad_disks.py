"""A short program that does a bit of everything, on a disk that fails at one call of its.

The program's steps belong to customers, and one customer's steps follow each other; so what a customer may look like
afterwards depends on her own steps alone. When the disk fails once, a step that failed is repeated, and then it works;
of some customers, and of all when the disk goes on failing, nothing more is asked from then on.
"""

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from fairtouch import Decision, FairtouchError, Governor, Policy, Reservation, StoreError, StoreUnavailable
from fairtouch.testing import FrozenClock
from tests.faulty_disk import FAILURES, FORGETS, Disk, Fault, lay_disk
from tests.workers import HOUR, NOON, codes, integrity, used

LATER = NOON + timedelta(days=60)  # when what was recorded at noon lies beyond the horizon
END = LATER + HOUR
SLOW = 4.0  # seconds; a program without faults takes a fiftieth, and whoever waits for a lock waits for five
_POLICY = Policy.model_validate(
    {
        "name": "bad disks",
        "ledger": {"keep": "30 days"},
        "customer": {"timezones": ["UTC"]},
        "caps": {
            "weekly": {"limit": "2 per 7 days", "select": {"channels": ["email"]}},
            "ever": {"limit": "3 per lifetime", "select": {"channels": ["email"]}},
        },
    }
)
View = tuple[Any, ...]


# The program


@dataclass
class Program:
    """The program at work: its governor while it has one, and what it was given to keep."""

    path: Path
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(NOON))
    kept: dict[str, Reservation] = field(default_factory=dict)
    governor: Governor | None = None

    def open(self) -> Governor:
        """The governor, made when there is none."""
        if self.governor is None:
            self.governor = Governor(_POLICY, f"sqlite:///{self.path}", clock=self.clock)
        return self.governor

    def close(self) -> None:
        """Leave the file."""
        governor, self.governor = self.governor, None
        if governor is not None:
            governor.close()

    def crash(self) -> None:
        """Go on where a process would that finds what a killed one left: with the log and without its index."""
        found = self.path.with_name("found") / self.path.name
        found.parent.mkdir()
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            if path.exists():
                shutil.copy(path, found.with_name(path.name))
        try:
            self.close()
        finally:
            self.path = found

    def reserve(self, name: str, touch_id: str = "1") -> list[str]:
        """Reserve, keep the reservation, and say why not."""
        decision: Decision = self.open().reserve(name, channel="email", id=touch_id)
        if decision.reservation is not None:
            self.kept[name] = decision.reservation
        return codes(decision)

    def record(self, name: str, touch_id: str) -> str:
        """Record a touch of now."""
        return self.open().record(name, self.clock(), channel="email", id=touch_id)


Step = tuple[str, Callable[[Program], Any]]
STEPS: list[Step] = [
    ("old", lambda program: program.record("old", "1")),
    ("old", lambda program: program.record("old", "2")),
    ("", lambda program: program.clock.set(LATER)),
    ("old", lambda program: program.open().prune()),
    ("ada", lambda program: program.open().consent.opt_in("ada", channel="sms", evidence={"by": "ada"}).word),
    ("ada", lambda program: program.open().consent.opt_out("ada", channel="sms").word),
    ("bob", lambda program: program.open().suppressions.add("bob@example.org", "email", event_id="1")),
    ("cleo", lambda program: program.reserve("cleo")),
    ("cleo", lambda program: program.open().confirm(program.kept["cleo"]).state),
    ("dan", lambda program: program.reserve("dan")),
    ("", lambda program: program.close()),
    ("dan", lambda program: program.open().release(program.kept["dan"]).state),
    ("eve", lambda program: program.open().customers.set("eve", timezone="Europe/Vienna", country="AT").country),
    ("fay", lambda program: program.open().feedback("reply", customer="fay", channel="email", id="1")),
    ("gus", lambda program: program.open().consent.opt_out("gus", category="marketing").word),
    ("gus", lambda program: program.reserve("gus")),
    ("hal", lambda program: program.reserve("hal", "1")),
    ("", lambda program: program.crash()),
    ("hal", lambda program: program.reserve("hal", "2")),
    ("hal", lambda program: program.reserve("hal", "3")),
    ("bob", lambda program: program.open().suppressions.remove("bob@example.org", "email")),
    ("", lambda program: program.close()),
]
LEFT_ALONE = {"dan", "hal", "old"}  # once a step of theirs failed; before a close and a crash, and while pruning
NAMES = sorted({name for name, _ in STEPS if name})


def view(governor: Governor, name: str) -> View:
    """All that can be read about a customer."""
    check = governor.check(name, channel="email", id="new")
    return (
        tuple((entry.id, entry.state, entry.event) for entry in governor.history(name)),
        tuple((said.word, said.scope, tuple(said.evidence)) for said in governor.consent.history(name)),
        governor.customers.get(name),
        governor.suppressions.contains(f"{name}@example.org", "email"),
        (codes(check), used(check), codes(governor.check(name, channel="sms"))),
    )


# The disk


@dataclass
class Tried:
    """What faults came to: how many there were per method, how many steps each stopped, and what went wrong."""

    faults: Counter[str] = field(default_factory=Counter)
    stopped: Counter[int] = field(default_factory=Counter)
    raised_and_there: set[tuple[str, str]] = field(default_factory=set)
    sentences: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


@dataclass
class Plain:
    """What the program comes to when nothing fails: each step's answer, how each customer looks after each of her
    steps, and how often the disk was called.
    """

    answers: list[Any]
    views: dict[str, list[View]]
    calls: Counter[str]


def undisturbed(disk: Disk, path: Path) -> Plain:
    """Let the program run in a new folder, and look at everybody's steps."""
    path.mkdir()
    program = Program(path / "touches.db")
    with disk.failing() as calls:
        answers = [step(program) for _, step in STEPS]
        plain = Plain(answers, {}, calls.copy())
    (path / "looked-at").mkdir()
    program = Program(path / "looked-at" / "touches.db")
    plain.views = {name: [view(program.open(), name)] for name in NAMES}
    for name, step in STEPS:
        step(program)
        if name:
            now = program.clock()
            program.clock.set(END)
            plain.views[name].append(view(program.open(), name))
            program.clock.set(now)
    program.close()
    return plain


def disturbed(disk: Disk, path: Path, fault: Fault, plain: Plain, tried: Tried) -> None:
    """Let the program run while one call fails, and look at what is left once the disk is well again."""
    program, began_at, stopped = Program(path), time.monotonic(), 0
    steps = {name: [0] for name in NAMES}  # how many steps a customer may have taken
    with disk.failing(fault):
        for (name, step), answer in zip(STEPS, plain.answers, strict=True):
            if len(steps.get(name, ())) > 1:
                continue
            try:
                given = step(program)
            except Exception as error:  # noqa: BLE001 - every other kind is wrong
                stopped += 1
                _look_at_error(error, tried, fault)
                if not name:
                    continue
                if fault.lasts or name in LEFT_ALONE:
                    steps[name].append(steps[name][0] + 1)
                    continue
                tried.broken += _look_right_after(program, name, plain.views[name][steps[name][0]], fault)
                given = _again(step, program)
            if given != answer:
                tried.broken.append(f"{fault}: {name} was told {given}, not {answer}")
            if name:
                steps[name][0] += 1
    tried.faults[fault.method] += 1
    tried.stopped[stopped] += 1
    _look_at_file(program.path, steps, plain, tried, fault)
    if time.monotonic() - began_at > SLOW:
        tried.broken.append(f"{fault}: it took {time.monotonic() - began_at:.1f} s")


def _look_right_after(program: Program, name: str, expected: View, fault: Fault) -> list[str]:
    """What failed is not there for the governor that was told so."""
    now = program.clock()
    program.clock.set(END)
    found = _again(lambda program: view(program.open(), name), program)
    program.clock.set(now)
    return [] if found == expected else [f"{fault}: right after it {name} looks like {found}, not {expected}"]


def _again(step: Callable[[Program], Any], program: Program) -> Any:
    """What a step answers once the disk is well."""
    try:
        return step(program)
    except Exception as error:  # noqa: BLE001 - none is right
        return error


def _look_at_error(error: Exception, tried: Tried, fault: Fault) -> None:
    if isinstance(error, (StoreUnavailable, StoreError)):
        tried.sentences.add(str(error))
    else:
        tried.broken.append(f"{fault}: {error!r}")


def _look_at_file(path: Path, steps: dict[str, list[int]], plain: Plain, tried: Tried, fault: Fault) -> None:
    try:
        with Governor(_POLICY, f"sqlite:///{path}", clock=FrozenClock(END)) as governor:
            for name, taken in steps.items():
                found, allowed = view(governor, name), [plain.views[name][step] for step in taken]
                if found not in allowed:
                    tried.broken.append(f"{fault}: after {taken} steps {name} looks like {found}, not {allowed}")
                elif found != allowed[0]:
                    tried.raised_and_there.add((fault.method, name))
        if integrity(path) != ["ok"]:
            tried.broken.append(f"{fault}: {integrity(path)}")
    except (FairtouchError, sqlite3.DatabaseError) as error:
        tried.broken.append(f"{fault}: afterwards {error}")


def fail_everywhere(folder: str, methods: list[str], part: int, parts: int, lasts: bool) -> Tried:
    """Let every call of these methods fail, each in a run of its own; one part of so many of all that."""
    disk, tried = lay_disk(), Tried()
    plain = undisturbed(disk, Path(folder) / "plain")
    faults = [
        Fault(method, number, code, lasts)
        for method in methods
        for number in range(1, plain.calls[method] + 1)
        for code in FAILURES[method]
    ]
    for fault in faults[part::parts]:
        place = Path(folder) / f"{fault.method}-{fault.number}-{fault.code}"
        place.mkdir()
        disturbed(disk, place / "touches.db", fault, plain, tried)
        shutil.rmtree(place)
    return tried


def forget_writes(folder: str, every: int) -> list[list[str]]:
    """Let the disk forget all writes from one on, for many such; what is found wrong each time."""
    disk, found = lay_disk(), []
    plain = undisturbed(disk, Path(folder) / "plain")
    for number in range(1, plain.calls["xWrite"] + 1, every):
        tried, place = Tried(), Path(folder) / str(number)
        place.mkdir()
        disturbed(disk, place / "touches.db", Fault("xWrite", number, FORGETS, lasts=True), plain, tried)
        found.append(tried.broken)
    return found
