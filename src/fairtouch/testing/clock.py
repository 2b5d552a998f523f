"""A clock that moves when it is told to."""

from datetime import datetime, timedelta

from fairtouch.instants import from_ms, to_ms


class FrozenClock:
    """`Governor(…, clock=FrozenClock(start))`: every store then uses this time. It may also be set back."""

    def __init__(self, start: datetime) -> None:
        """Raises TouchError when `start` is naive."""
        self.set(start)

    def __call__(self) -> datetime:
        """The time that it shows."""
        return from_ms(self._now)

    def set(self, at: datetime) -> None:
        """Moves to an aware instant, kept to the millisecond. Raises TouchError when it is naive."""
        self._now = to_ms(at)

    def advance(self, by: timedelta) -> None:
        """Moves on by a stretch of time; back when it is negative."""
        self._now += by // timedelta(milliseconds=1)
