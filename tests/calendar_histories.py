"""Calendar periods and the histories that fill them, read from the contract and from `zoneinfo` alone.

The oracle holds the list of the local dates that occurred, in order, each with the instant at which it begins. A
calendar period is then a stretch of that list; "N calendar days" are the N entries that end with today's.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from itertools import groupby, pairwise
from random import Random

from fairtouch.periods import Calendar, Period, Rolling, Window, parse_period
from fairtouch.periods import Dates as ConsecutiveDates
from tests.table_of_time import EXAMPLES_MAX
from tests.wall_clock import DAY, EARLIEST_YEAR, HOUR, LATEST_YEAR, Change, Dates, dates, table, year_start

FIRST_YEAR = 1997  # so that the longest period before the first change is whole
EPOCH = date(1970, 1, 1)
Span = tuple[int, int]

PERIODS: tuple[Period, ...] = (
    *(parse_period(f"calendar {unit}", 0) for unit in ("day", "week", "month", "quarter", "year")),
    *(parse_period("calendar week", week_starts) for week_starts in (5, 6)),
    *(parse_period(f"{days} calendar days", 0) for days in (1, 2, 7, 30)),
)
PERIODS_OF_HISTORIES = (*PERIODS, *(parse_period(text, 0) for text in ("1 hour", "24 hours", "7 days", "30 days")))


# The oracle


def _label(unit: str, week_starts: int, day: date) -> object:
    """What dates of the same period have in common."""
    labels = {
        "day": day,
        "week": day - timedelta(days=(day.weekday() - week_starts) % 7),
        "month": (day.year, day.month),
        "quarter": (day.year, (day.month + 2) // 3),
        "year": day.year,
    }
    return labels[unit]


@cache
def _first_days(unit: str, week_starts: int) -> tuple[int, ...]:
    """The first date of every calendar period, whether it occurred or not."""
    days = ((year_start(EARLIEST_YEAR) // DAY + n) for n in range((LATEST_YEAR + 1 - EARLIEST_YEAR) * 366))
    labelled = groupby(days, lambda day: _label(unit, week_starts, EPOCH + timedelta(days=day)))
    return tuple(next(group) for _, group in labelled)


@cache
def _numbers(unit: str, week_starts: int) -> dict[int, int]:
    """The number of the period that a date belongs to."""
    bounds = enumerate(pairwise(_first_days(unit, week_starts)))
    return {day: number for number, (first, following) in bounds for day in range(first, following)}


def span_of(period: Calendar | ConsecutiveDates, known: Dates, index: int) -> Span:
    """The positions [first, end) of the dates that a period looks at on the date at a position."""
    if isinstance(period, ConsecutiveDates):
        return index - period.days + 1, index + 1
    number = _numbers(period.unit, period.week_starts)[known.dates[index]]
    first, following = _first_days(period.unit, period.week_starts)[number : number + 2]
    return bisect_left(known.dates, first), bisect_left(known.dates, following)


def window_of(period: Calendar | ConsecutiveDates, known: Dates, at: int) -> Window:
    """The window by the contract."""
    today = known.index(at)
    first, end = span_of(period, known, today)
    since = known.starts[today] if isinstance(period, ConsecutiveDates) else known.starts[first]
    return Window(known.starts[first], known.starts[end], since)


def left_at(period: Calendar | ConsecutiveDates, known: Dates, at: int) -> int:
    """The first instant whose window does not hold a touch made at `at`."""
    index = known.index(at)
    if isinstance(period, ConsecutiveDates):
        return known.starts[index + period.days]
    return known.starts[span_of(period, known, index)[1]]


def used_at(period: Period, known: Dates, touches: Sequence[int], now: int) -> int:
    """How many touches fill a period at an instant."""
    if isinstance(period, Rolling):
        return sum(now - period.span < at <= now for at in touches)
    assert isinstance(period, Calendar | ConsecutiveDates)
    first, end = span_of(period, known, known.index(now))
    return sum(first <= known.index(at) < end for at in touches)


def room_at(period: Period, known: Dates, touches: Sequence[int], limit: int, now: int) -> int:
    """The first instant from now on at which fewer than `limit` fill the period, looked for one date after another."""
    if isinstance(period, Rolling):
        moments = sorted([now, *(at + period.span for at in touches if at + period.span > now)])
        return next(at for at in moments if used_at(period, known, [t for t in touches if t <= at], at) < limit)
    assert isinstance(period, Calendar | ConsecutiveDates)
    index = today = known.index(now)
    filled = [known.index(at) for at in touches]
    while True:
        first, end = span_of(period, known, index)
        if sum(first <= position < end for position in filled) < limit:
            return max(now, known.starts[index]) if index > today else now
        index = end if isinstance(period, Calendar) else index + 1


# The windows around every change


@dataclass
class Tally:
    """What was compared, and what differed."""

    changes: int = 0
    comparisons: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Take another tally in."""
        self.changes += other.changes
        self.comparisons += other.comparisons
        self.wrong += other.wrong
        self.examples = (self.examples + other.examples)[:EXAMPLES_MAX]

    def note(self, expected: object, found: object, *case: object) -> None:
        """Count one comparison."""
        self.comparisons += 1
        if expected != found:
            self.wrong += 1
            if len(self.examples) < EXAMPLES_MAX:
                self.examples.append(f"{case}: {expected} expected, {found} found")


