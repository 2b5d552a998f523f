"""A process may be killed at any instant: what it acknowledged is kept, what is in doubt is named and counted once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairtouch import Governor, Reservation
from fairtouch.testing import FrozenClock
from tests.workers import NOON, codes, govern, in_new_process, integrity, used
from tests.workers.kills import (
    CUSTOMERS,
    after_kills,
    kill_at_random,
    kill_campaign,
    kill_while_opening,
    killed_after,
    reserve_and_tell,
    send_and_tell,
)

LEASE = timedelta(seconds=900)
MOMENT = timedelta(milliseconds=1)
NEWS = {"channel": "email", "id": "news-1"}
OTHER = {"channel": "email", "id": "other"}
WEEKLY = {"caps": {"weekly": {"limit": "2 per 7 days"}}}
HOLD, RESEND = WEEKLY | {"in_doubt": "hold"}, WEEKLY | {"in_doubt": "resend"}
Victims = Callable[..., tuple[Governor, FrozenClock, Any]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file that the victims share."""
    return tmp_path / "touches.db"


@pytest.fixture
def after(database: Path) -> Iterator[Victims]:
    """Let a process be killed at noon, and look at what it left: a governor, its clock, and what the process told."""
    opened: list[Governor] = []

    def kill(work: Callable[..., None], sections: dict[str, Any]) -> tuple[Governor, FrozenClock, Any]:
        told = killed_after(work, f"sqlite:///{database}", sections, "news-1")
        clock = FrozenClock(NOON)
        opened.append(govern(f"sqlite:///{database}", sections, clock=clock))
        return opened[-1], clock, told

    yield kill
    for governor in opened:
        governor.close()


def entries(governor: Governor) -> list[tuple[str, str]]:
    """The ids in a ledger, and how far they came."""
    return [(entry.id, entry.state) for entry in governor.history("ada")]


@pytest.mark.parametrize("sections", [HOLD, RESEND], ids=["hold", "resend"])
def test_until_its_lease_ends_a_dead_process_holds_its_id(sections, after):
    """Until the lease of a killed process ends nobody else gets its id, and everybody is told when to ask again."""
    governor, clock, _ = after(reserve_and_tell, sections)
    clock.set(NOON + LEASE - MOMENT)
    decision = governor.reserve("ada", **NEWS)
    assert (["in_flight"], "deferred", None) == (codes(decision), decision.outcome, decision.reservation)
    assert NOON + LEASE == decision.next_allowed_at


def test_hold_refuses_what_is_in_doubt(after):
    """Under `hold` the id of a killed process is refused from the end of its lease on, for ever: at most one send."""
    governor, clock, _ = after(reserve_and_tell, HOLD)
    for later in (LEASE, LEASE + MOMENT, timedelta(days=30)):
        clock.set(NOON + later)
        decision = governor.reserve("ada", **NEWS)
        assert (["in_doubt"], "refused", None) == (codes(decision), decision.outcome, decision.next_allowed_at)


def test_a_slot_in_doubt_stays_counted(after):
    """The slot of a killed process stays taken after its lease, for as long as the cap looks back."""
    governor, clock, _ = after(reserve_and_tell, HOLD)
    clock.set(NOON + LEASE)
    assert {"weekly": 1} == used(governor.check("ada", **OTHER))
    clock.set(NOON + timedelta(days=7) - MOMENT)
    assert {"weekly": 1} == used(governor.check("ada", **OTHER))
    clock.set(NOON + timedelta(days=7))
    assert {"weekly": 0} == used(governor.check("ada", **OTHER))


def test_history_names_what_is_in_doubt(after):
    """The ledger names the touch of a killed process as reserved, with the end of its lease; nobody has to guess."""
    governor, clock, _ = after(reserve_and_tell, HOLD)
    clock.set(NOON + LEASE)
    (entry,) = governor.history("ada")
    assert ("news-1", "reserved", NOON, NOON + LEASE) == (entry.id, entry.state, entry.at, entry.lease_end)


