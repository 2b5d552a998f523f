"""Traffic to compare engines on: lines `src dst unix-seconds` become a deterministic list of operations.

The real lines are CollegeMsg, 59,835 private messages between students over 193 days of 2004 (SNAP, Stanford;
P. Panzarasa, T. Opsahl, K. M. Carley, "Patterns and dynamics of users' behavior and interaction", JASIST 60(5), 2009).
A clone without that file makes up lines of the same shape. The recipient is the customer. All that a line does not say
is chosen by a hash of its number or of the customer, so that every run on every machine makes the same operations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

Choice = TypeVar("Choice")

REAL_FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "CollegeMsg.txt"

# While the messages were sent, Cairo and Asuncion changed their clocks at midnight; the others did soon before or
# after. Lord Howe's clocks go by half hours. One customer in six has no zone of her own.
ZONES = ["America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo", "America/Asuncion", None]
PLACES = {
    "America/New_York": ("US", "NY"),
    "Asia/Kolkata": ("IN", "WB"),
    "Australia/Lord_Howe": ("AU", "NSW"),
    "Africa/Cairo": ("EG", "C"),
    "America/Asuncion": ("PY", "ASU"),
    None: (None, None),
}
CHANNELS = ["email", "email", "sms", "push"]
CAMPAIGNS = [None, None, "spring", "summer", "back-to-school"]
SUBJECTS = [None, "order-1", "order-1", "order-2"]

# What a message is about: a category or a topic; with neither it is marketing.
PURPOSES: list[dict[str, str]] = [
    {"topic": "newsletter"},
    {"topic": "newsletter"},
    {"category": "marketing"},
    {},
    {"topic": "orders"},
    {"topic": "orders"},
    {"category": "service", "topic": "newsletter"},
    {"category": "transactional"},
]

# What a customer agrees to when she is first seen; some agree to nothing.
WELCOMES: list[list[dict[str, str]]] = [
    [{}],
    [{}],
    [{"category": "marketing"}],
    [{"channel": "email"}, {"channel": "sms", "category": "marketing"}],
    [{"channel": "email", "topic": "newsletter"}, {"channel": "sms"}],
    [],
]

# What people decline, and what they agree to again: scopes that contain each other, equal ones and incomparable ones.
SCOPES: list[dict[str, str]] = [
    {},
    {"category": "marketing"},
    {"channel": "email"},
    {"channel": "sms"},
    {"channel": "push"},
    {"topic": "newsletter"},
    {"category": "marketing", "channel": "email"},
    {"channel": "email", "topic": "newsletter"},
    {"category": "service", "topic": "orders"},
    {"category": "transactional", "channel": "push"},
]


@dataclass(frozen=True)
class SetCustomer:
    """Facts about a customer become known, all at once."""

    at: int
    customer: str
    timezone: str | None
    country: str | None
    region: str | None


@dataclass(frozen=True)
class OptIn:
    """A customer agrees to a scope; None is any."""

    at: int
    customer: str
    category: str | None = None
    channel: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class OptOut:
    """A customer declines a scope; None is any."""

    at: int
    customer: str
    category: str | None = None
    channel: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that a customer did."""

    at: int
    customer: str
    name: str
    channel: str
    subject: str | None


@dataclass(frozen=True)
class Send:
    """A message that someone wants to send. If it `fails`, its slot is released right after it was admitted."""

    at: int
    id: str
    customer: str
    channel: str
    category: str | None
    topic: str | None
    campaign: str | None
    subject: str | None
    priority: int
    timezone: str | None
    fails: bool

    def touch(self) -> dict[str, Any]:
        """The fields of the touch that are said."""
        return {key: value for key, value in vars(self).items() if value is not None and key not in ("at", "fails")}


Operation = SetCustomer | OptIn | OptOut | Event | Send


