"""Instants: aware datetimes outside, whole milliseconds since 1970-01-01 UTC inside.

Rule 1: every datetime that enters or leaves the library passes through this file. Rule 2: a naive datetime is an
error, never a guess.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from fairtouch.errors import TouchError

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

INSTANT_MAX: Final = 253_402_214_400_000  # 9999-12-31: the last day that a datetime can hold in every zone
NEVER: Final = 1 << 62  # later than every instant that a datetime can hold

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def to_ms(at: datetime, what: str = "at") -> int:
    """Milliseconds since the epoch, rounded down. Raises TouchError when `at` is naive or no datetime."""
    if not isinstance(at, datetime):
        raise TouchError(f"{what} must be an aware datetime, not {type(at).__name__}; nothing was recorded")
    if at.utcoffset() is None:
        raise TouchError(
            f"{what}={at.isoformat()} has no time zone; use an aware datetime such as datetime.now(UTC); "
            "nothing was recorded"
        )
    return (at - _EPOCH) // _MILLISECOND


def from_ms(at: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(milliseconds=at)