def test_resend_judges_anew_in_the_old_place(after):
    """Under `resend` the id is judged anew after the lease, in the old one's place: sent again, and counted once."""
    governor, clock, _ = after(reserve_and_tell, RESEND)
    clock.set(NOON + LEASE)
    governor.confirm(governor.reserve("ada", **NEWS).reservation)
    assert ([("news-1", "confirmed")], {"weekly": 1}) == (entries(governor), used(governor.check("ada", **OTHER)))
    assert [NOON + LEASE] == [entry.at for entry in governor.history("ada")]


def test_resend_does_not_need_a_second_slot(after):
    """A cap that the killed touch itself filled does not stop its being sent again, and stops every other touch."""
    governor, clock, _ = after(reserve_and_tell, RESEND | {"caps": {"weekly": {"limit": "1 per 7 days"}}})
    clock.set(NOON + LEASE)
    other, again = governor.reserve("ada", **OTHER), governor.reserve("ada", **NEWS)
    assert (["cap_reached"], [], {"weekly": 0}) == (codes(other), codes(again), used(again))


def test_resend_heeds_an_opt_out(after):
    """What is judged anew is judged by all rules: an opt-out in the meantime refuses it, and the doubt stays named."""
    governor, clock, _ = after(reserve_and_tell, RESEND)
    governor.consent.opt_out("ada", category="marketing")
    clock.set(NOON + LEASE)
    assert ["opted_out"] == codes(governor.reserve("ada", **NEWS))
    assert [("news-1", "reserved")] == entries(governor)


@pytest.mark.parametrize("later", [timedelta(0), LEASE, timedelta(days=3)])
def test_somebody_else_may_settle_for_a_dead_process(later, after):
    """Whoever knows what became of the send confirms it with the dead process's own reservation: it counts once."""
    governor, clock, told = after(reserve_and_tell, HOLD)
    clock.set(NOON + later)
    settled = governor.confirm(Reservation.from_json(told))
    assert ("confirmed", later >= LEASE) == (settled.state, settled.late)
    assert ([("news-1", "confirmed")], ["duplicate"]) == (entries(governor), codes(governor.reserve("ada", **NEWS)))


def test_somebody_else_may_give_back_for_a_dead_process(after):
    """Whoever knows that nothing went out releases it: slot and id are free again."""
    governor, clock, told = after(reserve_and_tell, HOLD)
    clock.set(NOON + LEASE)
    governor.release(Reservation.from_json(told))
    assert ([], []) == (entries(governor), codes(governor.reserve("ada", **NEWS)))


def test_a_touch_in_doubt_that_went_out_can_be_recorded(after):
    """Recording the touch in doubt, without its reservation, settles it: counted once, and a duplicate from then on."""
    governor, clock, _ = after(reserve_and_tell, HOLD)
    clock.set(NOON + LEASE)
    assert "kept" == governor.record("ada", at=NOON, **NEWS)
    assert ([("news-1", "confirmed")], ["duplicate"]) == (entries(governor), codes(governor.reserve("ada", **NEWS)))


def test_a_process_killed_within_a_wrapped_send(after):
    """A process that is killed after the message went out, but within `touch`, leaves it in doubt, not free."""
    governor, clock, told = after(send_and_tell, HOLD)
    clock.set(NOON + LEASE)
    assert ("sent", ["in_doubt"]) == (told, codes(governor.reserve("ada", **NEWS)))


NAMES = [f"customer-{number}" for number in range(CUSTOMERS)]


def stands(governor: Governor) -> list[tuple[str, str, str]]:
    """Every touch in the ledgers of those that victims sent to: customer, id, state."""
    return [(name, entry.id, entry.state) for name in NAMES for entry in governor.history(name)]


# Kills anywhere

KILLS = 48
SLOTS = 60
MANY = {"caps": {"monthly": {"limit": f"{SLOTS} per 30 days", "select": {"channels": ["email"]}}}}


@pytest.fixture(scope="module")
def battlefield(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[tuple[str, str]]]]:
    """A file on which two processes lived until they were killed, again and again; and what they acknowledged."""
    database = tmp_path_factory.mktemp("kills") / "touches.db"
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for what, customer, which in in_new_process(kill_at_random, f"sqlite:///{database}", MANY, KILLS, 20261121):
        told[what].add((customer, which))
    return database, told


