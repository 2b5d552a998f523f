"""What all governed contestants share: the policy, the customers, and what has happened to them.

A policy has an opt-in, open hours and four caps (an hour, a calendar day, 7 and 30 days). A customer opted in a month
ago and got eight touches in the last minutes, which fill every one of the caps; the ninth is the last that fits into
the hour's. The hours are those of a shop, closed for more than half of the time, in a zone where it is about noon now.
"""

import csv
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from fairtouch import Governor, Policy, Touch

ZONES: Final = (
    "Pacific/Auckland",
    "Australia/Sydney",
    "Asia/Tokyo",
    "Asia/Shanghai",
    "Asia/Bangkok",
    "Asia/Dhaka",
    "Asia/Karachi",
    "Asia/Dubai",
    "Europe/Moscow",
    "Europe/Athens",
    "Europe/Paris",
    "Europe/London",
    "Atlantic/Azores",
    "Atlantic/South_Georgia",
    "America/Sao_Paulo",
    "America/Halifax",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Anchorage",
    "Pacific/Honolulu",
    "Pacific/Pago_Pago",
)
PERIODS: Final = {"1 hour": 9, "calendar day": 12, "7 days": 20, "30 days": 40}
SELECTIONS: Final[tuple[dict[str, list[str]], ...]] = (
    {},
    {"channels": ["email"]},
    {"categories": ["marketing"]},
    {"topics": ["newsletter"]},
)
KEEP: Final = "400 days"
EIGHT: Final = tuple(timedelta(minutes=minutes) for minutes in range(8, 0, -1))  # before now


def zone_at_noon() -> str:
    """The zone whose clocks are nearest to 13:00: open hours, and a calendar day that the eight touches lie in."""
    now = datetime.now(UTC)

    def minutes_from_one(name: str) -> int:
        local = now.astimezone(ZoneInfo(name))
        return abs(local.hour * 60 + local.minute - 13 * 60)

    return min(ZONES, key=minutes_from_one)


def policy(*, caps: int = 4, room: int = 0) -> Policy:
    """The policy with 4 or 16 caps: the four periods for every touch, then also by channel, category and topic; `room`
    is added to every limit.
    """
    rules: dict[str, Any] = {}
    for select in SELECTIONS[: caps // len(PERIODS)]:
        for period, limit in PERIODS.items():
            rules[f"cap-{len(rules)}"] = {"limit": f"{limit + room} per {period}", "select": select}
    return Policy.model_validate(
        {
            "name": "benchmark",
            "ledger": {"keep": KEEP},
            "customer": {"timezones": [zone_at_noon()]},
            "topics": {"newsletter": {"category": "marketing"}},
            "consent": {"opt-in": {"require": "opt_in", "expires_after": "2 years"}},
            "quiet_hours": {"decent": {"open": {"mon-sun": "09:00-20:00"}}},
            "caps": rules,
        }
    )


def unruled() -> Policy:
    """The same horizon and topics without any rule, under which history is written."""
    return Policy.model_validate(
        {"name": "history", "ledger": {"keep": KEEP}, "topics": {"newsletter": {"category": "marketing"}}}
    )


def asked(customer: int) -> Touch:
    """The touch that is decided while the clock runs."""
    return Touch(
        f"customer-{customer}", channel="email", topic="newsletter", campaign="spring", id=f"spring:{customer}"
    )


def past(customer: int, number: int) -> Touch:
    """A touch of a customer's history: of several campaigns, so that a ledger is not all of one kind."""
    return Touch(
        f"customer-{customer}",
        channel="email",
        topic="newsletter",
        campaign=f"winter-{number % 4}",
        id=f"winter:{number}",
    )


def opt_in(governor: Governor, customers: Iterable[int], *, progress: Callable[[int], None] | None = None) -> None:
    """Each of them opted in a month ago; `progress` gets the customers done so far."""
    at = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "consents.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("customer", "channel", "topic", "category", "status", "at"))
            rows.writerows(
                (f"customer-{customer}", "email", "newsletter", "", "opted_in", at) for customer in customers
            )
        governor.consent.import_file(path, progress=progress)


def eight_touches(governor: Governor, customers: int) -> None:
    """The history of customers 0 to `customers`, one by one; for a store that is as quick as memory."""
    now = datetime.now(UTC)
    opt_in(governor, range(customers))
    for customer in range(customers):
        for number, ago in enumerate(EIGHT):
            governor.record(past(customer, number), now - ago)


def reserve(governor: Governor, customer: int) -> None:
    """What is measured. A no would be another way through the code, so it is an error."""
    if not governor.reserve(asked(customer)):
        raise AssertionError("the benchmark measures the way of a yes")
