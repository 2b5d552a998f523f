"""What clocks on walls read, taken from `zoneinfo` alone: the ground under the oracles of hours and of periods.

It shares no line with the engine. An instant is a number of milliseconds since 1970-01-01 UTC, a date is the number of
days since 1970-01-01, a reading is a number of milliseconds since 1970-01-01 00:00 on the wall clock. A *run* is a
stretch of instants with one offset: readings go on evenly within it, and only there.
"""

import importlib.resources
import struct
import zoneinfo
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from zoneinfo import ZoneInfo

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FIRST_YEAR, LAST_YEAR = 2000, 2037  # of the table
EARLIEST_YEAR, LATEST_YEAR = 1968, 2041  # of what is looked at, so that every period around a change is whole
LOOK_EVERY = 3 * DAY
NO_ZONES = {"localtime", "posixrules"}  # files beside the zones: this machine's own, and a default

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Change:
    """The first instant of a new offset, and both offsets."""

    zone: str
    at: int
    before: int
    after: int

    @property
    def readings(self) -> tuple[int, int]:
        """The edges of the gap (skipped readings) or of the fold (repeated ones)."""
        walls = self.at + self.before, self.at + self.after
        return min(walls), max(walls)


Run = tuple[int, int, int]
"""From, until, offset."""


def year_start(year: int) -> int:
    """The first instant of a year in UTC."""
    return (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND


def offset(zone: str, at: int) -> int:
    """How far a wall clock is ahead of UTC."""
    found = (_EPOCH + at * _MILLISECOND).astimezone(ZoneInfo(zone)).utcoffset()
    assert found is not None
    return found // _MILLISECOND


@cache
def _noons() -> tuple[tuple[int, datetime], ...]:
    start, end = year_start(EARLIEST_YEAR), year_start(LATEST_YEAR)
    noons = range(start + DAY // 2, end, LOOK_EVERY)
    return tuple((noon, _EPOCH.replace(tzinfo=None) + noon * _MILLISECOND) for noon in noons)


@lru_cache(maxsize=16)
def changes(zone: str) -> tuple[Change, ...]:
    """Every change of a zone's offset from EARLIEST_YEAR on, oldest first.

    The offsets of every third local noon are compared, and where two differ the change is looked for to the second.
    That no zone changes twice in between is tested by itself, against the zones' files.
    """
    key = ZoneInfo(zone)
    offsets = [key.utcoffset(wall) // _MILLISECOND for _, wall in _noons()]
    days = zip(pairwise(noon for noon, _ in _noons()), pairwise(offsets), strict=True)
    return tuple(
        _change(zone, before - before_offset - DAY, after - after_offset)  # a day more: a noon may lie in a gap
        for (before, after), (before_offset, after_offset) in days
        if before_offset != after_offset
    )


def _change(zone: str, low: int, high: int) -> Change:
    before, after = offset(zone, low), offset(zone, high)
    assert before != after
    while high - low > SECOND:
        middle = (low + high) // (2 * SECOND) * SECOND
        if offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    return Change(zone, high, before, after)


def table(zone: str) -> list[Change]:
    """The zone's changes in the years of the table."""
    return [change for change in changes(zone) if year_start(FIRST_YEAR) <= change.at < year_start(LAST_YEAR + 1)]


@cache
def zones_with_changes() -> tuple[str, ...]:
    """Every zone of this machine that has a change in the years of the table."""
    return tuple(zone for zone in sorted(zoneinfo.available_timezones() - NO_ZONES) if table(zone))


@lru_cache(maxsize=16)
def runs(zone: str) -> tuple[Run, ...]:
    """All runs of a zone, from EARLIEST_YEAR to LATEST_YEAR."""
    found = changes(zone)
    start, end = year_start(EARLIEST_YEAR), year_start(LATEST_YEAR) - DAY
    starts = [start, *(change.at for change in found)]
    offsets = [found[0].before if found else offset(zone, start), *(change.after for change in found)]
    return tuple(zip(starts, [*starts[1:], end], offsets, strict=True))


def runs_between(zone: str, start: int, end: int) -> list[Run]:
    """The runs that cover [start, end), cut to it."""
    everything = runs(zone)
    first = bisect_right(everything, start, key=itemgetter(0)) - 1
    found = []
    for run_start, run_end, value in everything[first:]:
        if run_start >= end:
            break
        found.append((max(run_start, start), min(run_end, end), value))
    return found


def dates_read(run: Run) -> range:
    """The dates that a run reads."""
    start, end, value = run
    return range((start + value) // DAY, (end - 1 + value) // DAY + 1)


class Dates:
    """The local dates of a zone that occurred, in order, each with the instant at which it begins.

    A local date runs from the first instant that reads it to the first that reads a later one.
    """

    def __init__(self, zone: str, first_year: int) -> None:
        begun: dict[int, int] = {}
        latest = -(10**9)
        for run in runs_between(zone, year_start(first_year), runs(zone)[-1][1]):
            start, _, value = run
            for date in dates_read(run):
                if date > latest:
                    begun[date] = max(start, date * DAY - value)
                    latest = date
        self.zone = zone
        self.dates = list(begun)
        self.starts = list(begun.values())

    def index(self, at: int) -> int:
        """The position of the date that an instant belongs to."""
        return bisect_right(self.starts, at) - 1


@lru_cache(maxsize=16)
def dates(zone: str, first_year: int = EARLIEST_YEAR) -> Dates:
    """The dates of a zone from a year on; the first of them may have begun before."""
    return Dates(zone, first_year)


# The zones' files, as a second witness of the changes


def _tzif(zone: str) -> bytes:
    for root in zoneinfo.TZPATH:
        if (Path(root) / zone).is_file():
            return (Path(root) / zone).read_bytes()
    return importlib.resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()


def changes_on_file(zone: str) -> list[int]:
    """The instants of the years of the table at which the zone's file says that the offset changes (RFC 8536).

    Not always all of them: a file may end with a rule for the years to come.
    """
    text = _tzif(zone)
    head = struct.Struct(">4sc15x6l")
    _, version, isut, isstd, leap, times, types, chars = head.unpack_from(text)
    start = head.size
    assert version >= b"2"
    start += times * 5 + types * 6 + chars + leap * 8 + isstd + isut  # the first block is for readers of 32 bits
    _, _, _, _, _, times, types, _ = head.unpack_from(text, start)
    start += head.size
    instants = struct.unpack_from(f">{times}q", text, start)
    kinds = text[start + 8 * times : start + 9 * times]
    offsets = [struct.unpack_from(">l", text, start + 9 * times + 6 * kind)[0] for kind in range(types)]
    steps = pairwise(chain([offsets[0]], (offsets[kind] for kind in kinds)))
    return [
        at * SECOND
        for at, (before, after) in zip(instants, steps, strict=True)
        if before != after and year_start(FIRST_YEAR) <= at * SECOND < year_start(LAST_YEAR + 1)
    ]
