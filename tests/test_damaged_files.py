"""A file that is damaged, somebody else's, full, read-only or locked is an error that says so, never a wrong answer."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairtouch import FairtouchError, Governor, Reservation, StoreError, StoreUnavailable, Touch
from fairtouch.testing import FrozenClock
from tests.workers import NOON, codes, govern, in_new_process, in_threads, integrity, used
from tests.workers.disks import as_nobody, fill_disk, locked

PAGE = 4096
PEOPLE = 60
NEWS = {"channel": "email", "topic": "news"}
POLICY = {
    "fail_open": ["transactional"],
    "caps": {"weekly": {"limit": "3 per 7 days"}, "ever": {"limit": "30 per lifetime"}},
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "touches.db"


def opened(path: Path, **options: Any) -> Governor:
    """A governor on a file, at noon."""
    return govern(f"sqlite:///{path}", POLICY, **{"clock": FrozenClock(NOON)} | options)


def fill(governor: Governor, name: str, number: int) -> None:
    """Give a customer some of everything; one in three opted out of e-mail, one in three addresses is suppressed."""
    governor.customers.set(name, timezone="Europe/Vienna", country="AT")
    governor.consent.opt_in(name, evidence={"source": "form"}, **NEWS)
    if number % 3 == 0:
        governor.consent.opt_out(name, channel="email", category="marketing")
    if number % 3 == 1:
        governor.suppressions.add(f"{name}@example.org", "email")
    governor.feedback("reply", customer=name, channel="email", id="reply-1")
    for index in range(number % 4):
        governor.record(name, at=NOON - timedelta(days=index), id=f"{index}", campaign=f"c{number % 7}", **NEWS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a file with sixty customers in it, closed and whole."""
    path = tmp_path_factory.mktemp("sound") / "touches.db"
    with opened(path) as governor:
        for number in range(PEOPLE):
            fill(governor, f"customer-{number}", number)
    return path.read_bytes()


def verbs(governor: Governor, name: str) -> dict[str, Callable[[], Any]]:
    """What can be asked about a customer, and what it should come to in a sound file."""
    touch = Touch(name, id="new", address=f"{name}@example.org", **NEWS)
    return {
        "history": lambda: governor.history(name),
        "check": lambda: [(check.rule, check.passed, check.used) for check in governor.check(touch).checks],
        "reserve": lambda: codes(governor.reserve(touch)),
        "status": lambda: governor.consent.status(name, **NEWS),
        "words": lambda: governor.consent.history(name),
        "profile": lambda: governor.customers.get(name),
        "suppressed": lambda: governor.suppressions.contains(f"{name}@example.org", "email"),
        "opt_out": lambda: governor.consent.opt_out(name, channel="sms").scope,
    }


def answers(path: Path) -> dict[tuple[int, str], Any]:
    """What a file answers about some customers; "StoreError" where it is one."""
    found: dict[tuple[int, str], Any] = {}
    with opened(path) as governor:
        for number in range(0, PEOPLE, 5):
            for verb, call in verbs(governor, f"customer-{number}").items():
                try:
                    found[number, verb] = call()
                except StoreError:
                    found[number, verb] = "StoreError"
    return found


@pytest.fixture(scope="module")
def truth(sound: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Any]:
    """What the sound file answers."""
    path = tmp_path_factory.mktemp("truth") / "touches.db"
    path.write_bytes(sound)
    return answers(path)


def wrong(path: Path, content: bytes, truth: dict[tuple[int, str], Any]) -> tuple[dict[tuple[int, str], Any], bool]:
    """The answers of a damaged file that are neither right nor a StoreError, and whether there was a StoreError."""
    path.write_bytes(content)
    try:
        found = answers(path)
    except StoreError:
        return {}, True
    return {
        key: value for key, value in found.items() if value not in (truth[key], "StoreError")
    }, "StoreError" in found.values()


# Damage


