"""What became of deferred touches in a run: counts of all, and each that left the queue without being sent by it."""

import inspect
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from fairtouch.bounds import DROPPED_MAX
from fairtouch.decision import Decision
from fairtouch.errors import TouchError
from fairtouch.touch import Touch

_log: Final = logging.getLogger("fairtouch")


@unique
class Fate(StrEnum):
    """What became of a deferred touch when its turn came. The first three stay out of `Report.dropped`."""

    SENT = "sent"  # it was allowed, and `send` came back
    DEFERRED = "deferred"  # not yet: it was put back
    RETRIED = "retried"  # `send` or `on_dropped` raised, or it could not be judged: it comes up again
    ALREADY_SENT = "already_sent"  # a touch with its id went out before, by this queue or otherwise
    EXPIRED = "expired"  # it was not allowed while it was worth sending
    REFUSED = "refused"  # time does not help any more: an opt-out since, for example
    IN_DOUBT = "in_doubt"  # it may have gone out, and is not sent again
    FAILED = "failed"  # `send` raised too often, or the touch cannot be judged; it was not sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A deferred touch that left the queue without being sent by this run: what became of it, and why.

    `decision`: the last one, None when the touch could not be judged. `error`: what its last send raised, or why it
    could not be judged.
    """

    fate: Fate
    touch: Touch
    payload: Any = field(repr=False)
    decision: Decision | None = None
    error: Exception | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How many touches came to which `Fate` in a run; `dropped`: those that left the queue unsent, unless
    `on_dropped` was told of them. `is_whole`: nothing else was due; otherwise the run ended at its limit, or because
    `dropped` was full, and more may wait.
    """

    sent: int
    deferred: int
    retried: int
    already_sent: int
    expired: int
    refused: int
    in_doubt: int
    failed: int
    dropped: tuple[Dropped, ...]
    is_whole: bool


OnDropped = Callable[[Dropped], None]
Progress = Callable[[int], None]


class Run:
    """A run under way: how much of it is left, and what became of touches so far."""

    def __init__(self, limit: int, on_dropped: OnDropped | None, progress: Progress | None) -> None:
        """Raises TouchError for a limit that is not a whole number above 0, TypeError for who would have to be
        awaited.
        """
        if type(limit) is not int or limit < 1:
            raise TouchError(f"limit={limit!r} must be a whole number above 0; nothing was sent")
        if inspect.iscoroutinefunction(on_dropped):
            raise TypeError("on_dropped is a coroutine function, which nobody would await; pass a plain one")
        self._limit, self._on_dropped, self._progress = limit, on_dropped, progress
        self.counts: Final[Counter[Fate]] = Counter()
        self._dropped: Final[list[Dropped]] = []
        self.leaving: Final[list[tuple[bytes, bytes]]] = []  # claims and items of those that the report holds

    def room(self) -> int:
        """How many more touches it takes; 0 when it is over."""
        return min(self._limit - self.counts.total(), DROPPED_MAX - len(self._dropped))

    def hear(self, dropped: Dropped, token: bytes, name: bytes) -> bool:
        """Takes note of a touch that is to leave the queue; whether it may now, because somebody was told of it. What
        only the report holds leaves when that is complete: a run that fails tells nobody.
        """
        if self._on_dropped is None:
            self._dropped.append(dropped)
            self.leaving.append((token, name))
            self.count(dropped.fate)
            return False
        try:
            self._on_dropped(dropped)
        except Exception:  # noqa: BLE001 - the others wait
            _log.exception("nobody took note of a dropped touch; it stays in the queue, and comes up again")
            self.count(Fate.RETRIED)
            return False
        return True

    def count(self, fate: Fate) -> None:
        """One more touch came to this."""
        self.counts[fate] += 1
        if self._progress is not None:
            self._progress(self.counts.total())

    def report(self, *, is_whole: bool) -> Report:
        """What became of them."""
        counts = {str(fate): self.counts[fate] for fate in Fate}
        return Report(dropped=tuple(self._dropped), is_whole=is_whole, **counts)
