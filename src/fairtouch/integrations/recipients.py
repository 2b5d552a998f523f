"""The recipients of one message: each is judged on its own, and each slot follows what became of the message.

Rule 1: slots are taken for all who are allowed, or for nobody. Rule 2: once the message may be out, nothing is raised
that would make the caller send it again.
"""

import logging
import smtplib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fairtouch.decision import Decision
from fairtouch.governor import Governor
from fairtouch.in_doubt import is_in_doubt
from fairtouch.records import Outcome
from fairtouch.touch import Touch

_log: Final = logging.getLogger("fairtouch")


@dataclass(frozen=True, slots=True, repr=False)
class Judged:
    """A recipient by the address as it was written, the touch that the message is to it, and whether it is welcome."""

    address: str
    touch: Touch
    decision: Decision


def judge(governor: Governor, addresses: Iterable[str], touches: Sequence[Touch]) -> list[Judged]:
    """Reserves for every recipient, or for nobody when it raises."""
    named = list(zip(addresses, touches, strict=True))
    judged: list[Judged] = []
    try:
        for decision in governor.reserve_many(touches):
            judged.append(Judged(*named[len(judged)], decision))
    except BaseException:
        settle(governor, [one for one in judged if one.decision], sent_to=())
        raise
    return judged


def settle(
    governor: Governor, allowed: Iterable[Judged], *, sent_to: Collection[str], kept: Collection[str] = ()
) -> None:
    """Confirms the slots of those the message was sent to, and releases the others; `kept`: those of whom nobody knows
    stay taken.

    One that cannot be settled does not keep the others from it: it is logged, and nothing is raised.
    """
    failures: list[str] = []
    for one in allowed:
        if one.address in kept:
            continue
        try:
            _settle_one(governor, one, is_sent=one.address in sent_to)
        except Exception as error:  # noqa: BLE001 - the others wait, and raising would send again
            failures.append(type(error).__name__)
    tell_of(failures)


def tell_of(failures: Collection[str]) -> None:
    """Logs what could not be settled."""
    if failures:
        text = "%d touches could not be settled (%s); their slots stay taken, in doubt from the end of their lease"
        _log.error(text, len(failures), ", ".join(sorted(set(failures))))


def _settle_one(governor: Governor, one: Judged, *, is_sent: bool) -> None:
    reservation = one.decision.reservation
    if reservation is None:  # let out unverified, when the store did not answer; a send is a fact all the same
        if is_sent:
            governor.record(one.touch, one.decision.at)
    elif is_sent:
        governor.confirm(reservation)
    else:
        governor.release(reservation)


def reply(decision: Decision | None) -> tuple[int, str]:
    """A refusal as a mail server would say it, by RFC 5321 section 4.2.3 and RFC 3463; None: no address to judge."""
    if decision is None:
        return 553, "5.1.3 not an address"
    why = ", ".join(f"{reason.code} ({reason.rule})" for reason in decision.reasons)
    if decision.outcome is Outcome.DEFERRED and decision.next_allowed_at is not None:
        return 450, f"4.7.1 deferred until {decision.next_allowed_at.isoformat()}: {why}"
    return 550, f"5.7.1 refused: {why}"


def may_have_gone_out(error: BaseException, handled: BaseException | None) -> bool:
    """Whether a send by smtplib that raised may have reached somebody.

    Of the replies that smtplib did not expect, only 4xx and 5xx say: not sent (RFC 5321 section 4.2.1).
    """
    if isinstance(error, smtplib.SMTPDataError) and not 400 <= error.smtp_code < 600:
        return True
    return type(error) is smtplib.SMTPResponseException or is_in_doubt(error, handled)  # the former: unreadable
