"""What stands in a document on Redis and beside it is what was put there, however it was packed, moved and counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis

from fairtouch import Governor, StoreError, Touch
from fairtouch.facts import Entry, Stage
from fairtouch.stores.memory import MemoryStore
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_calls import Call, Keys, beside
from fairtouch.stores.redis_connections import Connections
from fairtouch.stores.redis_documents import ENTRIES_MAX, Document, document_of
from fairtouch.stores.redis_entries import COLUMN, NARROW, columns_of, six
from fairtouch.stores.redis_words import NOTHING_SAID
from fairtouch.testing import FrozenClock
from fairtouch.touch import Kind
from tests.redis_servers import Server
from tests.twins import Twins
from tests.workers import NOON, Sections, govern, used, worded

AT = 1_700_000_000_000
EMAIL, SMS = Kind("email"), Kind("sms")
LONGEST = "\U0001f4ec" * 256  # the longest id or subject: 256 characters of four bytes
LONG_SECONDS = 86_400  # the longest lease, whose milliseconds take more than three bytes
COUNTING: Sections = {
    "ledger": {"keep": "400 days"},
    "caps": {
        "hour": {"limit": "1000000 per 1 hour"},
        "emails": {"limit": "1000000 per 2 days", "select": {"channels": ["email"]}},
        "spring": {"limit": "1000000 per 100 days", "select": {"campaigns": ["c1"]}},
        "all": {"limit": "1000000 per 300 days"},
        "month": {"limit": "1000000 per calendar month"},
    },
}


def entry(at: int = AT, **fields: Any) -> Entry:
    """An entry, of which only what matters is said."""
    usual = Entry(at, EMAIL, None, "news", b"tokentok", Stage.RESERVED, at + 900_000, None)
    return usual._replace(**fields)


# What is packed

ENTRIES = [
    entry(),
    entry(stage=Stage.CONFIRMED, lease_end=0),
    entry(lease_end=AT),
    entry(lease_end=AT + NARROW - 1),
    entry(lease_end=AT + NARROW),
    entry(lease_end=AT - 1),
    entry(id=""),
    *(entry(id="i" * length, subject="s" * length) for length in (1, 127, 128, 255, 256)),
    entry(id=LONGEST, subject=LONGEST, address=bytes(range(16))),
    entry(subject="", address=bytes(16)),
    entry(kind=Kind("voice", event="conversation"), token=b"conversation", stage=Stage.CONFIRMED, lease_end=0),
    entry(kind=SMS, token=b""),
    entry(at=0, lease_end=(1 << 48) - 1),
]


def numbered(entries: list[Entry]) -> tuple[list[tuple[Entry, int]], dict[int, Kind]]:
    """Entries with numbers for their kinds, and what the numbers stand for."""
    kinds = dict(enumerate({one.kind for one in entries}, 70_000))
    numbers = {kind: number for number, kind in kinds.items()}
    return [(one, numbers[one.kind]) for one in entries], kinds


@pytest.mark.parametrize("one", ENTRIES)
def test_an_entry_is_read_as_it_was_packed(one):
    """Every entry is read as it was packed, with others before and after it."""
    pairs, kinds = numbered([entry(id="before"), one, entry(id="after", kind=SMS)])
    document = Document(b"name", b"turn", '{"timezone":"Asia/Tokyo"}', b"words").with_entries(pairs)
    found = document_of(document.packed())
    assert document == found
    assert [pair[0] for pair in pairs] == found.entries(kinds.__getitem__)


@pytest.mark.parametrize("kinds", [[5], range(32), range(33), range(300)])
def test_older_kinds_are_listed_as_long_as_they_are_few(kinds):
    """What stands beside a document is told in it: its newest instant, its number, its kinds unless they are many."""
    document = Document(b"name", b"turn", "", b"").with_older(AT, 70_000, kinds)
    found = document_of(document.packed())
    assert (AT, 70_000) == (found.older, found.beside)
    assert (list(kinds) if len(kinds) <= 32 else None) == (None if found.listed is None else found.numbers())


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_an_entry_that_is_cut_off(cut):
    """A document that ends within an entry is never read as another entry."""
    pairs, kinds = numbered([entry()])
    document = Document(b"name", b"turn", "", b"").with_entries(pairs)
    with pytest.raises((ValueError, LookupError)):
        document_of(document.packed()[:-cut]).entries(kinds.__getitem__)


# What is settled


@pytest.fixture
def store(redis_server: Server, redis_url: str) -> Iterator[RedisStore]:
    """A store of our own, with the prefix of the URL."""
    with closing(redis.Redis(port=redis_server.port)) as client:
        store = RedisStore(client, prefix=prefix_of(redis_url), deadline_seconds=5)
        yield store
        store.close()


def prefix_of(url: str) -> str:
    """The prefix of the keys."""
    return url.partition("prefix=")[2].partition("&")[0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call | list[Call]]:
    """Every message that goes to Redis from now on."""
    heard: list[Call | list[Call]] = []
    call = Connections.call

    def listen(self: Connections, asked: Call | list[Call]) -> Any:
        heard.append(asked)
        return call(self, asked)

    monkeypatch.setattr(Connections, "call", listen)
    return heard


@pytest.fixture
def put(redis_server: Server, redis_url: str) -> Iterator[Callable[..., bytes]]:
    """Writes a document with these entries for a customer, whom it returns; `EMAIL` and `SMS` have numbers."""
    customer = bytes(range(16))
    with govern(redis_url, {}) as governor, redis_server.client() as client:
        for kind in (EMAIL, SMS):
            governor.reserve("ada", channel=kind.channel)
        keys = Keys(prefix_of(redis_url))
        known = document_of(client.get(keys.document(governor._digests.customer("ada"))))
        numbers = dict(zip(channels(governor), known.numbers(), strict=True))

        def write(*entries: Entry) -> bytes:
            pairs = [(one, numbers[one.kind.channel]) for one in entries]
            document = Document(known.names, b"turn", "", NOTHING_SAID).with_entries(pairs)
            client.set(keys.document(customer), document.packed())
            return customer

        yield write


def channels(governor: Governor) -> list[str]:
    """Of Ada's touches, in the order of their numbers."""
    return [one.channel for one in governor.history("ada")]


