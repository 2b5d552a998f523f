"""What stands on Redis is damaged: a StoreError or an answer, and nothing else; and no opt-out becomes a yes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from fairtouch import FairtouchError, Governor, IdConflict, StoreError, Touch
from tests.every_verb import WEEKLY, YESTERDAY
from tests.workers import codes, govern

PIECES = 300  # that are doubled, of each document
LAST_MONTH = YESTERDAY - timedelta(days=30)
DRAWN = 400  # bits that are flipped of what stands beside a long ledger's document
EMAIL = {"channel": "email"}
LOST = {"opted_in", "unknown", "pending"}  # states of a consent that was withdrawn

Damage = Iterator[tuple[str, bytes]]


class Customer:
    """Whatever Redis keeps of ada, to be damaged and put back."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.key = min(client.scan_iter(f"{prefix}:{{*"), key=len)
        self.dumps = {name: client.dump(name) for name in client.scan_iter(f"{prefix}:{{*")}
        self.document = client.get(self.key)

    def restore(self, document: bytes | None = None) -> None:
        """All of it as it was, but the document that is given."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.delete(*self.dumps, *(self.key + end for end in (b":o", b":d", b":t", b":w")))
            for name, dump in self.dumps.items():
                pipe.restore(name, 0, dump, replace=True)
            if document is not None:
                pipe.set(self.key, document)
            pipe.execute()


def leave(governor: Governor) -> Any:
    """She says no, and nothing else is known of her."""
    governor.consent.opt_out("ada")


def leave_a_channel(governor: Governor) -> Any:
    """She says no to one channel."""
    governor.consent.opt_out("ada", **EMAIL)


def leave_a_zone(governor: Governor) -> Any:
    """She says no, and it is known where she lives."""
    governor.customers.set("ada", timezone="Europe/Paris", groups=["a"])
    governor.consent.opt_out("ada")


def change_her_mind(governor: Governor) -> Any:
    """She says yes, no, yes to something else, and no to it."""
    governor.consent.opt_in("ada", **EMAIL)
    governor.consent.opt_out("ada", **EMAIL)
    governor.consent.opt_in("ada", topic="news")
    governor.consent.opt_out("ada")


def leave_after_touches(governor: Governor) -> Any:
    """She has been sent something, and more is under way, when she says no."""
    governor.customers.set("ada", timezone="Europe/Paris", groups=["a"])
    governor.consent.opt_in("ada", topic="news")
    governor.confirm(governor.reserve("ada", **EMAIL, id="news", address="ada@example.com").reservation)
    governor.record("ada", YESTERDAY, channel="voice", id="call", subject="debt")
    reservation = governor.reserve("ada", channel="sms", id="sms").reservation
    governor.consent.opt_out("ada")
    return reservation


def leave_after_many_touches(governor: Governor) -> Any:
    """The same after so many touches that most stand beside the document."""
    for index in range(80):
        governor.record("ada", LAST_MONTH, channel="push", id=f"push-{index}", campaign=f"campaign-{index % 3}")
    return leave_after_touches(governor)


LIVES = [leave, leave_a_channel, leave_a_zone, change_her_mind, leave_after_touches]


@pytest.fixture
def governor(redis_url: str) -> Iterator[Governor]:
    """A governor on an empty store."""
    with govern(redis_url, WEEKLY) as governor:
        yield governor


READS: dict[str, Callable[[Governor, Any], Any]] = {
    "check": lambda governor, _: governor.check("ada", **EMAIL),
    "history": lambda governor, _: governor.history("ada"),
    "status": lambda governor, _: governor.consent.status("ada", **EMAIL),
    "words": lambda governor, _: governor.consent.history("ada"),
    "get": lambda governor, _: governor.customers.get("ada"),
}
CHANGES: dict[str, Callable[[Governor, Any], Any]] = {
    "reserve": lambda governor, _: governor.reserve("ada", **EMAIL, id="new"),
    "reserve what is known": lambda governor, _: governor.reserve("ada", **EMAIL, id="news", address="ada@example.com"),
    "reserve_many": lambda governor, _: next(governor.reserve_many([Touch("ada", **EMAIL), Touch("bob", **EMAIL)])),
    "confirm": lambda governor, reservation: governor.confirm(reservation),
    "release": lambda governor, reservation: governor.release(reservation),
    "record": lambda governor, _: governor.record("ada", YESTERDAY, **EMAIL, id="new"),
    "request": lambda governor, _: governor.consent.request("ada", channel="push"),
    "set": lambda governor, _: governor.customers.set("ada", country="FR"),
    "prune": lambda governor, _: governor.prune(),
}


def complaint(governor: Governor, verb: Callable[[Governor, Any], Any], reservation: Any) -> str | None:
    """What is wrong with what a verb says."""
    try:
        said = verb(governor, reservation)
    except (StoreError, IdConflict):  # an entry whose kind is another one now is another touch
        return None
    except FairtouchError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - that there is none is what must hold
        return f"{type(error).__name__}: {error}"
    state = getattr(said, "state", None)
    return "the opt-out is lost" if getattr(said, "allowed", False) or state in LOST else None


def wrongs(governor: Governor, reservation: Any, restore: Callable[[], None], turn: int) -> Iterator[tuple[str, str]]:
    """What is wrong after one damage: with whatever is read, and with two of all changes and what is read then."""
    restore()
    for name, verb in READS.items():
        if wrong := complaint(governor, verb, reservation):
            yield name, wrong
    names = list(CHANGES)
    for name in (names[turn % len(names)], names[(turn // 2 + 4) % len(names)]):
        if reservation is None and name in {"confirm", "release"}:
            continue
        restore()
        for verb in (CHANGES[name], READS["check"], READS["status"]):
            if wrong := complaint(governor, verb, reservation):
                yield name, wrong


def flips(document: bytes) -> Damage:
    """One bit the other way round, each in turn."""
    for place, byte in enumerate(document):
        for bit in range(8):
            yield f"bit {bit} of byte {place}", document[:place] + bytes((byte ^ 1 << bit,)) + document[place + 1 :]


def cuts(document: bytes) -> Damage:
    """Cut off, at each length."""
    for end in range(1, len(document)):
        yield f"cut at {end}", document[:end]


def pieces(document: bytes) -> Damage:
    """A piece that stands twice."""
    chance = random.Random(20261121)
    for _ in range(PIECES):
        start, end = sorted(chance.sample(range(len(document) + 1), 2))
        yield f"[{start}:{end}] twice", document[:end] + document[start:]


@pytest.mark.parametrize("damage", [flips, cuts, pieces])
@pytest.mark.parametrize("life", LIVES)
def test_a_damaged_document(life, damage, governor, redis_server, prefix):
    """Whichever bit of a document is flipped, wherever it is cut, and whatever stands in it twice: every verb is a
    StoreError or an answer, and an opt-out stays one.

    What it does not promise: an instant that is another one now is counted as that.
    """
    reservation = life(governor)
    with redis_server.client() as client:
        ada = Customer(client, prefix)
        other_names(governor)
        found = {
            (*wrong, where)
            for turn, (where, document) in enumerate(damage(ada.document))
            if document != ada.document
            for wrong in wrongs(governor, reservation, lambda document=document: ada.restore(document), turn)
        }
    assert set() == found


def test_a_document_that_was_restored(governor, redis_server, prefix):
    """A governor that met any damage answers rightly as soon as the document is put right."""
    leave_a_zone(governor)
    with redis_server.client() as client:
        ada = Customer(client, prefix)
        for where, document in flips(ada.document):
            ada.restore(document)
            complaint(governor, READS["check"], None)
            ada.restore()
            assert ("opted_out", where) == (", ".join(codes(governor.check("ada", **EMAIL))), where)


def other_names(governor: Governor) -> None:
    """Names that damaged numbers could mean."""
    governor.record("eve", YESTERDAY, channel="push", topic="news", campaign="spring")
    governor.consent.opt_in("eve", channel="sms")


def test_a_damaged_ledger(governor, redis_server, prefix):
    """The same holds for bits of whatever stands beside a long ledger's document, and of that document."""
    reservation = leave_after_many_touches(governor)
    with redis_server.client() as client:
        ada = Customer(client, prefix)
        other_names(governor)
        found = {
            (*wrong, turn)
            for turn in range(DRAWN)
            for wrong in wrongs(governor, reservation, lambda turn=turn: flip_one(ada, turn), turn)
        }
    assert set() == found


def flip_one(ada: Customer, seed: int) -> None:
    """Flip one bit of one value of one key, the same for the same seed."""
    ada.restore()
    chance = random.Random(seed)
    key = chance.choice(sorted(ada.dumps))
    if ada.client.type(key) == b"string":
        ada.client.set(key, flipped(ada.client.get(key), chance))
        return
    name, value = chance.choice(sorted(ada.client.hgetall(key).items()))
    ada.client.hdel(key, name)
    name, value = (flipped(name, chance), value) if chance.random() < 0.2 else (name, flipped(value, chance))
    ada.client.hset(key, name, value)


def flipped(text: bytes, chance: random.Random) -> bytes:
    """A text with one bit the other way round."""
    place = chance.randrange(len(text))
    return text[:place] + bytes((text[place] ^ 1 << chance.randrange(8),)) + text[place + 1 :]


def test_a_document_of_somebody_else(governor, redis_server, prefix):
    """What fairtouch never wrote is a StoreError, whatever is asked."""
    reservation = leave_after_touches(governor)
    chance = random.Random(20261121)
    texts = [b"x", b"{}", bytes(500), *(chance.randbytes(chance.randrange(1, 400)) for _ in range(50))]
    with redis_server.client() as client:
        ada = Customer(client, prefix)
        for text in texts:
            for verb in (READS | CHANGES).values():
                ada.restore(text)
                with pytest.raises(StoreError):
                    verb(governor, reservation)


def test_a_key_of_another_type(governor, redis_server, prefix):
    """A key that holds something of another type is a StoreError."""
    reservation = leave_after_touches(governor)
    with redis_server.client() as client:
        ada = Customer(client, prefix)
        client.delete(ada.key)
        client.sadd(ada.key, "member")
        for verb in (READS | CHANGES).values():
            with pytest.raises(StoreError):
                verb(governor, reservation)


def test_a_batch_with_a_damaged_document(governor, redis_server, prefix):
    """An error about one customer of a batch gives the slots of all others back."""
    leave(governor)
    with redis_server.client() as client:
        client.set(Customer(client, prefix).key, b"damaged")
    touches = [Touch(f"customer-{index}", **EMAIL, id="news") for index in range(9)]
    with pytest.raises(StoreError):
        list(governor.reserve_many([*touches[:5], Touch("ada", **EMAIL), *touches[5:]]))
    assert [[]] * 9 == [governor.history(touch.customer) for touch in touches]