@pytest.fixture
def survivor(battlefield: tuple[Path, dict[str, set[tuple[str, str]]]]) -> Iterator[Governor]:
    """A governor that opens the file afterwards."""
    with govern(f"sqlite:///{battlefield[0]}", MANY) as governor:
        yield governor


def test_acknowledged_opt_outs_survive_every_kill(survivor, battlefield):
    """Opt-outs that a process acknowledged before it was killed are all found afterwards: lost = 0."""
    _, told = battlefield
    lost = {
        (customer, topic)
        for customer, topic in told["opted_out"]
        if ["opted_out"] != codes(survivor.check(customer, channel="sms", topic=topic))
    }
    assert (set(), True) == (lost, len(told["opted_out"]) > KILLS)


def test_acknowledged_suppressions_survive_every_kill(survivor, battlefield):
    """Suppressions that a process acknowledged before it was killed are all found afterwards."""
    _, told = battlefield
    lost = {address for _, address in told["suppressed"] if not survivor.suppressions.contains(address, "email")}
    assert (set(), True) == (lost, len(told["suppressed"]) > KILLS)


def ids(governor: Governor, *states: str) -> set[tuple[str, str]]:
    """The customers and ids of all touches in one of these states."""
    return {(name, touch_id) for name, touch_id, state in stands(governor) if state in states}


def test_acknowledged_touches_survive_every_kill(survivor, battlefield):
    """Touches acknowledged as confirmed are confirmed, and those acknowledged as reserved are not forgotten."""
    _, told = battlefield
    assert set() == told["confirmed"] - ids(survivor, "confirmed")
    assert set() == told["reserved"] - ids(survivor, "reserved", "confirmed")
    assert len(told["confirmed"]) > KILLS


def test_no_kill_counts_a_touch_twice(survivor, battlefield):
    """After all kills each id stands once in its ledger, no cap is exceeded, and each counts what the ledger holds."""
    stand = stands(survivor)
    held = Counter(name for name, _, _ in stand)
    counted = {name: used(survivor.check(name, channel="email"))["monthly"] for name in held}
    assert ({1}, held) == (set(Counter((name, touch_id) for name, touch_id, _ in stand).values()), counted)
    assert max(held.values()) <= SLOTS


def test_no_kill_damages_the_file(survivor, battlefield):
    """After all kills SQLite finds nothing wrong with the file."""
    assert ["ok"] == integrity(battlefield[0])


def test_a_file_whose_making_was_killed(tmp_path):
    """A process that is killed while it makes a new file leaves one that the next process can use."""
    in_new_process(kill_while_opening, str(tmp_path), KILLS, 20261121)
    for path in sorted(tmp_path.glob("*.db")):
        with govern(f"sqlite:///{path}", MANY) as governor:
            assert governor.reserve("ada", channel="email")
        assert ["ok"] == integrity(path)


# Campaigns

IDS = 144


@pytest.mark.parametrize("in_doubt", ["hold", "resend"])
def test_a_campaign_that_is_killed_again_and_again(in_doubt, database):
    """However often a campaign is killed and run again: under `hold` each id is sent at most once, under `resend` at
    least once; every id in doubt is named; no slot is counted twice.
    """
    sections = {"in_doubt": in_doubt, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    sent = Counter(in_new_process(kill_campaign, f"sqlite:///{database}", sections, IDS, KILLS, 20261121))
    with govern(f"sqlite:///{database}", sections, clock=after_kills(KILLS)) as governor:
        states = Counter((touch_id, state) for name, touch_id, state in stands(governor))
        named = {touch_id for touch_id, state in states if state == "reserved"}
        counted = sum(used(governor.check(name, channel="email"))["ever"] for name in NAMES)
    every = {f"id-{number}" for number in range(IDS)}
    assert (every, {1}, IDS) == ({touch_id for touch_id, _ in states}, set(states.values()), counted)
    if in_doubt == "hold":
        assert (1, every - set(sent)) == (max(sent.values()), named - set(sent))
        assert named
    else:
        assert (every, set()) == (set(sent), named)
        assert max(sent.values()) > 1
    assert ["ok"] == integrity(database)