def without_category(entries: list[Entry]) -> list[Entry]:
    """Entries with no more of their kinds than the channel."""
    return [one._replace(kind=Kind(one.kind.channel)) for one in entries]


OTHERS = {
    "alone": [],
    "after a subject that spells it": [entry(id="other", subject="\x04newstokentok", kind=SMS)],
    "after an id that spells it": [entry(id="\x04newstokentok", kind=SMS)],
    "after a subject that spells it twice": [entry(id="other", subject="\x04newstokentok" * 2, address=bytes(16))],
    "after one of another token": [entry(token=b"tokento!")],
    "after the longest": [entry(id=LONGEST, subject=LONGEST, address=bytes(16), token=b"other", lease_end=0)],
}
STANDING = {
    "": entry(),
    "with a long lease": entry(lease_end=AT + 2 * NARROW),
    "with a long id": entry(id=LONGEST),
    "with a subject that spells it": entry(subject="\x04newstokentok"),
}


@pytest.mark.parametrize("standing", STANDING)
@pytest.mark.parametrize("others", OTHERS)
def test_a_reservation_is_confirmed_in_one_call(others, standing, store, put, calls):
    """A reservation that stands in the document is confirmed in one call, and nothing else becomes another."""
    one, before = STANDING[standing], OTHERS[others]
    customer = put(*before, one, entry(id="later", kind=SMS))
    store.confirm(customer, one, (), None)  # the first call asks for the table of names
    put(*before, one, entry(id="later", kind=SMS))
    calls.clear()
    settlement = store.confirm(customer, one, (), AT + 5)
    assert (1, AT + 5, Stage.RESERVED, one.lease_end) == (
        len(calls),
        settlement.now,
        settlement.found,
        settlement.lease_end,
    )
    expected = [*before, one._replace(stage=Stage.CONFIRMED), entry(id="later", kind=SMS)]
    assert expected == without_category(store.history(customer))
    assert Stage.CONFIRMED is store.confirm(customer, one, (), None).found
    assert Stage.CONFIRMED is store.release(customer, one, None).found
    assert expected == without_category(store.history(customer))


@pytest.mark.parametrize("standing", STANDING)
@pytest.mark.parametrize("others", OTHERS)
def test_a_reservation_is_released_in_one_call(others, standing, store, put, calls):
    """A reservation that stands in the document is released in one call, and nothing else goes with it."""
    one, before = STANDING[standing], OTHERS[others]
    customer = put()
    store.release(customer, one, None)
    put(*before, one, entry(id="later", kind=SMS))
    calls.clear()
    assert (Stage.RESERVED, 1) == (store.release(customer, one, None).found, len(calls))
    expected = [*before, entry(id="later", kind=SMS)]
    assert expected == without_category(store.history(customer))
    assert store.release(customer, one, None).found is None
    assert expected == without_category(store.history(customer))


