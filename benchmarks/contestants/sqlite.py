"""The governor over a SQLite file, next to the bare transaction that it cannot do without, in the same durability.

Two groups with the same contestants: in the default durability a reservation is on the disk when the call returns, in
the other one (synchronous = NORMAL) it is in the write-ahead log.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.contest import Contestant, Goal, Group, Line, Site
from benchmarks.contestants.crew import crew
from benchmarks.files import CALLED, Durability, copied, governing
from benchmarks.timing import Call, timed
from benchmarks.world import EIGHT, policy, reserve

HEATS: Final = {"full": 2, "normal": 4}  # a call that waits for the disk takes its time

BARE_TABLE: Final = """
    CREATE TABLE touches (customer BLOB, at INTEGER, id TEXT, PRIMARY KEY (customer, at, id)) WITHOUT ROWID
"""


def reserving(
    file: str, durability: Durability, *, caps: int = 4, room: int = 0
) -> Callable[[Site, int], AbstractContextManager[Call]]:
    """One reservation in a copy of a prepared file."""

    @contextmanager
    def prepare(site: Site, _: int) -> Iterator[Call]:
        rules = policy(caps=caps, room=room and site.sizes.ledger)
        with copied(site, file) as path, governing(path, rules, durability=durability) as governor:
            yield lambda customer: reserve(governor, customer)

    return prepare


def bare(durability: Durability) -> Callable[[Site, int], AbstractContextManager[Call]]:
    """BEGIN IMMEDIATE, the customer's eight touches, one INSERT, COMMIT; the keys are made before."""

    @contextmanager
    def prepare(site: Site, called: int) -> Iterator[Call]:
        keys = [sha256(str(number).encode()).digest()[:16] for number in range(min(CALLED, 4 * called))]
        now = datetime.now(UTC)
        at, *past = (int((now - ago).timestamp() * 1_000) for ago in (timedelta(), *EIGHT))
        with bare_file(site, [(key, instant, f"winter:{instant}") for key in keys for instant in past]) as connection:
            connection.execute(f"PRAGMA synchronous = {durability.upper()}")

            def call(number: int) -> None:
                key = keys[number]
                connection.execute("BEGIN IMMEDIATE")
                known = connection.execute("SELECT at, id FROM touches WHERE customer = ? AND at >= ?", (key, past[0]))
                if len(known.fetchall()) != len(EIGHT):
                    raise AssertionError("the benchmark measures eight touches")
                connection.execute("INSERT INTO touches VALUES (?, ?, ?)", (key, at, f"spring:{number}"))
                connection.execute("COMMIT")

            yield call

    return prepare


@contextmanager
def bare_file(site: Site, rows: Iterable[tuple[bytes, int, str]]) -> Iterator[sqlite3.Connection]:
    """A connection to a new file that holds nothing but these touches."""
    with (
        tempfile.TemporaryDirectory(dir=site.folder) as folder,
        closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(BARE_TABLE)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO touches VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield connection


BARE: Final = "bare transaction"
RESERVE: Final = "reserve"
CAPS: Final = "reserve, 16 caps"
LONG: Final = "reserve, long ledger, 8 touches in the windows"
DENSE: Final = "reserve, long ledger, all in the windows"
FEW: Final = "reserve, a hundredth of the customers"
MANY: Final = "reserve, all customers"
ONE: Final = "1 process"
FOUR: Final = "4 processes"


def contestants(durability: Durability) -> tuple[Contestant, ...]:
    """Those who run in one durability."""
    heats = HEATS[durability]

    def contestant(name: str, file: str, *, customers: int = 600, caps: int = 4, room: int = 0) -> Contestant:
        prepare = reserving(file, durability, caps=caps, room=room)
        return Contestant(name=name, run=timed(prepare, customers=customers, heats=heats), needs=(file,))

    return (
        Contestant(name=BARE, run=timed(bare(durability), heats=heats)),
        contestant(RESERVE, "eight"),
        contestant(CAPS, "eight", caps=16),
        contestant(LONG, "long", customers=240),
        contestant(DENSE, "dense", customers=240, room=1),
        contestant(FEW, "crowd-hundredth"),
        contestant(MANY, "crowd"),
        Contestant(name=ONE, run=crew(1, durability), needs=("eight",)),
        Contestant(name=FOUR, run=crew(4, durability), needs=("eight",)),
    )


LINES: Final = (
    Line(text="reserve / bare transaction", of=RESERVE, to=BARE, goal=Goal("at most", 1.85, 1.5)),
    Line(text="16 caps / 4 caps", of=CAPS, to=RESERVE, goal=Goal("at most", 1.3)),
    Line(text="long ledger, 8 touches in the windows / 8 touches", of=LONG, to=RESERVE, goal=Goal("at most", 1.5, 1.1)),
    Line(text="long ledger, all in the windows / 8 touches", of=DENSE, to=RESERVE),
    Line(text="all customers / a hundredth of them", of=MANY, to=FEW, goal=Goal("at most", 1.3)),
    Line(
        text="rate of 4 processes / of 1 process",
        of=FOUR,
        to=ONE,
        metric="per_second",
        goal=Goal("at least", 0.75),
    ),
    Line(text="errors of 4 processes", of=FOUR, metric="errors", goal=Goal("at most", 0)),
    Line(text="4 processes: 99th percentile / median", of=FOUR, metric="tail", goal=Goal("at most", 20)),
)

SQLITE: Final = Group(
    name="sqlite",
    title="In one SQLite file, on the disk when a call returns (the default)",
    rounds=5,
    contestants=contestants("full"),
    lines=LINES,
)
SQLITE_NORMAL: Final = Group(
    name="sqlite-normal",
    title='In one SQLite file, `synchronous="normal"`',
    rounds=5,
    contestants=contestants("normal"),
    lines=LINES,
)
