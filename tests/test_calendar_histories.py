"""Calendar periods at every change of every zone, and hundreds of thousands of made-up histories that fill them.

The number of histories is 300,000; FAIRTOUCH_HISTORIES=1000000 in the environment runs a million.
"""

import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial
from random import Random

import pytest

from fairtouch import Governor, Policy
from fairtouch.instants import from_ms, to_ms
from fairtouch.periods import Calendar, Window, parse_limit, parse_period
from fairtouch.testing import FrozenClock
from fairtouch.zones import day_start
from tests.calendar_histories import (
    EPOCH,
    FIRST_YEAR,
    Tally,
    histories,
    judge_histories,
    judge_windows,
    left_at,
    moments_around,
    room_at,
    used_at,
    window_of,
    windows_around,
)
from tests.table_of_time import over_zones
from tests.wall_clock import DAY, HOUR, changes, dates, table, zones_with_changes

HISTORIES = int(os.environ.get("FAIRTOUCH_HISTORIES", "300000"))
ZONES_MIN, CHANGES_MIN = 330, 17_000  # 339 and 17,348 with tzdata 2025b
DATE_LINE = {
    "Pacific/Apia": date(2011, 12, 30),
    "Pacific/Fakaofo": date(2011, 12, 30),
    "Pacific/Kanton": date(1994, 12, 31),
    "Pacific/Kiritimati": date(1994, 12, 31),
    "Pacific/Kwajalein": date(1993, 8, 21),
}
AWKWARD = [*DATE_LINE, "America/Asuncion", "America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Asia/Gaza"]
LONG = parse_period("365 calendar days", 0)


def total(tallies: list[Tally]) -> Tally:
    """All of them together."""
    tally = Tally()
    for part in tallies:
        tally.add(part)
    return tally


def test_windows_are_right_at_every_change_of_every_zone():
    """What every calendar period looks at, and when it leaves a touch out, is the oracle's; none is wrong."""
    zones = zones_with_changes()
    tally = total(over_zones(judge_windows, zones))
    assert (0, []) == (tally.wrong, tally.examples)
    whole = len(zones) >= ZONES_MIN, tally.changes >= CHANGES_MIN, tally.comparisons >= 100 * tally.changes
    assert (True, True, True) == whole, tally


@pytest.mark.parametrize("zone", DATE_LINE)
def test_windows_of_zones_that_crossed_the_date_line(zone):
    """Skipped dates, and the one that was read twice (Kwajalein, 1969), are right in every period."""
    known = dates(zone)
    found = [change for change in changes(zone) if change.at > known.starts[400]]
    assert (0, []) == ((tally := windows_around(found, known)).wrong, tally.examples)
    assert (DATE_LINE[zone] - EPOCH).days not in known.dates


@pytest.mark.parametrize("zone", AWKWARD)
def test_a_year_of_dates_steps_over_those_that_never_occurred(zone):
    """'365 calendar days' are the 365 dates that occurred, however many the calendar skipped."""
    known = dates(zone)
    moments = [at for change in table(zone) for at in moments_around(change, known)]
    moments += [known.starts[index] - 1 for index in range(400, len(known.starts) - 800, 97)]
    expected = [(window_of(LONG, known, at), left_at(LONG, known, at)) for at in moments]
    assert expected == [(LONG.window(at, zone), LONG.leaves_out(at, zone)) for at in moments]


