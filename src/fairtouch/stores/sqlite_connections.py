"""Connections to one SQLite file: one per thread, opened, checked and closed here, and every error put into words.

Rule 1: `isolation_level=None`, WAL, and a busy time-out on every connection; writers begin with BEGIN IMMEDIATE,
because a reader that turns writer is told "locked" at once, whatever the time-out. Rule 2: a connection is used and
closed under its own lock, because closing one that another thread uses ends the process. Rule 3: no connection
crosses a fork: all are closed before, and opened again after. SQLite counts locks in memory, so a child that inherits
open ones believes in locks that it does not hold; the parent then removes the log under it, and what the child
acknowledged is lost (https://www.sqlite.org/howtocorrupt.html, section 2.6).
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from fairtouch.clock import seconds_running
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable

VERSION: Final = 1
_APPLICATION_ID: Final = 0x66546368  # "fTch"
_BUSY_SECONDS: Final = 5.0
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: f"the database stayed locked by another process for {_BUSY_SECONDS:.0f} s",
    sqlite3.SQLITE_LOCKED: "the database is locked by this process",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written",
    sqlite3.SQLITE_READONLY: "the database file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
}


class _Connection(sqlite3.Connection):
    """A connection that can be found again weakly, says whether it is closed, and closes itself with its thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lock = threading.Lock()
        self.is_closed = True
        super().__init__(*args, **options)
        self.is_closed = False
        self.pid = os.getpid()

    def close(self) -> None:
        self.is_closed = True
        super().close()

    def __del__(self) -> None:
        if not self.is_closed and self.pid == os.getpid():
            self.close()


class Connections:
    """Opens and hands out the connections to one file."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._is_closed = False
        self._is_pausing = False  # somebody waits to close: let them, or busy threads would keep their locks for ever
        self._gate = threading.Lock()  # nobody opens while a fork or `close` closes
        self._local = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._get()
        _everywhere.add(self)

    def _get(self) -> _Connection:
        """This thread's connection, opened when there is none. Raises StoreUnavailable or StoreError."""
        if self._is_pausing:
            with self._gate:
                pass
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.is_closed:
            with self._gate:
                if self._is_closed:
                    raise StoreError(f"{self.path.name} was closed; open a new governor (nothing was recorded)")
                connection = self._local.connection = self._open()
                self._all.add(connection)
        if connection.pid != os.getpid():
            raise StoreError(
                f"{self.path.name} was open when this process was forked behind Python's back; open the governor after "
                "the fork (uWSGI: lazy-apps = true). Nothing was recorded"
            )
        return connection

    @contextmanager
    def _held(self) -> Iterator[_Connection]:
        """This thread's connection, which nobody closes meanwhile."""
        while True:
            connection = self._get()
            with connection.lock:
                if not connection.is_closed:
                    yield connection
                    return

    def close(self) -> None:
        """Closes every connection, each after what its thread is doing with it."""
        self._is_pausing = True
        with self._gate:
            self._is_closed = True
            self._close_all()
        self._is_pausing = False

    def before_fork(self) -> None:
        """Closes every connection and lets nobody open one."""
        self._is_pausing = True
        self._gate.acquire()
        self._close_all()

    def after_fork(self) -> None:
        """Lets threads open connections again."""
        self._is_pausing = False
        self._gate.release()

    def _close_all(self) -> None:
        for connection in list(self._all):
            with connection.lock:
                connection.close()

    def _open(self) -> _Connection:
        if not self.path.parent.is_dir():
            raise StoreError(
                f"the folder {self.path.parent} does not exist; make it, or name another file (nothing was opened)"
            )
        with self.errors():
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
            )
        try:
            with self.errors():
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = OFF")  # kinds are append-only, which keeps every reference
        self._check_owner(connection)
        _journal_in_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            self._create(connection)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        """Looks whose file it is before a byte of it changes; in one step, because another process may be making it."""
        connection.execute("BEGIN")
        is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("COMMIT")
        if owner == _APPLICATION_ID and version > VERSION:
            raise StoreError(
                f"{self.path.name} has layout {version}, and this fairtouch knows {VERSION}: a newer one wrote it. "
                "Upgrade fairtouch on this machine (nothing was read or written)"
            )
        if owner != _APPLICATION_ID and (owner, version, is_empty) != (0, 0, True):
            raise StoreError(
                f"{self.path.name} is a database of something else; name another file (nothing was written)"
            )

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:  # another process may have been faster
                for statement in (
                    resources.files("fairtouch.stores").joinpath("schema.sql").read_text("utf-8").split(";\n")
                ):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def transaction(self, kind: Literal["read", "write", "durable"]) -> Iterator[sqlite3.Connection]:
        """One atomic step: all of the block or nothing. "durable": on the disk before it returns (synchronous =
        FULL).
        """
        with self._held() as connection, self.errors():
            if kind == "durable":
                connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN" if kind == "read" else "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if kind == "durable":
                    connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Puts what SQLite says into words."""
        try:
            yield
        except FairtouchError:
            raise
        except sqlite3.Error as error:
            raise self._in_words(error) from error
        except UnicodeDecodeError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(f"{self.path.name} is damaged ({error}); stop sending, and restore it. Nothing was recorded")

    def _in_words(self, error: sqlite3.Error) -> FairtouchError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            return self._damaged(error)
        if code in _CAUSES:
            return StoreUnavailable(
                f"{self.path.name}: {_CAUSES[code]} ({error}); nothing was recorded, and nothing may be sent"
            )
        return StoreError(f"{self.path.name}: {error}; nothing was recorded")


_everywhere: Final[weakref.WeakSet[Connections]] = weakref.WeakSet()
_forking: Final[list[Connections]] = []


def _before_fork() -> None:
    _forking.extend(_everywhere)
    for connections in _forking:
        connections.before_fork()


def _after_fork() -> None:
    while _forking:
        _forking.pop().after_fork()


if hasattr(os, "register_at_fork"):  # where there are forks
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _journal_in_wal(connection: sqlite3.Connection) -> None:
    """Switching to WAL ignores the busy time-out while another process switches too, so it is tried until the time is
    up.
    """
    deadline = seconds_running() + _BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or seconds_running() > deadline:
                raise
            time.sleep(0.005)
        else:
            if mode != "wal":
                raise StoreError(
                    f"this file system does not support SQLite's write-ahead log (it stays in {mode}); use a local disk"
                )
            return
