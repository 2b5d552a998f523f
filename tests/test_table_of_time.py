"""Open hours over the whole table of time: every zone, every change of its offset 2000-2037, eight shapes of hours."""

from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

import pytest

from fairtouch import Governor, Policy
from fairtouch.instants import from_ms, to_ms
from fairtouch.testing import FrozenClock
from fairtouch.zones import zone_names
from tests.table_of_time import (
    AROUND,
    SHAPES,
    NaiveEnds,
    Shifted,
    SkippedDatesOwn,
    compare,
    engine_of,
    judge,
    naive_engine_of,
    openings,
    over_zones,
    overlooked,
)
from tests.wall_clock import DAY, MINUTE, changes, offset, table

ZONES = sorted(zone_names())
ZONES_MIN, CHANGES_MIN = 330, 17_000  # 339 and 17,348 with tzdata 2025b
AWKWARD = [
    "Africa/Casablanca",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Europe/Lisbon",
    "Pacific/Apia",
]
DATE_LINE = ["Pacific/Apia", "Pacific/Fakaofo", "Pacific/Kanton", "Pacific/Kiritimati", "Pacific/Kwajalein"]
SAMPLE_EVERY = 50


@pytest.fixture(scope="module")
def whole():
    """The tallies of the whole table."""
    return judge(ZONES)


@pytest.mark.parametrize("name", SHAPES)
def test_open_hours_are_right_at_every_change_of_every_zone(name, whole):
    """Every open stretch, and from every boundary the first open millisecond, are those of the rule; none is wrong."""
    tally = whole[name]
    assert (0, []) == (tally.wrong, tally.examples)


@pytest.mark.parametrize("name", SHAPES)
def test_the_table_is_whole(name, whole):
    """Every shape is compared in all zones that ever change, at all their changes, ten times each and more."""
    tally = whole[name]
    sizes = tally.zones >= ZONES_MIN, tally.changes >= CHANGES_MIN, tally.comparisons >= 10 * tally.changes
    assert (True, True, True) == sizes, tally


def test_no_change_is_overlooked():
    """Every change that the files of the zones name is in the table."""
    assert [] == [zone for zone, missing in zip(ZONES, over_zones(overlooked, ZONES), strict=True) if missing]


def test_the_table_notices_hours_put_on_the_wall():
    """`replace(hour=…)`, the usual mistake, is noticed at nearly every change."""
    tally = judge(ZONES[::4], ["edges in the gap or fold"], naive_engine_of)["edges in the gap or fold"]
    noticed = tally.wrong > 5_000, tally.wrong_changes > 3_000, tally.wrong_changes > 0.9 * tally.changes
    assert (True, True, True) == noticed, tally


@pytest.mark.parametrize(("start", "end"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_the_table_notices_a_millisecond(start, end):
    """Stretches that begin or end a millisecond early or late are noticed at every change."""
    shape = SHAPES["across midnight"](None)
    engine = Shifted(engine_of(shape), start, end)
    assert {1} == {compare(change, shape, engine).wrong_changes for change in table("Europe/Lisbon")}


def test_the_table_notices_nights_of_dates_that_never_occurred():
    """A skipped date that reaches into the next is noticed where a date was skipped, and nowhere else."""
    right = SHAPES["across midnight"](None)
    wrong = SkippedDatesOwn(right.policy, right.owned, right.beyond)
    noticed = [change for change in table("Pacific/Apia") if compare(change, wrong, engine_of(right)).wrong]
    assert [to_ms(datetime(2011, 12, 30, 10, tzinfo=UTC))] == [change.at for change in noticed]


def test_the_naive_engine_is_right_where_nothing_changes():
    """What is wrong on purpose is wrong at changes only: hours far from them are compared and found equal."""
    shape = SHAPES["same day"](None)
    assert {0} == {compare(change, shape, NaiveEnds(shape)).wrong for change in table("Europe/Lisbon")}


@pytest.mark.parametrize("zone", DATE_LINE)
@pytest.mark.parametrize("name", SHAPES)
def test_zones_that_crossed_the_date_line(name, zone):
    """Dates that were skipped, and one that was read twice (Kwajalein, 1969), are right too, whenever it was."""
    compared = [(change, SHAPES[name](change)) for change in changes(zone)]
    assert [] == [change for change, shape in compared if compare(change, shape, engine_of(shape)).wrong]
    assert any(abs(change.after - change.before) >= DAY - 60 * MINUTE for change, _ in compared)


def test_hours_without_end_are_cut_two_days_ahead_at_least():
    """Whoever is open for ever hears so: a stretch that holds now, and goes on for two days or more."""
    hours = engine_of(SHAPES["24 hours"](None))
    changed = [change for zone in ZONES[::9] for change in table(zone)]
    spans = [(hours.open_span(change.zone, change.at), change.at) for change in changed]
    assert [] == [(span, at) for span, at in spans if not (span[0] <= at and span[1] >= at + 2 * DAY)]


@pytest.mark.parametrize("zone", AWKWARD)
def test_the_oracle_is_a_scan_by_the_minute(zone):
    """The oracle's stretches are what reading the wall clock at every minute finds."""
    for change in table(zone)[::15]:
        minutes = range(change.at - AROUND - DAY, change.at + AROUND, MINUTE)
        readings = [(at, at + offset(zone, at)) for at in minutes]
        occurred = {reading // DAY for _, reading in readings}
        for name, shape_at in SHAPES.items():
            shape = shape_at(change)
            scanned = [(shape.is_open(wall, occurred), at) for at, wall in readings if at >= change.at - AROUND]
            spans = [[at for _, at in run] for is_open, run in groupby(scanned, itemgetter(0)) if is_open]
            expected = [(span[0], span[-1] + MINUTE) for span in spans]
            assert (expected, name) == (openings(shape, zone, change.at - AROUND, change.at + AROUND), name)


@pytest.mark.parametrize("name", SHAPES)
def test_decisions_wait_for_the_first_open_millisecond(name):
    """A decision is allowed where the oracle is open; elsewhere it is deferred to where the oracle opens."""
    sample = [change for zone in ZONES[::9] for change in table(zone)][::SAMPLE_EVERY]
    differences = []
    clock = FrozenClock(from_ms(0))
    for change in sample:
        shape = SHAPES[name](change)
        policy = Policy.model_validate({"quiet_hours": {"shape": dict(shape.policy)}})
        spans = openings(shape, change.zone, change.at - AROUND, change.at + AROUND + shape.beyond)
        with Governor(policy, "memory://", clock=clock) as governor:
            for at in (change.at - 1, change.at, *(edge - 1 for span in spans[1:4] for edge in span)):
                clock.set(from_ms(at))
                decision = governor.check("ada", channel="email", timezone=change.zone)
                opens = max(at, next(start for start, end in spans if end > at))
                answer = at if decision.allowed else to_ms(decision.next_allowed_at)
                if (opens, opens == at) != (answer, decision.allowed):
                    differences.append((change, at, opens, answer))
    assert (True, []) == (len(sample) >= 30, differences)
