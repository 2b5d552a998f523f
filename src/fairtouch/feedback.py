"""What the customer did, or what befell a touch: which events there are, and which of them suppress an address."""

import os
from datetime import datetime
from typing import Final, get_args

from fairtouch.addresses import normalize
from fairtouch.bounds import TEXT_LENGTH_MAX
from fairtouch.errors import TouchError
from fairtouch.facts import Entry, Stage, SuppressionCause
from fairtouch.instants import to_ms
from fairtouch.policy import Policy
from fairtouch.policy.model import EventName
from fairtouch.touch import Kind, check_text

EVENTS: Final[tuple[str, ...]] = get_args(EventName)

_SUPPRESSING: Final[dict[str, SuppressionCause]] = {"hard_bounce": "hard_bounce", "complaint": "complaint"}


def told(
    policy: Policy,
    event: str,
    customer: str | None,
    address: str | None,
    *,
    channel: str,
    subject: str | None,
    event_id: str | None,
    at: datetime | None,
) -> tuple[Entry, SuppressionCause | None]:
    """The event as a ledger holds it, and why the address is suppressed, if there is one. Raises TouchError for what
    cannot be recorded.
    """
    if event not in EVENTS:
        raise TouchError(f"{event[:40]!r} is no event; events are {', '.join(EVENTS)} (nothing was recorded)")
    if address is not None:
        normalize(address, channel)
    policy.check_scope(None, channel, None)
    entry = _entry(event, channel, subject, event_id, 0 if at is None else to_ms(at))
    if customer is None and address is None:
        raise TouchError("feedback needs customer= or address=; nothing was recorded")
    if customer is not None:
        check_text("customer", customer, TEXT_LENGTH_MAX)
    return entry, None if address is None else _suppression_for(event)


def _suppression_for(event: str) -> SuppressionCause:
    if event not in _SUPPRESSING:
        raise TouchError(
            f"{event!r} suppresses no address, and there is no way from an address to its customer; "
            "pass customer= to keep it in her ledger (nothing was recorded)"
        )
    return _SUPPRESSING[event]


def _entry(event: str, channel: str, subject: str | None, event_id: str | None, at: int) -> Entry:
    if subject is not None:
        check_text("subject", subject, TEXT_LENGTH_MAX)
    if event_id is not None:
        check_text("id", event_id, TEXT_LENGTH_MAX)
    kind = Kind(channel, event=event)
    return Entry(at, kind, subject, event_id or os.urandom(16).hex(), event.encode(), Stage.CONFIRMED, 0, None)
