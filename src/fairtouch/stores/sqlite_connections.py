"""Connections to one SQLite file: one per thread, opened, checked and closed here, and every error put into words.

Rule 1: `isolation_level=None` and WAL; writers begin with BEGIN IMMEDIATE, because a reader that turns writer is told
"locked" at once, whatever the time-out. Threads of one process queue for the pen; processes try again after random
fractions of a millisecond, because SQLite's own time-out sleeps up to a tenth of a second while the file is free, and
that is where long tails come from. Rule 2: a connection is used and
closed under its own lock, because closing one that another thread uses ends the process. Rule 3: no connection
crosses a fork: all are closed before, and opened again after. SQLite counts locks in memory, so a child that inherits
open ones believes in locks that it does not hold; the parent then removes the log under it, and what the child
acknowledged is lost (https://www.sqlite.org/howtocorrupt.html, section 2.6).
"""

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from struct import error as StructError  # noqa: N812 - it is one
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

from fairtouch.clock import seconds_running
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.stores.local_disk import network_file_system

P = ParamSpec("P")
T = TypeVar("T")
Step = Callable[Concatenate[sqlite3.Connection, P], T]
Synchronous = Literal["full", "normal"]

VERSION: Final = 2
_APPLICATION_ID: Final = 0x66546368  # "fTch"
_BUSY_SECONDS: Final = 5.0
_NAP_SECONDS: Final = 0.0005  # the longest first wait for another process: shorter ones waste the processor, longer
_NAP_SECONDS_MAX: Final = 0.005  # ones make tails (benchmarks/, "sqlite", 4 processes; 0.1 to 2 ms were tried)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOTHING: Final = "nothing was recorded"
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
        self.is_committing = False  # an error now leaves open whether the step is kept
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

    def __init__(self, path: str, synchronous: Synchronous) -> None:
        self.path = Path(path).absolute()
        self._synchronous = synchronous
        self._pen = threading.Lock()  # held by the one thread of this process that writes
        self._is_closed = False
        self._is_pausing = False  # somebody waits to close: let them, or busy threads would keep their locks for ever
        self._gate = threading.Lock()  # nobody opens while a fork or `close` closes
        self._local = threading.local()
        self._all: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._identity: tuple[int, int] | None = None
        self._get()
        self._identity = self._found()
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
        self._pen.acquire()  # first: its holder may be about to pass the gate
        self._gate.acquire()
        self._close_all()

    def after_fork(self) -> None:
        """Lets threads open connections again."""
        self._is_pausing = False
        self._gate.release()
        self._pen.release()

    def _close_all(self) -> None:
        for connection in list(self._all):
            with connection.lock:
                connection.close()

    def _check_identity(self) -> None:
        """What is written to a file that was removed is gone with it, and one that took its place knows no opt-outs."""
        if self._found() != self._identity:
            raise StoreError(
                f"{self.path.name} was removed or replaced while it was open; put it back, and open a new governor "
                "(nothing was recorded)"
            )

    def _found(self) -> tuple[int, int] | None:
        """Which file stands there now."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _open(self) -> _Connection:
        if self._identity is not None:
            self._check_identity()
        folder = self.path.parent
        if not folder.is_dir():
            raise StoreError(f"the folder {folder} does not exist; make it, or name another file (nothing was opened)")
        network = network_file_system(self.path.resolve())
        if network is not None:
            raise StoreError(
                f"{self.path.name} would lie on a network file system ({network}), where SQLite cannot keep two "
                "machines apart; use a disk of this machine, or a store for many machines (nothing was opened)"
            )
        try:
            connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False, factory=_Connection
            )
            try:
                patiently(self._prepare, connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._in_words(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = OFF")  # kinds are append-only, which keeps every reference
        self._check_owner(connection)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                f"this file system does not support SQLite's write-ahead log (it stays in {mode}); use a local disk"
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA cache_size = -16384")  # 16 MiB, so that a million customers' index stays at hand
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            self._upgrade(connection)

    def _check_owner(self, connection: sqlite3.Connection) -> None:
        """Looks whose file it is before a byte of it changes; in one step, because another process may be making it."""
        connection.execute("BEGIN")
        try:
            is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if owner == _APPLICATION_ID and version > VERSION:
            raise StoreError(
                f"{self.path.name} has layout {version}, and this fairtouch knows {VERSION}: a newer one wrote it. "
                "Upgrade fairtouch on this machine (nothing was read or written)"
            )
        if owner != _APPLICATION_ID and (owner, version, is_empty) != (0, 0, True):
            raise StoreError(
                f"{self.path.name} is a database of something else; name another file (nothing was written)"
            )

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Brings an empty or older file to today's layout, in one step: all of it or nothing."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for version in range(connection.execute("PRAGMA user_version").fetchone()[0] + 1, VERSION + 1):
                script = resources.files("fairtouch.stores").joinpath(f"schema_{version}.sql").read_text("utf-8")
                for statement in script.split(";\n"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def read(self, step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What a step reads, all at one instant."""
        result: T = self._run("BEGIN", _transaction, step, *args, **kwargs)
        return result

    def write(self, step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """One atomic step: all of it or nothing; on the disk before it returns, if the store is synchronous=full.

        The step runs again when another process was in the way, so it does nothing but read and write.
        """
        with self._pen:
            result: T = self._run("BEGIN IMMEDIATE", _transaction, step, *args, **kwargs)
        return result

    def write_through(self, step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, on the disk before it returns in every store."""
        run = _transaction if self._synchronous == "full" else _synced_transaction
        with self._pen:
            result: T = self._run("BEGIN IMMEDIATE", run, step, *args, **kwargs)
        return result

    def _run(self, begin: str, run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Runs on this thread's connection, which nobody closes meanwhile, and puts what SQLite says into words."""
        while True:
            connection = self._get()
            with connection.lock:
                if connection.is_closed:
                    continue
                connection.is_committing = False
                self._check_identity()
                try:
                    return patiently(run, connection, begin, *args, **kwargs)
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    raise self._in_words(error, is_open=connection.is_committing) from error

    def _in_words(self, error: Exception, *, is_open: bool = False) -> FairtouchError:
        recorded = "it is not known whether this was recorded (repeat it with the same id)" if is_open else _NOTHING
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED or isinstance(error, UnicodeDecodeError):
            return StoreError(f"{self.path.name} is damaged ({error}); stop sending, and restore it; {recorded}")
        if code in _CAUSES:
            return StoreUnavailable(f"{self.path.name}: {_CAUSES[code]} ({error}); {recorded}, and nothing may be sent")
        return StoreError(f"{self.path.name}: {error}; {recorded}")


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


def _transaction(connection: _Connection, begin: str, step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        connection.execute(begin)
        result = step(connection, *args, **kwargs)
        connection.is_committing = True
        connection.execute("COMMIT")
        connection.is_committing = False
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _synced_transaction(connection: _Connection, begin: str, /, *args: Any, **kwargs: Any) -> Any:
    connection.execute("PRAGMA synchronous = FULL")
    try:
        return _transaction(connection, begin, *args, **kwargs)
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


def patiently(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls again while another connection is in the way, until the time is up."""
    deadline, nap = seconds_running() + _BUSY_SECONDS, _NAP_SECONDS
    while True:
        try:
            return call(*args, **kwargs)
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or seconds_running() > deadline:
                raise
        time.sleep(random.uniform(0, nap))  # noqa: S311 - nobody gains by guessing it
        nap = min(nap * 1.05, _NAP_SECONDS_MAX)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


NOT_OURS: Final = (ValueError, TypeError, LookupError, StructError)
"""What reading a row raises that fairtouch never wrote."""


@contextmanager
def understood() -> Iterator[None]:
    """Around reading rows: what fairtouch never wrote is damage, and is never guessed at."""
    try:
        yield
    except NOT_OURS as error:
        raise damage(error) from error


def damage(error: Exception) -> StoreError:
    """What to raise instead."""
    return StoreError(f"a row holds what fairtouch never wrote ({error}); restore the file. Nothing was recorded")
