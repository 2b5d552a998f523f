"""Deferred touches in a fairtouch database: one table, which is made when it is first used.

Rule 1: what an app handed over is on the disk before it is told so, in every store. Rule 2: so is that a touch left the
queue, and with it all that was written before, because the log is one: what was sent does not come back.
"""

import sqlite3
from collections.abc import Sequence
from importlib import resources
from typing import Final

from fairtouch.clock import system_now
from fairtouch.stores.deferral_port import Claimed, Standing, Turns
from fairtouch.stores.sqlite_connections import Connections

_KEEP: Final = "INSERT OR IGNORE INTO deferrals VALUES (?, ?, ?, x'', 0, 0, ?)"
_STANDING: Final = "SELECT due_at, content FROM deferrals WHERE queue = ? AND item = ?"
_DUE: Final = """
    SELECT item, content, deferred, failed FROM deferrals
    WHERE queue = ? AND due_at <= ? ORDER BY due_at, item LIMIT ?
"""
_CLAIM: Final = "UPDATE deferrals SET due_at = ?, token = ? WHERE queue = ? AND item = ?"
_PUT_BACK: Final = """
    UPDATE deferrals SET due_at = ?, deferred = ?, failed = ? WHERE queue = ? AND item = ? AND token = ?
"""
_TAKE_OUT: Final = "DELETE FROM deferrals WHERE queue = ? AND item = ? AND token = ?"
_CANCEL: Final = "DELETE FROM deferrals WHERE queue = ? AND item >= ? AND substr(item, 1, ?) = ?"


class SqliteDeferrals:
    """`DeferralStore` in the file of these connections."""

    def __init__(self, connections: Connections) -> None:
        self._opened: Final = connections
        self._is_made = False

    @property
    def _connections(self) -> Connections:
        """The connections, to a file that has the table."""
        if not self._is_made:
            self._opened.write_through(_make)
            self._is_made = True
        return self._opened

    def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        return self._connections.write_through(_keep, queue, item, due_at, content)

    def claim(self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None) -> tuple[int, list[Claimed]]:
        return self._connections.write(_claim, queue, token, limit, lease=lease, now=now)

    def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        self._connections.write(_run, _PUT_BACK, (due_at, *turns, queue, item, token))

    def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        self._connections.write_through(_erase, _TAKE_OUT, (queue, item, token))

    def cancel(self, queue: bytes, prefix: bytes) -> int:
        return self._connections.write_through(_erase, _CANCEL, (queue, prefix, len(prefix), prefix))

    def queues(self) -> list[bytes]:
        return self._connections.read(_queues)


def _make(connection: sqlite3.Connection) -> None:
    for statement in resources.files("fairtouch.stores").joinpath("deferrals.sql").read_text("utf-8").split(";\n"):
        connection.execute(statement)


def _keep(connection: sqlite3.Connection, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
    connection.execute(_KEEP, (queue, item, due_at, content))
    return Standing(*connection.execute(_STANDING, (queue, item)).fetchone())


def _claim(
    connection: sqlite3.Connection, queue: bytes, token: bytes, limit: int, *, lease: int, now: int | None
) -> tuple[int, list[Claimed]]:
    now = system_now() if now is None else now
    claimed = [Claimed(row[0], row[1], Turns(*row[2:])) for row in connection.execute(_DUE, (queue, now, limit))]
    connection.executemany(_CLAIM, [(now + lease, token, queue, each.item) for each in claimed])
    return now, claimed


def _queues(connection: sqlite3.Connection) -> list[bytes]:
    return [queue for (queue,) in connection.execute("SELECT DISTINCT queue FROM deferrals")]


def _run(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> int:
    return connection.execute(statement, values).rowcount


def _erase(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> int:
    """Deletes, and writes zeros over what was deleted (https://www.sqlite.org/pragma.html#pragma_secure_delete)."""
    usual = connection.execute("PRAGMA secure_delete").fetchone()[0]
    connection.execute("PRAGMA secure_delete = ON")
    try:
        return _run(connection, statement, values)
    finally:
        connection.execute(f"PRAGMA secure_delete = {usual}")