def number(*key: object) -> int:
    """A number that looks random and is the same everywhere for the same key."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big")


def pick(choices: Sequence[Choice], *key: object) -> Choice:
    """One of the choices."""
    return choices[number(*key) % len(choices)]


def one_in(count: int, *key: object) -> bool:
    """True for one key in so many."""
    return number(*key) % count == 0


def operations(lines: Iterable[str]) -> list[Operation]:
    """What happens, in order. The first line is a header."""
    made: list[Operation] = []
    seen: set[str] = set()
    at = 0
    for line_number, line in enumerate(lines):
        if line_number == 0:
            continue
        _, customer, seconds = line.split()
        at = max(at, int(seconds) * 1000 + number("millisecond", line_number) % 1000)
        if customer not in seen:
            seen.add(customer)
            made.extend(arrival(customer, at))
        made.extend(side_events(line_number, customer, at))
        made.append(send(line_number, customer, at))
    return made


def arrival(customer: str, at: int) -> Iterator[Operation]:
    """What is known of a customer when she is first seen: where she lives and what she agrees to, or neither."""
    tz = pick(ZONES, "zone", customer)
    if tz is not None:
        yield facts(customer, tz, at)
    for scope in pick(WELCOMES, "welcome", customer):
        yield OptIn(at, customer, **scope)


def facts(customer: str, tz: str, at: int) -> SetCustomer:
    """The customer's zone, with a country and a region to go with it."""
    country, region = PLACES[tz]
    return SetCustomer(at, customer, tz, country, region)


def side_events(line_number: int, customer: str, at: int) -> Iterator[Operation]:
    """What happens besides sending. Sometimes a yes and a no of the same instant."""
    if one_in(900, "move", line_number):
        yield facts(customer, pick([tz for tz in ZONES if tz], "move to", line_number), at)
    declines = one_in(60, "opt out", line_number)
    if declines:
        yield OptOut(at, customer, **pick(SCOPES, "declined", line_number))
    if one_in(8 if declines else 25, "opt in", line_number):
        yield OptIn(at, customer, **pick(SCOPES, "agreed", line_number))
    if one_in(40, "event", line_number):
        name = pick(["conversation", "refusal", "refusal"], "event name", line_number)
        channel = pick(CHANNELS, "event channel", line_number)
        yield Event(at, customer, name, channel, pick(SUBJECTS, "event subject", line_number))


def send(line_number: int, customer: str, at: int) -> Send:
    """The message of a line."""
    purpose = pick(PURPOSES, "purpose", line_number)
    elsewhere = pick([tz for tz in ZONES if tz], "elsewhere", line_number) if one_in(50, "away", line_number) else None
    return Send(
        at=at,
        id=f"message-{line_number}",
        customer=customer,
        channel=pick(CHANNELS, "channel", line_number),
        category=purpose.get("category"),
        topic=purpose.get("topic"),
        campaign=pick(CAMPAIGNS, "campaign", line_number),
        subject=pick(SUBJECTS, "subject", line_number),
        priority=number("priority", line_number) % 10,
        timezone=elsewhere,
        fails=one_in(13, "fails", line_number),
    )


def real_lines() -> list[str] | None:
    """The real messages, if this machine has them."""
    return REAL_FILE.read_text().splitlines() if REAL_FILE.exists() else None


def synthetic_lines(seed: int = 1, count: int = 4000) -> list[str]:
    """Made-up messages of the same shape: they come in bursts, most of them to a few people and in the first months."""
    people = count // 50
    at, lines = 1_082_040_961, ["src dst time"]
    sender = recipient = 1
    for index in range(count):
        if one_in(3, seed, "new talk", index):
            sender = 1 + number(seed, "sender", index) % people
            recipient = 1 + heavy_tailed(people, seed, "recipient", index)
            at += heavy_tailed(16_000 if index < count * 4 // 5 else 130_000, seed, "pause", index)
        at += number(seed, "haste", index) % 20
        lines.append(f"{sender} {recipient} {at}")
    return lines


def heavy_tailed(end: int, *key: object) -> int:
    """A number below the end, most often far below."""
    return number("within", *key) % (1 + number("end", *key) % end)
