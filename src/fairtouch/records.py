"""A decision as plain data: what is handed on, kept, and written as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from functools import cache
from typing import Any, Self

from pydantic import TypeAdapter

from fairtouch.checks import Check
from fairtouch.consent import ConsentStatus
from fairtouch.plan import Shape
from fairtouch.reasons import Reason


@unique
class Outcome(StrEnum):
    """What a decision comes to."""

    ALLOWED = "allowed"  # the touch is welcome now
    DEFERRED = "deferred"  # not now; `next_allowed_at` says when
    REFUSED = "refused"  # time alone does not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A slot that was taken before sending. Confirm it when the touch was sent, release it when it certainly was not.

    Send before `send_before`: afterwards the reservation is in doubt, and the open hours or the consent may have
    ended. Everything else is for the governor; it can travel as JSON to the process that settles it, and names
    neither customer nor address.
    """

    id: str = field(repr=False)
    token: str = field(repr=False)
    at: datetime
    send_before: datetime
    customer: str = field(repr=False)
    shape: Shape = field(repr=False)
    subject: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """As JSON, for another process."""
        return _reservations().dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """From JSON that `to_json` made. Raises pydantic.ValidationError."""
        reservation = _reservations().validate_json(text)
        assert isinstance(reservation, cls)  # noqa: S101 - the adapter's own type
        return reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a decision rests on: the consent that decided, the zones and where they came from, the versions of the
    rules.

    `zone_source`: "touch", "customer", "policy" (candidates, because the customer's own zone is unknown) or
    "unknown".
    """

    consent: ConsentStatus
    zones: tuple[str, ...]
    zone_source: str
    policy_name: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision as plain data: what JSON holds. The touch is not part of it."""

    outcome: Outcome
    at: datetime
    policy_revision: str
    unverified: bool
    next_allowed_at: datetime | None
    reservation: Reservation | None
    reasons: tuple[Reason, ...]
    checks: tuple[Check, ...]
    basis: Basis | None


@cache
def decision_records() -> TypeAdapter[Any]:
    """Reads and writes decisions as JSON."""
    return TypeAdapter(DecisionRecord)


@cache
def _reservations() -> TypeAdapter[Any]:
    return TypeAdapter(Reservation)
