"""The whole table of time: every zone, every change of its offset from 2000 to 2037, several shapes of open hours.

The oracle reads the rule and nothing else: an instant is open iff its local reading lies in [start, end) of a window
owned by its local date, or by the previous date when the window crosses midnight; a date that never occurred owns
nothing; repeated readings are open both times. Within a run (tests/wall_clock.py) openness can change only where a
window begins or ends or a date begins, so looking there is as good as looking everywhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache, partial
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from fairtouch.hours import Hours, parse_hours
from tests.wall_clock import DAY, HOUR, MINUTE, Change, Run, ZoneInfo, changes_on_file, dates_read, runs_between, table

AROUND = 2 * DAY  # so far before and after a change every boundary is looked at
BEYOND = 3 * DAY  # and so far the oracle looks for the next opening, if all days are open; else another week
WORKERS = 2
EXAMPLES_MAX = 3  # differences that are shown, of those that are counted
EPOCH = date(1970, 1, 1)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Span = tuple[int, int]
Found = TypeVar("Found")


class Engine(Protocol):
    """What is judged: `Hours`, or something that is wrong on purpose."""

    def open_span(self, zone: str, at: int) -> Span | None:
        """The first open stretch that ends after an instant."""
        ...


# The rule


def windows_of(texts: Iterable[str]) -> tuple[Span, ...]:
    """'22:00-02:00' as milliseconds from the midnight of the date that owns it."""
    return tuple(
        _window(*(int(text[:2]) * HOUR + int(text[3:]) * MINUTE for text in pair.split("-"))) for pair in texts
    )


def _window(start: int, end: int) -> Span:
    return start, end if end > start else end + DAY


@dataclass(frozen=True, eq=False)
class Shape:
    """Open hours twice: as a policy spells them, and as the windows that a date owns."""

    policy: Mapping[str, Any]
    owned: Callable[[int], Sequence[Span]]
    beyond: int = BEYOND + 7 * DAY

    def hours(self) -> Hours:
        """As the engine understands them."""
        return parse_hours(self.policy["open"], self.policy.get("closed_on", ()), self.policy.get("open_on"))

    def is_open(self, reading: int, occurred: Iterable[int]) -> bool:
        """The rule itself."""
        day, time = divmod(reading, DAY)
        if any(start <= time < end for start, end in self.owned(day)):
            return True
        return day - 1 in occurred and any(time < end - DAY for _, end in self.owned(day - 1))


class SkippedDatesOwn(Shape):
    """Wrong on purpose: the night of a date that never occurred reaches into the next."""

    def is_open(self, reading: int, occurred: Iterable[int]) -> bool:
        """As if every date occurred."""
        return super().is_open(reading, range(reading // DAY - 1, reading // DAY + 1))


def openings(shape: Shape, zone: str, start: int, end: int) -> list[Span]:
    """The open stretches of [start, end), by the oracle."""
    around = runs_between(zone, start - 2 * DAY, end)
    occurred = {day for run in around for day in dates_read(run)}
    found: list[Span] = []
    for run in runs_between(zone, start, end):
        points = sorted(set(_points(shape, run)))
        for point, until in zip(points, [*points[1:], run[1]], strict=True):
            if shape.is_open(point + run[2], occurred):
                if found and found[-1][1] == point:
                    found[-1] = found[-1][0], until
                else:
                    found.append((point, until))
    return found


def _points(shape: Shape, run: Run) -> Iterator[int]:
    """Where openness may change within a run: where it begins, and at every edge of a date or of a window."""
    start, end, offset = run
    yield start
    for day in range((start + offset) // DAY - 1, (end + offset) // DAY + 1):
        midnight = day * DAY - offset
        for edge in (0, *(edge for window in shape.owned(day) for edge in window)):
            if start < midnight + edge < end:
                yield midnight + edge


# The shapes


@cache
def _between(*edges: str) -> Shape:
    """The same windows every day."""
    texts = [f"{start}-{end}" for start, end in zip(edges[::2], edges[1::2], strict=True)]
    windows = windows_of(texts)
    return Shape({"open": {"mon-sun": texts}}, lambda _: windows, BEYOND)


def _clock(reading: int) -> str:
    minute = reading % DAY // MINUTE
    return f"{minute // 60:02}:{minute % 60:02}"


def _edges_inside(change: Change) -> Shape:
    """One window ends and another begins among the readings that are skipped or repeated."""
    first, last = change.readings
    ends, begins = first + (last - first) // 3, first + (last - first) * 2 // 3
    return _between(*map(_clock, (ends - 5 * HOUR, ends, begins, begins + 5 * HOUR)))


def _edges_upon(change: Change) -> Shape:
    """One window ends with the reading before the gap or fold, and another begins with the one after."""
    first, last = change.readings
    if (last - first) % DAY == 0:
        last = first + HOUR
    return _between(*map(_clock, (first - 3 * HOUR, first, last, last + 3 * HOUR)))


def _last_sunday(day: date) -> bool:
    return day.weekday() == 6 and (day + timedelta(days=7)).month != day.month and day >= EPOCH  # as recurrences do


def _second_sunday(day: date) -> bool:
    return day.weekday() == 6 and 8 <= day.day <= 14 and day >= EPOCH


_WEEKLY = {"sat-mon": ["00:30-05:00", "22:00-01:30"], "wed": "09:00-17:00"}
_BY_WEEKDAY = {
    **dict.fromkeys((5, 6, 0), windows_of(("00:30-05:00", "22:00-01:30"))),
    2: windows_of(("09:00-17:00",)),
}


@cache
def _recurring_day(day: int) -> Sequence[Span]:
    today = EPOCH + timedelta(days=day)
    if _last_sunday(today) or (today.month, today.day) in {(4, 1), (10, 1)}:
        return ()
    return windows_of(("23:00-02:30",)) if _second_sunday(today) else _BY_WEEKDAY.get(today.weekday(), ())


_RECURRING = Shape(
    {
        "open": _WEEKLY,
        "closed_on": ["RRULE:FREQ=MONTHLY;BYDAY=-1SU", "04-01", "10-01"],
        "open_on": {"RRULE:FREQ=MONTHLY;BYDAY=2SU": "23:00-02:30"},
    },
    _recurring_day,
)


@lru_cache(maxsize=512)
def _dated(closed: int, opened: int) -> Shape:
    own = windows_of(("01:15-03:45", "18:00-00:45"))

    def owned(day: int) -> Sequence[Span]:
        if day == closed:
            return ()
        return own if day == opened else _BY_WEEKDAY.get((EPOCH + timedelta(days=day)).weekday(), ())

    texts = [str(EPOCH + timedelta(days=day)) for day in (closed, opened)]
    return Shape(
        {"open": _WEEKLY, "closed_on": texts[:1], "open_on": {texts[1]: ["01:15-03:45", "18:00-00:45"]}}, owned
    )


def _dates_around(change: Change) -> Shape:
    """The date of the change is closed and the one before or after has hours of its own, or the other way round."""
    day = (change.at + change.before - 1) // DAY
    return _dated(day, day + 1) if change.at // DAY % 2 else _dated(day + 1, day)


SHAPES: dict[str, Callable[[Change], Shape]] = {
    "same day": lambda _: _between("08:00", "21:00"),
    "two windows a day": lambda _: _between("01:30", "02:15", "02:45", "20:00"),
    "across midnight": lambda _: _between("20:00", "02:30"),
    "24 hours": lambda _: _between("00:00", "24:00"),
    "edges in the gap or fold": _edges_inside,
    "edges on the gap or fold": _edges_upon,
    "closed days and recurring dates": lambda _: _RECURRING,
    "closed and open dates at the change": _dates_around,
}


# The comparison


@dataclass
class Tally:
    """What was compared, and what differed."""

    zones: int = 0
    changes: int = 0
    comparisons: int = 0
    wrong: int = 0
    wrong_changes: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Take another tally in."""
        self.zones += other.zones
        self.changes += other.changes
        self.comparisons += other.comparisons
        self.wrong += other.wrong
        self.wrong_changes += other.wrong_changes
        self.examples = (self.examples + other.examples)[:EXAMPLES_MAX]