@pytest.mark.parametrize("others", [name for name in OTHERS if name != "alone"])
def test_what_only_looks_like_a_reservation(others, store, put):
    """Where the reservation does not stand, nothing that looks like it is settled."""
    customer = put(*OTHERS[others])
    assert store.release(customer, entry(), None).found is None
    assert OTHERS[others] == without_category(store.history(customer))
    assert store.confirm(customer, entry(), (), AT + 5).found is None
    found = without_category(store.history(customer))
    assert [*OTHERS[others], entry(at=AT + 5, stage=Stage.CONFIRMED, lease_end=AT + 900_000)] == found


def test_words_that_cannot_be_read_do_not_hide_a_confirmation(redis_server, redis_url, store):
    """When a customer's words are damaged, a confirmation says that the touch was confirmed, and it was."""
    with govern(redis_url, {}) as governor, redis_server.client() as client:
        governor.consent.opt_in("ada", channel="email")
        reservation = governor.reserve("ada", channel="email").reservation
        key = Keys(prefix_of(redis_url)).document(governor._digests.customer("ada"))
        document = document_of(client.get(key))
        damaged = document.words[:-1] + bytes((document.words[-1] ^ 1,))
        client.set(key, document._replace(words=damaged).packed())
        with pytest.raises(StoreError, match="was confirmed"):
            governor.confirm(reservation)
        client.set(key, document_of(client.get(key))._replace(words=document.words).packed())
        assert ["confirmed"] == [one.state for one in governor.history("ada")]


def test_kinds_that_came_and_went(redis_server, redis_url, store, put):
    """A document that lists many kinds of touches that were released is packed anew, and nothing else goes."""
    customer = put(entry(id="stays"), entry())
    key = Keys(prefix_of(redis_url)).document(customer)
    with redis_server.client() as client:
        document = document_of(client.get(key))
        client.set(key, document._replace(kinds=document.kinds * 40).packed())
        assert store.release(customer, entry(), None).found is Stage.RESERVED
        assert document.kinds == document_of(client.get(key)).kinds
    assert [entry(id="stays")] == without_category(store.history(customer))


# What is moved and counted


@contextmanager
def twins(url: str, sections: Sections, **options: Any) -> Iterator[tuple[Twins, FrozenClock]]:
    """A governor on Redis and one on memory that must say the same, at one clock."""
    clock = FrozenClock(NOON)
    policy = worded(sections)
    both = Twins([Governor(policy, store, clock=clock, **options) for store in (url, MemoryStore())])
    yield both, clock
    both.close()


@pytest.mark.parametrize("campaigns", [1, 4, 100])
@pytest.mark.parametrize("channels", [["email"], ["email", "sms"]])
def test_a_long_ledger_is_counted_as_in_memory(campaigns, channels, redis_url):
    """However long a ledger is and whatever it mixes, every cap counts on Redis what it counts in memory."""
    chance = random.Random(20261122)
    with twins(redis_url, COUNTING) as (both, clock):
        for index in range(300):
            clock.advance(timedelta(hours=chance.choice([0, 0, 1, 5, 30])))
            both(
                "reserve",
                "ada",
                channel=chance.choice(channels),
                campaign=f"c{chance.randrange(campaigns)}",
                id=str(index),
            )
            if index % 7 == 0:
                both("check", "ada", channel="email", campaign="c1")
        both("history", "ada")


def test_halves_of_one_instant(redis_url):
    """Touches of one instant stay together when a document's older half moves on, and none is counted twice."""
    with twins(redis_url, COUNTING) as (both, clock):
        for size in (3, 40, 100, 1, 70):
            for index in range(size):
                both("reserve", "ada", channel="email", id=f"{size}-{index}")
            both("check", "ada", channel="email")
            clock.advance(timedelta(hours=2))
            both("history", "ada")


