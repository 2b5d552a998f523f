"""Consent rules, caps and cooldowns as small records. A key that is not modelled raises NotImplementedError."""

import calendar
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from .local_time import (
    DAY,
    HOUR,
    MINUTE,
    ONE_DAY,
    SECOND,
    WEEK,
    date_start,
    local_date,
    midnight_utc,
    millis,
    moment,
    occurred,
)

FIXED_UNITS = {"second": SECOND, "minute": MINUTE, "hour": HOUR, "day": DAY, "week": WEEK}
CALENDAR_UNITS = ["day", "week", "month", "quarter", "year"]
BEFORE_EVERYTHING = -(10**15)

REMARKS = {"citation", "source", "as_of", "note"}
EVERY_RULE = {"select", "enforce", "effective_from", "effective_until"} | REMARKS
SELECTORS = {
    "channels": "channel",
    "categories": "category",
    "topics": "topic",
    "campaigns": "campaign",
    "tags": "tags",
    "countries": "country",
    "regions": "region",
}
PLACES = {"countries", "regions"}

Selection = dict[str, frozenset[str]]


def only(table: dict[str, Any], known: set[str], where: str) -> None:
    """Raise unless every key of the table is modelled."""
    unknown = sorted(set(table) - known)
    if unknown:
        raise NotImplementedError(f"{where}: not modelled: {', '.join(unknown)}")


def singular(unit: str) -> str:
    """The word without its plural: "days" and "day" mean the same."""
    return unit.removesuffix("s")


# Selections


def parse_selection(table: dict[str, Any], where: str) -> Selection:
    """Which touches: AND between keys, OR within one; an absent key means all; an empty list is an error."""
    only(table, set(SELECTORS), where)
    for key, values in table.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{where}.{key} must be a list with something in it")
    return {key: frozenset(values) for key, values in table.items()}


def selects(selection: Selection, touch: Any) -> bool:
    """Whether the touch is one of them. A country or region that nobody knows counts as selected."""
    for key, values in selection.items():
        value = getattr(touch, SELECTORS[key])
        if key in PLACES and value is None:
            continue
        if key == "tags":
            if not values & value:
                return False
        elif value not in values:
            return False
    return True


# What every rule has


@dataclass(frozen=True, eq=False)
class Rule:
    """What every rule has: a name, the touches it is for, and from when until when it is in force."""

    name: str
    select: Selection
    effective_from: int | None
    effective_until: int | None

    def in_force(self, at: int) -> bool:
        """In force from its first instant on, and no longer in force at its last."""
        begun = self.effective_from is None or self.effective_from <= at
        over = self.effective_until is not None and self.effective_until <= at
        return begun and not over

    def effective_instants(self) -> list[int]:
        """The instants at which it comes into force or ceases to be."""
        return [at for at in (self.effective_from, self.effective_until) if at is not None]


def effective(value: Any, where: str, *, last_day: bool) -> int | None:
    """An aware datetime is that instant. A bare date is read in UTC, and a last day still belongs."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return millis(value)
    if isinstance(value, date):
        return midnight_utc(value + ONE_DAY if last_day else value)
    raise NotImplementedError(f"{where}: not modelled: {value!r}")


def common(name: str, table: dict[str, Any], where: str, extra: set[str]) -> dict[str, Any]:
    """The fields of Rule."""
    only(table, EVERY_RULE | extra, where)
    return {
        "name": name,
        "select": parse_selection(table.get("select", {}), f"{where}.select"),
        "effective_from": effective(table.get("effective_from"), where, last_day=False),
        "effective_until": effective(table.get("effective_until"), where, last_day=True),
    }


# Periods


@dataclass(frozen=True)
class Period:
    """What a cap counts over: "rolling", "calendar", "dates" (N consecutive local dates) or "lifetime"."""

    kind: str
    span: int = 0
    unit: str = ""
    dates: int = 0
    week_starts: int = 0

    @property
    def is_local(self) -> bool:
        """Whether the period needs a time zone."""
        return self.kind in ("calendar", "dates")

    def start(self, at: int, tz: ZoneInfo | None) -> int:
        """The first instant that still counts at this one. Nothing bounds the count from above."""
        if self.kind == "lifetime":
            return BEFORE_EVERYTHING
        if self.kind == "rolling":
            return at - self.span + 1  # (at - span, at]: what happened exactly one span ago has just left
        assert tz is not None
        return date_start(self.first_date(local_date(at, tz), tz), tz)

    def first_date(self, today: date, tz: ZoneInfo) -> date:
        """The first local date of the period that today belongs to."""
        if self.kind == "dates":
            return dates_back(today, self.dates, tz)
        if self.unit == "day":
            return today
        if self.unit == "week":
            return today - timedelta(days=(today.weekday() - self.week_starts) % 7)
        if self.unit == "month":
            return today.replace(day=1)
        if self.unit == "quarter":
            return today.replace(month=(today.month - 1) // 3 * 3 + 1, day=1)
        return today.replace(month=1, day=1)


def dates_back(today: date, count: int, tz: ZoneInfo) -> date:
    """The first of `count` consecutive local dates that end today. A date that never occurred is not one of them."""
    first = today
    while count > 1:
        first -= ONE_DAY
        if occurred(first, tz):
            count -= 1
    return first


def parse_limit(text: str, week_starts: int, where: str) -> tuple[int, Period]:
    """A cap's limit: "5 per 7 days", "1 per calendar month", "7 per 7 calendar days", "3 per lifetime"."""
    number, per, *words = text.split()
    if per != "per":
        raise ValueError(f"{where}: {text!r}")
    return int(number), parse_period(words, week_starts, f"{where}: {text!r}")


