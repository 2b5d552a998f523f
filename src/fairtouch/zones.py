"""Local time: what a wall clock reads at an instant, and when a local date begins.

Rule 1: only this file asks a time zone anything; `periods` and `hours` build on it. Rule 2: an instant is whole
milliseconds since the epoch, a *day* is a number too: days since 1970-01-01 on the local calendar. Rule 3: a local
date runs from the first instant that reads it to the first that reads a later one, so dates are an unbroken sequence
whatever a zone does: 23 and 25 hours, a day that begins at 01:00, a step back over midnight, a date that never
occurred (which is empty).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from fairtouch.bounds import ZONE_LENGTH_MAX
from fairtouch.errors import TouchError
from fairtouch.instants import DAY, HOUR, SECOND

EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_OFFSET_MAX: Final = 26 * HOUR  # zones lie within -12:00 and +14:00; nothing in history leaves -16 and +16
_BLOCK: Final = 32 * DAY  # a zone's offsets are looked up, and kept, for so long a stretch at a time
_PROBE: Final = DAY  # two changes of one zone are always further apart: six days and more, from 1970 on
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})  # this machine's own, a default, and "not set yet"

Run = tuple[int, int, int]
"""A stretch of one offset: from, until, and the offset."""


@cache
def zone_names() -> frozenset[str]:
    """The IANA names that this machine knows, of zones that read the same on every machine and are some place's."""
    return frozenset(available_timezones()) - _NO_ZONES


def check_zone(name: object, what: str = "timezone") -> str:
    """The name itself if it is an IANA zone. Raises TouchError otherwise, without letting the name near the file
    system.
    """
    if not isinstance(name, str):
        raise TouchError(
            f"{what} must be an IANA name such as 'Europe/Paris', not {type(name).__name__}; nothing was recorded"
        )
    if len(name) > ZONE_LENGTH_MAX or name not in zone_names():
        raise TouchError(
            f"{what}={name[:ZONE_LENGTH_MAX]!a} is no IANA time zone, such as 'Europe/Paris'; nothing was recorded"
        )
    return name


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _utc_offset(zone: ZoneInfo, at: int) -> int:
    offset = (_EPOCH + at * _MILLISECOND).astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - ZoneInfo always knows
    return offset // _MILLISECOND


@lru_cache(maxsize=16_384)
def _runs_of_block(name: str, block: int) -> tuple[Run, ...]:
    zone, start, end = _zone(name), block * _BLOCK, (block + 1) * _BLOCK
    runs = []
    value = _utc_offset(zone, start)
    for probe in range(start + _PROBE, end + 1, _PROBE):
        later = _utc_offset(zone, probe)
        if later != value:
            change = _change(zone, probe - _PROBE, probe)
            runs.append((start, change, value))
            start, value = change, later
    return (*runs, (start, end, value))


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """The first instant of the offset in force at `after`; changes fall on whole seconds."""
    old = _utc_offset(zone, before)
    while after - before > SECOND:
        middle = (before + after) // 2 // SECOND * SECOND
        if _utc_offset(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after


def offset(name: str, at: int) -> int:
    """The zone's distance from UTC at an instant, in milliseconds, positive to the east."""
    for _, end, value in _runs_of_block(name, at // _BLOCK):
        if at < end:
            return value
    raise AssertionError(f"the runs of {name} do not cover {at}")


def _runs(name: str, start: int, end: int) -> Iterator[Run]:
    """The runs that cover [start, end), in order; a long one comes in pieces."""
    for block in range(start // _BLOCK, (end - 1) // _BLOCK + 1):
        yield from _runs_of_block(name, block)


@lru_cache(maxsize=65_536)
def day_start(name: str, day: int) -> int:
    """The first instant that reads the local date `day` or a later one."""
    midnight = day * DAY
    for start, end, value in _runs(name, midnight - _OFFSET_MAX, midnight + _OFFSET_MAX):
        reached = max(start, midnight - value)
        if reached < end:
            return reached
    raise AssertionError(f"no instant of {name} reads day {day}")


def local_day(name: str, at: int) -> int:
    """The local date at an instant: the latest one that has begun."""
    day = (at + offset(name, at)) // DAY
    while day_start(name, day + 1) <= at:
        day += 1
    return day


@lru_cache(maxsize=16_384)
def dates_on(name: str, day: int, steps: int) -> int:
    """The local date so many occurring dates after `day`, or before it when `steps` is negative."""
    target = day + steps
    while skipped := _skipped(name, min(day + 1, target), max(day, target + 1)):
        day, target = target, target + (skipped if steps > 0 else -skipped)
    return target


def _skipped(name: str, first: int, end: int) -> int:
    """How many of the dates in [first, end) never occurred: no run reads them."""
    skipped, latest = 0, first - 1
    for run_start, run_end, value in _runs(name, first * DAY - _OFFSET_MAX, end * DAY + _OFFSET_MAX):
        skipped += max(0, min(end, (run_start + value) // DAY) - latest - 1)
        latest = max(latest, (run_end - 1 + value) // DAY)
    return skipped


def instants_reading(name: str, start: int, end: int) -> list[tuple[int, int]]:
    """The instants whose local reading lies in [start, end), readings in milliseconds since 1970-01-01 00:00 on the
    wall clock.

    Readings that are skipped have no instant, readings that are repeated have two; adjoining stretches are joined.
    """
    spans: list[tuple[int, int]] = []
    for run_start, run_end, value in _runs(name, start - _OFFSET_MAX, end + _OFFSET_MAX):
        span_start, span_end = max(run_start, start - value), min(run_end, end - value)
        if span_start >= span_end:
            continue
        if spans and spans[-1][1] == span_start:
            spans[-1] = (spans[-1][0], span_end)
        else:
            spans.append((span_start, span_end))
    return spans
