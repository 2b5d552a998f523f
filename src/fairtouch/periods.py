"""Periods of caps: from words ("7 days", "calendar month", "7 calendar days", "lifetime") to instants.

Rule 1: a rolling period is a fixed number of milliseconds; a day is 24 hours. Rule 2: a calendar period is made of
local dates. Rule 3: a period that can be read both ways is an error that offers the readings.

A period answers two questions. `window(at, zone)`: which instants does it look at now, and until when is that answer
right? `leaves_out(at, zone)`: from which instant on is a touch made at `at` no longer inside?
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, Literal, assert_never

from dateutil.relativedelta import relativedelta

from fairtouch.bounds import LIMIT_MAX, PERIOD_DAYS_MAX
from fairtouch.instants import DAY, HOUR, MINUTE, NEVER, SECOND
from fairtouch.zones import EPOCH_ORDINAL, dates_on, day_start, local_day

Unit = Literal["day", "week", "month", "quarter", "year"]
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_FIXED: Final = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "day": DAY, "week": 7 * DAY}
_READINGS: Final = {
    "second": "'1 second'",
    "minute": "'1 minute'",
    "hour": "'1 hour'",
    "day": "'24 hours' (rolling) or 'calendar day' (the customer's own date)",
    "week": "'7 days' (rolling) or 'calendar week'",
    "month": "'30 days' (rolling) or 'calendar month'",
    "quarter": "'90 days' (rolling) or 'calendar quarter'",
    "year": "'365 days' (rolling) or 'calendar year'",
}
_LONGEST: Final[dict[str, int]] = {"day": 2, "week": 8, "month": 32, "quarter": 93, "year": 367}
_LONGEST_DAYS: Final = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
_PERIOD: Final = re.compile(r"(?:(\d{1,7}) +)?(?:(calendar) +)?([a-z]+?)s?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """The instants from `start` on that a period looks at; the answer holds for every now in [since, end)."""

    start: int
    end: int
    since: int


@dataclass(frozen=True, slots=True)
class Rolling:
    """The half-open stretch (now - span, now]."""

    span: int
    text: str
    needs_zone = False

    def window(self, at: int, zone: str | None) -> Window:  # noqa: ARG002 - one shape for every period
        return Window(at - self.span + 1, NEVER, at)

    def leaves_out(self, at: int, zone: str | None) -> int:  # noqa: ARG002
        return at + self.span

    @property
    def reach(self) -> int:
        """How far it looks back at most, in milliseconds."""
        return self.span


@dataclass(frozen=True, slots=True)
class Calendar:
    """The local day, week, month, quarter or year that holds now."""

    unit: Unit
    week_starts: int
    text: str
    needs_zone = True

    def window(self, at: int, zone: str | None) -> Window:
        assert zone is not None  # noqa: S101 - the plan refuses earlier when no zone is known
        first, following = calendar_days(self.unit, self.week_starts, local_day(zone, at))
        start = day_start(zone, first)
        return Window(start, day_start(zone, following), start)

    def leaves_out(self, at: int, zone: str | None) -> int:
        return self.window(at, zone).end

    @property
    def reach(self) -> int:
        return _LONGEST[self.unit] * DAY


@dataclass(frozen=True, slots=True)
class Dates:
    """The `days` consecutive local dates that end today; a date that never occurred is none of them."""

    days: int
    text: str
    needs_zone = True

    def window(self, at: int, zone: str | None) -> Window:
        assert zone is not None  # noqa: S101 - the plan refuses earlier when no zone is known
        today = local_day(zone, at)
        start = day_start(zone, dates_on(zone, today, 1 - self.days))
        return Window(start, day_start(zone, today + 1), day_start(zone, today))

    def leaves_out(self, at: int, zone: str | None) -> int:
        assert zone is not None  # noqa: S101
        return day_start(zone, dates_on(zone, local_day(zone, at), self.days))

    @property
    def reach(self) -> int:
        return (self.days + 2) * DAY  # today is longer than 24 hours, or a date never occurred


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Everything that ever happened, also what was pruned into totals."""

    text: str = "lifetime"
    needs_zone = False

    def window(self, at: int, zone: str | None) -> Window:  # noqa: ARG002
        return Window(-NEVER, NEVER, -NEVER)

    def leaves_out(self, at: int, zone: str | None) -> int:  # noqa: ARG002
        return NEVER

    @property
    def reach(self) -> int:
        return 0


