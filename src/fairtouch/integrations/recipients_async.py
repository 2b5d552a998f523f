"""The recipients of one message in an event loop: `recipients`, awaited.

Rule: this file is `recipients.py` line for line, but for `await` (`tests/test_mirror.py`); what both share is imported
from there. Who is cancelled while it settles calls `settle` by `finished`: it may be repeated.
"""

from collections.abc import Collection, Iterable, Sequence

from fairtouch.finishing import finished
from fairtouch.governor_async import AsyncGovernor
from fairtouch.integrations.recipients import Judged, tell_of
from fairtouch.touch import Touch


async def judge(governor: AsyncGovernor, addresses: Iterable[str], touches: Sequence[Touch]) -> list[Judged]:
    """Reserves for every recipient, or for nobody when it raises."""
    named = list(zip(addresses, touches, strict=True))
    judged: list[Judged] = []
    try:
        async for decision in governor.reserve_many(touches):
            judged.append(Judged(*named[len(judged)], decision))
    except BaseException:
        await finished(settle, governor, [one for one in judged if one.decision], sent_to=())
        raise
    return judged


async def settle(
    governor: AsyncGovernor, allowed: Iterable[Judged], *, sent_to: Collection[str], kept: Collection[str] = ()
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
            await _settle_one(governor, one, is_sent=one.address in sent_to)
        except Exception as error:  # noqa: BLE001 - the others wait, and raising would send again
            failures.append(type(error).__name__)
    tell_of(failures)


async def _settle_one(governor: AsyncGovernor, one: Judged, *, is_sent: bool) -> None:
    reservation = one.decision.reservation
    if reservation is None:  # let out unverified, when the store did not answer; a send is a fact all the same
        if is_sent:
            await governor.record(one.touch, one.decision.at)
    elif is_sent:
        await governor.confirm(reservation)
    else:
        await governor.release(reservation)