def test_dates_are_long_and_short_and_begin_late():
    """The table covers what it is there for: dates of 23 and 25 hours, half hours, and dates that begin at 01:00."""
    lengths, begins_late = set(), set()
    for zone in ("Europe/Paris", "Australia/Lord_Howe", *AWKWARD):
        known = dates(zone)
        lengths |= {after - before for before, after in zip(known.starts, known.starts[1:], strict=False)}
        begins_late |= {change.zone for change in table(zone) if (change.at + change.after) % DAY == HOUR}
    assert {23 * HOUR, 47 * HOUR // 2, DAY, 49 * HOUR // 2, 25 * HOUR, 47 * HOUR} <= lengths
    assert {"America/Asuncion", "America/Sao_Paulo", "Asia/Beirut"} <= begins_late


def test_the_week_without_a_friday():
    """In Apia the three dates that end on 31 December 2011 begin with the 28th; the 30th never occurred."""
    saturday = to_ms(datetime(2011, 12, 31, 2, tzinfo=UTC))
    begins = [to_ms(datetime(2011, 12, day, 10, tzinfo=UTC)) for day in (28, 29, 30, 31)]
    found = parse_period("3 calendar days", 0).window(saturday, "Pacific/Apia")
    assert Window(begins[0], begins[3], begins[2]) == found
    assert Window(begins[2], begins[3], begins[2]) == parse_period("calendar day", 0).window(saturday, "Pacific/Apia")


def test_histories_are_counted_as_the_oracle_counts():
    """What a period counts, and the first instant with room, are the oracle's in every history; none differs."""
    zones = zones_with_changes()
    tally = total(over_zones(partial(judge_histories, number=HISTORIES // len(zones) + 1), zones))
    assert (0, [], True) == (tally.wrong, tally.examples, tally.comparisons >= HISTORIES)


@pytest.mark.parametrize("zone", AWKWARD)
def test_more_histories_of_awkward_zones(zone):
    """The zones in which dates are skipped, or midnights, get more of them."""
    tally = judge_histories(zone, 2_000)
    assert (0, [], 2_000) == (tally.wrong, tally.examples, tally.comparisons)


# The same comparisons notice what is wrong


class Day(Calendar):
    """Wrong on purpose: a day that is always 24 hours long."""

    def window(self, at, zone):
        known = dates(zone, FIRST_YEAR)
        start = known.starts[known.index(at)]
        return Window(start, start + DAY, start)


def test_dates_of_24_hours_are_noticed(monkeypatch):
    """A calendar day that is always 24 hours long is noticed at every change."""
    monkeypatch.setattr("tests.calendar_histories.PERIODS", (Day("day", 0, "calendar day"),))
    found = table("Europe/Paris")
    noticed = [windows_around([change], dates("Europe/Paris", FIRST_YEAR)).wrong > 0 for change in found]
    assert (True, {True}) == (len(found) > 70, set(noticed))


def test_dates_counted_by_number_are_noticed(monkeypatch):
    """N dates counted as numbers, skipped ones among them, are noticed where one was skipped, and only there."""
    monkeypatch.setattr("fairtouch.periods.dates_on", lambda zone, day, steps: day + steps)
    known = dates("Pacific/Apia", FIRST_YEAR)
    noticed = [change.at for change in table("Pacific/Apia") if windows_around([change], known).wrong]
    assert [to_ms(datetime(2011, 12, 30, 10, tzinfo=UTC))] == noticed


def test_windows_that_are_a_millisecond_off_are_noticed(monkeypatch):
    """Dates that begin a millisecond late are noticed in a good part of the histories."""
    monkeypatch.setattr("fairtouch.periods.day_start", lambda zone, day: day_start(zone, day) + 1)
    assert judge_histories("Europe/Paris", 2_000).wrong > 200


# The same through the front door

CAPS = {
    "a-day": "1 per calendar day",
    "three-dates": "2 per 3 calendar days",
    "a-week": "3 per calendar week",
    "seven-dates": "3 per 7 calendar days",
    "a-day-of-hours": "2 per 24 hours",
    "a-month": "5 per calendar month",
    "a-year": "8 per calendar year",
}
POLICY = {"caps": {name: {"limit": limit} for name, limit in CAPS.items()}, "ledger": {"keep": "400 days"}}
LIMITS = {name: parse_limit(text, 0) for name, text in CAPS.items()}


def first_room(known, touches, now):
    """The first instant with room in every cap: the latest that any asks for, until none asks for more."""
    at = now
    while (later := max(room_at(period, known, touches, limit, at) for limit, period in LIMITS.values())) > at:
        at = later
    return at


@pytest.mark.parametrize("zone", [*AWKWARD, "Africa/Casablanca", "America/New_York", "Australia/Lord_Howe"])
def test_decisions_count_and_wait_as_the_oracle_does(zone):
    """`used` of every cap, the verdict, and `next_allowed_at` over all of them, from histories that were recorded."""
    known, random, clock = dates(zone, FIRST_YEAR), Random(zone), FrozenClock(from_ms(0))
    around = [change for change in table(zone) if change.at < known.starts[-1_200]]
    for history in histories(random, known, around, 40):
        clock.set(from_ms(history.now))
        with Governor(Policy.model_validate(POLICY), "memory://", clock=clock) as governor:
            for at in history.touches:
                governor.record("ada", channel="email", timezone=zone, at=from_ms(at))
            decision = governor.check("ada", channel="email", timezone=zone)
            used = {check.rule: check.used for check in decision.checks if check.kind == "cap"}
            touches, now = history.touches, history.now
            expected = {name: used_at(period, known, touches, now) for name, (_, period) in LIMITS.items()}
            answer = now if decision.allowed else to_ms(decision.next_allowed_at)
            assert (expected, first_room(known, touches, now)) == (used, answer), history


QUICK = ["a-day", "three-dates", "seven-dates", "a-day-of-hours"]  # caps that are soon free again
MOVES = ["America/Los_Angeles", "Asia/Tokyo", "Europe/London", "Pacific/Apia", "Pacific/Kiritimati", "Asia/Gaza"]


@pytest.mark.parametrize("stored", [True, False], ids=["the customer's zone", "the touch's own zone"])
def test_who_moves_between_zones_is_never_above_a_cap(stored):
    """A customer who moves in the middle of a window is judged by her dates in the new zone, her history included."""
    random, clock = Random("moves"), FrozenClock(datetime(2011, 10, 1, tzinfo=UTC))
    touches, verdicts = [], Counter()
    policy = Policy.model_validate({**POLICY, "caps": {name: POLICY["caps"][name] for name in QUICK}})
    with Governor(policy, "memory://", clock=clock) as governor:
        for turn in range(1_500):
            if turn % 4 == 0:
                zone = random.choice(MOVES)
                if stored:
                    governor.customers.set("ada", timezone=zone)
            clock.advance(timedelta(hours=random.expovariate(1 / 4)))
            now, known = to_ms(clock()), dates(zone, FIRST_YEAR)
            decision = governor.reserve("ada", channel="email", timezone=None if stored else zone)
            limits = [LIMITS[name] for name in QUICK]
            room = all(used_at(period, known, touches, now) < limit for limit, period in limits)
            assert (room, zone, now) == (decision.allowed, zone, now)
            verdicts[room] += 1
            if room:
                governor.confirm(decision.reservation)
                touches.append(now)
    assert min(verdicts[True], verdicts[False]) > 100, verdicts
