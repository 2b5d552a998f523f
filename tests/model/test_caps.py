"""Caps and cooldowns, by hand."""

from datetime import datetime
from typing import Any

import pytest

from .cases import ADA, MS, capped, codes, instant, passes, take, touch, verdict
from .model import Model


def test_a_rolling_span_is_open_at_its_start_and_closed_at_its_end() -> None:
    """A touch fills a span of one hour for exactly 3,600,000 ms, its own instant among them."""
    model = capped("1 per 1 hour")
    take(model, "2024-06-01T12:00:00.007Z")
    assert not passes(model, "2024-06-01T12:00:00.007Z")
    assert not passes(model, "2024-06-01T13:00:00.006Z")
    assert passes(model, "2024-06-01T13:00:00.007Z")
    assert model.next_allowed_at(touch(), instant("2024-06-01T12:00:00.008Z")) == instant("2024-06-01T13:00:00.007Z")


def test_a_rolling_day_is_24_hours_whatever_the_clocks_do() -> None:
    """A span of 1 day does not follow the change of clocks in New York on 2024-03-10."""
    model = capped("1 per 1 day")
    model.customer(ADA, timezone="America/New_York")
    take(model, "2024-03-10T00:30-05:00")
    assert not passes(model, "2024-03-11T01:29:59.999-04:00")
    assert passes(model, "2024-03-11T01:30-04:00")


def test_a_cap_admits_while_fewer_than_the_limit_are_used() -> None:
    """Of three touches in one span under a limit of two, the third is deferred until the first has left."""
    model = capped("2 per 7 days")
    take(model, "2024-06-01T12:00Z")
    take(model, "2024-06-02T12:00Z")
    decided = model.reserve(touch(), instant("2024-06-03T12:00Z"))
    assert decided == verdict("deferred", ("cap_reached", "cap"))
    assert model.next_allowed_at(touch(), instant("2024-06-03T12:00Z")) == instant("2024-06-08T12:00Z")


def test_a_refused_touch_leaves_no_trace_in_the_counts() -> None:
    """One that was deferred does not fill the span for those after it."""
    model = capped("1 per 1 hour")
    take(model, "2024-06-01T12:00Z")
    assert model.reserve(touch(), instant("2024-06-01T12:59Z")).outcome == "deferred"
    take(model, "2024-06-01T13:00Z")


def test_judging_takes_no_slot() -> None:
    """Asking twice changes nothing."""
    model = capped("1 per lifetime")
    assert passes(model, "2024-06-01T12:00Z")
    assert passes(model, "2024-06-01T12:00Z")


def test_a_released_touch_gives_its_slot_back_by_handle_or_by_id() -> None:
    """The slot is free at once, in every cap; releasing twice is releasing once."""
    model = capped("1 per 7 days")
    handle = take(model, "2024-06-01T12:00Z").handle
    assert handle is not None
    model.release(handle)
    model.release(handle)
    take(model, "2024-06-01T12:01Z", id="second")
    model.release("second")
    take(model, "2024-06-01T12:02Z", id="second")


def test_a_limit_of_zero_forbids_for_good() -> None:
    """Waiting does not help against a limit of 0."""
    model = capped("0 per 1 day")
    assert model.judge(touch(), 0).outcome == "refused"
    assert model.next_allowed_at(touch(), 0) is None


def test_customers_do_not_share_slots() -> None:
    """Ada's touches do not fill Bob's caps."""
    model = capped("1 per 7 days")
    take(model, "2024-06-01T12:00Z")
    take(model, "2024-06-01T12:00Z", customer="bob")


def test_what_lies_ahead_counts_too() -> None:
    """A span has a start and no end: when the clock has gone back, what was sent "later" still counts."""
    model = capped("1 per 1 hour")
    take(model, "2024-06-01T12:00Z")
    assert not passes(model, "2024-06-01T11:00Z")


