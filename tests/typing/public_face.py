"""What a user's type checker sees: never run, only checked (make types)."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

from fairtouch import AsyncGovernor, Decision, Governor, Outcome, Policy, Reason, Reservation, Touch
from fairtouch.consent import ConsentEvent, ConsentStatus
from fairtouch.deferral import AsyncDeferrals, Deferral, Deferrals, Dropped, Report
from fairtouch.facts import LedgerEntry
from fairtouch.profile import Profile
from fairtouch.settling import Settled
from fairtouch.stores.sqlite_async import AsyncSqliteStore


def verbs(governor: Governor, at: datetime) -> None:
    """Every verb has a type."""
    decision = governor.reserve("ada", channel="email", topic="newsletter")
    assert_type(decision, Decision)
    assert_type(decision.outcome, Outcome)
    assert_type(decision.reasons, tuple[Reason, ...])
    assert_type(decision.next_allowed_at, datetime | None)
    assert_type(decision.reservation, Reservation | None)
    if decision.reservation is not None:
        assert_type(governor.confirm(decision.reservation), Settled)
    with governor.touch(Touch("ada", channel="email")) as inside:
        assert_type(inside, Decision)
    assert_type(governor.consent.opt_in("ada", channel="email", at=at), ConsentEvent)
    assert_type(governor.consent.status("ada", channel="email"), ConsentStatus)
    assert_type(governor.customers.set("ada", timezone="Europe/Paris"), Profile)
    assert_type(governor.history("ada"), list[LedgerEntry])
    assert_type(governor.feedback("reply", customer="ada", channel="email"), bool)
    assert_type(list(governor.check_many([Touch("ada", channel="sms")])), list[Decision])


def guards(governor: Governor) -> None:
    """A guarded function keeps its parameters; one that may be skipped may return a decision."""

    def to_touch(customer: str, issue: int) -> Touch:
        return Touch(customer, channel="email", id=f"news-{issue}")

    @governor.guard(to_touch)
    def send(customer: str, issue: int) -> bool:
        return bool(customer and issue)

    @governor.guard(to_touch, on_refused="skip")
    def send_or_skip(customer: str, issue: int) -> bool:
        return bool(customer and issue)

    @governor.guard(to_touch)
    async def send_later(customer: str, issue: int) -> bool:
        return bool(customer and issue)

    assert_type(send("ada", issue=47), bool)
    assert_type(send_or_skip("ada", issue=47), Any)

    async def main() -> bool:
        return await send_later("ada", 47)

    assert main


async def verbs_awaited(governor: AsyncGovernor, at: datetime) -> None:
    """Every verb of the asynchronous governor has the same type, awaited."""
    decision = await governor.reserve("ada", channel="email", topic="newsletter")
    assert_type(decision, Decision)
    if decision.reservation is not None:
        assert_type(await governor.confirm(decision.reservation), Settled)
    async with governor.touch(Touch("ada", channel="email")) as inside:
        assert_type(inside, Decision)
    assert_type(await governor.consent.opt_in("ada", channel="email", at=at), ConsentEvent)
    assert_type(await governor.consent.status("ada", channel="email"), ConsentStatus)
    assert_type(await governor.customers.set("ada", timezone="Europe/Paris"), Profile)
    assert_type(await governor.suppressions.contains("ada@example.org", "email"), bool)
    assert_type(await governor.history("ada"), list[LedgerEntry])
    assert_type(await governor.feedback("reply", customer="ada", channel="email"), bool)

    async def stream() -> AsyncIterator[Touch]:
        yield Touch("ada", channel="sms")

    assert_type([each async for each in governor.check_many([Touch("ada", channel="sms")])], list[Decision])
    async with aclosing(governor.reserve_many(stream())) as decisions:
        assert_type([each async for each in decisions], list[Decision])
    async with AsyncGovernor(governor.policy, AsyncSqliteStore("touches.db")) as another:
        assert_type(another, AsyncGovernor)


async def guards_awaited(governor: AsyncGovernor) -> None:
    """A guarded coroutine function keeps its parameters and its result."""

    def to_touch(customer: str, issue: int) -> Touch:
        return Touch(customer, channel="email", id=f"news-{issue}")

    @governor.guard(to_touch)
    async def send(customer: str, issue: int) -> bool:
        return bool(customer and issue)

    @governor.guard(to_touch, on_refused="skip")
    async def send_or_skip(customer: str, issue: int) -> bool:
        return bool(customer and issue)

    assert_type(await send("ada", issue=47), bool)
    assert_type(await send_or_skip("ada", issue=47), Any)


def deferred(governor: Governor) -> None:
    """A queue of touches that are sent later."""

    def send(touch: Touch, payload: Any) -> None: ...

    queue = Deferrals(governor, name="shop", spread_seconds=60)
    assert_type(queue.defer("ada", {"cart": 7}, channel="email"), Deferral)
    told: list[Dropped] = []
    report = queue.run_due(send, on_dropped=told.append)
    assert_type(report, Report)
    assert_type(report.dropped, tuple[Dropped, ...])
    assert_type(queue.cancel("ada"), int)


async def deferred_awaited(governor: AsyncGovernor) -> None:
    """The same, awaited."""

    async def send(touch: Touch, payload: Any) -> None: ...

    queue = AsyncDeferrals(governor)
    assert_type(await queue.defer(Touch("ada", channel="email"), None), Deferral)
    assert_type(await queue.run_due(send), Report)


def policies(path: Path) -> Policy:
    """From a file, a dict or keywords."""
    assert_type(Policy.load(path), Policy)
    assert_type(Policy.model_validate({"name": "shop"}), Policy)
    return Policy(name="shop", essential=("transactional",))