def parse_period(words: list[str], week_starts: int, where: str) -> Period:
    """The words after "per"."""
    match words:
        case ["lifetime"]:
            return Period("lifetime")
        case ["calendar", unit] if unit in CALENDAR_UNITS:
            return Period("calendar", unit=unit, week_starts=week_starts)
        case [count, "calendar", "day" | "days"] if int(count) > 0:
            return Period("dates", dates=int(count))
        case [count, unit] if singular(unit) in FIXED_UNITS and int(count) > 0:
            return Period("rolling", span=int(count) * FIXED_UNITS[singular(unit)])
    raise NotImplementedError(f"{where}: not modelled")


# Caps and cooldowns


@dataclass(frozen=True, eq=False)
class Cap(Rule):
    """At most `limit` touches per period. Low priority has `held_back` slots fewer."""

    limit: int
    period: Period
    counts: Selection
    per_subject: bool
    held_back: int
    below_priority: int | None

    def room(self, priority: int) -> int:
        """The limit for a touch of this priority."""
        if self.below_priority is not None and priority < self.below_priority:
            return self.limit - self.held_back
        return self.limit


def parse_cap(name: str, table: dict[str, Any], week_starts: int) -> Cap:
    """`counts` is what fills the cap: the same selection when left out.

    The place is the customer's, not the past touch's. Whether a cap selects by it is settled when the asking touch is
    looked at; all that the customer received fills it, wherever that was. Other readings of `counts` by place are not
    modelled.
    """
    where = f"caps.{name}"
    fields = common(name, table, where, {"limit", "counts", "per", "held_back"})
    limit, period = parse_limit(table["limit"], week_starts, where)
    counts = parse_selection(table.get("counts", {}), f"{where}.counts")
    if PLACES & set(counts):
        raise NotImplementedError(f"{where}.counts: not modelled: places")
    if "counts" not in table:
        counts = {key: values for key, values in fields["select"].items() if key not in PLACES}
    if table.get("per", ["subject"]) != ["subject"]:
        raise NotImplementedError(f"{where}.per: not modelled: {table['per']}")
    held_back = table.get("held_back", {})
    only(held_back, {"slots", "below_priority"}, f"{where}.held_back")
    return Cap(
        **fields,
        limit=limit,
        period=period,
        counts=counts,
        per_subject="per" in table,
        held_back=held_back.get("slots", 0),
        below_priority=held_back.get("below_priority"),
    )


@dataclass(frozen=True, eq=False)
class Cooldown(Rule):
    """No touches for a while after an event."""

    after: str
    period: Period


def parse_cooldown(name: str, table: dict[str, Any]) -> Cooldown:
    """`for` is a span of fixed length."""
    where = f"cooldowns.{name}"
    fields = common(name, table, where, {"after", "for"})
    period = parse_period(table["for"].split(), 0, where)
    if period.kind != "rolling":
        raise NotImplementedError(f"{where}.for: not modelled: {table['for']!r}")
    return Cooldown(**fields, after=table["after"], period=period)


# Consent rules


@dataclass(frozen=True, eq=False)
class ConsentRule(Rule):
    """An opt-in is required. It expires after so many `expiry_unit`s, if that is said."""

    expiry_count: int
    expiry_unit: str | None

    def expires_at(self, opted_in: int) -> int | None:
        """The first instant at which the opt-in no longer holds, or None if it holds for good."""
        if self.expiry_unit is None:
            return None
        if self.expiry_unit in FIXED_UNITS:
            return opted_in + self.expiry_count * FIXED_UNITS[self.expiry_unit]
        months = self.expiry_count * (12 if self.expiry_unit == "year" else 1)
        return millis(add_months(moment(opted_in), months))


def add_months(start: datetime, months: int) -> datetime:
    """The same day and time so many months later, in UTC; the last day of the month where it has no such day."""
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return start.replace(year=year, month=month, day=day)


def parse_consent(name: str, table: dict[str, Any]) -> ConsentRule:
    """`require` is "opt_in"; `expires_after` is "2 years", "3 months", "30 days"…"""
    where = f"consent.{name}"
    fields = common(name, table, where, {"require", "expires_after"})
    if table["require"] != "opt_in":
        raise NotImplementedError(f"{where}.require: not modelled: {table['require']!r}")
    if "expires_after" not in table:
        return ConsentRule(**fields, expiry_count=0, expiry_unit=None)
    count, unit = table["expires_after"].split()
    unit = singular(unit)
    if unit not in {*FIXED_UNITS, "month", "year"}:
        raise NotImplementedError(f"{where}.expires_after: not modelled: {table['expires_after']!r}")
    return ConsentRule(**fields, expiry_count=int(count), expiry_unit=unit)
