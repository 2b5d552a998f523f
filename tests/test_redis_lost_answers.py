"""Redis did what it was asked, and its answer was lost: the call is repeated, and all ends as if it had been heard."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from fairtouch import Governor
from tests.every_verb import SLOTS, WEEKLY, YESTERDAY, fresh, stands, whole_state
from tests.redis_servers import LOSE, PASS, SWALLOW, Network
from tests.workers import answer, govern, used
from tests.workers.redis_troubles import (
    assert_all_heard,
    assert_all_once,
    import_in_trouble_in_process,
    reserve_in_trouble_in_process,
)

ROWS = 8


def test_thousands_of_lost_answers(network, prefix, crew):
    """However many answers are lost after the work was done, only StoreUnavailable surfaces and all is done once."""
    chance = random.Random(20261121)

    def fate(request: bytes, reply: bytes) -> str:
        number = chance.random()
        return PASS if number < 0.3 or b"SETINFO" in request else LOSE if number < 0.999 else SWALLOW

    url = f"{network.url}?prefix={prefix}"
    with govern(url, WEEKLY) as governor:
        network.fate = fate
        heard = crew(reserve_in_trouble_in_process, url, WEEKLY, 100, 120)
        imports = crew(import_in_trouble_in_process, url, WEEKLY, ROWS, YESTERDAY)
        network.fate = lambda request, reply: PASS
        assert_all_once(governor, heard, SLOTS)
        assert_all_heard(governor, heard + imports)
        for name, touch_id in set().union(*(one.recorded for one in imports)):
            assert 1 == stands(governor, name)["sms", touch_id, None, "confirmed"]
        for number, one in enumerate(imports):
            assert not any(
                governor.suppressions.contains(f"import-{number}-{index}@example.com", "email")
                for index in range(0, ROWS, 2)
            )
            for name in one.left:
                words = [
                    word
                    for word in governor.consent.history(name)
                    if word.at == YESTERDAY.replace(microsecond=YESTERDAY.microsecond // 1000 * 1000)
                ]
                assert ["opt_in"] == [word.word for word in words]
    assert network.lost >= 5_000


Act = tuple[Callable[[Governor, str], Any], Callable[[Governor, str, Any], Any]]


def nothing(governor: Governor, name: str) -> None:
    """Nothing to arrange."""


def reserved(governor: Governor, name: str) -> Any:
    """A reservation to settle."""
    return governor.reserve(name, channel="email", id="news").reservation


def suppressed(governor: Governor, name: str) -> Any:
    """A suppression to lift."""
    return governor.suppressions.add(f"{name}@example.com", "email", "complaint", event_id="heard")


def settled(result: Any) -> tuple[Any, ...]:
    """How a reservation stands."""
    return result.state, result.changed, result.late, result.caps_exceeded


ACTS: dict[str, Act] = {
    "reserve": (nothing, lambda g, name, _: answer(g.reserve(name, channel="email", id="news"))),
    "reserve, the address is known": (
        nothing,
        lambda g, name, _: answer(g.reserve(name, channel="email", id="news", address=f"{name}@example.com")),
    ),
    "confirm": (reserved, lambda g, _, reservation: settled(g.confirm(reservation))),
    "release": (reserved, lambda g, _, reservation: settled(g.release(reservation))),
    "record": (nothing, lambda g, name, _: g.record(name, YESTERDAY, channel="email", id="news")),
    "record what was reserved": (reserved, lambda g, name, _: g.record(name, YESTERDAY, channel="email", id="news")),
    "feedback by customer": (nothing, lambda g, name, _: g.feedback("reply", customer=name, channel="email", id="r")),
    "opt_in": (nothing, lambda g, name, _: g.consent.opt_in(name, topic="news").word),
    "opt_out": (nothing, lambda g, name, _: g.consent.opt_out(name, evidence={"link": 1}).word),
    "request": (nothing, lambda g, name, _: g.consent.request(name, channel="email").word),
    "opt_out with an instant": (nothing, lambda g, name, _: g.consent.opt_out(name, at=YESTERDAY).word),
    "set": (nothing, lambda g, name, _: g.customers.set(name, timezone="Europe/Paris", groups=["a"]).groups),
    "suppress": (nothing, lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "manual")),
    "suppress by an event": (
        nothing,
        lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "complaint", event_id="heard"),
    ),
    "suppress again": (
        suppressed,
        lambda g, name, _: g.suppressions.add(f"{name}@example.com", "email", "manual", event_id="heard"),
    ),
    "unsuppress": (suppressed, lambda g, name, _: g.suppressions.remove(f"{name}@example.com", "email")),
}


def losing(which: int, meanwhile: Callable[[], Any]) -> Callable[[bytes, bytes], str]:
    """Loses one reply, counted from now on, after something else has happened; and no greeting of a connection."""
    replies = count()

    def fate(request: bytes, reply: bytes) -> str:
        if b"SETINFO" in request or next(replies) != which:
            return PASS
        meanwhile()
        return LOSE

    return fate


def each_answer_lost(
    act: Act, network: Network, url: str, direct: Governor, meanwhile: Callable[[str], Any]
) -> Iterator[tuple[Any, Any]]:
    """What a verb comes to when its first answer is lost, its second, and so on: answer and state, per turn; and
    first of all when none is.
    """
    arrange, do = act
    with govern(through(network, url), WEEKLY) as governor:
        for which in (None, *range(20)):
            name = fresh("lost")
            thing = arrange(direct, name)
            governor.history("somebody else")  # the connection stands
            before = network.lost
            if which is None:
                meanwhile(name)
            else:
                network.fate = losing(which, lambda name=name: meanwhile(name))
            result = do(governor, name, thing)
            network.fate = lambda request, reply: PASS
            if which is not None and network.lost == before:
                assert which > 0
                return
            yield result, whole_state(direct, name)


def through(network: Network, url: str) -> str:
    """The same store, seen through a network."""
    return f"{network.url}?{url.partition('?')[2]}"


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_that_was_lost_is_given_again(act, network, redis_url):
    """Whichever one answer of a verb is lost, the store tries again, and all ends as if it had not been lost."""
    with govern(redis_url, WEEKLY) as direct:
        undisturbed, *others = each_answer_lost(ACTS[act], network, redis_url, direct, lambda name: None)
        assert [undisturbed] * len(others) == others


@pytest.mark.parametrize("act", ACTS)
def test_an_answer_that_was_lost_while_others_act(act, network, redis_url):
    """The same state comes about when somebody else changes the customer before the store tries again."""
    with govern(redis_url, WEEKLY) as direct:
        (_, undisturbed), *others = each_answer_lost(
            ACTS[act],
            network,
            redis_url,
            direct,
            lambda name: direct.record(name, YESTERDAY, channel="push", id="meanwhile"),
        )
        assert [undisturbed] * len(others) == [state for _, state in others]


def test_an_opt_in_is_not_said_again_after_an_opt_out(network, redis_url):
    """An opt-in whose answer was lost does not come after an opt-out that was acknowledged meanwhile."""
    with govern(redis_url, WEEKLY) as direct:
        opt_in: Act = (nothing, lambda g, name, _: g.consent.opt_in(name, channel="email").word)
        _, *others = each_answer_lost(
            opt_in, network, redis_url, direct, lambda name: direct.consent.opt_out(name, channel="email")
        )
        # The last call is the one that writes: before it the opt-in had not been given yet, and was the later word.
        assert "opted_out" == others[-1][1][2]


def test_a_suppression_is_not_lifted_again(network, redis_url):
    """A lifting whose answer was lost does not lift a suppression that was acknowledged meanwhile."""
    with govern(redis_url, WEEKLY) as direct:
        _, *others = each_answer_lost(
            ACTS["unsuppress"],
            network,
            redis_url,
            direct,
            lambda name: direct.suppressions.add(f"{name}@example.com", "email", "hard_bounce"),
        )
        assert [True] * len(others) == [state[-1] for _, state in others]


def test_a_pruning_whose_answers_are_lost(network, redis_url):
    """Whichever answer of a pruning is lost, every touch is counted once in its total."""
    sections = {"ledger": {"keep": "2 days"}, "caps": {"ever": {"limit": "1000 per lifetime"}}}
    with govern(redis_url, sections) as direct:
        for which in range(12):
            name = fresh("old")
            later = datetime.now(UTC) + timedelta(days=3)
            for index in range(3):
                direct.record(name, datetime.now(UTC), channel="email", id=str(index))
            with govern(through(network, redis_url), sections, clock=lambda later=later: later) as governor:
                network.fate = losing(
                    which, lambda name=name: direct.record(name, YESTERDAY, channel="email", id="meanwhile")
                )
                governor.prune()
                network.fate = lambda request, reply: PASS
                governor.prune()
                assert used(governor.check(name, channel="email"))["ever"] in {3, 4}
                assert not governor.history(name)
                direct.record(name, datetime.now(UTC), channel="email", id="meanwhile")