@pytest.mark.parametrize(
    ("tz", "first", "end"),
    [
        pytest.param("America/New_York", "2024-03-10T05:00Z", "2024-03-11T04:00Z", id="23 hours"),
        pytest.param("America/New_York", "2024-11-03T04:00Z", "2024-11-04T05:00Z", id="25 hours"),
        pytest.param("Africa/Cairo", "2004-09-29T21:00Z", "2004-09-30T22:00Z", id="25 hours, back at 24:00"),
        pytest.param(
            "America/Asuncion", "2004-10-16T04:00Z", "2004-10-17T04:00Z", id="before a day that begins at 01:00"
        ),
        pytest.param("America/Asuncion", "2004-10-17T04:00Z", "2004-10-18T03:00Z", id="a day that begins at 01:00"),
        pytest.param("Australia/Lord_Howe", "2004-10-30T13:30Z", "2004-10-31T13:00Z", id="23.5 hours"),
        pytest.param("Pacific/Apia", "2011-12-29T10:00Z", "2011-12-30T10:00Z", id="the day before one that never was"),
        pytest.param("America/St_Johns", "2010-11-07T02:30Z", "2010-11-08T03:30Z", id="25 hours, back at 00:01"),
    ],
)
def test_a_calendar_day_is_as_long_as_the_local_date(tz: str, first: str, end: str) -> None:
    """A touch in the first millisecond of a local date fills it to its last, and not the next; nor the one before."""
    model = capped("1 per calendar day")
    model.customer(ADA, timezone=tz)
    model.reserve(touch(), instant(first) - MS)
    assert model.reserve(touch(), instant(first)).outcome == "allowed"
    assert model.judge(touch(), instant(end) - MS).outcome == "deferred"
    assert model.judge(touch(), instant(end)).outcome == "allowed"
    assert model.next_allowed_at(touch(), instant(first)) == instant(end)


def test_a_touch_fills_only_the_caps_that_count_it() -> None:
    """A cap for e-mail does not see what went out by SMS."""
    model = capped("1 per 7 days", select={"channels": ["email"]})
    take(model, "2024-06-01T12:00Z", channel="sms")
    take(model, "2024-06-01T12:00Z", channel="email")
    assert not passes(model, "2024-06-01T12:01Z", channel="email")
    assert passes(model, "2024-06-01T12:01Z", channel="sms")


def test_a_date_goes_on_when_clocks_step_back_over_midnight() -> None:
    """In St. John's on 2010-11-07 it was 00:00 at 02:30Z and 23:01 of the sixth at 02:31Z; the seventh had begun."""
    model = capped("1 per calendar day")
    model.customer(ADA, timezone="America/St_Johns")
    take(model, "2010-11-07T02:29:59.999Z")
    take(model, "2010-11-07T03:00Z")
    assert not passes(model, "2010-11-07T03:00Z")
    assert not passes(model, "2010-11-08T03:29:59.999Z")
    assert passes(model, "2010-11-08T03:30Z")


@pytest.mark.parametrize(
    ("period", "last", "next_start"),
    [
        ("day", "2024-05-15T23:59:59.999Z", "2024-05-16T00:00Z"),
        ("week", "2024-05-19T23:59:59.999Z", "2024-05-20T00:00Z"),
        ("month", "2024-05-31T23:59:59.999Z", "2024-06-01T00:00Z"),
        ("quarter", "2024-06-30T23:59:59.999Z", "2024-07-01T00:00Z"),
        ("year", "2024-12-31T23:59:59.999Z", "2025-01-01T00:00Z"),
    ],
)
def test_calendar_periods_end_with_their_last_local_millisecond(period: str, last: str, next_start: str) -> None:
    """Weeks begin on Monday if nothing is said; quarters in January, April, July and October."""
    model = capped(f"1 per calendar {period}")
    model.customer(ADA, timezone="UTC")
    take(model, "2024-05-15T12:00Z")
    assert not passes(model, last)
    assert model.next_allowed_at(touch(), instant("2024-05-15T12:00Z")) == instant(next_start)


def test_weeks_begin_when_the_policy_says() -> None:
    """Under `week_starts = "sunday"` a week of May 2024 ends with Saturday the 18th."""
    model = Model({"week_starts": "sunday", "caps": {"cap": {"limit": "1 per calendar week"}}})
    model.customer(ADA, timezone="UTC")
    take(model, "2024-05-12T00:00Z")
    assert not passes(model, "2024-05-18T23:59:59.999Z")
    assert passes(model, "2024-05-19T00:00Z")