def noise(size: int) -> bytes:
    """Random bytes, the same in every run."""
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize(
    "content",
    [noise(20 * PAGE), noise(50), b"somebody's notes\n", b"\0" * PAGE],
    ids=["noise", "short", "text", "zeros"],
)
def test_a_file_that_is_no_database(content, database):
    """A file that is not a database is a StoreError, and is left as it was."""
    database.write_bytes(content)
    with pytest.raises(StoreError, match=r"touches\.db is damaged"):
        opened(database)
    assert ([database], content) == (list(database.parent.iterdir()), database.read_bytes())


@pytest.mark.parametrize("size", [16, 100, PAGE])
def test_a_header_that_was_overwritten(size, database, sound):
    """A file whose header was overwritten is a StoreError, and is left as it was."""
    database.write_bytes(content := noise(size) + sound[size:])
    with pytest.raises(StoreError, match=r"touches\.db is damaged"):
        opened(database)
    assert content == database.read_bytes()


@pytest.mark.parametrize("filling", [b"\0" * PAGE, b"\xff" * PAGE, noise(PAGE)], ids=["zeros", "ones", "noise"])
def test_a_page_that_was_overwritten(filling, tmp_path, sound, truth):
    """Whichever page of a file is overwritten: every answer is right or a StoreError, so no opt-out is overlooked."""
    results = []
    for start in range(PAGE, len(sound), PAGE):
        content = sound[:start] + filling + sound[start + PAGE :]
        results.append(wrong(tmp_path / f"{start}.db", content, truth))
    assert [{}] * len(results) == [answers for answers, _ in results]
    assert sum(noticed for _, noticed in results) > len(results) // 2


def test_a_file_that_was_cut_off(tmp_path, sound, truth):
    """Wherever a file is cut off: every answer is right or a StoreError."""
    sizes = [50, PAGE // 2, *range(PAGE, len(sound), PAGE), *range(PAGE + 1000, len(sound), 3 * PAGE)]
    assert [{}] * len(sizes) == [wrong(tmp_path / f"{size}.db", sound[:size], truth)[0] for size in sizes]


ROTTEN = {
    "kind": "UPDATE kinds SET spelling = substr(spelling, 1, 5) || id",
    "kind of too few words": "UPDATE kinds SET spelling = json_array(id)",
    "instants": "UPDATE heads SET instants = details",
    "details": "UPDATE heads SET details = substr(details, 2)",
    "sum": "UPDATE heads SET sum = sum + 1",
    "word": "UPDATE spoken SET word = 'opt_ou-'",
    "evidence": "UPDATE spoken SET evidence = '{\"source\"'",
    "profile": "UPDATE profiles SET profile = '{\"country\"'",
    "profile of other keys": 'UPDATE profiles SET profile = \'{"cauntry": "AT"}\'',
    "profile of no zone": 'UPDATE profiles SET profile = \'{"timezone": "Eur%pe/Vienna"}\'',
}


@pytest.mark.parametrize("rot", ROTTEN.values(), ids=ROTTEN)
def test_values_that_mean_nothing(rot, database, sound, truth):
    """Values that fairtouch never writes, in pages that SQLite finds in order, are a StoreError where they are read."""
    database.write_bytes(sound)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(rot)
        connection.commit()
    found = answers(database)
    assert "StoreError" in found.values()
    assert {} == {key: value for key, value in found.items() if value not in (truth[key], "StoreError")}


LONG = {"caps": {"ever": {"limit": "1000 per lifetime"}}}


@pytest.mark.parametrize("rot", ["stage = 7", "at = at + (1 << 60)", "kind = 77"])
def test_old_rows_that_mean_nothing(rot, tmp_path):
    """A long ledger's older rows are not believed either."""
    path = tmp_path / "long.db"
    clock = FrozenClock(NOON)
    with govern(f"sqlite:///{path}", LONG, clock=clock) as governor:
        for _ in range(150):
            clock.advance(timedelta(minutes=1))
            assert governor.reserve("ada", channel="email")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"UPDATE entries SET {rot}").rowcount > 50
        connection.commit()
    with govern(f"sqlite:///{path}", LONG, clock=clock) as governor, pytest.raises(StoreError):
        governor.history("ada")


def test_a_schema_that_is_no_text(database, sound):
    """A schema that is not even text is a StoreError."""
    database.write_bytes(sound.replace(b"CREATE TABLE consents", b"CREATE \x94ABLE cons\x94nts"))
    with pytest.raises(StoreError, match=r"touches\.db"):
        opened(database)


