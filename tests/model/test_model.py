"""The model as a whole: outcomes, next instants, ids, what it does not know, and months of traffic."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from .cases import MS, capped, instant, open_at, passes, take, touch, verdict
from .local_time import DAY, HOUR, MINUTE, moment
from .model import IdConflictError, Model, Verdict
from .scenario import POLICY, play
from .timeline import Send, operations, real_lines, synthetic_lines

NOON = instant("2024-06-01T12:00Z")

EVERY_OBJECTION = {
    *{("opted_out", "consent"), ("consent_missing", "marketing-opt-in"), ("consent_expired", "marketing-opt-in")},
    *{("quiet_hours", name) for name in POLICY["quiet_hours"]},
    *{("cap_reached", name) for name, table in POLICY["caps"].items() if table.get("enforce", True)},
    *{("cooldown", name) for name in POLICY["cooldowns"]},
}


def ahead(days: int) -> datetime:
    """So many days after noon."""
    return moment(NOON) + timedelta(days=days)


def test_what_is_allowed_now_is_next_allowed_now() -> None:
    """Without an obstacle there is nothing to wait for."""
    assert Model({}).judge(touch(), NOON) == verdict("allowed")
    assert Model({}).next_allowed_at(touch(), NOON) == NOON


def test_a_next_instant_may_lie_exactly_400_days_ahead() -> None:
    """A rule that forbids everything until then defers."""
    model = capped("0 per 1 day", effective_until=ahead(400))
    assert model.judge(touch(), NOON) == verdict("deferred", ("cap_reached", "cap"))
    assert model.next_allowed_at(touch(), NOON) == NOON + 400 * DAY


def test_a_next_instant_beyond_400_days_is_none_and_says_so() -> None:
    """One millisecond more is over the horizon: refused, and the horizon is among the reasons."""
    model = capped("0 per 1 day", effective_until=ahead(400))
    assert model.judge(touch(), NOON - MS) == verdict("refused", ("cap_reached", "cap"), ("horizon", "horizon"))
    assert model.next_allowed_at(touch(), NOON - MS) is None


def test_hours_that_open_only_on_a_far_date_are_beyond_the_horizon() -> None:
    """29 February comes again, after four years."""
    model = open_at({}, open_on={"02-29": "09:00-17:00"})
    decided = model.judge(touch(), instant("2024-03-01T00:00Z"))
    assert decided == verdict("refused", ("quiet_hours", "hours"), ("horizon", "horizon"))
    assert model.judge(touch(), instant("2027-12-01T00:00Z")).outcome == "deferred"
    assert model.next_allowed_at(touch(), instant("2027-12-01T00:00Z")) == instant("2028-02-29T09:00Z")


def test_an_instant_between_two_obstacles_is_found() -> None:
    """The first rule ends one millisecond before the second begins: that millisecond is the answer."""
    policy = {
        "caps": {
            "first": {"limit": "0 per 1 day", "effective_until": ahead(3)},
            "second": {"limit": "0 per 1 day", "effective_from": ahead(3) + timedelta(milliseconds=1)},
        }
    }
    assert Model(policy).next_allowed_at(touch(), NOON) == NOON + 3 * DAY
    assert Model(policy).judge(touch(), NOON + 3 * DAY + MS).outcome == "refused"


def test_an_id_is_sent_once_for_each_customer() -> None:
    """The second time it is a duplicate, which no time cures; released, the id is free again."""
    model = Model({})
    handle = take(model, "2024-06-01T12:00Z", id="news-1").handle
    assert handle is not None
    assert model.judge(touch(id="news-1"), NOON + DAY) == verdict("refused", ("duplicate", "id"))
    assert model.next_allowed_at(touch(id="news-1"), NOON + DAY) is None
    take(model, "2024-06-01T12:00Z", id="news-1", customer="bob")
    model.release(handle)
    take(model, "2024-06-01T12:00Z", id="news-1")


def test_touches_without_an_id_are_never_duplicates() -> None:
    """They are as many touches as are asked for."""
    model = Model({})
    take(model, "2024-06-01T12:00Z")
    take(model, "2024-06-01T12:00Z")


def test_an_id_with_other_content_is_an_error() -> None:
    """What goes out under one id is one message; priority and place are not content."""
    model = Model({})
    take(model, "2024-06-01T12:00Z", id="news-1", category="marketing", tags=["a", "b"])
    assert not passes(model, "2024-06-01T12:00Z", id="news-1", tags=["b", "a"], priority=3, country="US")
    for other in ({"channel": "sms"}, {"category": "service"}, {"tags": ["a"]}, {"subject": "x"}, {"address": "a@b.c"}):
        with pytest.raises(IdConflictError):
            model.judge(touch(**{"id": "news-1", "tags": ["a", "b"], **other}), NOON)


def test_an_id_that_several_customers_have_does_not_name_a_slot() -> None:
    """Releasing by it would be a guess."""
    model = Model({})
    take(model, "2024-06-01T12:00Z", id="news-1")
    take(model, "2024-06-01T12:00Z", id="news-1", customer="bob")
    with pytest.raises(ValueError, match="2 touches"):
        model.release("news-1")


@pytest.mark.parametrize(
    "policy",
    [
        {"extends": ["us/tcpa"]},
        {"ledger": {"keep": "400 days", "in_doubt": "resend"}},
        {"consent": {"rule": {"require": "double_opt_in"}}},
        {"quiet_hours": {"rule": {"open": {}, "lifted_by": "calls"}}},
        {"quiet_hours": {"rule": {"open": {}, "closed_on": ["RRULE:FREQ=WEEKLY;BYDAY=MO"]}}},
        {"caps": {"rule": {"limit": "1 per month"}}},
        {"caps": {"rule": {"limit": "1 per 1 hour", "per": ["campaign"]}}},
        {"caps": {"rule": {"limit": "1 per 1 hour", "counts": {"countries": ["US"]}}}},
        {"caps": {"rule": {"limit": "1 per 1 hour", "select": {"weather": ["rain"]}}}},
        {"cooldowns": {"rule": {"after": "refusal", "for": "7 calendar days"}}},
    ],
)
def test_what_is_not_modelled_is_an_error(policy: dict[str, Any]) -> None:
    """The model says so rather than decide by less than the whole policy."""
    with pytest.raises(NotImplementedError):
        Model(policy).judge(touch(timezone="UTC"), NOON)


def test_an_unknown_field_of_a_touch_is_an_error() -> None:
    """A misspelt field is not ignored."""
    with pytest.raises(NotImplementedError, match="chanel"):
        Model({}).judge(touch(chanel="sms"), NOON)


def test_an_empty_selection_is_an_error() -> None:
    """Absent means all; an empty list would mean nothing, and is never meant."""
    with pytest.raises(ValueError, match="channels"):
        capped("1 per 1 hour", select={"channels": []})


def test_every_rule_of_the_scenario_refuses_its_share_of_the_traffic() -> None:
    """Each enforced rule says no to one message in a hundred or more, and one in ten or more is allowed.

    Of every hundredth message that is not allowed, the next instant is checked: allowed then, not just before, and
    none exactly when it was refused. The real messages if they are at hand, else made-up ones.
    """
    model = Model(POLICY)
    noes: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[str] = Counter()
    for send, decided in play(model, operations(real_lines() or synthetic_lines())):
        outcomes[decided.outcome] += 1
        noes.update(decided.reasons)
        if decided.reasons and (outcomes["deferred"] + outcomes["refused"]) % 100 == 0:
            check_next_instant(model, send, decided)
    assert set(noes) == EVERY_OBJECTION
    assert min(noes.values()) >= outcomes.total() / 100, noes
    assert outcomes["allowed"] >= outcomes.total() / 10, outcomes


def check_next_instant(model: Model, send: Send, decided: Verdict) -> None:
    """The next instant is one at which the verdict turns to allowed, and there is none iff the touch is refused."""
    allowed_at = model.next_allowed_at(send.touch(), send.at)
    assert (allowed_at is None) == (decided.outcome == "refused")
    if allowed_at is not None:
        assert model.judge(send.touch(), allowed_at).outcome == "allowed"
        assert model.judge(send.touch(), allowed_at - MS).outcome != "allowed"


def test_no_minute_before_the_next_instant_is_allowed() -> None:
    """Looking at both ends of every minute on the way finds nothing earlier than the walk over changes does."""
    model = Model(POLICY)
    checked = 0
    for send, decided in play(model, operations(synthetic_lines(seed=2, count=1500))):
        if decided.outcome != "deferred" or send.at % 20:
            continue
        allowed_at = model.next_allowed_at(send.touch(), send.at)
        assert allowed_at is not None
        for minute in range(send.at - send.at % MINUTE + MINUTE, min(allowed_at, send.at + 4 * HOUR), MINUTE):
            assert model.judge(send.touch(), minute - MS).outcome != "allowed"
            assert model.judge(send.touch(), minute).outcome != "allowed"
        checked += 1
    assert checked > 20
