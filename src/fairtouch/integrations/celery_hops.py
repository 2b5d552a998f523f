"""How the message of a Celery task waits: in hops, each a new message with the same id, none longer than a broker lets
a message rest.

Rule 1: what a message must remember travels in its headers: since when it waits, how many hops it took, until when it
rests. Rule 2: the next message is with the broker before this one is acknowledged; killed in between, there are two,
which are one touch.
"""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fairtouch.clock import system_now
from fairtouch.errors import StoreUnavailable
from fairtouch.instants import SECOND

HEADER: Final = "fairtouch"
_VISIBILITY_SECONDS: Final = 1_800  # the shortest that brokers have unless told otherwise: SQS, RabbitMQ; Redis: 3,600
_OUTAGE_SECONDS_MAX: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how long and how often a touch may be put off, and over how long those are spread that wait for one instant.

    Raises ValueError for negative times and for less than one hop.
    """

    give_up_after: timedelta
    spread: timedelta
    hops_max: int

    def __post_init__(self) -> None:
        if min(self.give_up_after, self.spread) < timedelta(0) or self.hops_max < 1:
            raise ValueError(
                f"give_up_after={self.give_up_after}, spread={self.spread}, hops_max={self.hops_max}: "
                "times may not be negative, and one hop is the least"
            )


class Journey:
    """One delivery of a task's message, and what it remembers of those before it."""

    def __init__(self, task: Any, patience: Patience) -> None:
        self._task, self._patience = task, patience
        headers = task.request.headers or {}
        self._told: dict[str, int] = {
            "since": system_now(),
            "hops": 0,
            "until": 0,
            "outages": 0,
            **headers.get(HEADER, {}),
        }
        task.request.headers = {**headers, HEADER: self._told}  # so that Celery's own retries remember it, too

    def rest(self) -> None:
        """Raises Retry when this was only a hop: the time has not come, and hops are left."""
        if system_now() < self._told["until"] and self._told["hops"] < self._patience.hops_max:
            self._hop(self._told["until"], None)

    def wait(self, wait: timedelta, why: Exception) -> None:
        """Raises Retry for a touch that is welcome so much later; returns when that is too late for it."""
        due = system_now() + wait // timedelta(milliseconds=1)
        if self._lives_until(due):
            spread = random.uniform(0, self._patience.spread.total_seconds())  # noqa: S311 - no secret
            self._told["outages"] = 0
            self._hop(due + int(spread * SECOND), why)

    def wait_for_store(self, error: StoreUnavailable) -> None:
        """Raises Retry for a touch that nobody could judge; returns when it waited too long already."""
        longest = min(2 ** self._told["outages"], _OUTAGE_SECONDS_MAX)
        seconds = random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        due = system_now() + int(seconds * SECOND)
        if self._lives_until(due):
            self._told["outages"] += 1
            self._hop(due, error)

    def _lives_until(self, due: int) -> bool:
        lives_until = self._told["since"] + self._patience.give_up_after // timedelta(milliseconds=1)
        return due <= lives_until and self._told["hops"] < self._patience.hops_max

    def _hop(self, until: int, why: Exception | None) -> None:
        """Sends the message that comes next. Raises Retry, and Reject when the broker does not take it: it comes again
        then.
        """
        from celery.exceptions import Reject, Retry

        seconds = min(max(until - system_now(), 1) / SECOND, self._hop_seconds())
        told = {**self._told, "hops": self._told["hops"] + 1, "until": until}
        headers = {**self._task.request.headers, HEADER: told}
        message = self._task.signature_from_request(countdown=seconds, headers=headers)
        try:
            message.apply_async()
        except self._task.OperationalError as error:
            if self._task.acks_late:
                raise Reject(error, requeue=True) from error
            raise
        raise Retry(exc=why, when=round(seconds, 3))

    def _hop_seconds(self) -> float:
        """Half of what the broker allows, for the message also waits for a worker and while it runs; less at random,
        so that messages that came together do not go on together.
        """
        options = self._task.app.conf.broker_transport_options or {}
        visible = float(options.get("visibility_timeout") or _VISIBILITY_SECONDS)
        return visible / 2 * random.uniform(0.75, 1)  # noqa: S311 - no secret