@pytest.mark.parametrize("loss", ["DELETE FROM kinds", "DROP TABLE kinds", "DROP TABLE consents"])
def test_a_lost_table(loss, database, sound):
    """What a lost table said is never guessed: neither a touch nor a consent is judged without it."""
    database.write_bytes(sound)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(loss)
        connection.commit()
    with opened(database) as governor, pytest.raises(StoreError):
        governor.reserve("customer-3", **NEWS)


def lose_kinds(path: Path) -> None:
    """Lose every row of the table of kinds."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM kinds")
        connection.commit()


@pytest.mark.parametrize("ask", [lambda g: g.history("ada"), lambda g: g.check("ada", channel="email")])
def test_a_lost_kind_gets_no_other_meaning(ask, database):
    """A kind whose row was lost stays lost: a new kind does not take its number, and with it other people's history."""
    with opened(database) as governor:
        governor.confirm(governor.reserve("ada", channel="email").reservation)
    lose_kinds(database)
    with opened(database) as governor:
        governor.reserve("bob", channel="voice", category="service")
    with opened(database) as governor, pytest.raises(StoreError, match="kinds lost a row"):
        ask(governor)


def test_a_lost_kind_that_somebody_remembers(database):
    """A process that still knows a lost kind does not hide the loss from the others, nor read it differently."""
    with opened(database) as remembering:
        remembering.reserve("ada", channel="email", id="1")
        lose_kinds(database)
        remembering.reserve("ada", channel="email", id="2")
        with opened(database) as other:
            other.reserve("bob", channel="voice")
            with pytest.raises(StoreError, match="kinds lost a row"):
                other.history("ada")
        assert {"email"} == {entry.channel for entry in remembering.history("ada")}


# Other programs' files


def make_newer(connection: sqlite3.Connection) -> None:
    """As a fairtouch to come would leave it."""
    connection.execute("PRAGMA user_version = 1000")


def test_a_file_of_a_newer_version(database, sound):
    """A file that a newer version wrote is a StoreError that says what to do, and is left as it was."""
    database.write_bytes(sound)
    with closing(sqlite3.connect(database)) as connection:
        make_newer(connection)
    content = database.read_bytes()
    with pytest.raises(StoreError, match=r"layout 1000.*Upgrade fairtouch"):
        opened(database)
    assert ([database], content) == (list(database.parent.iterdir()), database.read_bytes())


OTHERS = {
    "tables": ["CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')"],
    "a table and a log": ["PRAGMA journal_mode = WAL", "CREATE TABLE notes (text)"],
    "our version by chance": ["CREATE TABLE notes (text)", "PRAGMA user_version = 1"],
    "a view only": ["CREATE VIEW one AS SELECT 1"],
    "a name and nothing else": ["PRAGMA application_id = 1234"],
    "a version and nothing else": ["PRAGMA user_version = 1"],
}


@pytest.mark.parametrize("statements", OTHERS.values(), ids=OTHERS)
def test_a_file_of_another_program(statements, database):
    """Another program's database is a StoreError, and not one byte of it changes."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    content = database.read_bytes()
    with pytest.raises(StoreError, match="database of something else"):
        opened(database)
    assert ([database], content) == (list(database.parent.iterdir()), database.read_bytes())


def test_a_file_that_another_program_has_open(database):
    """Another program's database with unfinished work beside it loses nothing of that."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE notes (text)")
        with pytest.raises(StoreError, match="database of something else"):
            opened(database)
        connection.execute("INSERT INTO notes VALUES ('mine')")
    with closing(sqlite3.connect(database)) as connection:
        assert [("mine",)] == connection.execute("SELECT * FROM notes").fetchall()


def test_an_empty_file(database):
    """An empty file is as good as none."""
    database.touch()
    with opened(database) as governor:
        assert governor.reserve("ada", channel="email")
    assert ["ok"] == integrity(database)


