"""What became of each recipient of a message, and how an app hears of those who were left out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from django.dispatch import Signal

from fairtouch.decision import Decision
from fairtouch.records import Outcome
from fairtouch.touch import Touch


@unique
class Fate(StrEnum):
    """What became of one recipient."""

    SENT = "sent"  # the message went to them; the slot is used
    DEFERRED = "deferred"  # not now: `decision.next_allowed_at`
    REFUSED = "refused"  # waiting alone does not help: `decision.reasons`
    TURNED_AWAY = "turned_away"  # by the mail server or service; the slot is free again
    UNSENT = "unsent"  # the send failed, and certainly nothing went out; the slot is free again
    IN_DOUBT = "in_doubt"  # it may have gone out; the slot is kept


@dataclass(frozen=True, slots=True, repr=False)
class Recipient:
    """One recipient, by the address as it was written."""

    address: str
    touch: Touch
    decision: Decision
    fate: Fate

    def __repr__(self) -> str:
        return f"<Recipient {self.fate}>"


class Status(tuple[Recipient, ...]):
    """What became of a message: its recipients, each once. The backend sets it as `message.fairtouch_status`."""

    __slots__ = ()

    def of(self, fate: Fate | str) -> list[Recipient]:
        """The recipients who met this fate."""
        return [one for one in self if one.fate == fate]

    def __repr__(self) -> str:
        counts = Counter(str(one.fate) for one in self)
        return f"<Status {', '.join(f'{count} {fate}' for fate, count in sorted(counts.items()))}>"


def left_out_as(decision: Decision) -> Fate:
    """The fate that fairtouch's own no is."""
    return Fate.DEFERRED if decision.outcome is Outcome.DEFERRED else Fate.REFUSED


def why(recipients: Iterable[Recipient]) -> str:
    """The rules that left recipients out, each with how many, for a log."""
    rules = Counter(reason.rule for one in recipients for reason in one.decision.reasons)
    return ", ".join(f"{rule}: {count}" for rule, count in sorted(rules.items()))


deferred: Final = Signal()
"""Before a message is sent, about those who may not have it now: `message` (the caller's own; do not change it) and
`recipients`, each with `touch` and `decision.next_allowed_at`. `only_to(message, addresses)` is what to keep for later.
What a receiver raises stops the message: nothing was sent, and the slots are free again.
"""

refused: Final = Signal()
"""The same about those for whom waiting alone does not help."""
