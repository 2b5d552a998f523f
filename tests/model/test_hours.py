"""Quiet hours, by hand."""

from typing import Any

import pytest

from .cases import MS, instant, open_at, passes, touch, verdict
from .model import Model

BUSINESS = {"mon-fri": ["09:00-12:30", "13:30-20:00"], "sat": "10:00-18:00"}
ALWAYS = {"mon-sun": "00:00-24:00"}


def opens(model: Model, text: str) -> int | None:
    """The first open instant from there on."""
    return model.next_allowed_at(touch(), instant(text))


def test_a_window_is_closed_before_its_start_and_at_its_end() -> None:
    """Open at 09:00:00.000 and at 12:29:59.999, closed at 08:59:59.999 and 12:30:00.000; then lunch."""
    model = open_at(BUSINESS, "Europe/London")
    assert not passes(model, "2024-06-03T08:59:59.999+01:00")
    assert passes(model, "2024-06-03T09:00+01:00")
    assert passes(model, "2024-06-03T12:29:59.999+01:00")
    assert not passes(model, "2024-06-03T12:30+01:00")
    assert opens(model, "2024-06-03T12:30+01:00") == instant("2024-06-03T13:30+01:00")


def test_days_that_are_not_named_are_closed() -> None:
    """From Saturday evening the next instant is on Monday morning."""
    model = open_at(BUSINESS, "Europe/London")
    decided = model.judge(touch(), instant("2024-06-02T12:00+01:00"))
    assert decided == verdict("deferred", ("quiet_hours", "hours"))
    assert opens(model, "2024-06-01T18:00+01:00") == instant("2024-06-03T09:00+01:00")


def test_a_range_of_days_may_wrap() -> None:
    """`sat-mon` is Saturday, Sunday and Monday."""
    model = open_at({"sat-mon": "09:00-17:00"})
    assert [passes(model, f"2024-06-{day:02}T12:00Z") for day in range(1, 8)] == [True] * 3 + [False] * 4


def test_the_day_may_end_at_24_00() -> None:
    """The last millisecond of the day is open, the first of the next is its own day's affair."""
    model = open_at({"mon": "09:00-24:00"})
    assert passes(model, "2024-06-03T23:59:59.999Z")
    assert not passes(model, "2024-06-04T00:00Z")


def test_a_window_that_crosses_midnight_belongs_to_the_date_it_begins_on() -> None:
    """Friday's 22:00-02:00 is open early on Saturday, not early on Friday."""
    model = open_at({"fri": "22:00-02:00"})
    assert not passes(model, "2024-06-07T01:00Z")
    assert passes(model, "2024-06-07T22:00Z")
    assert passes(model, "2024-06-08T01:59:59.999Z")
    assert not passes(model, "2024-06-08T02:00Z")
    assert not passes(model, "2024-06-08T22:00Z")


def test_a_window_that_clocks_jump_over_never_opens() -> None:
    """In New York 2024-03-10 has no 02:00-03:00; a window that began there is open from 03:00 on."""
    model = open_at({"sun": "02:00-03:00"}, "America/New_York")
    assert opens(model, "2024-03-10T05:00Z") == instant("2024-03-17T06:00Z")
    longer = open_at({"sun": "02:30-05:00"}, "America/New_York")
    assert opens(longer, "2024-03-10T05:00Z") == instant("2024-03-10T07:00Z")
    assert not passes(longer, "2024-03-10T06:59:59.999Z")


def test_a_window_that_clocks_repeat_is_open_both_times() -> None:
    """In New York 2024-11-03 has two hours of 01:00-02:00, and a window of ten minutes opens twice."""
    model = open_at({"sun": "01:10-01:20"}, "America/New_York")
    assert opens(model, "2024-11-03T04:00Z") == instant("2024-11-03T05:10Z")
    assert opens(model, "2024-11-03T05:20Z") == instant("2024-11-03T06:10Z")
    assert passes(model, "2024-11-03T06:19:59.999Z")
    assert opens(model, "2024-11-03T06:20Z") == instant("2024-11-10T06:10Z")


def test_a_date_that_is_read_again_after_midnight_is_open_again() -> None:
    """In St. John's Saturday 2010-11-06 was read again from 02:31Z on, after one minute of Sunday."""
    model = open_at({"sat": "23:00-24:00"}, "America/St_Johns")
    assert passes(model, "2010-11-07T02:29:59.999Z")
    assert not passes(model, "2010-11-07T02:30Z")
    assert opens(model, "2010-11-07T02:30Z") == instant("2010-11-07T02:31Z")
    assert opens(model, "2010-11-07T03:30Z") == instant("2010-11-14T02:30Z")


def test_a_date_that_never_occurred_owns_nothing() -> None:
    """Apia had no Friday 2011-12-30, so nothing of it was left over on Saturday; nor did Thursday reach so far."""
    model = open_at({"thu-fri": "22:00-02:00"}, "Pacific/Apia")
    assert passes(model, "2011-12-29T23:59:59.999-10:00")
    assert not passes(model, "2011-12-31T00:00+14:00")
    assert opens(model, "2011-12-31T00:00+14:00") == instant("2012-01-05T22:00+14:00")
    assert passes(model, "2012-01-07T01:59:59.999+14:00")


