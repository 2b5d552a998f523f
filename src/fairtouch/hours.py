"""Open hours: weekly windows, dates with hours of their own, recurrences → the open stretches of time.

Rule 1: an instant is open iff its local reading lies in [start, end) of a window owned by its local date, or by the
previous date when the window crosses midnight. Rule 2: a date that never occurred owns nothing; repeated readings are
open both times. Rule 3: a closed date stays closed, whatever hours another line gives it: the strictest wins.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Final

from dateutil.rrule import rrule, rrulestr

from fairtouch.bounds import HORIZON_DAYS, SELECTION_MAX, WINDOWS_MAX
from fairtouch.instants import DAY, MINUTE
from fairtouch.zones import EPOCH_ORDINAL, instants_reading

Span = tuple[int, int]
"""A half-open stretch [start, end); of instants, or of readings counted from a local midnight. An end past 24:00
crosses midnight.
"""

WEEKDAY_NAMES: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d) ?- ?([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
_WEEK: Final = 7 * DAY
_RECURRENCE_START: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a recurrence names local dates
_FREQUENCIES: Final = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")
_PARTS: Final = frozenset(
    {
        "FREQ",
        "UNTIL",
        "COUNT",
        "INTERVAL",
        "BYMONTH",
        "BYMONTHDAY",
        "BYYEARDAY",
        "BYWEEKNO",
        "BYDAY",
        "BYSETPOS",
        "WKST",
    }
)


class DateSet:
    """Local dates: every year's ("12-25"), one ("2026-12-25"), or an RFC 5545 recurrence ("RRULE:FREQ=YEARLY;…")."""

    __slots__ = ("_dates", "_every_year", "_recurrences", "_years")

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError with the text that is no date."""
        self._dates: set[date] = set()
        self._every_year: set[tuple[int, int]] = set()
        self._recurrences: list[rrule] = []
        self._years: dict[int, frozenset[date]] = {}
        for text in texts:
            self._add(text)

    def _add(self, text: str) -> None:
        if text.startswith(("RRULE:", "DTSTART")):
            self._recurrences.append(_recurrence(text))
        elif re.fullmatch(r"\d\d-\d\d", text, re.ASCII):
            leap_day = date.fromisoformat(f"2000-{text}")
            self._every_year.add((leap_day.month, leap_day.day))
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            self._dates.add(date.fromisoformat(text))
        else:
            raise ValueError(
                f"{text!r} is no date; write '12-25', '2026-12-25' or 'RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH'"
            )

    def __contains__(self, day: date) -> bool:
        if day in self._dates or (day.month, day.day) in self._every_year:
            return True
        return bool(self._recurrences) and day in self._recurring(day.year)

    def _recurring(self, year: int) -> frozenset[date]:
        if year not in self._years:
            first, last = datetime(year, 1, 1), datetime(year, 12, 31)  # noqa: DTZ001
            self._years[year] = frozenset(
                at.date() for rule in self._recurrences for at in rule.between(first, last, inc=True)
            )
        return self._years[year]


def _recurrence(text: str) -> rrule:
    """RFC 5545 section 3.3.10, dates only. Without DTSTART it starts in 1970, so COUNT and INTERVAL need one."""
    parts = dict(part.partition("=")[::2] for part in text.rpartition("RRULE:")[2].strip().split(";"))
    unknown = sorted(set(parts) - _PARTS)
    if unknown or parts.get("FREQ") not in _FREQUENCIES:
        raise ValueError(
            f"{text!r} is no recurrence of dates: FREQ is one of {', '.join(_FREQUENCIES)}, "
            f"parts are {', '.join(sorted(_PARTS))}"
        )
    if "DTSTART" not in text and not {"COUNT", "INTERVAL"}.isdisjoint(parts):
        raise ValueError(f"{text!r}: COUNT and INTERVAL need a line 'DTSTART:20260101' before, to count from")
    try:
        rule = rrulestr(text, dtstart=_RECURRENCE_START, cache=True)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{text!r} is no recurrence (RFC 5545 section 3.3.10): {error}") from error
    if not isinstance(rule, rrule):
        raise ValueError(f"{text!r}: write one RRULE per line")  # noqa: TRY004 - the text is wrong, not its type
    return rule


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """When a rule is open: windows per weekday (Monday first), closed dates, and dates with windows of their own."""

    weekly: tuple[tuple[Span, ...], ...]
    closed_on: DateSet
    open_on: tuple[tuple[DateSet, tuple[Span, ...]], ...] = ()

    def windows(self, day: int) -> Sequence[Span]:
        """The windows that a local date owns, in milliseconds from its midnight."""
        today = date.fromordinal(day + EPOCH_ORDINAL)
        if today in self.closed_on:
            return ()
        for dates, windows in self.open_on:
            if today in dates:
                return windows
        return self.weekly[today.weekday()]

    def open_span(self, zone: str, at: int) -> Span | None:
        """The first open stretch that ends after `at` (it may have begun before). None when there is none for 400 days.

        A stretch longer than a week is cut, at least two days after `at`.
        """
        first = at // _WEEK
        for week in range(first, first + HORIZON_DAYS // 7 + 2):
            spans = _spans_around(self, zone, week)
            index = bisect_right(spans, at, key=itemgetter(1))
            if index < len(spans):
                return spans[index]
        return None


@lru_cache(maxsize=4_096)
def _spans_around(hours: Hours, zone: str, week: int) -> tuple[Span, ...]:
    """The open stretches, joined and in order, of one week of UTC, with all local dates that reach into it and three
    days more.
    """
    spans = sorted(span for day in range(7 * week - 2, 7 * week + 10) for span in _spans_of(hours, zone, day))
    joined: list[Span] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def _spans_of(hours: Hours, zone: str, day: int) -> list[Span]:
    midnight = day * DAY
    windows = hours.windows(day)
    if not windows or not instants_reading(zone, midnight, midnight + DAY):
        return []
    return [span for start, end in windows for span in instants_reading(zone, midnight + start, midnight + end)]


def all_open(parts: Sequence[tuple[Hours, str]], at: int) -> Span | None:
    """The first stretch that ends after `at` in which every (hours, zone) is open. None when there is none for 400
    days.
    """
    start, horizon = at, at + (HORIZON_DAYS + 1) * DAY
    while start < horizon:
        spans = [hours.open_span(zone, start) for hours, zone in parts]
        if None in spans:
            return None
        opens, closes = max(span[0] for span in spans if span), min(span[1] for span in spans if span)
        if opens < closes:
            return opens, closes
        start = opens
    return None


class HoursError(ValueError):
    """Hours that cannot be read; `key` is where, `value` what stands there."""

    def __init__(self, key: str, value: str, message: str) -> None:
        super().__init__(message)
        self.key, self.value = key, value


def parse_hours(
    weekly: Mapping[str, str | Sequence[str]],
    closed_on: Iterable[str] = (),
    open_on: Mapping[str, str | Sequence[str]] | None = None,
) -> Hours:
    """The `open`, `closed_on` and `open_on` of a policy. Raises HoursError: a day named twice, windows that overlap,
    no date.
    """
    days: list[tuple[Span, ...]] = [()] * 7
    named: set[int] = set()
    for key, value in weekly.items():
        with _at(f"open.{key}", value):
            windows = _windows(value)
            for weekday in _weekdays(key):
                if weekday in named:
                    raise ValueError(
                        f"{WEEKDAY_NAMES[weekday]!r} is named twice; give every weekday its hours in one place"
                    )
                named.add(weekday)
                days[weekday] = windows
    closed, own = list(closed_on), dict(open_on or {})
    if len(closed) + len(own) > SELECTION_MAX:
        raise HoursError(
            "closed_on", f"{len(closed)} dates", f"{SELECTION_MAX} dates are allowed; a recurrence may stand for many"
        )
    for text in closed:
        with _at("closed_on", text):
            DateSet([text])
            if text in own:
                raise ValueError(f"{text!r} is both closed and open; keep it in closed_on or in open_on")
    dates = []
    for text, value in own.items():
        with _at(f"open_on.{text}", value):
            dates.append((DateSet([text]), _windows(value)))
    return Hours(tuple(days), DateSet(closed), tuple(dates))


@contextmanager
def _at(key: str, value: str | Sequence[str]) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        shown = value if isinstance(value, str) else ", ".join(map(str, value))
        raise HoursError(key, shown, str(error)) from error


def _weekdays(key: str) -> list[int]:
    """'mon' or a range that may wrap, 'sat-mon'."""
    first, dash, last = key.partition("-")
    for name in (first, last) if dash else (first,):
        if name not in WEEKDAY_NAMES:
            raise ValueError(f"{key!r} is no weekday; write {', '.join(WEEKDAY_NAMES)} or a range such as 'mon-fri'")
    start = WEEKDAY_NAMES.index(first)
    length = (WEEKDAY_NAMES.index(last) - start) % 7 if dash else 0
    return [(start + step) % 7 for step in range(length + 1)]


def _windows(value: str | Sequence[str]) -> tuple[Span, ...]:
    texts = [value] if isinstance(value, str) else list(value)
    if not 0 < len(texts) <= WINDOWS_MAX:
        raise ValueError(f"{len(texts)} windows are given; write 1 to {WINDOWS_MAX}, or leave a closed day out")
    windows = sorted(_window(text) for text in texts)
    for (_, end), (start, _) in pairwise(windows):
        if start < end:
            raise ValueError(f"the windows {', '.join(map(repr, texts))} overlap; write them as one")
    return tuple(windows)


def _window(text: str) -> Span:
    match = _WINDOW.fullmatch(text.strip())
    if match is None or (match[3] == "24" and match[4] != "00"):
        raise ValueError(f"{text!r} is no window; write '09:00-12:30', '20:00-24:00', or '22:00-02:00' over midnight")
    start, end = (int(match[1]) * 60 + int(match[2])) * MINUTE, (int(match[3]) * 60 + int(match[4])) * MINUTE
    if start == end:
        raise ValueError(f"{text!r} has no length; the whole day is '00:00-24:00'")
    return start, end if end > start else end + DAY