def clipped(engine: Engine, zone: str, start: int, end: int) -> list[Span]:
    """The engine's open stretches of [start, end), asked for one after the other; those that adjoin are one."""
    found: list[Span] = []
    at = start
    while at < end:
        span = engine.open_span(zone, at)
        if span is None or span[0] >= end:
            break
        assert span[1] > at, "a stretch must end after the instant that was asked about"
        if found and span[0] <= found[-1][1]:
            found[-1] = found[-1][0], min(span[1], end)
        else:
            found.append((max(span[0], start), min(span[1], end)))
        at = span[1]
    return found


def probes(change: Change, expected: Sequence[Span]) -> list[int]:
    """Just before, at and just after every boundary, the change, and every local midnight."""
    start, end = change.at - AROUND, change.at + AROUND
    around = runs_between(change.zone, start, end)
    midnights = {day * DAY - run[2] for run in around for day in dates_read(run)}
    moments = {start, change.at, end, *midnights, *(edge for span in expected for edge in span)}
    return sorted(
        moment + step for moment in moments if start <= moment <= end for step in (-1, 0, 1) if moment + step >= start
    )


def compare(change: Change, shape: Shape, engine: Engine) -> Tally:
    """One change, one shape: the stretches, and at every probe the first open instant to the millisecond."""
    zone, start, end = change.zone, change.at - AROUND, change.at + AROUND
    expected = openings(shape, zone, start, end + shape.beyond)
    inside = [(span[0], min(span[1], end)) for span in expected if span[0] < end]
    tally = Tally(changes=1, comparisons=1)
    found = clipped(engine, zone, start, end)
    if found != inside:
        tally.wrong += 1
        tally.examples.append(f"{change}: {inside} expected, {found} found")
    following = iter(expected)
    opens, closes = next(following)
    for at in probes(change, expected):
        while closes <= at:
            opens, closes = next(following)
        span = engine.open_span(zone, at)
        first = None if span is None else max(at, span[0])
        tally.comparisons += 1
        if first != max(at, opens):
            tally.wrong += 1
            if len(tally.examples) < EXAMPLES_MAX:
                tally.examples.append(f"{change}: at {at} {max(at, opens)} expected, {first} found")
    tally.wrong_changes = int(tally.wrong > 0)
    return tally


