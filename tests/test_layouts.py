"""A file that an earlier fairtouch wrote is brought forward when it is opened; nothing in it changes its meaning."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from fairtouch import Governor
from fairtouch.stores.sqlite_connections import VERSION
from fairtouch.testing import FrozenClock
from tests.workers import NOON, codes, govern, in_threads, integrity, used

POLICY = {"caps": {"weekly": {"limit": "3 per 7 days"}, "ever": {"limit": "30 per lifetime"}}}
NEWS = {"channel": "email", "topic": "news"}
LAYOUTS = sorted(Path(__file__).with_name("layouts").glob("*.sql"))


@pytest.fixture(params=LAYOUTS, ids=[f"layout {path.stem}" for path in LAYOUTS])
def old(request, tmp_path) -> Path:
    """A file as a fairtouch of that layout left it: consents, a suppression, a profile, three touches and an event."""
    path = tmp_path / "touches.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(request.param.read_text("utf-8").replace("BEGIN TRANSACTION;", "BEGIN;"))
    return path


def opened(path: Path) -> Governor:
    """A governor on the file, three hours after its first touch."""
    clock = FrozenClock(NOON + timedelta(hours=3))
    return govern(f"sqlite:///{path}", POLICY, clock=clock, namespace="shop")


def entries_seen(ready, number: int, path: Path) -> int:
    """Opens the file when all are ready, and looks."""
    ready()
    with opened(path) as governor:
        return len(governor.history("ada"))


def test_every_layout_but_todays_is_kept():
    """Each layout that was ever written has a file here, so that opening it is tried."""
    assert [str(version) for version in range(1, VERSION)] == [path.stem for path in LAYOUTS]


def test_what_it_holds_is_found(old):
    """Touches, events, consents, suppressions and profiles are what they were; so are the counts."""
    with opened(old) as governor:
        assert [("news-1", "confirmed", "s"), ("news-2", "reserved", None), ("talk-1", "confirmed", None)] == [
            (entry.id, entry.state, entry.subject) for entry in governor.history("ada")
        ]
        assert {"weekly": 2, "ever": 2} == used(governor.check("ada", **NEWS))
        assert "opted_in" == governor.consent.status("ada", **NEWS).state
        assert ["opted_out"] == codes(governor.check("bob", channel="sms"))
        assert governor.suppressions.contains("eve@example.com", "email")
        assert "Europe/Vienna" == governor.customers.get("ada").timezone
    assert ["ok"] == integrity(old)


def test_old_ids_and_new_touches_meet(old):
    """A known id is still known, and old and new touches fill one cap."""
    with opened(old) as governor:
        assert ["duplicate"] == codes(governor.reserve("ada", **NEWS, id="news-1", subject="s"))
        assert governor.reserve("ada", **NEWS, id="news-3")
        assert ["cap_reached"] == codes(governor.reserve("ada", **NEWS, id="news-4"))
        assert ["news-1", "news-2", "talk-1", "news-3"] == [entry.id for entry in governor.history("ada")]


def test_many_open_it_at_once(old):
    """It is brought forward once, whoever else opens it."""
    found = in_threads(entries_seen, old, parties=8)
    assert [3] * 8 == found
    with closing(sqlite3.connect(old)) as connection:
        assert VERSION == connection.execute("PRAGMA user_version").fetchone()[0]


def test_todays_file_is_left_alone(tmp_path):
    """A file of today's layout is opened without a change to it."""
    path = tmp_path / "touches.db"
    opened(path).close()
    content = path.read_bytes()
    opened(path).close()
    assert content == path.read_bytes()
