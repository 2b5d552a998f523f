"""However many processes and threads share a store: caps are exact, an id is one touch, an opt-out is heard by all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairtouch import Governor, Reservation, StoreError
from fairtouch.testing import FrozenClock
from tests.workers import (
    HOUR,
    NOON,
    PARTIES,
    answer,
    await_that,
    codes,
    govern,
    in_new_process,
    in_threads,
    integrity,
    used,
)
from tests.workers.callers import (
    FACTS,
    change_minds,
    change_minds_in_process,
    close_while_sending,
    confirm_or_release,
    open_new_files,
    race,
    race_in_process,
    reserve_in_pairs,
    reserve_in_pairs_in_process,
    reserve_one_id,
    reserve_one_id_in_process,
    reserve_other_content,
    send_until,
    send_until_in_process,
    tell_a_fact,
    tell_a_fact_in_process,
)
from tests.workers.contests import (
    CUSTOMERS,
    Tally,
    contest,
    contest_in_process,
    contest_in_process_of_threads,
    full,
    nested_caps,
    standing,
)
from tests.workers.forks import (
    by_multiprocessing,
    by_the_system,
    leaving_properly,
    outlive_parent,
    twice,
)

ONCE = ["allowed", "in_flight"]
ROUNDS = 100
LEAVING = 40


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file behind `sqlite_url`."""
    return tmp_path / "touches.db"


