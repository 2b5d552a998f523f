"""Touch ids, leases, and what confirm, release, `touch` and `guard` promise around a send."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import smtplib
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fairtouch import Decision, IdConflict, Refused, Touch

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAILY = {"caps": {"daily": {"limit": "1 per 24 hours", "select": {"channels": ["email"]}}}}
MAIL = {"channel": "email", "id": "news-1"}
HOUR = timedelta(hours=1)


def codes(decision: Any) -> list[str]:
    """The codes of the reasons."""
    return [reason.code for reason in decision.reasons]


def used(governor: Any, rule: str = "daily", **fields: Any) -> int:
    """How much of a cap is used, as a check of another touch reports it."""
    decision = governor.check("ada", **({"channel": "email"} | fields))
    return next(check.used for check in decision.checks if check.rule == rule)


def test_a_check_takes_nothing(govern):
    """Asking any number of times takes no slot and remembers no id."""
    governor, _ = govern(DAILY, start=NOON)
    for _ in range(3):
        governor.check("ada", **MAIL)
    assert (0, True) == (used(governor), governor.reserve("ada", **MAIL).allowed)


def test_a_reservation_counts_from_its_moment(govern):
    """A reserved touch fills the cap before it is confirmed."""
    governor, _ = govern(DAILY, start=NOON)
    first = governor.reserve("ada", **MAIL)
    second = governor.reserve("ada", channel="email", id="news-2")
    assert (True, ["cap_reached"], None) == (first.allowed, codes(second), second.reservation)


def test_confirm_is_idempotent(govern):
    """Confirming twice counts once."""
    governor, _ = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    results = [governor.confirm(reservation) for _ in range(2)]
    assert (1, [False, False]) == (used(governor), [bool(result.late) for result in results])


def test_release_is_idempotent(govern):
    """Releasing twice gives back one slot, never two."""
    governor, _ = govern({"caps": {"daily": {"limit": "2 per 24 hours"}}}, start=NOON)
    governor.confirm(governor.reserve("ada", channel="email", id="other").reservation)
    reservation = governor.reserve("ada", **MAIL).reservation
    governor.release(reservation)
    governor.release(reservation)
    assert 1 == used(governor)


def test_a_released_slot_is_free_at_once(govern):
    """A send that certainly failed gives its slot back to any other touch."""
    governor, _ = govern(DAILY, start=NOON)
    governor.release(governor.reserve("ada", **MAIL).reservation)
    assert (0, True) == (used(governor), governor.reserve("ada", channel="email", id="news-2").allowed)


def test_a_released_id_is_free_again(govern):
    """The id of a released touch can be reserved and confirmed anew."""
    governor, _ = govern(DAILY, start=NOON)
    governor.release(governor.reserve("ada", **MAIL).reservation)
    again = governor.reserve("ada", **MAIL)
    governor.confirm(again.reservation)
    assert (True, True, 1) == (again.allowed, "duplicate" in codes(governor.check("ada", **MAIL)), used(governor))


def test_a_released_id_is_free_for_other_content(govern):
    """Nothing of a released touch binds the next one with its id."""
    governor, _ = govern(DAILY, start=NOON)
    governor.release(governor.reserve("ada", **MAIL).reservation)
    assert governor.reserve("ada", channel="sms", id="news-1")


def test_an_old_release_does_not_free_the_new_reservation(govern):
    """A release told late, after its id was taken anew, does not give back the new slot."""
    governor, _ = govern(DAILY, start=NOON)
    old = governor.reserve("ada", **MAIL).reservation
    governor.release(old)
    governor.reserve("ada", **MAIL)
    governor.release(old)
    assert 1 == used(governor)


def test_release_after_confirm_changes_nothing(govern):
    """A confirmed send stays a fact: the slot stays used and the id stays a duplicate."""
    governor, _ = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    governor.confirm(reservation)
    governor.release(reservation)
    assert (1, True) == (used(governor), "duplicate" in codes(governor.reserve("ada", **MAIL)))


def test_confirm_after_release_records_the_send(govern):
    """A send confirmed after its release is recorded, says `late`, and fits where the slot is still free."""
    governor, _ = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    governor.release(reservation)
    result = governor.confirm(reservation)
    assert (True, False, 1) == (bool(result.late), bool(result.caps_exceeded), used(governor))


def test_confirm_after_release_over_the_cap_says_so(govern):
    """Facts may exceed a cap: the late confirmation is recorded beside the touch that took the slot."""
    governor, _ = govern(DAILY, start=NOON)
    first = governor.reserve("ada", **MAIL).reservation
    governor.release(first)
    governor.confirm(governor.reserve("ada", channel="email", id="news-2").reservation)
    result = governor.confirm(first)
    assert (True, True, 2) == (bool(result.late), bool(result.caps_exceeded), used(governor))


def test_confirm_after_expiry_is_late_and_counts_once(govern):
    """A confirmation after the lease is recorded as late; its slot was counted all along."""
    governor, clock = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    clock.advance(timedelta(seconds=901))
    result = governor.confirm(reservation)
    assert (True, False, 1) == (bool(result.late), bool(result.caps_exceeded), used(governor))


def test_confirm_in_time_is_clean(govern):
    """A confirmation within the lease is neither late, nor over a cap, nor against an opt-out."""
    governor, clock = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    clock.advance(timedelta(seconds=899))
    result = governor.confirm(reservation)
    assert [False] * 3 == [bool(flag) for flag in (result.late, result.caps_exceeded, result.opted_out)]


def test_the_lease_is_as_long_as_was_asked(govern):
    """`send_before` is the moment of reservation plus the lease."""
    governor, _ = govern(DAILY, start=NOON, lease_seconds=120)
    assert NOON + timedelta(seconds=120) == governor.reserve("ada", **MAIL).reservation.send_before


def test_an_unsettled_reservation_stays(govern):
    """A reservation that nobody settles keeps its slot after its lease, for the whole period of the cap."""
    governor, clock = govern(DAILY, start=NOON)
    governor.reserve("ada", **MAIL)
    clock.advance(timedelta(hours=23))
    decision = governor.reserve("ada", channel="email", id="news-2")
    assert (["cap_reached"], NOON + timedelta(hours=24)) == (codes(decision), decision.next_allowed_at)


def test_the_same_id_from_two_callers_is_in_flight(govern_file):
    """Of two callers with one id, one may send and the other is deferred as in flight."""
    one, _ = govern_file({}, start=NOON)
    two, _ = govern_file({}, start=NOON)
    first, second = one.reserve("ada", **MAIL), two.reserve("ada", **MAIL)
    assert (True, "deferred", ["in_flight"]) == (first.allowed, second.outcome, codes(second))


def test_the_same_id_again_is_in_flight(govern):
    """A second reservation with the same id is another caller's, also within one process; its rule is `id`."""
    governor, _ = govern({}, start=NOON)
    governor.reserve("ada", **MAIL)
    second = governor.reserve("ada", **MAIL)
    assert [("in_flight", "id")] == [(reason.code, reason.rule) for reason in second.reasons]


