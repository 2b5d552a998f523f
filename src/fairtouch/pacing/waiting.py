"""One call of `wait`: how long it has lasted, how long it may, and how long to sleep."""

import math
import random
from typing import Final

from fairtouch.clock import seconds_running
from fairtouch.errors import FairtouchError, TouchError
from fairtouch.pacing.rates import Pace

_NAP_SECONDS_MAX: Final = 60.0  # notices a Redis that was made anew
_JITTER_SECONDS_MAX: Final = 0.05


class TooFast(FairtouchError):
    """No send of this sender fits within the time-out; none was taken. Wait longer, or put the message back.

    `sender`: its name. `retry_after_seconds`: when the next send fits, unless somebody else takes it; None when others
    here are waiting for it already.
    """

    def __init__(self, sender: str, timeout: float, retry_after_seconds: float | None) -> None:
        when = (
            "others have been waiting longer"
            if retry_after_seconds is None
            else f"the next send fits in {retry_after_seconds:.3f} s"
        )
        super().__init__(
            f"{sender!r} cannot send within timeout={timeout:g} s: {when}; put the message back into your queue, or "
            "wait with a longer timeout (no send was taken)"
        )
        self.sender = sender
        self.retry_after_seconds = retry_after_seconds


class Waiting:
    """One call of `wait`: how long it has lasted, and how long it may."""

    def __init__(self, pace: Pace, timeout: object) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and 0 <= timeout < math.inf):
            raise TouchError("timeout: pass seconds, 0 or more, or leave it out to wait as long as it takes")
        self._pace: Final = pace
        self._timeout: Final = timeout
        self._since: Final = seconds_running()

    def lasted(self) -> float:
        """Seconds since the call."""
        return seconds_running() - self._since

    def left(self) -> float | None:
        """Seconds until the time-out, or None."""
        return None if self._timeout is None else max(self._timeout - self.lasted(), 0.0)

    def too_fast(self, fits_in: float | None) -> TooFast:
        """The error when time is up."""
        return TooFast(self._pace.sender, self._timeout or 0.0, fits_in)

    def nap(self, fits_in: float) -> float:
        """Seconds to sleep, a little more than needed, so that the workers of many hosts do not all wake at once.

        Raises TooFast at once when the time-out comes first, since nothing fits any earlier.
        """
        left = self.left()
        if left is not None and fits_in > left:
            raise self.too_fast(fits_in)
        jitter = min(self._pace.period_seconds / self._pace.sends / 4, _JITTER_SECONDS_MAX)
        return min(fits_in, _NAP_SECONDS_MAX) + random.uniform(0, jitter)  # noqa: S311 - no secret