Period = Rolling | Calendar | Dates | Lifetime


@lru_cache(maxsize=65_536)
def calendar_days(unit: Unit, week_starts: int, day: int) -> tuple[int, int]:
    """The first day of the calendar period that holds `day`, and the first day of the next one."""
    today = date.fromordinal(day + EPOCH_ORDINAL)
    match unit:
        case "day":
            return day, day + 1
        case "week":
            first = day - (today.weekday() - week_starts) % 7
            return first, first + 7
        case "month":
            start, length = today.replace(day=1), relativedelta(months=1)
        case "quarter":  # January, April, July, October
            start, length = today.replace(month=today.month - (today.month - 1) % 3, day=1), relativedelta(months=3)
        case "year":
            start, length = today.replace(month=1, day=1), relativedelta(years=1)
        case _:
            assert_never(unit)
    return start.toordinal() - EPOCH_ORDINAL, (start + length).toordinal() - EPOCH_ORDINAL


def parse_limit(text: str, week_starts: int) -> tuple[int, Period]:
    """'5 per 7 days' → (5, the period). Raises ValueError with what to write instead."""
    match = re.fullmatch(r"(\d{1,9}) +per +(.+)", text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no limit; write it as '5 per 7 days', '1 per calendar day' or '3 per lifetime'")
    limit = int(match[1])
    if limit > LIMIT_MAX:
        raise ValueError(f"{text!r} admits more than {LIMIT_MAX} touches, the most that a cap may count")
    return limit, parse_period(match[2], week_starts)


def parse_period(text: str, week_starts: int) -> Period:
    """'7 days', 'calendar week', '7 calendar days', 'lifetime'. Raises ValueError with the readings that are
    possible.
    """
    text = " ".join(text.split())
    if text == "lifetime":
        return Lifetime()
    match = _PERIOD.fullmatch(text)
    if match is None or match[3] not in _READINGS:
        raise ValueError(
            f"{text!r} is no period; write '24 hours', '7 days', 'calendar day', '7 calendar days' or 'lifetime'"
        )
    count, calendar, unit = match[1], match[2], match[3]
    if count is not None and int(count) == 0:
        raise ValueError(f"{text!r} has no length; write at least 1")
    if calendar:
        return _calendar_period(text, count, unit, week_starts)
    if count is None:
        raise ValueError(f"a bare {text!r} can be read in more than one way; write {_READINGS[unit]}")
    if unit in _FIXED and int(count) * _FIXED[unit] > PERIOD_DAYS_MAX * DAY:
        raise ValueError(f"{text!r} is longer than {PERIOD_DAYS_MAX} days (a hundred years)")
    if unit not in _FIXED:
        raise ValueError(
            f"{text!r} has no fixed length; write it in days or weeks, or as {_READINGS[unit].split(' or ')[-1]}"
        )
    return Rolling(int(count) * _FIXED[unit], text)


def _calendar_period(text: str, count: str | None, unit: str, week_starts: int) -> Period:
    if unit not in _LONGEST:
        raise ValueError(f"{text!r}: there is no calendar {unit}; write '1 {unit}'")
    if count is None:
        return Calendar(unit, week_starts, text)  # type: ignore[arg-type] # the keys of _LONGEST are the units
    if unit != "day":
        raise ValueError(
            f"{text!r}: only days can be counted on the calendar; write 'calendar {unit}' or '7 calendar days'"
        )
    if int(count) > PERIOD_DAYS_MAX:
        raise ValueError(f"{text!r} is longer than {PERIOD_DAYS_MAX} days (a hundred years)")
    return Dates(int(count), text)


def parse_duration(text: str) -> relativedelta:
    """A stretch of calendar time after an instant: '2 years', '6 months', '90 days'. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,5}) +(hour|day|week|month|year)s?", " ".join(text.split()), re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is no duration; write '2 years', '6 months', '90 days' or '12 hours'")
    if int(match[1]) * _LONGEST_DAYS[match[2]] > PERIOD_DAYS_MAX:
        raise ValueError(f"{text!r} is longer than {PERIOD_DAYS_MAX} days (a hundred years)")
    return relativedelta(**{match[2] + "s": int(match[1])})  # type: ignore[arg-type] # every name is one of relativedelta's