@pytest.mark.parametrize("in_its_place", [False, True])
def test_a_file_that_was_removed(in_its_place, database):
    """While it is open: nothing is acknowledged into a file that is gone, and no thread makes a new one, where all
    would be welcome again.
    """
    with opened(database) as governor:
        governor.consent.opt_out("ada")
        database.rename(database.with_suffix(".elsewhere"))
        if in_its_place:
            shutil.copy(database.with_suffix(".elsewhere"), database)
        attempts = [
            lambda: governor.consent.opt_out("bob"),
            lambda: governor.reserve("ada", **NEWS),
            lambda: governor.check("ada", **NEWS),
        ]
        for attempt in attempts:
            for run in (attempt, lambda attempt=attempt: ThreadPoolExecutor(1).submit(attempt).result()):
                with pytest.raises(StoreError, match="removed or replaced while it was open"):
                    run()
    assert in_its_place == database.exists()


def test_a_folder_in_place_of_a_file(database):
    """A folder under the file's name is an error that names it."""
    database.mkdir()
    with pytest.raises((StoreError, StoreUnavailable), match=r"touches\.db"):
        opened(database)
    assert [] == list(database.iterdir())


def test_a_folder_that_is_missing(tmp_path):
    """A file in a folder that does not exist is a StoreError that names the folder, and the folder is not made."""
    with pytest.raises(StoreError, match="nowhere does not exist"):
        opened(tmp_path / "nowhere" / "touches.db")
    assert [] == list(tmp_path.iterdir())


# Secrets


SECRETS = [(b"one", b"other"), (b"one", None), (None, b"other")]


@pytest.mark.parametrize(("written", "read"), SECRETS)
def test_another_secret(written, read, database):
    """Under another secret no opt-out would be found, so the store refuses to open; with its own it goes on."""
    with opened(database, secret=written) as governor:
        governor.consent.opt_out("ada", category="marketing")
    with pytest.raises(StoreError, match="another secret"):
        opened(database, secret=read)
    with opened(database, secret=written) as governor:
        assert ["opted_out"] == codes(governor.check("ada", channel="email"))


def test_another_secret_for_another_namespace(database):
    """Namespaces keep their own secrets in one file."""
    with opened(database, secret=b"one"), opened(database, namespace="brand", secret=b"other") as governor:
        assert governor.reserve("ada", channel="email")


def test_a_governor_that_could_not_open_holds_nothing(database):
    """A governor that could not be made leaves the file closed, so that it can be moved, restored or deleted."""
    opened(database, secret=b"one").close()
    with pytest.raises(StoreError, match="another secret"):
        opened(database, secret=b"other")
    assert [database] == list(database.parent.iterdir())  # SQLite's companions go with the last connection


# Rights


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="fairtouch-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


RIGHTS = {"file and folder": (0o444, 0o555), "folder": (0o666, 0o555), "file": (0o444, 0o777), "secret": (0o000, 0o777)}


@pytest.mark.parametrize(("file_mode", "folder_mode"), RIGHTS.values(), ids=RIGHTS)
def test_a_file_that_may_not_be_written(file_mode, folder_mode, place):
    """Where file or folder may not be written, the store is unavailable and says why; nothing is decided or changed."""
    path = place / "touches.db"
    with opened(path) as governor:
        governor.consent.opt_out("ada", category="marketing")
    content = path.read_bytes()
    path.chmod(file_mode)
    place.chmod(folder_mode)
    kind, message = in_new_process(as_nobody, f"sqlite:///{path}", POLICY)
    path.chmod(0o644)
    assert ("StoreUnavailable", content) == (kind, path.read_bytes())
    assert "read-only" in message or "cannot be opened" in message


def test_a_folder_that_may_not_be_written(place):
    """Where no file can be made, the store is unavailable and says why."""
    place.chmod(0o555)
    kind, message = in_new_process(as_nobody, f"sqlite:///{place}/touches.db", POLICY)
    assert ("StoreUnavailable", True) == (kind, "cannot be opened" in message)


# A full disk


SIZES_MAX = [0, 1_000, 10_000, 32_768, 100_000, 400_000, 1_000_000]