def test_consecutive_dates_end_today() -> None:
    """The period of 3 calendar days is today and the two local dates before, however late in the day the touch was."""
    model = capped("1 per 3 calendar days")
    model.customer(ADA, timezone="Asia/Kolkata")
    take(model, "2024-05-15T23:59:59.999+05:30")
    assert not passes(model, "2024-05-17T23:59:59.999+05:30")
    assert passes(model, "2024-05-18T00:00+05:30")


def test_a_date_that_never_occurred_is_not_one_of_consecutive_dates() -> None:
    """In Apia 2011-12-31 came right after 2011-12-29: together they are two dates."""
    model = capped("1 per 2 calendar days")
    model.customer(ADA, timezone="Pacific/Apia")
    take(model, "2011-12-29T12:00-10:00")
    assert not passes(model, "2011-12-31T23:59:59.999+14:00")
    assert passes(model, "2012-01-01T00:00+14:00")


def test_in_an_unknown_zone_a_cap_holds_in_every_candidate() -> None:
    """After noon in UTC the date ends first in London, last in New York."""
    policy = {
        "customer": {"timezones": ["Europe/London", "America/New_York"]},
        "caps": {"cap": {"limit": "1 per calendar day"}},
    }
    model = Model(policy)
    take(model, "2024-06-01T12:00Z")
    assert model.next_allowed_at(touch(), instant("2024-06-01T12:00Z")) == instant("2024-06-02T04:00Z")
    assert not passes(model, "2024-06-01T02:00Z"), "in New York it is still the day before"


def test_history_is_read_in_the_zone_of_the_question() -> None:
    """The touch's own zone wins over the customer's; what was sent before she moved is read in the new zone."""
    model = capped("1 per calendar day")
    model.customer(ADA, timezone="Europe/London")
    take(model, "2024-06-01T22:30Z")
    assert passes(model, "2024-06-01T23:30Z"), "the second of June in London"
    assert not passes(model, "2024-06-01T23:30Z", timezone="America/New_York")
    model.customer(ADA, timezone="America/New_York")
    assert not passes(model, "2024-06-01T23:30Z")


def test_only_a_period_of_local_time_needs_a_zone() -> None:
    """Without any zone a calendar cap cannot be judged, and the touch is refused; a rolling cap can."""
    decided = capped("5 per calendar day").judge(touch(), 0)
    assert decided == verdict("refused", ("timezone_unknown", "cap"))
    assert capped("5 per 1 day").judge(touch(), 0).outcome == "allowed"


def test_a_lifetime_has_no_end() -> None:
    """Once used up, a lifetime cap refuses, and no time helps."""
    model = capped("1 per lifetime", select={"campaigns": ["spring"]})
    take(model, "2004-06-01T12:00Z", campaign="spring")
    take(model, "2004-06-01T12:00Z", campaign="summer")
    take(model, "2004-06-01T12:00Z")
    decided = model.judge(touch(campaign="spring"), instant("2024-06-01T12:00Z"))
    assert decided == verdict("refused", ("cap_reached", "cap"))


def test_counts_may_be_wider_than_select() -> None:
    """Service messages fill this cap and are not held by it."""
    model = capped(
        "2 per 7 days", select={"categories": ["marketing"]}, counts={"categories": ["marketing", "service"]}
    )
    take(model, "2024-06-01T12:00Z", category="service")
    take(model, "2024-06-01T12:01Z", category="service")
    take(model, "2024-06-01T12:02Z", category="service")
    assert not passes(model, "2024-06-01T12:03Z")


def test_held_back_slots_are_for_high_priority() -> None:
    """Below the priority the limit is smaller; whatever was sent counts for both."""
    model = capped("2 per 7 days", held_back={"slots": 1, "below_priority": 5})
    take(model, "2024-06-01T12:00Z", priority=9)
    assert not passes(model, "2024-06-01T12:01Z", priority=4)
    take(model, "2024-06-01T12:01Z", priority=5)
    assert not passes(model, "2024-06-01T12:02Z", priority=9)
    assert model.next_allowed_at(touch(priority=4), instant("2024-06-01T12:02Z")) == instant("2024-06-08T12:01Z")


