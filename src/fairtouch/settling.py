"""What became of a reservation: the result of `confirm` and `release`."""

from dataclasses import dataclass
from typing import Literal

from fairtouch.checks import lifts
from fairtouch.consent import MASKS, withdrawn
from fairtouch.decision import Decision
from fairtouch.facts import Ask, Stage
from fairtouch.reasons import Code
from fairtouch.stores.port import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How a reservation stands now.

    `late`: confirmed after its lease had ended, or after it was released: a send is a fact, so it is recorded all the
    same. `opted_out`: the customer withdrew between reservation and confirmation. `caps_exceeded`: the enforced caps
    that a late touch overfills; None when that could not be found out any more. `changed` is False when the call
    changed nothing: it was repeated, or a confirmed touch was to be released.
    """

    state: Literal["confirmed", "released"]
    changed: bool
    late: bool = False
    opted_out: bool = False
    caps_exceeded: tuple[str, ...] | None = ()


def is_late(ask: Ask, settlement: Settlement) -> bool:
    """Whether a confirmation came after the slot was given up, or may have been given to another."""
    if settlement.found is Stage.CONFIRMED:
        return False
    return settlement.found is None or settlement.now >= settlement.lease_end or settlement.now >= ask.entry.lease_end


def confirmed(ask: Ask, settlement: Settlement, again: Decision | None) -> Settled:
    """The result of a confirmation; `again`: a late touch looked at once more, None when the store could not."""
    late = is_late(ask, settlement)
    return Settled(
        state="confirmed",
        changed=settlement.found is not Stage.CONFIRMED,
        late=late,
        opted_out=withdrawn(settlement.said[: len(MASKS)], lifts(ask, settlement.now)),
        caps_exceeded=_overfilled(again) if late else (),
    )


def _overfilled(again: Decision | None) -> tuple[str, ...] | None:
    if again is None:
        return None
    return tuple(reason.rule for reason in again.reasons if reason.code is Code.CAP_REACHED)


def released(settlement: Settlement) -> Settled:
    """The result of a release."""
    return Settled(
        state="confirmed" if settlement.found is Stage.CONFIRMED else "released",
        changed=settlement.found is Stage.RESERVED,
    )
