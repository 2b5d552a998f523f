"""Quiet hours: which windows a date owns, and whether an instant is open."""

import calendar
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from .local_time import ONE_DAY, occurred, reading, zone
from .rules import Rule, common, only

WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass(frozen=True)
class Window:
    """Minutes since local midnight, [start, end). An end before the start lies on the next date."""

    start: int
    end: int

    @property
    def crosses_midnight(self) -> bool:
        """Whether it ends on the date after the one that owns it."""
        return self.end < self.start


def parse_clock(text: str) -> int:
    """A time of day, "09:30", as minutes since midnight; "24:00" is the end of the day."""
    hours, minutes = (int(part) for part in text.split(":"))
    if not (0 <= hours < 24 and 0 <= minutes < 60) and (hours, minutes) != (24, 0):
        raise ValueError(f"no such time: {text!r}")
    return hours * 60 + minutes


def parse_windows(value: str | list[str]) -> tuple[Window, ...]:
    """One window, "09:00-17:00", or several."""
    windows = []
    for text in [value] if isinstance(value, str) else value:
        start, end = (parse_clock(part) for part in text.split("-"))
        if start in (end, 24 * 60):
            raise ValueError(f"an empty window: {text!r}")
        windows.append(Window(start, end))
    return tuple(windows)


def parse_days(text: str) -> list[int]:
    """The weekdays of "mon", "mon-fri", or a range that wraps, "sat-mon". Monday is 0."""
    first, _, last = text.partition("-")
    days = [WEEKDAYS.index(first)]
    while WEEKDAYS[days[-1]] != (last or first):
        days.append((days[-1] + 1) % 7)
    return days


def is_dated(text: str) -> bool:
    """Whether the text is a date with its year, "2004-12-25"."""
    return len(text) == len("2004-12-25")


def names_date(text: str, day: date) -> bool:
    """Whether "12-25", "2004-12-25" or "RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH" is this date."""
    if text.startswith("RRULE:"):
        return recurs_on(text.removeprefix("RRULE:"), day)
    if is_dated(text):
        return date.fromisoformat(text) == day
    month, dom = (int(part) for part in text.split("-"))
    date(2000, month, dom)  # raises unless some year has it
    return (day.month, day.day) == (month, dom)


def recurs_on(rule: str, day: date) -> bool:
    """Once a year: the nth such weekday of a month, counted from its end when negative."""
    parts = dict(part.split("=") for part in rule.split(";"))
    only(parts, {"FREQ", "BYMONTH", "BYDAY"}, rule)
    if parts["FREQ"] != "YEARLY":
        raise NotImplementedError(rule)
    if day.month != int(parts["BYMONTH"]):
        return False
    nth, weekday = int(parts["BYDAY"][:-2]), parts["BYDAY"][-2:]
    last = calendar.monthrange(day.year, day.month)[1]
    same = [date(day.year, day.month, dom) for dom in range(1, last + 1)]
    same = [other for other in same if WEEKDAYS[other.weekday()][:2].upper() == weekday]
    index = nth - 1 if nth > 0 else len(same) + nth
    return 0 <= index < len(same) and same[index] == day


@dataclass(frozen=True, eq=False)
class QuietHours(Rule):
    """The open hours of each weekday, of some dates of their own, and dates that are closed."""

    weekly: tuple[tuple[Window, ...], ...]
    closed_on: tuple[str, ...]
    open_on: tuple[tuple[str, tuple[Window, ...]], ...]
    zone: ZoneInfo | None

    def windows(self, day: date) -> tuple[Window, ...]:
        """What the date owns."""
        return owned_windows(self, day)

    def is_open(self, at: int, tz: ZoneInfo) -> bool:
        """Whether the clock shows a time in a window of the date it shows, or in one left over from the date before.

        Going by what the clock shows makes repeated readings open both times. A date that never occurred owns nothing.
        """
        shown = reading(at, tz)
        today, minute = shown.date(), shown.hour * 60 + shown.minute
        for window in self.windows(today):
            if window.start <= minute and (window.crosses_midnight or minute < window.end):
                return True
        yesterday = today - ONE_DAY
        for window in self.windows(yesterday):
            if window.crosses_midnight and minute < window.end and occurred(yesterday, tz):
                return True
        return False

    def has_odd_windows(self) -> bool:
        """Whether a window begins or ends at other than a whole quarter of an hour."""
        windows = [window for owned in [*self.weekly, *(own for _, own in self.open_on)] for window in owned]
        return any(window.start % 15 or window.end % 15 for window in windows)

    def dates_with_year(self) -> list[date]:
        """The dates that it names with their year, so that they come only once."""
        named = [*self.closed_on, *(text for text, _ in self.open_on)]
        return [date.fromisoformat(text) for text in named if is_dated(text)]


@cache
def owned_windows(rule: QuietHours, day: date) -> tuple[Window, ...]:
    """A closed date owns nothing, even if it has hours of its own; a date's own hours replace those of its weekday."""
    if any(names_date(text, day) for text in rule.closed_on):
        return ()
    own = [windows for text, windows in rule.open_on if names_date(text, day)]
    if len(own) > 1:
        raise NotImplementedError(f"quiet_hours.{rule.name}.open_on: not modelled: {day} is named twice")
    return own[0] if own else rule.weekly[day.weekday()]


def parse_quiet_hours(name: str, table: dict[str, Any]) -> QuietHours:
    """Weekdays that are not named are closed; one named twice is an error."""
    where = f"quiet_hours.{name}"
    fields = common(name, table, where, {"open", "closed_on", "open_on", "zone"})
    weekly: dict[int, tuple[Window, ...]] = {}
    for days, value in table["open"].items():
        for weekday in parse_days(days):
            if weekday in weekly:
                raise ValueError(f"{where}.open names {WEEKDAYS[weekday]} twice")
            weekly[weekday] = parse_windows(value)
    return QuietHours(
        **fields,
        weekly=tuple(weekly.get(weekday, ()) for weekday in range(7)),
        closed_on=tuple(table.get("closed_on", ())),
        open_on=tuple((text, parse_windows(value)) for text, value in table.get("open_on", {}).items()),
        zone=zone(table["zone"]) if "zone" in table else None,
    )