def test_when_all_slots_are_held_back_low_priority_never_gets_one() -> None:
    """With its only slot held back a limit is 0, for which waiting does not help; no priority is the lowest one."""
    model = capped("1 per 7 days", held_back={"slots": 1, "below_priority": 5})
    assert model.judge(touch(), 0).outcome == "refused"
    assert model.judge(touch(priority=5), 0).outcome == "allowed"


def test_a_cap_per_subject_counts_each_subject_by_itself() -> None:
    """Two touches about one debt do not stand in the way of one about another."""
    model = capped("2 per 7 days", per=["subject"])
    take(model, "2024-06-01T12:00Z", subject="debt-1")
    take(model, "2024-06-01T12:00Z", subject="debt-1")
    assert not passes(model, "2024-06-01T12:00Z", subject="debt-1")
    take(model, "2024-06-01T12:00Z", subject="debt-2")


def test_a_touch_without_a_subject_counts_for_every_one_and_is_judged_against_all() -> None:
    """It is deferred as soon as any subject is full, and takes a slot of each."""
    model = capped("2 per 7 days", per=["subject"])
    take(model, "2024-06-01T12:00Z", subject="debt-1")
    take(model, "2024-06-01T13:00Z")
    assert not passes(model, "2024-06-01T14:00Z", subject="debt-1")
    assert not passes(model, "2024-06-01T14:00Z"), "debt-1 is full"
    take(model, "2024-06-01T14:00Z", subject="debt-2")
    assert not passes(model, "2024-06-01T15:00Z", subject="debt-2")
    assert model.next_allowed_at(touch(), instant("2024-06-01T15:00Z")) == instant("2024-06-08T13:00Z")


def test_a_rule_in_shadow_never_says_no() -> None:
    """`enforce = false` is no reason for anything, and nothing to wait for."""
    model = capped("0 per 1 day", enforce=False)
    assert passes(model, "2024-06-01T12:00Z")


def test_a_rule_holds_from_its_first_instant_until_its_last() -> None:
    """At `effective_from` it holds, at `effective_until` no longer; what was sent before counts."""
    model = capped(
        "1 per lifetime",
        effective_from=datetime.fromisoformat("2024-06-01T12:00:00+00:00"),
        effective_until=datetime.fromisoformat("2024-06-02T12:00:00+00:00"),
    )
    take(model, "2024-05-01T12:00Z")
    assert passes(model, "2024-06-01T11:59:59.999Z")
    assert not passes(model, "2024-06-01T12:00Z")
    assert model.next_allowed_at(touch(), instant("2024-06-01T12:00Z")) == instant("2024-06-02T12:00Z")


def test_bare_dates_are_whole_days_in_utc() -> None:
    """From the first millisecond of the first date to the last of the last."""
    day = datetime.fromisoformat("2024-06-01T00:00:00+00:00").date()
    model = capped("0 per 1 day", effective_from=day, effective_until=day)
    assert passes(model, "2024-05-31T23:59:59.999Z")
    assert not passes(model, "2024-06-01T00:00Z")
    assert not passes(model, "2024-06-01T23:59:59.999Z")
    assert passes(model, "2024-06-02T00:00Z")


def test_a_selection_needs_every_key_and_any_of_its_values() -> None:
    """AND between keys, OR within one; a touch without a topic, campaign or tag is not one of those named."""
    everything = {
        "channels": ["email", "sms"],
        "categories": ["marketing"],
        "topics": ["newsletter", "offers"],
        "campaigns": ["spring"],
        "tags": ["blue", "red"],
        "regions": ["NY"],
    }
    model = capped("0 per 1 day", select=everything)
    selected: dict[str, Any] = {"topic": "offers", "campaign": "spring", "tags": ["green", "red"], "region": "NY"}
    assert not passes(model, "2024-06-01T12:00Z", **selected)
    others: list[dict[str, Any]] = [
        {"channel": "push"},
        {"category": "service"},
        {"topic": None},
        {"campaign": None},
        {"tags": []},
        {"region": "CA"},
    ]
    for other in others:
        assert passes(model, "2024-06-01T12:00Z", **{**selected, **other}), other