# Engines that are wrong on purpose


@dataclass(frozen=True, eq=False)
class NaiveEnds:
    """Every window put on the wall with `replace(hour=…)`, and taken to UTC from there."""

    shape: Shape

    def open_span(self, zone: str, at: int) -> Span | None:
        """The earliest that ends later."""
        spans = _naive_spans(self.shape, zone, at // DAY)
        return min((span for span in spans if span[1] > max(at, span[0])), default=None)


@lru_cache(maxsize=64)
def _naive_spans(shape: Shape, zone: str, utc_day: int) -> list[Span]:
    midnight = datetime.fromordinal(utc_day + EPOCH.toordinal()).replace(tzinfo=ZoneInfo(zone))
    midnights = [midnight + timedelta(days=days) for days in range(-3, 6)]
    owned = [(day, window) for day in midnights for window in shape.owned((day.date() - EPOCH).days)]
    return [(_in_utc(day, start), _in_utc(day, end)) for day, (start, end) in owned]


def _in_utc(midnight: datetime, time: int) -> int:
    wall = midnight + timedelta(days=time // DAY)
    return int(wall.replace(hour=time % DAY // HOUR, minute=time % HOUR // MINUTE).astimezone(UTC).timestamp()) * 1000


@dataclass(frozen=True, eq=False)
class Shifted:
    """The engine, with every stretch begun or ended a millisecond off."""

    hours: Engine
    start: int
    end: int

    def open_span(self, zone: str, at: int) -> Span | None:
        """The engine's, moved."""
        span = self.hours.open_span(zone, at - self.end)
        return None if span is None else (span[0] + self.start, span[1] + self.end)


# The whole table, on all cores that there are for it


@cache
def engine_of(shape: Shape) -> Hours:
    """The engine itself."""
    return shape.hours()


def naive_engine_of(shape: Shape) -> Engine:
    """The engine that uses `replace(hour=…)`."""
    return NaiveEnds(shape)


def judge_zone(zone: str, *, names: Sequence[str], engine: Callable[[Shape], Engine]) -> dict[str, Tally]:
    """Every change of one zone in some shapes."""
    tallies = {name: Tally() for name in names}
    for name, tally in tallies.items():
        for change in table(zone):
            shape = SHAPES[name](change)
            tally.add(compare(change, shape, engine(shape)))
        tally.zones = int(tally.changes > 0)
    return tallies


def judge(
    zones: Sequence[str], names: Sequence[str] = tuple(SHAPES), engine: Callable[[Shape], Engine] = engine_of
) -> dict[str, Tally]:
    """Some zones in some shapes; a tally per shape."""
    tallies = {name: Tally() for name in names}
    for found in over_zones(partial(judge_zone, names=names, engine=engine), zones):
        for name, tally in found.items():
            tallies[name].add(tally)
    return tallies


def overlooked(zone: str) -> set[int]:
    """The changes that the zone's file names and the table does not have."""
    return set(changes_on_file(zone)) - {change.at for change in table(zone)}


def over_zones(work: Callable[[str], Found], zones: Sequence[str]) -> list[Found]:
    """Some work on each zone, spread over the cores."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, zones, chunksize=4))