def test_a_zone_with_odd_minutes_is_followed_to_the_minute() -> None:
    """In 1978 Kiritimati was 10 hours and 40 minutes behind: 09:00 was at 19:40Z."""
    model = open_at({"mon-sun": "09:00-10:00"}, "Pacific/Kiritimati")
    assert opens(model, "1978-06-01T00:00Z") == instant("1978-06-01T19:40Z")


def test_closed_dates_own_nothing() -> None:
    """By month and day every year, or by year, month and day; a window of the day before still runs out."""
    model = open_at({"mon-sun": "22:00-02:00"}, closed_on=["12-25", "2024-12-27"])
    assert passes(model, "2024-12-25T01:59Z")
    assert not passes(model, "2024-12-25T22:00Z")
    assert not passes(model, "2024-12-26T01:59Z")
    assert passes(model, "2024-12-26T22:00Z")
    assert not passes(model, "2024-12-27T22:00Z")
    assert passes(model, "2025-12-27T22:00Z")


def test_hours_of_a_date_replace_those_of_its_weekday() -> None:
    """Christmas Eve has its own hours, also on a weekday that is not named, and only them."""
    model = open_at({"mon-fri": "08:00-20:00"}, open_on={"12-24": "09:00-14:00", "2024-06-02": ["10:00-11:00"]})
    assert not passes(model, "2024-12-24T08:30Z")
    assert passes(model, "2024-12-24T09:00Z")
    assert not passes(model, "2024-12-24T14:00Z")
    assert passes(model, "2024-06-02T10:00Z"), "a Sunday"


def test_a_date_that_is_both_open_and_closed_is_closed() -> None:
    """The stricter word wins."""
    model = open_at(ALWAYS, closed_on=["12-24"], open_on={"12-24": "09:00-14:00"})
    assert not passes(model, "2024-12-24T10:00Z")


@pytest.mark.parametrize(
    ("rule", "day"),
    [
        ("RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "2024-11-28"),
        ("RRULE:FREQ=YEARLY;BYMONTH=9;BYDAY=1MO", "2024-09-02"),
        ("RRULE:FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO", "2024-05-27"),
    ],
)
def test_a_closed_date_may_be_the_nth_weekday_of_a_month(rule: str, day: str) -> None:
    """Thanksgiving, Labor Day, Memorial Day; the days around them stay open."""
    model = open_at(ALWAYS, closed_on=[rule])
    first = instant(f"{day}T00:00Z")
    assert model.judge(touch(), first - MS).outcome == "allowed"
    assert opens(model, f"{day}T00:00Z") == instant(f"{day}T23:59:59.999Z") + MS


def test_in_an_unknown_zone_every_candidate_must_be_open() -> None:
    """09:00-20:00 in New York and in Los Angeles is 12:00-20:00 in New York."""
    hours = {"open": {"mon-sun": "09:00-20:00"}}
    zones = ["America/New_York", "America/Los_Angeles"]
    model = Model({"customer": {"timezones": zones}, "quiet_hours": {"hours": hours}})
    assert not passes(model, "2024-06-03T11:59:59.999-04:00")
    assert passes(model, "2024-06-03T12:00-04:00")
    assert not passes(model, "2024-06-03T20:00-04:00")
    assert passes(model, "2024-06-03T20:00-04:00", timezone="America/Los_Angeles")


def test_without_any_candidate_the_touch_is_refused() -> None:
    """Unless the rule has a zone of its own, which wins over the customer's."""
    hours: dict[str, Any] = {"open": ALWAYS}
    model = Model({"quiet_hours": {"hours": hours}})
    assert model.judge(touch(), 0) == verdict("refused", ("timezone_unknown", "hours"))
    assert model.next_allowed_at(touch(), 0) is None
    fixed = open_at({"mon-sun": "09:00-17:00"}, "Asia/Tokyo", zone="Europe/London")
    assert passes(fixed, "2024-06-03T16:59:59.999+01:00")


def test_two_rules_must_both_be_open() -> None:
    """Their windows of opening hours are intersected."""
    rules = {"early": {"open": {"mon-sun": "06:00-14:00"}}, "late": {"open": {"mon-sun": "12:00-20:00"}}}
    model = Model({"customer": {"timezones": ["UTC"]}, "quiet_hours": rules})
    assert opens(model, "2024-06-03T06:00Z") == instant("2024-06-03T12:00Z")
    assert opens(model, "2024-06-03T14:00Z") == instant("2024-06-04T12:00Z")
    assert model.judge(touch(), instant("2024-06-03T15:00Z")) == verdict("deferred", ("quiet_hours", "early"))


@pytest.mark.parametrize(
    "hours", [{"mon-wed": "09:00-17:00", "tue": "09:00-17:00"}, {"mon": "09:00-09:00"}, {"mon": "09:00-24:30"}]
)
def test_hours_that_contradict_themselves_are_errors(hours: dict[str, str]) -> None:
    """A weekday named twice, a window without an inside, a time that does not exist."""
    with pytest.raises(ValueError, match=r"twice|empty|no such time"):
        open_at(hours)


def test_hours_that_never_open_refuse() -> None:
    """If no window ever comes, waiting is not the way, and the distance is not the reason."""
    model = open_at({}, open_on={"2024-01-01": "09:00-17:00"})
    assert model.judge(touch(), instant("2024-01-02T00:00Z")) == verdict("refused", ("quiet_hours", "hours"))