def test_in_flight_under_hold_is_deferred_until_the_lease_ends(govern):
    """Under `hold` too, an id in flight is deferred to the end of its lease: by then it is settled, or in doubt."""
    governor, clock = govern({}, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    decision = governor.check("ada", **MAIL)
    clock.set(reservation.send_before)
    then = governor.check("ada", **MAIL)
    assert ("deferred", reservation.send_before, ["in_doubt"]) == (
        decision.outcome,
        decision.next_allowed_at,
        codes(then),
    )


def test_in_flight_ends_with_the_lease(govern):
    """Under `resend`, the next instant of an id in flight is the end of the lease, to the millisecond."""
    governor, clock = govern({"in_doubt": "resend"}, start=NOON)
    reservation = governor.reserve("ada", **MAIL).reservation
    decision = governor.check("ada", **MAIL)
    clock.set(reservation.send_before - timedelta(milliseconds=1))
    just_before = codes(governor.check("ada", **MAIL))
    assert (reservation.send_before, ["in_flight"]) == (decision.next_allowed_at, just_before)


def test_hold_sends_at_most_once(govern):
    """By default, an id whose outcome nobody knows is refused as in doubt, and its slot stays used."""
    governor, clock = govern(DAILY, start=NOON)
    governor.reserve("ada", **MAIL)
    clock.advance(timedelta(days=3))
    decision = governor.reserve("ada", **MAIL)
    assert ("refused", ["in_doubt"], None) == (decision.outcome, codes(decision), decision.next_allowed_at)


def test_resend_takes_the_place_of_the_old_one(govern):
    """Under `resend`, an id in doubt is judged anew in the old one's place: its own slot does not stop it."""
    governor, clock = govern(DAILY | {"in_doubt": "resend"}, start=NOON)
    governor.reserve("ada", **MAIL)
    clock.advance(HOUR)
    again = governor.reserve("ada", **MAIL)
    governor.confirm(again.reservation)
    assert (True, 1) == (again.allowed, used(governor))


def test_resend_does_not_step_over_another_touch(govern):
    """Under `resend`, an id in doubt is judged by all rules as they stand now."""
    governor, clock = govern(DAILY | {"in_doubt": "resend"}, start=NOON)
    governor.reserve("ada", **MAIL)
    clock.advance(HOUR)
    governor.record("ada", channel="email", id="elsewhere", at=clock())
    assert ["cap_reached"] == codes(governor.reserve("ada", **MAIL))


def test_confirmed_is_a_duplicate(govern):
    """A confirmed id is refused as a duplicate, for good."""
    governor, clock = govern({}, start=NOON)
    governor.confirm(governor.reserve("ada", **MAIL).reservation)
    clock.advance(timedelta(days=100))
    decision = governor.reserve("ada", **MAIL)
    assert ("refused", ["duplicate"], None) == (decision.outcome, codes(decision), decision.next_allowed_at)


def test_a_recorded_id_is_a_duplicate(govern):
    """A touch that was recorded cannot be sent again under its id, nor recorded twice."""
    governor, _ = govern(DAILY, start=NOON)
    for _ in range(2):
        governor.record("ada", **MAIL, at=NOON)
    assert (1, True) == (used(governor), "duplicate" in codes(governor.reserve("ada", **MAIL)))


def test_ids_survive_the_process(govern_file):
    """An id is remembered by the file, not by the process."""
    first, _ = govern_file({}, start=NOON)
    first.confirm(first.reserve("ada", **MAIL).reservation)
    first.close()
    second, _ = govern_file({}, start=NOON + HOUR)
    assert ["duplicate"] == codes(second.reserve("ada", **MAIL))


def test_another_worker_can_settle(govern_file):
    """A reservation made by one governor can be confirmed by another."""
    queue, _ = govern_file(DAILY, start=NOON)
    worker, _ = govern_file(DAILY, start=NOON)
    worker.confirm(queue.reserve("ada", **MAIL).reservation)
    assert "duplicate" in codes(queue.check("ada", **MAIL))


def test_ids_are_per_customer(govern):
    """The same id for another customer is another touch."""
    governor, _ = govern({}, start=NOON)
    governor.confirm(governor.reserve("ada", **MAIL).reservation)
    assert governor.reserve("grace", **MAIL)


def test_ids_are_per_namespace(govern_file):
    """The same id in another namespace is another touch."""
    here, _ = govern_file({}, start=NOON, namespace="here")
    there, _ = govern_file({}, start=NOON, namespace="there")
    here.confirm(here.reserve("ada", **MAIL).reservation)
    assert there.reserve("ada", **MAIL)


def test_without_an_id_one_is_made(govern):
    """Touches without an id are different touches."""
    governor, _ = govern({}, start=NOON)
    decisions = [governor.reserve("ada", channel="email") for _ in range(3)]
    assert [True] * 3 == [decision.allowed for decision in decisions]


OTHER_CONTENT = [
    {"channel": "sms"},
    {"category": "service"},
    {"topic": "digest"},
    {"campaign": "spring"},
    {"subject": "debt-2"},
    {"tags": ["vip"]},
    {"address": "grace@example.org"},
]
CONTENT = {
    "channel": "email",
    "category": "marketing",
    "topic": "newsletter",
    "campaign": "winter",
    "subject": "debt-1",
    "tags": ["new"],
    "address": "ada@example.org",
    "id": "news-1",
}


@pytest.mark.parametrize("other", OTHER_CONTENT, ids=lambda other: next(iter(other)))
@pytest.mark.parametrize("settled", ["open", "confirmed"])
def test_an_id_with_other_content_is_a_conflict(other, settled, govern):
    """One id names one touch: other content under it is an error, while open and when confirmed."""
    governor, _ = govern(DAILY, start=NOON)
    reservation = governor.reserve("ada", **CONTENT).reservation
    if settled == "confirmed":
        governor.confirm(reservation)
    with pytest.raises(IdConflict):
        governor.reserve("ada", **(CONTENT | other))
    assert 1 == used(governor)


@pytest.mark.parametrize("same", [{"priority": 9}, {"country": "DE"}, {"timezone": "Asia/Tokyo"}, {"tags": ("new",)}])
def test_what_is_not_content_makes_no_conflict(same, govern):
    """Priority and place are not part of what an id names."""
    governor, _ = govern({}, start=NOON)
    governor.reserve("ada", **CONTENT)
    assert ["in_flight"] == codes(governor.reserve("ada", **(CONTENT | same)))


def test_tags_are_a_set(govern):
    """The order of tags is not content."""
    governor, _ = govern({}, start=NOON)
    governor.reserve("ada", channel="email", id="x", tags=["a", "b"])
    assert ["in_flight"] == codes(governor.reserve("ada", channel="email", id="x", tags=["b", "a"]))


def test_the_context_manager_confirms(govern):
    """A body that ends normally confirms the touch."""
    governor, _ = govern(DAILY, start=NOON)
    with governor.touch("ada", **MAIL) as decision:
        inside = decision.allowed
    assert (True, 1, True) == (inside, used(governor), "duplicate" in codes(governor.check("ada", **MAIL)))


def test_the_context_manager_raises_refused(govern):
    """A refused touch raises before the body, with the decision and without taking anything."""
    governor, _ = govern(DAILY, start=NOON)
    governor.record("ada", channel="email", id="before", at=NOON)
    ran = []
    with pytest.raises(Refused) as refused, governor.touch("ada", **MAIL):
        ran.append(True)
    assert (["cap_reached"], [], 1) == (codes(refused.value.decision), ran, used(governor))


def test_the_context_manager_takes_a_touch(govern):
    """Wherever fields are accepted, a Touch is."""
    governor, _ = govern(DAILY, start=NOON)
    with governor.touch(Touch("ada", channel="email", id="news-1")):
        pass
    assert 1 == used(governor)


RELEASING = [
    ValueError("a template is broken"),
    smtplib.SMTPRecipientsRefused({"ada@example.org": (550, b"no such user")}),
    smtplib.SMTPSenderRefused(550, b"no", "shop@example.org"),
    smtplib.SMTPDataError(554, b"no"),
    smtplib.SMTPAuthenticationError(535, b"no"),
    OSError("a file is missing"),
    KeyError("name"),
]
KEEPING = [
    TimeoutError("no answer"),
    ConnectionError("lost"),
    ConnectionResetError("reset"),
    ConnectionAbortedError("aborted"),
    BrokenPipeError("pipe"),
    smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
    ssl.SSLEOFError("EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError("closed"),
    asyncio.IncompleteReadError(b"", 10),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    ExceptionGroup("tasks", [TimeoutError("no answer")]),
]


def fail(governor: Any, error: BaseException) -> BaseException:
    """Let a send fail, and return what reaches the caller."""
    with pytest.raises(type(error)) as raised, governor.touch("ada", **MAIL):
        raise error
    return raised.value


@pytest.mark.parametrize("error", RELEASING, ids=lambda error: type(error).__name__)
def test_a_failed_send_gives_its_slot_back(error, govern):
    """An error that says that nothing went out reaches the caller unchanged and releases the slot and the id."""
    governor, _ = govern(DAILY, start=NOON)
    assert (error, 0, True) == (fail(governor, error), used(governor), governor.reserve("ada", **MAIL).allowed)


@pytest.mark.parametrize("error", KEEPING, ids=lambda error: type(error).__name__)
def test_a_send_that_may_have_gone_out_keeps_its_slot(error, govern):
    """Time-outs, lost connections and cancellation reach the caller unchanged and keep the slot and the id."""
    governor, _ = govern(DAILY, start=NOON)
    assert (error, 1) == (fail(governor, error), used(governor))
    assert ["in_flight"] == [code for code in codes(governor.reserve("ada", **MAIL)) if code != "cap_reached"]


def issue_touch(customer: str, issue: int = 1) -> Touch:
    """Say what touch a call makes."""
    return Touch(customer, channel="email", id=f"news-{issue}")


def test_guard_sends_and_returns(govern):
    """A guarded function gets its arguments, gives its result, keeps its name, and its touch is confirmed."""
    governor, _ = govern(DAILY, start=NOON)

    @governor.guard(issue_touch)
    def send_newsletter(customer: str, issue: int = 1) -> tuple[str, int]:
        return customer, issue

    assert (("ada", 7), "send_newsletter") == (send_newsletter("ada", issue=7), send_newsletter.__name__)
    assert "duplicate" in codes(governor.check("ada", channel="email", id="news-7"))


def guarded(governor: Any, sent: list[str], **options: Any) -> Any:
    """A guarded sender that notes whom it sent to."""

    @governor.guard(issue_touch, **options)
    def send(customer: str, issue: int = 1) -> str:
        sent.append(customer)
        return "sent"

    return send


def test_guard_raises_by_default(govern):
    """A refused call raises, and the function does not run."""
    governor, _ = govern(DAILY, start=NOON)
    sent: list[str] = []
    send = guarded(governor, sent)
    send("ada", 1)
    with pytest.raises(Refused):
        send("ada", 2)
    assert ["ada"] == sent


def test_guard_skips(govern):
    """With `skip`, a refused call returns the decision."""
    governor, _ = govern(DAILY, start=NOON)
    sent: list[str] = []
    send = guarded(governor, sent, on_refused="skip")
    results = [send("ada", 1), send("ada", 2)]
    assert ("sent", True, ["cap_reached"], ["ada"]) == (
        results[0],
        isinstance(results[1], Decision),
        codes(results[1]),
        sent,
    )


def test_guard_calls_back(govern):
    """With a callable, a refused call hands it the decision and returns what it returns."""
    governor, _ = govern(DAILY, start=NOON)
    sent: list[str] = []
    send = guarded(governor, sent, on_refused=lambda decision, *_, **__: codes(decision))
    assert ["sent", ["cap_reached"]] == [send("ada", 1), send("ada", 2)]


@pytest.mark.parametrize(("error", "expected"), [(ValueError("broken"), 0), (TimeoutError("no answer"), 1)])
def test_guard_gives_back_and_keeps(error, expected, govern):
    """A guarded function that fails gives its slot back, and one that times out keeps it."""
    governor, _ = govern(DAILY, start=NOON)

    @governor.guard(issue_touch)
    def send(customer: str, issue: int = 1) -> None:
        raise error

    with pytest.raises(type(error)):
        send("ada")
    assert expected == used(governor)


def test_guard_awaits_coroutines(govern):
    """A guarded coroutine function stays one, and its touch is confirmed when it has been awaited."""
    governor, _ = govern(DAILY, start=NOON)
    before = []

    @governor.guard(issue_touch)
    async def send(customer: str, issue: int = 1) -> str:
        await asyncio.sleep(0)
        before.append("duplicate" in codes(governor.check("ada", **MAIL)))
        return "sent"

    assert (True, "sent", [False]) == (inspect.iscoroutinefunction(send), asyncio.run(send("ada")), before)
    assert "duplicate" in codes(governor.check("ada", **MAIL))


def test_guard_keeps_the_slot_of_a_cancelled_coroutine(govern):
    """A coroutine that is cancelled in its send may have sent: its slot stays."""
    governor, _ = govern(DAILY, start=NOON)

    @governor.guard(issue_touch)
    async def send(customer: str) -> None:
        await asyncio.get_running_loop().create_future()

    async def cancel_it() -> None:
        async with asyncio.timeout(0.01):
            await send("ada")

    with pytest.raises(TimeoutError):
        asyncio.run(cancel_it())
    assert 1 == used(governor)


def test_batches_keep_their_order_and_judge_by_priority(govern):
    """Results come in input order; among one customer's touches the higher priority takes the slot."""
    governor, _ = govern(DAILY, start=NOON)
    touches = [
        Touch("ada", channel="email", priority=1, id="low"),
        Touch("grace", channel="email", id="other"),
        Touch("ada", channel="email", priority=9, id="high"),
    ]
    assert [False, True, True] == [decision.allowed for decision in governor.reserve_many(touches)]


def test_equal_priorities_go_by_order(govern):
    """Among equal priorities the earlier touch takes the slot."""
    governor, _ = govern(DAILY, start=NOON)
    touches = [Touch("ada", channel="email", id=f"news-{n}") for n in range(3)]
    assert [True, False, False] == [decision.allowed for decision in governor.reserve_many(iter(touches))]


def test_check_many_takes_nothing(govern):
    """A batch of checks changes nothing, however long."""
    governor, _ = govern(DAILY, start=NOON)
    count = sum(1 for _ in governor.check_many(Touch(f"customer-{n}", channel="email") for n in range(1200)))
    assert (1200, 0) == (count, used(governor))


def test_decisions_go_to_observers(govern):
    """Every decision is handed to the observers, the refused ones too."""
    governor, _ = govern(DAILY, start=NOON)
    seen: list[bool] = []
    governor.on_decision(lambda decision: seen.append(decision.allowed))
    for issue in (1, 2):
        governor.reserve("ada", channel="email", id=f"news-{issue}")
    assert [True, False] == seen
