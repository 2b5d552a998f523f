"""A policy with every kind of rule, and the timeline played through the model under it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from .model import Model, Verdict
from .timeline import Event, Operation, OptIn, OptOut, Send, SetCustomer

POLICY: dict[str, Any] = {
    "name": "every-kind-of-rule",
    "essential": ["transactional"],
    "week_starts": "sunday",
    "ledger": {"keep": "400 days"},
    "customer": {"timezones": ["Europe/London", "America/New_York"]},
    "topics": {"newsletter": {"category": "marketing"}, "orders": {"category": "service"}},
    "consent": {
        "marketing-opt-in": {
            "select": {"channels": ["email", "sms"], "categories": ["marketing"]},
            "require": "opt_in",
            "expires_after": "1 month",
        },
    },
    "quiet_hours": {
        "decent": {
            "select": {"categories": ["marketing", "service"]},
            "open": {"mon-fri": ["07:00-12:30", "13:30-22:00"], "sat-sun": "09:00-24:00"},
            "closed_on": ["07-04", "2004-05-31", "RRULE:FREQ=YEARLY;BYMONTH=9;BYDAY=1MO"],
            "open_on": {"07-03": "10:00-14:00"},
        },
        "late-shift": {
            "select": {"channels": ["sms", "push"], "countries": ["IN", "EG"]},
            "open": {"sat-thu": ["11:00-16:00", "18:30-02:30"], "fri": "18:30-03:00"},
        },
    },
    "caps": {
        "push-gap": {
            "limit": "1 per 8 hours",
            "select": {"channels": ["push"]},
        },
        "email-daily": {
            "limit": "2 per calendar day",
            "select": {"channels": ["email"]},
        },
        "sms-monthly": {
            "limit": "3 per calendar month",
            "select": {"channels": ["sms"]},
        },
        "service-per-subject": {
            "limit": "2 per 3 calendar days",
            "select": {"categories": ["service"]},
            "per": ["subject"],
        },
        "campaign-lifetime": {
            "limit": "4 per lifetime",
            "select": {"campaigns": ["spring", "summer"], "categories": ["marketing", "service"]},
            "effective_from": datetime(2004, 5, 15, tzinfo=UTC),
        },
        "everything-weekly": {
            "limit": "8 per 7 days",
            "select": {"categories": ["marketing"]},
            "counts": {"categories": ["marketing", "service", "transactional"]},
            "held_back": {"slots": 3, "below_priority": 5},
        },
        "weekly-in-shadow": {
            "limit": "1 per calendar week",
            "enforce": False,
        },
    },
    "cooldowns": {
        "after-refusal": {
            "after": "refusal",
            "for": "5 days",
            "select": {"channels": ["sms", "push"], "categories": ["marketing", "service"]},
        },
    },
}


def play(model: Model, operations: Iterable[Operation]) -> Iterator[tuple[Send, Verdict]]:
    """Carry the operations out one after the other, and yield what becomes of each message."""
    for operation in operations:
        match operation:
            case SetCustomer(_, customer, timezone, country, region):
                model.customer(customer, timezone=timezone, country=country, region=region)
            case OptIn(at, customer, category, channel, topic):
                model.opt_in(customer, at=at, category=category, channel=channel, topic=topic)
            case OptOut(at, customer, category, channel, topic):
                model.opt_out(customer, at=at, category=category, channel=channel, topic=topic)
            case Event(at, customer, name, channel, subject):
                model.event(customer, name, at=at, channel=channel, subject=subject)
            case Send():
                yield operation, reserve(model, operation)


def reserve(model: Model, send: Send) -> Verdict:
    """Take the slots of a message; one that fails gives them back."""
    verdict = model.reserve(send.touch(), send.at)
    if send.fails and verdict.handle is not None:
        model.release(verdict.handle)
    return verdict
