"""The very instant at which a rule turns, to the millisecond, and what lies just outside a rule's reach."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
MAIL = {"channel": "email"}
EMAIL = {"channels": ["email"]}
FORBIDDEN = {"limit": "0 per 1 day", "select": EMAIL}
AGING = {"select": EMAIL, "require": "opt_in", "expires_after": "30 days"}


def codes(decision: Any) -> list[str]:
    """The codes of the reasons."""
    return [reason.code for reason in decision.reasons]


def test_an_opt_in_ends_at_the_very_instant_of_its_expiry(govern):
    """A millisecond before it still meets the requirement; at the instant it no longer does."""
    governor, clock = govern({"consent": {"aging": AGING}}, start=NOON)
    governor.consent.opt_in("ada", **MAIL)
    clock.set(NOON + 30 * DAY - MS)
    before = codes(governor.check("ada", **MAIL))
    clock.set(NOON + 30 * DAY)
    assert ([], ["consent_expired"]) == (before, codes(governor.check("ada", **MAIL)))


def test_an_opt_in_lifts_until_the_very_instant_of_its_expiry(govern):
    """At the instant at which it expires, the opt-out that it lifted holds again."""
    governor, clock = govern({"consent": {"aging": AGING}}, start=NOON)
    governor.consent.opt_out("ada", at=NOON - DAY)
    governor.consent.opt_in("ada", **MAIL)
    clock.set(NOON + 30 * DAY - MS)
    before = codes(governor.check("ada", **MAIL))
    clock.set(NOON + 30 * DAY)
    assert ([], True) == (before, "opted_out" in codes(governor.check("ada", **MAIL)))


@pytest.mark.parametrize(("early", "late"), [(MS, False), (timedelta(0), True)], ids=["just before", "at its end"])
def test_a_confirmation_is_late_from_the_end_of_the_lease_on(early, late, govern):
    """`send_before` itself is too late: the reservation is in doubt from that instant on."""
    governor, clock = govern({}, start=NOON)
    reservation = governor.reserve("ada", **MAIL, id="news-1").reservation
    clock.set(reservation.send_before - early)
    assert late == governor.confirm(reservation).late


def test_a_suppression_binds_one_channel(govern):
    """A number that must not be texted may still be called."""
    governor, _ = govern({}, start=NOON)
    governor.suppressions.add("+31205551234", channel="sms")
    decisions = [governor.check("ada", channel=channel, address="+31205551234") for channel in ("sms", "voice")]
    assert [["suppressed"], []] == [codes(decision) for decision in decisions]


@pytest.mark.parametrize(
    ("dates", "turns", "holds_then"),
    [
        ({"effective_from": date(2026, 6, 2)}, datetime(2026, 6, 2, tzinfo=UTC), True),
        ({"effective_until": date(2026, 6, 2)}, datetime(2026, 6, 3, tzinfo=UTC), False),
        ({"effective_from": NOON}, NOON, True),
        ({"effective_until": NOON}, NOON, False),
    ],
    ids=["from a date", "until a date", "from an instant", "until an instant"],
)
def test_a_rule_turns_at_its_effective_instant(dates, turns, holds_then, govern):
    """A rule holds from its first instant until its last, which no longer belongs; the last of two dates does."""
    governor, clock = govern({"caps": {"none": FORBIDDEN | dates}}, start=turns - MS)
    before = governor.check("ada", **MAIL)
    clock.set(turns)
    after = governor.check("ada", **MAIL)
    assert (holds_then, not holds_then) == (before.allowed, after.allowed)


def test_400_days_ahead_is_within_the_horizon(govern):
    """An instant exactly 400 days ahead is promised; one a millisecond further is not."""
    governor, clock = govern({"caps": {"none": FORBIDDEN | {"effective_until": NOON + 400 * DAY}}}, start=NOON)
    near = governor.check("ada", **MAIL)
    clock.set(NOON - MS)
    far = governor.check("ada", **MAIL)
    assert ("deferred", NOON + 400 * DAY) == (near.outcome, near.next_allowed_at)
    assert ("refused", None, True) == (far.outcome, far.next_allowed_at, "horizon" in codes(far))


def test_a_date_that_never_occurred_is_none_of_the_last_dates(govern):
    """Apia went from 29 to 31 December 2011: of two dates that end on the 31st, the 29th is the first."""
    noon = datetime(2011, 12, 29, 22, tzinfo=UTC)  # 12:00 on the 29th in Apia
    governor, clock = govern({"caps": {"cap": {"limit": "1 per 2 calendar days"}}}, start=noon)
    apia = {"channel": "email", "timezone": "Pacific/Apia"}
    governor.record("ada", **apia, at=noon)
    clock.set(noon + DAY)  # 12:00 on the 31st
    decision = governor.check("ada", **apia)
    assert (["cap_reached"], datetime(2011, 12, 31, 10, tzinfo=UTC)) == (codes(decision), decision.next_allowed_at)


def test_what_is_as_old_as_the_horizon_is_kept(govern):
    """A touch exactly as old as facts are kept can be recorded and is not pruned; a millisecond older it is gone."""
    governor, clock = govern({"ledger": {"keep": "30 days"}}, start=NOON)
    recorded = [governor.record("ada", **MAIL, id=str(age), at=NOON - age) for age in (30 * DAY, 30 * DAY + MS)]
    pruned = [governor.prune()]
    clock.advance(MS)
    pruned.append(governor.prune())
    assert (["kept", "too_old"], [0, 1]) == (recorded, pruned)


def test_an_id_is_remembered_for_exactly_the_horizon(govern):
    """While its touch is as old as facts are kept an id is a duplicate; a millisecond later it is free."""
    governor, clock = govern({"ledger": {"keep": "30 days"}}, start=NOON)
    governor.record("ada", **MAIL, id="news-1", at=NOON)
    clock.set(NOON + 30 * DAY)
    known = codes(governor.check("ada", **MAIL, id="news-1"))
    clock.advance(MS)
    assert (["duplicate"], []) == (known, codes(governor.check("ada", **MAIL, id="news-1")))


def test_open_hours_end_before_their_closing_time(govern):
    """At 20:00 hours until 20:00 are closed, and what was reserved a millisecond before must be sent by then."""
    governor, clock = govern({"quiet_hours": {"day": {"open": {"mon-sun": "08:00-20:00"}}}}, start=NOON)
    closing = NOON.replace(hour=20)
    clock.set(closing - MS)
    last = governor.reserve("ada", **MAIL, id="news-1", timezone="UTC")
    clock.set(closing)
    after = governor.check("ada", **MAIL, timezone="UTC")
    assert (closing, ["quiet_hours"]) == (last.reservation.send_before, codes(after))


def test_a_repeated_hour_is_open_both_times(govern):
    """When New York's clocks go back, 01:15 to 01:45 comes twice, and twice it is open."""
    hours = {"night": {"open": {"sun": "01:15-01:45"}, "zone": "America/New_York"}}
    first_end = datetime(2024, 11, 3, 5, 45, tzinfo=UTC)
    governor, clock = govern({"quiet_hours": hours}, start=first_end - MS)
    first = governor.check("ada", **MAIL)
    clock.set(first_end)
    between = governor.check("ada", **MAIL)
    clock.set(between.next_allowed_at)
    again = governor.check("ada", **MAIL)
    assert (True, first_end + timedelta(minutes=30), True) == (first.allowed, between.next_allowed_at, again.allowed)
