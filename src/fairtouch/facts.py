"""What is asked of a store, and what it answers: the vocabulary between plan, store and decision.

Rule 1: immutable data only, as tuples, because every decision makes several. Rule 2: customers and addresses are
digests here; nothing in a store can be read back into one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum, unique
from typing import Literal, NamedTuple

from fairtouch.consent import Said, Scope
from fairtouch.instants import from_ms
from fairtouch.plan import Plan
from fairtouch.touch import Kind

SuppressionCause = Literal["hard_bounce", "complaint", "unsubscribe", "manual"]


@unique
class Stage(IntEnum):
    """How far a touch in the ledger has come."""

    RESERVED = 0
    CONFIRMED = 1


class Entry(NamedTuple):
    """One fact of a customer's ledger: a touch, or an event (`kind.event`). Instants in milliseconds.

    `token` tells one caller of an id from another; `lease_end` is when an unsettled reservation falls in doubt;
    `address` is a digest.
    """

    at: int
    kind: Kind
    subject: str | None
    id: str
    token: bytes
    stage: Stage
    lease_end: int
    address: bytes | None

    def as_sent(self, at: int) -> "Entry":
        """The same touch as one that happened at an instant."""
        return self._replace(at=at, stage=Stage.CONFIRMED, lease_end=0)

    def same_content(self, other: "Entry") -> bool:
        """Whether two touches under one id are the same touch."""
        return self.kind == other.kind and self.subject == other.subject and self.address == other.address


class Ask(NamedTuple):
    """One question: may this touch of this customer happen under this plan, and, if `take`, reserve it in the same
    step.

    `entry` is the touch as the ledger would hold it, with the lease's length in place of its end and without an
    instant. `now`: the caller's clock, instead of the store's. `seen`: the consents that a decision has already
    judged to permit the touch; the store then asks whether they are still the same, instead of `plan.open` and
    `plan.permits`.
    """

    plan: Plan
    customer: bytes
    entry: Entry
    take: bool
    now: int | None = None
    seen: Mapping[Scope, Said] | None = None


@unique
class Holder(StrEnum):
    """What stands under the touch's id."""

    NONE = "none"
    OURS = "ours"
    IN_FLIGHT = "in_flight"
    IN_DOUBT = "in_doubt"
    SENT = "sent"
    OTHER_CONTENT = "other_content"


class Facts(NamedTuple):
    """What the store found, at its own `now`, in one atomic step.

    `counts`: per condition of the plan, without entries under the asking touch's own id. `touches`: what fills the
    conditions that have no room, newest first, by index. `said`: what was said at the plan's scopes, others may stand
    beside them. `entry`: the reservation when one was taken, or what holds the id.
    """

    now: int
    taken: bool
    counts: Sequence[int]
    touches: Mapping[int, tuple[Entry, ...]]
    said: Mapping[Scope, Said]
    suppressed: SuppressionCause | None
    holder: Holder
    entry: Entry | None


class Stale(NamedTuple):
    """The plan was made for another profile or another now; nothing was decided. Here is the truth to plan with."""

    now: int
    profile: str


class Total(NamedTuple):
    """What pruned touches collapse into."""

    kind: Kind
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A touch (`event` is None) or an event, as people read it. Its id may contain whatever the app put there."""

    at: datetime
    channel: str
    id: str
    state: Literal["reserved", "confirmed"]
    event: str | None = None
    category: str | None = None
    topic: str | None = None
    campaign: str | None = None
    subject: str | None = None
    tags: tuple[str, ...] = ()
    lease_end: datetime | None = None


def readable(entry: Entry) -> LedgerEntry:
    """An entry of a ledger with times and names instead of numbers."""
    reserved = entry.stage is Stage.RESERVED
    return LedgerEntry(
        at=from_ms(entry.at),
        id=entry.id,
        state="reserved" if reserved else "confirmed",
        subject=entry.subject,
        lease_end=from_ms(entry.lease_end) if reserved else None,
        **entry.kind._asdict(),
    )
