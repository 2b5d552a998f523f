"""Quiet hours and calendar days around the transitions of awkward zones, against a scan by the minute.

The reading of the rule here is independent of the engine: an instant is open iff its local reading lies in a window
owned by its local date, or by the previous date when the window crosses midnight; a date that never occurred owns
nothing. A local date runs from the first instant that reads it to the first that reads a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

ZONES = [
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Antarctica/Troll",
    "America/Havana",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Africa/Cairo",
    "Asia/Tehran",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Asuncion",
    "America/Santiago",
    "America/Nuuk",
    "America/Scoresbysund",
    "America/Caracas",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "Atlantic/Azores",
    "Europe/Lisbon",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "Pacific/Tongatapu",
]
TRANSITIONS_PER_ZONE = 5
NOWS = [-27 * 60, -24 * 60, -90, -1, 0, 1, 29, 61, 25 * 60]
DAY = 24 * 60
MINUTE = timedelta(minutes=1)
ONE_DAY = timedelta(days=1)
SCAN_BEFORE = timedelta(days=4)
SCAN_AFTER = timedelta(days=6)

Windows = list[tuple[int, int]]


@dataclass(frozen=True)
class Transition:
    """One change of the offset: the first instant of the new one, and both offsets."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def wall_before(self) -> datetime:
        """The local reading at which the old offset would have continued."""
        return self.at.replace(tzinfo=None) + self.before

    @property
    def wall_after(self) -> datetime:
        """The local reading with which the new offset begins."""
        return self.at.replace(tzinfo=None) + self.after

    @property
    def middle(self) -> int:
        """The minute of the day in the middle of the gap or fold."""
        first = min(self.wall_before, self.wall_after)
        return _minute_of_day(first + abs(self.after - self.before) / 2)

    @property
    def kind(self) -> tuple[timedelta, int]:
        """Transitions that look alike: by how much, and at what local time."""
        return self.after - self.before, _minute_of_day(self.wall_before)


@dataclass(frozen=True)
class Shape:
    """Windows in minutes of their date (an end past midnight lies on the next), and the dates without any."""

    windows: Windows
    closed: frozenset[date] = frozenset()

    def on(self, day: date) -> Windows:
        """The windows that a date owns."""
        return [] if day in self.closed else self.windows

    def rule(self) -> dict[str, Any]:
        """The same as a rule of a policy."""
        rule: dict[str, Any] = {
            "select": {"channels": ["email"]},
            "open": {"mon-sun": [_text(w) for w in self.windows]},
        }
        return rule | ({"closed_on": sorted({f"{day:%m-%d}" for day in self.closed})} if self.closed else {})


@dataclass(frozen=True)
class Scan:
    """The local reading of every minute around a transition."""

    start: datetime
    readings: list[tuple[date, int]]
    occurred: frozenset[date]

    def index(self, instant: datetime) -> int:
        """The position of an instant."""
        return (instant - self.start) // MINUTE

    def instant(self, index: int) -> datetime:
        """The instant at a position."""
        return self.start + index * MINUTE

    def is_open(self, index: int, shape: Shape) -> bool:
        """Quiet hours, read the slow way."""
        day, minute = self.readings[index]
        if any(start <= minute < end for start, end in shape.on(day)):
            return True
        previous = day - ONE_DAY
        return previous in self.occurred and any(minute < end - DAY for _, end in shape.on(previous))

    def next_open(self, instant: datetime, shape: Shape) -> datetime:
        """The first open minute at or after an instant."""
        minutes = range(self.index(instant), len(self.readings))
        return self.instant(next(index for index in minutes if self.is_open(index, shape)))

    def owners(self) -> list[date]:
        """For every minute the local date that it belongs to."""
        return list(accumulate((day for day, _ in self.readings), max))


def _minute_of_day(local: datetime) -> int:
    return local.hour * 60 + local.minute


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _text(window: tuple[int, int]) -> str:
    start, end = window
    return f"{_clock(start)}-{_clock(end if end <= DAY else end - DAY)}"


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _change_within(zone: ZoneInfo, low: datetime, high: datetime) -> Transition:
    before, after = _offset(zone, low), _offset(zone, high)
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return Transition(high, before, after)


