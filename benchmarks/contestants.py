"""What is measured: a governed reservation with consent, quiet hours and four caps, and what it is compared with."""

import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fairtouch import Governor, Policy, Touch

CALLS: Final = 4_000
CUSTOMERS: Final = 500  # so that the last of them have eight touches of history

POLICY: Final = {
    "customer": {"timezones": ["America/New_York"]},
    "consent": {"opt-in": {"require": "opt_in", "expires_after": "2 years"}},
    "quiet_hours": {"always": {"open": {"mon-sun": ["00:00-12:00", "12:00-24:00"]}}},
    "caps": {
        name: {"limit": f"1000 per {period}"}
        for name, period in {"a": "1 hour", "b": "calendar day", "c": "7 days", "d": "30 days"}.items()
    },
}


def _timed(call: Callable[[int], object]) -> float:
    start = time.perf_counter()
    for index in range(CALLS):
        call(index)
    return (time.perf_counter() - start) / CALLS * 1_000_000


def _governor(url: str) -> float:
    with Governor(Policy.model_validate(POLICY), url) as governor:
        for index in range(CUSTOMERS):
            governor.consent.opt_in(f"customer-{index}")

        def reserve(index: int) -> None:
            if not governor.reserve(Touch(f"customer-{index % CUSTOMERS}", channel="email", id=f"touch-{index}")):
                raise AssertionError("the benchmark measures the way of a yes")

        return _timed(reserve)


def governor_memory() -> float:
    """A reservation on the memory store."""
    return _governor("memory://")


def governor_sqlite() -> float:
    """A reservation on the SQLite store."""
    with tempfile.TemporaryDirectory() as folder:
        return _governor(f"sqlite:///{folder}/touches.db")


def bare_sqlite() -> float:
    """BEGIN IMMEDIATE, one SELECT, one INSERT, COMMIT, in the store's own mode of durability."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "CREATE TABLE touches (customer INTEGER, at INTEGER, PRIMARY KEY (customer, at)) WITHOUT ROWID"
        )

        def touch(index: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT at FROM touches WHERE customer = ?", (index % CUSTOMERS,)).fetchall()
            connection.execute("INSERT INTO touches VALUES (?, ?)", (index % CUSTOMERS, index))
            connection.execute("COMMIT")

        taken = _timed(touch)
        connection.close()
        return taken


def limits_memory() -> float:
    """The same four caps by `limits` (moving windows, memory): ask each, then count on each; not atomic together."""
    from limits import parse
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(MemoryStorage())
    caps = [parse(f"1000/{period}") for period in ("hour", "day", "7 day", "30 day")]

    def hit(index: int) -> None:
        if all(limiter.test(cap, f"customer-{index % CUSTOMERS}") for cap in caps):
            for cap in caps:
                limiter.hit(cap, f"customer-{index % CUSTOMERS}")

    return _timed(hit)


CONTESTANTS: Final = {
    "governor, memory": governor_memory,
    "limits, four tests and four hits": limits_memory,
    "governor, SQLite": governor_sqlite,
    "bare SQLite transaction": bare_sqlite,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(CONTESTANTS[sys.argv[1]]()))