@pytest.fixture
def sqlite_url(database: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{database}"


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """The URL of an empty store, of each kind in turn."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else sqlite_url


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store that processes share, of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


# Caps


def assert_exact(governor: Governor, tallies: list[Tally]) -> None:
    """Every customer has exactly her tightest cap, wider caps and the ledger hold as many, and there was no error."""
    total, found = sum(tallies, Tally()), standing(governor)
    expected = {number: full(number) for number in range(CUSTOMERS)}
    ledgers = {number: min(caps.values()) for number, caps in expected.items()}
    assert ([], {"allowed", "cap_reached"}) == (total.errors, set(total.answers))
    assert expected == found.caps
    assert (ledgers, ledgers) == (found.ledgers, dict(total.kept))


def test_nested_caps_are_exact_among_processes(crew, database, shared_url):
    """Eight processes that contest 1,000 customers under four nested caps fill each tightest cap and burn no slot."""
    tallies = crew(contest_in_process, shared_url, caps := nested_caps(), 2)
    with govern(shared_url, caps) as governor:
        assert_exact(governor, tallies)
    assert not database.exists() or ["ok"] == integrity(database)


def test_nested_caps_are_exact_among_threads(store_url):
    """Eight threads that share one governor do the same, on every store."""
    with govern(store_url, nested_caps()) as governor:
        assert_exact(governor, in_threads(contest, governor, 2))


def test_nested_caps_are_exact_among_threads_of_processes(crew, database, shared_url):
    """Eight processes of two threads each do the same."""
    tallies = crew(contest_in_process_of_threads, shared_url, caps := nested_caps(), 1)
    with govern(shared_url, caps) as governor:
        assert_exact(governor, tallies)
    assert not database.exists() or ["ok"] == integrity(database)


# Opening


def test_a_new_file_is_made_once(crew, tmp_path):
    """Processes that open a file that is not there yet, all at the same instant, share what one of them makes."""
    assert [[]] * PARTIES == crew(open_new_files, str(tmp_path), 40)


# Ids


def assert_one_of_each_pair(answers: list[list[str]]) -> None:
    """In every round one of each two callers got the reservation, and the other one was told that it is in flight."""
    pairs = [sorted(pair) for index in range(0, PARTIES, 2) for pair in zip(*answers[index : index + 2], strict=True)]
    assert [ONCE] * (ROUNDS * PARTIES // 2) == pairs


def test_one_id_from_two_processes(crew, shared_url):
    """Of two processes that reserve the same id at once one gets it, and the other is told that it is in flight."""
    assert_one_of_each_pair(crew(reserve_in_pairs_in_process, shared_url, ROUNDS))


def test_one_id_from_two_threads(store_url):
    """Of two threads that reserve the same id at once one gets it, and the other is told that it is in flight."""
    with govern(store_url, {}) as governor:
        assert_one_of_each_pair(in_threads(reserve_in_pairs, governor, ROUNDS))


def test_one_id_for_two_messages(store_url):
    """Of callers that reserve the same id for different messages at once one gets it, and the others an error."""
    with govern(store_url, {}) as governor:
        rounds = zip(*in_threads(reserve_other_content, governor, ROUNDS), strict=True)
        assert [["allowed", *["conflict"] * (PARTIES - 1)]] * ROUNDS == [sorted(answers) for answers in rounds]


CAP = {"caps": {"weekly": {"limit": "5 per 7 days"}}}
THOUSAND = Counter({"allowed": 1, "in_flight": 999})


def test_one_id_a_thousand_times_from_processes(crew, shared_url):
    """An id that eight processes reserve a thousand times is one touch, and counts once."""
    answers = sum(crew(reserve_one_id_in_process, shared_url, CAP, 1_000 // PARTIES), Counter())
    with govern(shared_url, CAP) as governor:
        assert (THOUSAND, 1, {"weekly": 1}) == (
            answers,
            touches(governor),
            used(governor.check("ada", channel="email")),
        )


def test_one_id_a_thousand_times_from_threads(store_url):
    """An id that eight threads reserve a thousand times is one touch, and counts once."""
    with govern(store_url, CAP) as governor:
        answers = sum(in_threads(reserve_one_id, governor, 1_000 // PARTIES), Counter())
        assert (THOUSAND, 1, {"weekly": 1}) == (
            answers,
            touches(governor),
            used(governor.check("ada", channel="email")),
        )


def touches(governor: Governor, customer: str = "ada") -> int:
    """How many touches stand in a ledger."""
    return len(governor.history(customer))


# Facts


@pytest.fixture
def reserved(store_url: str) -> Iterator[tuple[Governor, list[Reservation]]]:
    """A governor, and a reservation for each round."""
    with govern(store_url, {}) as governor:
        yield governor, [governor.reserve("ada", channel="email").reservation for _ in range(ROUNDS)]


VERBS = ["record", "suppress", "hard_bounce", "reply", "confirm", "release"]
FIRST = [*[False] * (PARTIES - 1), True]


@pytest.mark.parametrize("verb", VERBS)
def test_a_fact_is_new_to_one_thread(verb, reserved):
    """Of threads that tell the same fact at once exactly one is told that it changed something."""
    rounds = zip(*in_threads(race, reserved[0], verb, reserved[1]), strict=True)
    assert [FIRST] * ROUNDS == [sorted(changed) for changed in rounds]


@pytest.mark.parametrize("verb", VERBS)
def test_a_fact_is_new_to_one_process(verb, crew, shared_url):
    """Of processes that tell the same fact at once exactly one is told that it changed something."""
    with govern(shared_url, {}) as governor:
        reservations = [governor.reserve("ada", channel="email").reservation.to_json() for _ in range(ROUNDS)]
    rounds = zip(*crew(race_in_process, shared_url, verb, reservations), strict=True)
    assert [FIRST] * ROUNDS == [sorted(changed) for changed in rounds]


def test_a_send_is_a_fact_whoever_is_first(reserved):
    """When one caller confirms what another one releases, the send is recorded, once, in whichever order they come."""
    governor, reservations = reserved
    in_threads(confirm_or_release, governor, reservations, parties=2)
    assert ["confirmed"] * ROUNDS == [entry.state for entry in governor.history("ada")]


STORED = 30
TOLD = {name: value for fact in FACTS for name, value in fact.items()}


def facts(governor: Governor, customer: str) -> dict[str, Any]:
    """What is stored with a customer, as far as it was told here."""
    profile = governor.customers.get(customer)
    return {name: getattr(profile, name) for name in TOLD}


def test_facts_about_a_customer_do_not_overwrite_each_other(crew, shared_url):
    """Processes that store different facts about a customer at once lose none of them."""
    crew(tell_a_fact_in_process, shared_url, STORED)
    with govern(shared_url, {}) as governor:
        governor.customers.set("everything", **TOLD)
        every = {str(facts(governor, f"customer-{index}")) for index in range(STORED)}
        assert {str(facts(governor, "everything"))} == every


def test_facts_told_by_threads_do_not_overwrite_each_other(store_url):
    """Threads that store different facts about a customer at once lose none of them."""
    with govern(store_url, {}) as governor:
        in_threads(tell_a_fact, governor, STORED)
        governor.customers.set("everything", **TOLD)
        every = {str(facts(governor, f"customer-{index}")) for index in range(STORED)}
        assert {str(facts(governor, "everything"))} == every


WORDS = 50
ASK_FIRST = {"consent": {"news": {"require": "opt_in", "select": {"topics": ["news"]}}}}


def assert_words_in_order(governor: Governor) -> None:
    """Every word was kept at an instant of its own, the last one holds, and so does the next one."""
    words = governor.consent.history("ada")
    instants = [word.at for word in words]
    status = governor.consent.status("ada", channel="email", topic="news")
    assert (WORDS * PARTIES, sorted(set(instants))) == (len(words), instants)
    assert {"opt_in": "opted_in", "opt_out": "opted_out"}[words[-1].word] == status.state
    for say, is_out in ((governor.consent.opt_out, True), (governor.consent.opt_in, False)):
        say("ada", channel="email", topic="news")
        decision = governor.check("ada", channel="email", topic="news")
        assert (is_out, not is_out) == ("opted_out" in codes(decision), decision.allowed)


def test_words_of_one_customer_from_threads(store_url):
    """Consents and withdrawals that arrive all at once are all kept, in one order, and the last one holds."""
    with govern(store_url, ASK_FIRST) as governor:
        in_threads(change_minds, governor, WORDS)
        assert_words_in_order(governor)


def test_words_of_one_customer_from_processes(crew, shared_url):
    """The same holds for processes."""
    crew(change_minds_in_process, shared_url, WORDS)
    with govern(shared_url, ASK_FIRST) as governor:
        assert_words_in_order(governor)


def test_a_lifetime_does_not_waver(store_url):
    """While touches beyond the horizon collapse into totals every decision counts each of them once."""
    clock = FrozenClock(NOON)

    def prune_or_count(ready, number):
        counted = set()
        for _ in range(ROUNDS):
            if number == 0:
                clock.advance(HOUR)
            ready()
            if number == 0:
                governor.prune()
            counted.add(used(governor.check("ada", channel="email"))["ever"])
        return counted

    sections = {"ledger": {"keep": "2 days"}, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    with govern(store_url, sections, clock=clock) as governor:
        for index in range(ROUNDS):
            governor.record("ada", at=NOON - index * HOUR / 3, channel="email")
        assert ([{ROUNDS}] * PARTIES, 0) == (in_threads(prune_or_count), touches(governor))


def test_a_closed_governor_holds_nothing(database, sqlite_url):
    """After `close` no thread's connection is left: SQLite's companions of the file are gone; verbs are errors."""
    with govern(sqlite_url, CAP) as governor:
        in_threads(reserve_one_id, governor, 1)
    assert [database] == list(database.parent.iterdir())
    with pytest.raises(StoreError, match="was closed"):
        governor.check("ada", channel="email")


def test_a_governor_is_closed_while_threads_use_it(tmp_path):
    """Closing ends other threads' work in good order: each of their calls is done, or is a StoreError and not done."""
    reserved = in_new_process(close_while_sending, str(tmp_path), rounds := 6)
    for index in range(rounds):
        path = tmp_path / f"{index}.db"
        with govern(f"sqlite:///{path}", {}) as governor:
            kept = [touches(governor, f"customer-{number}") for number in range(PARTIES)]
        assert (reserved[index], ["ok"]) == (kept, integrity(path))


# Opt-outs


def opt_everybody_out(governor: Governor) -> dict[str, int]:
    """Opt customers out, each when she has been sent something; the touches she had when that was acknowledged."""
    had = {}
    for name in (f"customer-{index}" for index in range(LEAVING)):
        await_that(lambda name=name: touches(governor, name))
        governor.consent.opt_out(name, category="marketing")
        had[name] = touches(governor, name)
    return had


def test_an_opt_out_is_heard_by_every_thread(store_url):
    """From the acknowledgement of an opt-out on none of eight sending threads gets a reservation for that customer."""
    stop, had = threading.Event(), {}

    def work(ready, number):
        if number < PARTIES:
            return send_until(ready, number, governor, LEAVING, stop.is_set)
        ready()
        try:
            had.update(opt_everybody_out(governor))
        finally:
            stop.set()
        return 0

    with govern(store_url, {}) as governor:
        allowed = in_threads(work, parties=PARTIES + 1)
        assert ([0] * (PARTIES + 1), had) == (allowed, {name: touches(governor, name) for name in had})


def test_an_opt_out_is_heard_by_every_process(crew, shared_url):
    """The same holds for eight processes of two threads each."""
    crew.stop.clear()
    with govern(shared_url, {}) as governor:
        finished = crew.start(send_until_in_process, shared_url, LEAVING)
        try:
            had = opt_everybody_out(governor)
        finally:
            crew.stop.set()
        assert ([0] * PARTIES, had) == (finished(), {name: touches(governor, name) for name in had})


# Forks


FORKED = 40


@pytest.mark.parametrize("program", [by_the_system, by_multiprocessing, twice, leaving_properly])
def test_a_governor_goes_on_after_a_fork(program, database, shared_url):
    """After a fork parent and children go on with the same governor: every cap is exact, and the file is sound."""
    left = in_new_process(program, shared_url, CAP, FORKED)
    with govern(shared_url, CAP) as governor:
        names = [f"customer-{index}" for index in range(FORKED)]
        assert [5] * FORKED == [touches(governor, name) for name in names]
        assert {"cap_reached"} == {answer(governor.check(name, channel="email")) for name in names}
    assert ({0}, ["ok"]) == (set(left), integrity(database))


@pytest.mark.parametrize("parent", ["closes", "is killed"])
def test_a_fork_outlives_its_parent(parent, database, shared_url):
    """What a child acknowledges after its parent closed the governor, or was killed, is kept like everything else."""
    in_new_process(outlive_parent, shared_url, parent)
    with govern(shared_url, {}) as governor:
        said = ["before the fork", "while the parent lived", "after the parent"]
        assert [["opted_out"]] * 3 == [codes(governor.check(customer, channel="email")) for customer in said]
    assert not database.exists() or ["ok"] == integrity(database)