@cache
def transitions(name: str) -> tuple[Transition, ...]:
    """The newest transition of each kind that a zone has had or will have; skipped dates always among them."""
    zone = ZoneInfo(name)
    days = [datetime(1993, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(38 * 365)]
    found = [
        _change_within(zone, low, high) for low, high in pairwise(days) if _offset(zone, low) != _offset(zone, high)
    ]
    newest = {change.kind: change for change in found if change.at.second == 0}
    ranked = sorted(newest.values(), key=lambda change: (abs(change.after - change.before), change.at), reverse=True)
    return tuple(ranked[:TRANSITIONS_PER_ZONE])


@lru_cache(maxsize=TRANSITIONS_PER_ZONE)
def scan(name: str, at: datetime) -> Scan:
    """Read every minute around an instant."""
    zone = ZoneInfo(name)
    start = at - SCAN_BEFORE
    local = ((start + n * MINUTE).astimezone(zone) for n in range((SCAN_BEFORE + SCAN_AFTER) // MINUTE))
    readings = [(reading.date(), _minute_of_day(reading)) for reading in local]
    return Scan(start, readings, frozenset(day for day, _ in readings))


def _from(start: int, length: int) -> tuple[int, int]:
    return start % DAY, start % DAY + length


def _transition_dates(change: Transition) -> frozenset[date]:
    return frozenset({(change.wall_before - MINUTE).date(), change.wall_after.date()})


SHAPES = {
    "lunch break": lambda change: Shape([(540, 750), (810, 1200)]),
    "over midnight": lambda change: Shape([(1320, 1800)]),
    "starts in a gap": lambda change: Shape([_from(change.middle, 300)]),
    "ends in a fold": lambda change: Shape([_from(change.middle - 300, 300)]),
    "inside the transition": lambda change: Shape([_from(change.middle - 10, 20)]),
    "until 24:00": lambda change: Shape([(1200, DAY)]),
    "closed date on a transition": lambda change: Shape([(480, 1320)], _transition_dates(change)),
    "whole days, closed date": lambda change: Shape([(0, DAY)], _transition_dates(change)),
    "over midnight, closed date": lambda change: Shape([(1320, 1800)], _transition_dates(change)),
}


def _verdict(decision: Any, now: datetime) -> datetime:
    """When a touch may go out, be it now or later."""
    return now if decision.allowed else decision.next_allowed_at


@pytest.mark.parametrize("shape_name", SHAPES)
@pytest.mark.parametrize("zone", ZONES)
def test_next_opening_is_the_first_open_minute(zone, shape_name, govern_memory):
    """Around a transition, `next_allowed_at` is open and no minute between now and then is."""
    for change in transitions(zone):
        minutes, shape = scan(zone, change.at), SHAPES[shape_name](change)
        governor, clock = govern_memory({"quiet_hours": {"shape": shape.rule()}}, start=change.at - SCAN_BEFORE)
        for now in (change.at + offset * MINUTE for offset in NOWS):
            clock.set(now)
            decision = governor.check("ada", channel="email", timezone=zone)
            assert (minutes.next_open(now, shape), now) == (_verdict(decision, now), now)


@pytest.mark.parametrize("zone", ZONES)
def test_deferred_by_hours_alone_says_so(zone, govern_memory):
    """Outside the open hours the outcome is deferred, and quiet hours are the one reason."""
    change = transitions(zone)[0]
    shape = SHAPES["lunch break"](change)
    minutes = scan(zone, change.at)
    governor, clock = govern_memory({"quiet_hours": {"shape": shape.rule()}}, start=change.at - SCAN_BEFORE)
    closed = [n for n in range(minutes.index(change.at), len(minutes.readings), 97) if not minutes.is_open(n, shape)]
    clock.set(minutes.instant(closed[0]))
    decision = governor.check("ada", channel="email", timezone=zone)
    assert ("deferred", [("quiet_hours", "shape")]) == (decision.outcome, [(r.code, r.rule) for r in decision.reasons])


PAIRS = [(-61, -1), (-61, 0), (-61, 61), (-1, 0), (-1, 1), (-1, 31), (-1, 59), (-1, 61), (0, 29), (0, 59), (0, 61)]


@pytest.mark.parametrize("zone", ZONES)
def test_calendar_day_cap_over_a_transition(zone, govern_memory):
    """A calendar-day cap counts by the date that an instant belongs to, also when midnight is skipped or repeated."""
    caps = {"daily": {"limit": "1 per calendar day", "select": {"channels": ["email"]}}}
    for change in transitions(zone):
        minutes = scan(zone, change.at)
        owners = minutes.owners()
        governor, clock = govern_memory({"caps": caps}, start=change.at - SCAN_BEFORE)
        for number, (touched, asked) in enumerate(PAIRS):
            sent, now = change.at + touched * MINUTE, change.at + asked * MINUTE
            clock.set(now)
            governor.record(f"customer-{number}", channel="email", timezone=zone, at=sent)
            decision = governor.check(f"customer-{number}", channel="email", timezone=zone)
            held = owners[minutes.index(sent)]
            free = next(index for index in range(len(owners)) if owners[index] > held)
            assert (max(minutes.instant(free), now), sent, now) == (_verdict(decision, now), sent, now)


WITHOUT_SKIPPED_DATES = [zone for zone in ZONES if zone not in {"Pacific/Apia", "Pacific/Kwajalein"}]


@pytest.mark.parametrize("zone", WITHOUT_SKIPPED_DATES)
def test_consecutive_dates_over_a_transition(zone, govern_memory):
    """A cap on two calendar days is free again with the first instant of the second date after the touch."""
    caps = {"two-days": {"limit": "1 per 2 calendar days", "select": {"channels": ["email"]}}}
    for change in transitions(zone):
        minutes = scan(zone, change.at)
        owners = minutes.owners()
        governor, clock = govern_memory({"caps": caps}, start=change.at - SCAN_BEFORE)
        for offset in (-DAY, -61, -1, 0, 59):
            sent = change.at + offset * MINUTE
            clock.set(sent)
            governor.record(f"customer-{offset}", channel="email", timezone=zone, at=sent)
            decision = governor.check(f"customer-{offset}", channel="email", timezone=zone)
            later = owners[minutes.index(sent)] + ONE_DAY
            free = next(index for index in range(len(owners)) if owners[index] > later)
            assert (minutes.instant(free), sent) == (decision.next_allowed_at, sent)


def test_twenty_zones_have_gaps_folds_and_skipped_dates():
    """The table covers what it is there for: gaps, folds, midnight, half hours and a date that never occurred."""
    changes = [change for zone in ZONES for change in transitions(zone)]
    shifts = {change.after - change.before for change in changes}
    at_midnight = [change for change in changes if not _minute_of_day(change.wall_before)]
    wanted = {timedelta(minutes=30), timedelta(minutes=-30), timedelta(hours=2), timedelta(hours=-2), ONE_DAY}
    assert (True, True) == (wanted <= shifts, len(at_midnight) > 10)


def test_the_month_that_begins_at_one_in_the_morning(govern_memory):
    """A calendar month whose first midnight is skipped begins with the first instant that reads it."""
    caps = {"monthly": {"limit": "1 per calendar month", "select": {"channels": ["email"]}}}
    sent = datetime(2000, 9, 20, 12, tzinfo=UTC)
    governor, _ = govern_memory({"caps": caps}, start=sent)
    governor.record("ada", channel="email", timezone="America/Asuncion", at=sent)
    decision = governor.check("ada", channel="email", timezone="America/Asuncion")
    assert datetime(2000, 10, 1, 4, tzinfo=UTC) == decision.next_allowed_at


def test_a_weekday_that_never_occurred_owns_nothing(govern_memory):
    """Apia had no Friday, 30 December 2011: hours on Fridays alone open a week later."""
    rule = {"select": {"channels": ["email"]}, "open": {"fri": "09:00-17:00"}}
    governor, _ = govern_memory({"quiet_hours": {"fridays": rule}}, start=datetime(2011, 12, 29, 12, tzinfo=UTC))
    decision = governor.check("ada", channel="email", timezone="Pacific/Apia")
    assert datetime(2012, 1, 5, 19, tzinfo=UTC) == decision.next_allowed_at


def test_a_window_of_the_skipped_date_does_not_reach_into_the_next(govern_memory):
    """The night of Apia's missing Friday belongs to no date, so the small hours of Saturday stay closed."""
    rule = {"select": {"channels": ["email"]}, "open": {"fri": "22:00-06:00", "sat": "20:00-21:00"}}
    governor, _ = govern_memory({"quiet_hours": {"nights": rule}}, start=datetime(2011, 12, 30, 10, tzinfo=UTC))
    decision = governor.check("ada", channel="email", timezone="Pacific/Apia")
    assert datetime(2011, 12, 31, 6, tzinfo=UTC) == decision.next_allowed_at


def test_recurring_closed_dates(govern_memory):
    """A date that an RFC 5545 recurrence names is closed: Thanksgiving is the fourth Thursday of November."""
    rule = {
        "select": {"channels": ["email"]},
        "open": {"mon-sun": "09:00-20:00"},
        "closed_on": ["RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"],
    }
    governor, _ = govern_memory({"quiet_hours": {"decent": rule}}, start=datetime(2026, 11, 26, 15, tzinfo=UTC))
    decision = governor.check("ada", channel="email", timezone="America/New_York")
    assert datetime(2026, 11, 27, 14, tzinfo=UTC) == decision.next_allowed_at


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (datetime(2026, 12, 24, 8, tzinfo=UTC), datetime(2026, 12, 24, 9, tzinfo=UTC)),
        (datetime(2026, 12, 24, 14, tzinfo=UTC), datetime(2026, 12, 26, 12, tzinfo=UTC)),
        (datetime(2026, 12, 25, 15, tzinfo=UTC), datetime(2026, 12, 26, 12, tzinfo=UTC)),
    ],
)
def test_hours_of_a_date_replace_those_of_its_weekday(now, opens, govern_memory):
    """A date's own hours hold instead of its weekday's, and a closed date has none."""
    rule = {
        "select": {"channels": ["email"]},
        "open": {"mon-sun": "12:00-20:00"},
        "closed_on": ["12-25"],
        "open_on": {"12-24": "09:00-14:00"},
    }
    governor, _ = govern_memory({"quiet_hours": {"decent": rule}}, start=now)
    assert opens == governor.check("ada", channel="email", timezone="UTC").next_allowed_at


def test_days_not_named_are_closed_and_ranges_wrap(govern_memory):
    """A range of days may wrap around the end of the week, and the days that nothing names are closed."""
    rule = {"select": {"channels": ["email"]}, "open": {"sat-mon": "09:00-10:00"}}
    governor, clock = govern_memory({"quiet_hours": {"decent": rule}}, start=datetime(2026, 3, 2, 10, tzinfo=UTC))
    found = []
    for _ in range(4):
        found.append(governor.check("ada", channel="email", timezone="UTC").next_allowed_at)
        clock.set(found[-1] + timedelta(hours=1))
    assert [datetime(2026, 3, day, 9, tzinfo=UTC) for day in (7, 8, 9, 14)] == found


def test_a_lease_ends_with_the_open_hours(govern_memory):
    """A reservation close to the end of the open hours must be sent before they end."""
    rule = {"select": {"channels": ["email"]}, "open": {"mon-sun": "09:00-20:00"}}
    start = datetime(2026, 3, 2, 19, 55, tzinfo=UTC)
    governor, _ = govern_memory({"quiet_hours": {"decent": rule}}, start=start)
    decision = governor.reserve("ada", channel="email", timezone="UTC")
    assert datetime(2026, 3, 2, 20, tzinfo=UTC) == decision.reservation.send_before


def test_a_fixed_zone_holds_for_everyone(govern_memory):
    """A rule with a zone of its own reads the hours there, wherever the customer is."""
    rule = {"select": {"channels": ["email"]}, "open": {"mon-sun": "09:00-20:00"}, "zone": "Asia/Tokyo"}
    governor, _ = govern_memory({"quiet_hours": {"desk": rule}}, start=datetime(2026, 3, 2, 12, tzinfo=UTC))
    decision = governor.check("ada", channel="email", timezone="America/New_York")
    assert datetime(2026, 3, 3, 0, tzinfo=UTC) == decision.next_allowed_at