def moments_around(change: Change, known: Dates) -> list[int]:
    """The change and the beginnings of the dates around it, each with the millisecond before."""
    index = known.index(change.at)
    moments = {change.at, *known.starts[index - 1 : index + 3]}
    return sorted(moment + step for moment in moments for step in (-1, 0))


def judge_windows(zone: str) -> Tally:
    """Every change in the table of one zone."""
    return windows_around(table(zone), dates(zone, FIRST_YEAR))


def windows_around(found: Sequence[Change], known: Dates) -> Tally:
    """Window and end of every calendar period around some changes of a zone."""
    tally = Tally(changes=len(found))
    for change in found:
        for at in moments_around(change, known):
            for period in PERIODS:
                tally.note(window_of(period, known, at), period.window(at, known.zone), period, known.zone, at)
                tally.note(left_at(period, known, at), period.leaves_out(at, known.zone), period, known.zone, at)
    return tally


# Histories


@dataclass(frozen=True, slots=True)
class History:
    """A handful of touches, newest first, and the instant at which one more is asked for."""

    period: Period
    limit: int
    touches: list[int]
    now: int


def histories(random: Random, known: Dates, around: Sequence[Change], number: int) -> Iterator[History]:
    """Made-up histories of a zone; most end near a change, and many instants are the first or last of a date."""
    first, last = len(known.starts) // 40 + 400, len(known.starts) - 800
    for _ in range(number):
        now = known.starts[random.randrange(first, last)] + random.randrange(DAY)
        if around and random.random() < 0.75:
            now = random.choice(around).at + random.randrange(-2 * DAY, 2 * DAY)
        now = _often_an_edge(random, known, now)
        scale = random.choice((HOUR, 6 * HOUR, DAY, 7 * DAY, 60 * DAY))
        ages = (int(random.expovariate(1 / scale)) for _ in range(random.randrange(7)))
        touches = [min(now, _often_an_edge(random, known, now - min(age, 360 * DAY))) for age in ages]
        yield History(random.choice(PERIODS_OF_HISTORIES), random.randrange(1, 4), sorted(touches, reverse=True), now)


def _often_an_edge(random: Random, known: Dates, at: int) -> int:
    if random.random() < 0.5:
        return at
    return known.starts[known.index(at)] + random.choice((-1, 0, 1))


def judge_history(zone: str, history: History) -> tuple[int, int]:
    """The touches that the engine counts, and the first instant with room by its periods; -1 if now is not inside."""
    window = history.period.window(history.now, zone)
    if not window.start <= history.now < window.end:
        return -1, -1
    used = sum(at >= window.start for at in history.touches)
    if used < history.limit:
        return used, history.now
    return used, history.period.leaves_out(history.touches[history.limit - 1], zone)


def judge_histories(zone: str, number: int) -> Tally:
    """Some histories of one zone, always the same ones."""
    known, tally = dates(zone, FIRST_YEAR), Tally()
    for history in histories(Random(f"histories of {zone}"), known, table(zone), number):
        period, touches, limit, now = history.period, history.touches, history.limit, history.now
        expected = used_at(period, known, touches, now), room_at(period, known, touches, limit, now)
        tally.note(expected, judge_history(zone, history), zone, history)
    return tally
