"""A shop that defers touches and sends them when they are due, on either front, for tests of the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fairtouch import Governor
from fairtouch.deferral import AsyncDeferrals, Deferrals, Report
from fairtouch.testing import FrozenClock
from tests.in_a_loop import GovernorInALoop, InALoop
from tests.workers import Sections, worded

EVENING = datetime(2026, 3, 2, 22, tzinfo=UTC)
MORNING = datetime(2026, 3, 3, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BY_DAY: Sections = {"quiet_hours": {"decent": {"open": {"mon-sun": "09:00-20:00"}}}}
SENDS_AGAIN: Sections = {**BY_DAY, "in_doubt": "resend"}
Sender = Callable[[Any, Any], Any]


class Shop:
    """A governor with a queue, a clock that stands in the evening, and what went out."""

    def __init__(
        self,
        url: str,
        sections: Sections = BY_DAY,
        *,
        front: str = "called",
        start: datetime | None = EVENING,
        **options: Any,
    ) -> None:
        self.clock = None if start is None else FrozenClock(start)
        self.sent: list[Any] = []
        self.namespace = {name: options.pop(name) for name in ("namespace", "secret") if name in options}
        make: Any = Governor if front == "called" else GovernorInALoop
        self.governor = make(worded(sections), url, clock=self.clock, **self.namespace)
        self.is_awaited = front != "called"
        self.queue: Any = self.opened(**options)

    def opened(self, **options: Any) -> Any:
        """Another object for the same queue."""
        if not self.is_awaited:
            return Deferrals(self.governor, **options)
        return InALoop(AsyncDeferrals(self.governor._awaited, **options), self.governor._runner)

    def defer(self, customer: str, payload: Any = "news", *, id: str | None = "1", **fields: Any) -> Any:  # noqa: A002
        """Defer an e-mail."""
        return self.queue.defer(customer, payload, channel="email", id=id, **fields)

    def run(self, send: Sender | None = None, **options: Any) -> Report:
        """Send what is due; by default to a list."""
        plain = self._send if send is None else send

        async def awaited(touch: Any, payload: Any) -> Any:
            return plain(touch, payload)

        report: Report = self.queue.run_due(awaited if self.is_awaited else plain, **options)
        return report

    def _send(self, touch: Any, payload: Any) -> None:
        self.sent.append((touch.customer, payload))

    def run_at(self, at: datetime, send: Sender | None = None, **options: Any) -> Report:
        """The same at another instant."""
        assert self.clock is not None
        self.clock.set(at)
        return self.run(send, **options)

    def close(self) -> None:
        """Close the store."""
        with suppress(AttributeError):
            self.governor.close()


def counts(report: Report) -> dict[str, int]:
    """What touches came to, without what none came to."""
    names = ("sent", "deferred", "retried", "already_sent", "expired", "refused", "in_doubt", "failed")
    return {name: number for name in names if (number := getattr(report, name))}


def fates(report: Report) -> list[tuple[str, str]]:
    """What was dropped, by customer."""
    return sorted((each.touch.customer, str(each.fate)) for each in report.dropped)


def raising(*errors: BaseException | None) -> tuple[Sender, list[Any]]:
    """A sender that raises these one after the other (None: it sends), and what it was called for."""
    calls: list[Any] = []
    waiting: Sequence[BaseException | None] = errors

    def send(touch: Any, payload: Any) -> None:
        calls.append(touch.customer)
        error = waiting[min(len(calls), len(waiting)) - 1]
        if error is not None:
            raise error

    return send, calls