@pytest.mark.parametrize("seconds", [900, LONG_SECONDS])
def test_the_largest_touches(seconds, redis_url):
    """The longest ids, subjects and leases are kept, found again, settled and moved as in memory."""
    fields = {"channel": "email", "subject": LONGEST, "address": "ada@example.com"}
    with twins(redis_url, COUNTING, lease_seconds=seconds) as (both, clock):
        for index in range(12):
            touch_id = LONGEST[:-2] + f"{index:02}"
            decision = both("reserve", Touch("ada", id=touch_id, **fields))
            both("reserve", Touch("ada", id=touch_id, **fields))
            reservation = type(decision)([one.reservation for one in decision.things])
            both("release" if index % 3 == 0 else "confirm", reservation)
            both("confirm", reservation)
            clock.advance(timedelta(minutes=1))
        both("history", "ada")


def test_an_id_that_stands_beside_already(redis_url):
    """An id under which something older stands is moved to it, and neither is lost."""
    with twins(redis_url, COUNTING) as (both, clock):
        both("feedback", "reply", customer="ada", channel="email", id="0")
        for index in range(200):
            clock.advance(timedelta(minutes=1))
            both("reserve", "ada", channel="email", id=str(index))
            if index in {80, 150}:
                both("feedback", "reply", customer="ada", channel="email", id=str(index - 70))
        both("history", "ada")
        both("check", "ada", channel="email")


def test_a_full_document_is_moved_without_what_is_older(redis_url, calls):
    """Moving a document's older half takes one call more than a reservation, and reads nothing beside it."""
    clock = FrozenClock(NOON)
    with govern(redis_url, COUNTING, clock=clock) as governor:
        moves = 0
        for index in range(200):
            clock.advance(timedelta(minutes=1))
            calls.clear()
            governor.reserve("ada", channel="email", id=str(index))
            if index >= 2:
                moves += len(calls) - 1
                assert all(name not in str(calls) for name in ("read", "HGETALL"))
        assert moves == 1 + (200 - ENTRIES_MAX - 1) // (ENTRIES_MAX // 2 + 1)


@pytest.fixture
def older(redis_server: Server, redis_url: str) -> Iterator[tuple[Governor, redis.Redis, bytes, FrozenClock]]:
    """A governor, and a customer of whom more than a document holds is known; its key."""
    clock = FrozenClock(NOON)
    with govern(redis_url, COUNTING, clock=clock) as governor, redis_server.client() as client:
        for index in range(100):
            clock.advance(timedelta(minutes=1))
            governor.reserve("ada", channel="email", id=str(index))
        yield governor, client, Keys(prefix_of(redis_url)).document(governor._digests.customer("ada")), clock


def test_what_a_change_left_behind(older):
    """What a change that failed in the middle left beside a document is not counted, and gives way to the next."""
    governor, client, key, clock = older
    _, columns, details, *_ = beside(key)
    before = document_of(client.get(key))
    left = before.columns[:7]
    number = columns_of(client.get(columns))[0][1].to_bytes(3, "big")
    client.setrange(columns, before.beside * COLUMN.size, (left[:6] + number) * 5)
    found = governor.history("ada")
    client.hset(
        details,
        found[before.beside].id,
        left[:6] + number + before.details[: len(before.details) // len(found[before.beside :])],
    )
    assert found == governor.history("ada")
    for index in range(100, 200):
        clock.advance(timedelta(minutes=1))
        assert index == used(governor.check("ada", channel="email"))["all"]
        governor.reserve("ada", channel="email", id=str(index))
    assert [str(index) for index in range(200)] == [one.id for one in governor.history("ada")]


def test_older_touches_that_were_lost(older):
    """When older touches are gone from beside a document, what would have to look at them is a StoreError."""
    governor, client, key, _ = older
    _, columns, details, *_ = beside(key)
    kept = client.get(columns)
    for left in (kept[:-9], kept[: len(kept) // 2 + 1], b""):
        client.set(columns, left)
        for verb in (
            governor.history,
            lambda name: governor.check(name, channel="email"),
            lambda _: record_old(governor),
        ):
            with pytest.raises(StoreError):
                verb("ada")
    client.set(columns, kept)
    client.delete(details)
    for verb in (governor.history, lambda _: record_old(governor)):
        with pytest.raises(StoreError):
            verb("ada")


def record_old(governor: Governor) -> None:
    """A touch that belongs among the older ones."""
    governor.record("ada", NOON, channel="email", id="other")


def test_instants_are_six_bytes():
    """An instant that does not fit is the first or the last that does."""
    assert (bytes(6), b"\xff" * 6) == (six(-1), six(1 << 60))
