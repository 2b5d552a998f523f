"""A world so small that things collide: two customers, two addresses, few touches, and limits that are soon reached."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

MS, HOUR, DAY = timedelta(milliseconds=1), timedelta(hours=1), timedelta(days=1)
NOW = timedelta(0)
KEEP = 40 * DAY

# The clocks change soon after: in New York, in London, in Cairo; Apia skips a date.
STARTS = [
    datetime(2024, 3, 8, 15, tzinfo=UTC),
    datetime(2024, 10, 25, 15, tzinfo=UTC),
    datetime(2024, 4, 25, 15, tzinfo=UTC),
    datetime(2011, 12, 28, 15, tzinfo=UTC),
]

COMMON: dict[str, Any] = {
    "week_starts": "sunday",
    "ledger": {"keep": "40 days"},
    "customer": {"timezones": ["Europe/London", "America/New_York"], "country": "US"},
    "topics": {"newsletter": {"category": "marketing"}, "orders": {"category": "service"}},
}

# Every kind of rule that the model knows.
MODELLED: dict[str, Any] = COMMON | {
    "name": "modelled",
    "essential": ["transactional"],
    "consent": {
        "newsletter-opt-in": {
            "select": {"channels": ["email"], "topics": ["newsletter"]},
            "require": "opt_in",
            "expires_after": "1 month",
        },
    },
    "quiet_hours": {
        "decent": {"select": {"topics": ["newsletter"]}, "open": {"mon-fri": "08:00-20:00", "sat-sun": "10:00-24:00"}},
        "late-shift": {"select": {"channels": ["voice"], "countries": ["IN"]}, "open": {"mon-sun": "18:30-02:30"}},
    },
    "caps": {
        "sms-gap": {"limit": "1 per 4 hours", "select": {"channels": ["sms"]}},
        "mail-daily": {"limit": "2 per calendar day", "select": {"channels": ["email"]}},
        "mail-monthly": {"limit": "5 per calendar month", "select": {"channels": ["email"]}},
        "per-subject": {"limit": "2 per 3 calendar days", "select": {"categories": ["service"]}, "per": ["subject"]},
        "campaign": {"limit": "3 per lifetime", "select": {"campaigns": ["spring"]}},
        "weekly": {
            "limit": "4 per 7 days",
            "select": {"categories": ["marketing"]},
            "counts": {"categories": ["marketing", "service"]},
            "held_back": {"slots": 2, "below_priority": 5},
        },
        "in-shadow": {"limit": "1 per calendar week", "enforce": False},
    },
    "cooldowns": {"after-refusal": {"after": "refusal", "for": "2 days", "select": {"channels": ["sms", "voice"]}}},
}

# Policies that share its stores, with much that the model does not know.
OTHERS: list[dict[str, Any]] = [
    COMMON
    | {
        "name": "asks-twice",
        "in_doubt": "resend",
        "consent": {
            "double": {"select": {"channels": ["email"]}, "require": "double_opt_in", "expires_after": "3 days"},
        },
        "quiet_hours": {"days": {"open": {"mon-sun": "09:00-17:00"}, "lifted_by": {"channel": "email"}}},
        "cooldowns": {"talk": {"after": "conversation", "for": "3 calendar days", "per": ["subject"]}},
    },
    COMMON
    | {
        "name": "strict",
        "require_address": True,
        "essential": [],
        "caps": {"one": {"limit": "1 per calendar month", "effective_from": datetime(2024, 3, 12, tzinfo=UTC)}},
    },
]

CUSTOMERS = ["ada", "grace"]
ADDRESSES = ["ada@example.org", "+31205551234"]
TOUCHES: list[dict[str, Any]] = [
    {"channel": "email", "topic": "newsletter"},
    {"channel": "email", "topic": "newsletter", "address": ADDRESSES[0], "priority": 9},
    {"channel": "email", "category": "marketing", "campaign": "spring", "tags": ["a", "b"]},
    {"channel": "email", "category": "transactional", "campaign": "spring", "timezone": "Pacific/Apia"},
    {"channel": "sms", "category": "service", "subject": "debt-1", "address": ADDRESSES[1]},
    {"channel": "sms", "topic": "orders", "campaign": "spring", "priority": 5},
    {"channel": "voice", "topic": "orders", "subject": "debt-2", "country": "IN"},
    {"channel": "voice", "topic": "orders", "address": ADDRESSES[1], "timezone": "Africa/Cairo"},
]

WISHES = [None, None, {"email": "1 per 3 days"}, {"sms": "1 per calendar day", "voice": "2 per lifetime"}]
OWN_HOURS = [None, None, {"mon-fri": "07:00-24:00", "sat": "22:00-02:00"}]

customers = st.sampled_from(CUSTOMERS)
addresses = st.sampled_from(ADDRESSES)
channels = st.sampled_from(["email", "sms", "voice"])
waits = st.sampled_from([MS, HOUR / 4, HOUR, 4 * HOUR, 9 * HOUR, DAY, 3 * DAY, 8 * DAY, -MS, -HOUR, -DAY])
seasons = st.sampled_from([KEEP + DAY, 130 * DAY, 400 * DAY])
just_about = st.sampled_from([-MS, NOW, NOW, MS])
ages = st.sampled_from([-MS, NOW, MS, HOUR, DAY, 7 * DAY, 31 * DAY, KEEP, KEEP + MS])
afterwards = st.sampled_from([None, "confirm", "release"])
ages_told = st.sampled_from([None, None, -MS, NOW, MS, HOUR, DAY, 31 * DAY])

scopes = st.fixed_dictionaries(
    {},
    optional={
        "category": st.sampled_from(["marketing", "service", "transactional"]),
        "channel": channels,
        "topic": st.sampled_from(["newsletter", "orders"]),
    },
)
events = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["refusal", "refusal", "conversation", "reply"]),
        "customer": customers,
        "channel": channels,
        "subject": st.sampled_from([None, "debt-1", "debt-2"]),
        "id": st.sampled_from(["a", "b", "c", "0-a"]),
    }
)
bounces = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["hard_bounce", "complaint"]),
        "address": addresses,
        "channel": channels,
        "id": st.sampled_from(["a", "b"]),
    }
)
places = st.fixed_dictionaries(
    {
        "timezone": st.sampled_from([None, "America/New_York", "Pacific/Apia", "Africa/Cairo"]),
        "country": st.sampled_from([None, "IN", "US"]),
    }
)


@st.composite
def touches(draw: st.DrawFn) -> dict[str, Any]:
    """One of few touches under one of few ids; sometimes under the id of another touch."""
    number = draw(st.integers(0, len(TOUCHES) - 1))
    name = draw(st.sampled_from([*(f"{number}-{letter}" for letter in "aabbccdd"), "shared"]))
    return {"customer": draw(customers), "id": name, **TOUCHES[number]}
