"""Processes whose file is taken away: by a full disk, by rights that they do not have, by another process's lock."""

import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fairtouch.stores.sqlite  # noqa: F401 - `as_nobody` cannot import it any more
from fairtouch import FairtouchError, Governor, StoreUnavailable
from tests.workers import PATIENCE, SPAWN, Sections, codes, govern

NOBODY = 65_534


# A full disk


@dataclass
class Spell:
    """What was written while the disk was full now and then: customers, by what became of their word or touch."""

    kept: dict[str, set[str]] = field(default_factory=lambda: {"opt_out": set(), "reserve": set(), "confirm": set()})
    failed: dict[str, set[str]] = field(default_factory=lambda: {"opt_out": set(), "reserve": set(), "confirm": set()})
    half_done: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)


@contextmanager
def file_size_limited(bytes_max: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes; Python ignores SIGXFSZ, so that a write fails instead."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_disk(url: str, sections: Sections, bytes_max: int, customers: int) -> Spell:
    """Write for everybody while files cannot grow; look at what failed when they can again, and repeat it."""
    spell = Spell()
    names = [f"customer-{number}" for number in range(customers)]
    with govern(url, sections) as governor:
        governor.reserve("customer-before", channel="email", id="news-1")
        with file_size_limited(bytes_max):
            for name in names:
                _write(spell, governor, name)
        spell.half_done = {name for name in spell.failed["opt_out"] if _opted_out(governor, name)}
        spell.half_done |= {name for name in spell.failed["reserve"] if governor.history(name)}
        for name in spell.failed["opt_out"] | spell.failed["reserve"] | spell.failed["confirm"]:
            _write_again(spell, governor, name)
    return spell


def _write(spell: Spell, governor: Governor, name: str) -> None:
    reservation = _try(spell, "reserve", name, lambda: governor.reserve(name, channel="email", id="news-1").reservation)
    if reservation is not None:
        _try(spell, "confirm", name, lambda: governor.confirm(reservation))
    _try(spell, "opt_out", name, lambda: governor.consent.opt_out(name, channel="sms"))


def _try(spell: Spell, verb: str, name: str, call: Callable[[], Any]) -> Any:
    try:
        result = call()
    except StoreUnavailable:
        spell.failed[verb].add(name)
        return None
    except (FairtouchError, sqlite3.Error, OSError) as error:
        spell.errors.add(f"{verb}: {error!r}")
        return None
    spell.kept[verb].add(name)
    return result


def _write_again(spell: Spell, governor: Governor, name: str) -> None:
    if name in spell.failed["reserve"]:
        decision = governor.reserve(name, channel="email", id="news-1")
        if decision.reservation is None:
            spell.errors.add(f"reserve again: {codes(decision)}")
    if name in spell.failed["opt_out"]:
        governor.consent.opt_out(name, channel="sms")


def _opted_out(governor: Governor, name: str) -> bool:
    return "opted_out" in codes(governor.check(name, channel="sms"))


# Somebody else's folder


def as_nobody(url: str, sections: Sections) -> list[str]:
    """Open and reserve as a user who may do nothing here, and say what that came to."""
    govern("memory://", {}).check("ada", channel="email")  # imports what this process may not be able to read later
    if os.geteuid() == 0:  # root may write everywhere
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        with govern(url, sections) as governor:
            decision = governor.reserve("ada", channel="email")
            return ["no error", *codes(decision)]
    except FairtouchError as error:
        return [type(error).__name__, str(error)]


# A database that another process holds


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process has begun to write to the file, and does not end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_hold, args=(theirs, str(path)), daemon=True)
    process.start()
    assert ours.poll(PATIENCE)
    assert ours.recv() == "locked"
    try:
        yield
    finally:
        ours.send("let go")
        process.join(PATIENCE)


def _hold(theirs: Connection, path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        theirs.send("locked")
        theirs.recv()
        connection.execute("ROLLBACK")
