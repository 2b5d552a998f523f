"""The closed list of why-nots, a sentence each.

Rule 1: every reason for refusal that fairtouch can give is a member of `Code`; there is no "other". Rule 2:
whether waiting can be enough is for `waiting` to say, from the figures, and not for the code.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Code(StrEnum):
    """Why a touch is not welcome."""

    OPTED_OUT = "opted_out"
    CONSENT_MISSING = "consent_missing"
    CONSENT_PENDING = "consent_pending"
    CONSENT_EXPIRED = "consent_expired"
    SUPPRESSED = "suppressed"
    ADDRESS_MISSING = "address_missing"
    QUIET_HOURS = "quiet_hours"
    TIMEZONE_UNKNOWN = "timezone_unknown"
    CAP_REACHED = "cap_reached"
    COOLDOWN = "cooldown"
    IN_FLIGHT = "in_flight"
    IN_DOUBT = "in_doubt"
    DUPLICATE = "duplicate"
    HORIZON = "horizon"


SENTENCES: Final[dict[Code, str]] = {
    Code.OPTED_OUT: "the customer opted out of this",
    Code.CONSENT_MISSING: "the customer has not opted in to this",
    Code.CONSENT_PENDING: "the customer was asked for consent and has not confirmed it yet",
    Code.CONSENT_EXPIRED: "the customer's consent has expired",
    Code.SUPPRESSED: "the address must not be contacted on this channel",
    Code.ADDRESS_MISSING: "the policy requires an address, to look for a suppression, and the touch has none",
    Code.QUIET_HOURS: "it is outside the open hours",
    Code.TIMEZONE_UNKNOWN: "the rule needs local time, and no time zone is known for the customer",
    Code.CAP_REACHED: "the cap is reached",
    Code.COOLDOWN: "the customer is left alone for a while after what happened",
    Code.IN_FLIGHT: "another caller holds a reservation under the same touch id",
    Code.IN_DOUBT: "an earlier reservation under the same touch id was never settled, so it may have been sent",
    Code.DUPLICATE: "a touch with the same id was already sent",
    Code.HORIZON: "the touch would not be allowed within the next 400 days",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One enforced rule that says no: the code, the rule's name in the policy, and a sentence with the figures."""

    code: Code
    rule: str
    message: str
