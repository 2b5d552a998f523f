"""Local dates and readings, found by looking at the clock again and again.

Instants are ints: milliseconds since 1970-01-01T00:00Z. Good for instants from 1973 on: since then every zone keeps an
offset of whole minutes and changes it at a whole minute; anything else is refused loudly.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

SECOND = 1_000
MINUTE = 60 * SECOND
QUARTER = 15 * MINUTE
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONE_DAY = timedelta(days=1)


def millis(moment: datetime) -> int:
    """The aware datetime as milliseconds since the epoch."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no zone")
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment(at: int) -> datetime:
    """The instant as a datetime in UTC."""
    return EPOCH + timedelta(milliseconds=at)


def midnight_utc(day: date) -> int:
    """The instant at which the date begins in UTC."""
    return millis(datetime(day.year, day.month, day.day, tzinfo=UTC))


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name."""
    return ZoneInfo(name)


def reading(at: int, tz: ZoneInfo) -> datetime:
    """What a clock on the wall shows, to the second. Windows begin and end at whole minutes, so seconds are enough."""
    return datetime.fromtimestamp(at // SECOND, tz)


def offset(at: int, tz: ZoneInfo) -> int:
    """How far the clocks of the zone are ahead of UTC, in milliseconds."""
    ahead = reading(at, tz).utcoffset()
    assert ahead is not None
    if ahead % timedelta(minutes=1):
        raise NotImplementedError(f"{tz.key} is not whole minutes from UTC at {moment(at)}")
    return ahead // timedelta(milliseconds=1)


@cache
def date_start(day: date, tz: ZoneInfo) -> int:
    """The first instant that reads this date, or else a later one (then the date never occurred).

    Walks minute by minute, beginning before any zone on earth can read the date.
    """
    at = midnight_utc(day) - 16 * HOUR
    assert offset(at, tz) <= 15 * HOUR
    while reading(at, tz).date() < day:
        at += MINUTE
    return at


def occurred(day: date, tz: ZoneInfo) -> bool:
    """Whether any instant reads this date. Pacific/Apia went from 2011-12-29 to 2011-12-31."""
    return date_start(day, tz) < date_start(day + ONE_DAY, tz)


def local_date(at: int, tz: ZoneInfo) -> date:
    """The date whose span holds the instant.

    A date runs from the first instant that reads it to the first that reads a later one. When clocks step back over
    midnight they read the old date again, but the new date goes on.
    """
    day = reading(at, tz).date()
    while date_start(day + ONE_DAY, tz) <= at:
        day += ONE_DAY
    return day