def test_a_category_is_the_touchs_own_else_its_topics_else_marketing() -> None:
    """Topics that the policy does not declare are errors once it declares some."""
    model = Model(
        {
            "topics": {"orders": {"category": "service"}},
            "caps": {"cap": {"limit": "0 per 1 day", "select": {"categories": ["service"]}}},
        }
    )
    assert passes(model, "2024-06-01T12:00Z")
    assert not passes(model, "2024-06-01T12:00Z", topic="orders")
    assert passes(model, "2024-06-01T12:00Z", topic="orders", category="marketing")
    with pytest.raises(ValueError, match="offers"):
        model.judge(touch(topic="offers"), 0)


def test_rules_for_a_country_apply_where_the_country_is_unknown() -> None:
    """The touch's own country wins, else the customer's, else the policy's."""
    model = capped("0 per 1 day", select={"countries": ["US"]})
    assert not passes(model, "2024-06-01T12:00Z")
    model.customer(ADA, country="DE")
    assert passes(model, "2024-06-01T12:00Z")
    assert not passes(model, "2024-06-01T12:00Z", country="US")
    german = Model(
        {"customer": {"country": "DE"}, "caps": {"cap": {"limit": "0 per 1 day", "select": {"countries": ["US"]}}}}
    )
    assert passes(german, "2024-06-01T12:00Z")


def test_what_was_sent_elsewhere_fills_a_country_s_cap() -> None:
    """The place is the customer's as it is now: after a move, all that she received before counts."""
    model = capped("1 per 7 days", select={"countries": ["US"]})
    model.customer(ADA, country="DE")
    take(model, "2024-06-01T12:00Z")
    model.customer(ADA, country="US")
    assert not passes(model, "2024-06-01T13:00Z")


def test_a_cooldown_lasts_to_the_millisecond() -> None:
    """No touches while the event lies in the span, on whichever channel and about whatever it was."""
    model = Model(
        {"cooldowns": {"rest": {"after": "conversation", "for": "7 days", "select": {"channels": ["voice"]}}}}
    )
    model.event(ADA, "conversation", at=instant("2024-06-01T12:00:00.003Z"), channel="in_app", subject="debt-1")
    model.event(ADA, "refusal", at=instant("2024-06-05T12:00Z"), channel="voice")
    decided = model.judge(touch(channel="voice"), instant("2024-06-08T12:00:00.002Z"))
    assert decided == verdict("deferred", ("cooldown", "rest"))
    assert passes(model, "2024-06-08T12:00:00.003Z", channel="voice")
    assert passes(model, "2024-06-01T12:01Z", channel="email")
    assert model.next_allowed_at(touch(channel="voice"), instant("2024-06-02T00:00Z")) == instant(
        "2024-06-08T12:00:00.003Z"
    )


def test_every_rule_that_says_no_is_named() -> None:
    """The first no does not hide the others, and the next instant is one at which all of them agree."""
    model = Model(
        {
            "quiet_hours": {"hours": {"open": {"mon-sun": "09:00-17:00"}, "zone": "UTC"}},
            "caps": {
                "hourly": {"limit": "1 per 1 hour"},
                "daily": {"limit": "1 per 1 day"},
                "weekly": {"limit": "2 per 7 days"},
            },
            "cooldowns": {"rest": {"after": "refusal", "for": "20 hours"}},
        }
    )
    take(model, "2024-06-01T16:30Z")
    model.event(ADA, "refusal", at=instant("2024-06-01T16:59Z"), channel="email")
    now = instant("2024-06-01T17:00Z")
    assert model.judge(touch(), now).reasons == {
        ("quiet_hours", "hours"),
        ("cap_reached", "hourly"),
        ("cap_reached", "daily"),
        ("cooldown", "rest"),
    }
    assert codes(model.judge(touch(), instant("2024-06-02T12:59Z"))) == {"cap_reached"}
    assert model.next_allowed_at(touch(), now) == instant("2024-06-02T16:30Z")
