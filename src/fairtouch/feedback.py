"""What the customer did, or what befell a touch: which events there are, and which of them suppress an address."""

import os
from typing import Final, get_args

from fairtouch.bounds import TEXT_LENGTH_MAX
from fairtouch.errors import TouchError
from fairtouch.facts import Entry, Stage, SuppressionCause
from fairtouch.policy.model import EventName
from fairtouch.touch import Kind, check_text

EVENTS: Final[tuple[str, ...]] = get_args(EventName)

_SUPPRESSING: Final[dict[str, SuppressionCause]] = {"hard_bounce": "hard_bounce", "complaint": "complaint"}


def check_event(event: str) -> None:
    """Raises TouchError unless the event is one of the closed list."""
    if event not in EVENTS:
        raise TouchError(f"{event[:40]!r} is no event; events are {', '.join(EVENTS)} (nothing was recorded)")


def suppression_for(event: str) -> SuppressionCause:
    """Why an address is suppressed after an event. Raises TouchError when the event does not suppress it."""
    if event not in _SUPPRESSING:
        raise TouchError(
            f"{event!r} suppresses no address, and there is no way from an address to its customer; "
            "pass customer= to keep it in her ledger (nothing was recorded)"
        )
    return _SUPPRESSING[event]


def event_entry(event: str, channel: str, subject: str | None, event_id: str | None, at: int) -> Entry:
    """The event as a ledger holds it; `at` 0 is the store's now."""
    if subject is not None:
        check_text("subject", subject, TEXT_LENGTH_MAX)
    if event_id is not None:
        check_text("id", event_id, TEXT_LENGTH_MAX)
    kind = Kind(channel, event=event)
    return Entry(at, kind, subject, event_id or os.urandom(16).hex(), event.encode(), Stage.CONFIRMED, 0, None)