@pytest.mark.parametrize("bytes_max", SIZES_MAX)
def test_a_full_disk(bytes_max, database):
    """When files cannot grow any more what was acknowledged is kept; the rest is StoreUnavailable and leaves no trace.
    Once there is room again the same governor takes the same ids.
    """
    spell = in_new_process(fill_disk, f"sqlite:///{database}", POLICY, bytes_max, 120)
    assert (set(), set()) == (spell.errors, spell.half_done)
    assert any(spell.failed.values())
    names = [f"customer-{number}" for number in range(120)]
    with govern(f"sqlite:///{database}", POLICY) as governor:
        states = {name: [entry.state for entry in governor.history(name)] for name in names}
        assert [] == [name for name in names if ["opted_out"] != codes(governor.check(name, channel="sms"))]
        assert [] == [name for name in spell.kept["confirm"] if ["confirmed"] != states[name]]
        assert {1} == {len(entries) for entries in states.values()}
        assert ["news-1"] == [entry.id for entry in governor.history("customer-before")]
    assert ["ok"] == integrity(database)


# A locked database


def writers(governor: Governor, reservations: list[Reservation]) -> dict[str, Callable[[], Any]]:
    """Every verb that writes."""
    return {
        "reserve": lambda: governor.reserve("ada", channel="email", id="news-1"),
        "reserve_many": lambda: list(governor.reserve_many([Touch("bob", channel="email", id="news-1")])),
        "confirm": lambda: governor.confirm(reservations[0]),
        "release": lambda: governor.release(reservations[1]),
        "record": lambda: governor.record("ada", at=NOON, channel="email", id="record-1"),
        "opt_in": lambda: governor.consent.opt_in("ada", channel="email", topic="news"),
        "opt_out": lambda: governor.consent.opt_out("ada", channel="sms"),
        "suppress": lambda: governor.suppressions.add("ada@example.org", "email"),
        "unsuppress": lambda: governor.suppressions.remove("bob@example.org", "email"),
        "set": lambda: governor.customers.set("ada", country="AT"),
        "feedback": lambda: governor.feedback("reply", customer="ada", channel="email", id="reply-1"),
        "prune": governor.prune,
        "fail_open": lambda: governor.reserve("ada", channel="email", category="transactional"),
    }


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises."""
    try:
        return call()
    except FairtouchError as error:
        return error


def at_once(calls: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """What all calls come to when each is made by a thread of its own."""
    outcomes = in_threads(lambda ready, number: outcome([*calls.values()][number]), parties=len(calls))
    return dict(zip(calls, outcomes, strict=True))


def test_a_locked_database(database):
    """While another process holds the file every verb that writes is StoreUnavailable, not a refusal, and says why;
    nothing was recorded; afterwards the same calls work. What the policy lets out goes out unverified.
    """
    with opened(database) as governor:
        governor.suppressions.add("bob@example.org", "email")
        reservations = [governor.reserve("eve", channel="email").reservation for _ in range(2)]
        calls = writers(governor, reservations)
        with locked(database):
            results = at_once(calls)
        unverified = results.pop("fail_open")
        assert (True, True, None) == (unverified.allowed, unverified.unverified, unverified.reservation)
        assert dict.fromkeys(results, StoreUnavailable) == {verb: type(error) for verb, error in results.items()}
        assert set(results) == {verb for verb, error in results.items() if "locked by another process" in str(error)}
        assert ([], []) == (governor.history("ada"), governor.consent.history("ada"))
        assert not [verb for verb, call in calls.items() if isinstance(outcome(call), Exception)]
        assert {"weekly": 1, "ever": 1} == used(governor.check("bob", channel="email"))


def test_a_locked_new_file(database):
    """A file that another process holds before there is anything in it is StoreUnavailable, and fine afterwards."""
    database.touch()
    with locked(database), pytest.raises(StoreUnavailable, match="locked by another process"):
        opened(database)
    with opened(database) as governor:
        assert governor.reserve("ada", channel="email")


def test_reading_does_not_wait(database):
    """While another process holds the file a check answers at once, from what was acknowledged before."""
    with opened(database) as governor:
        governor.consent.opt_out("ada", category="marketing")
        with locked(database):
            assert ["opted_out"] == codes(governor.check("ada", channel="email"))
            assert [] == governor.history("ada")
