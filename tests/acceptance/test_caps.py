"""How often a customer may be contacted: every kind of cap, and the next instant over all rules together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairtouch import Policy, PolicyError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MAIL = {"channel": "email"}
EMAIL = {"channels": ["email"]}


def cap(limit: str, **more: Any) -> dict[str, Any]:
    """A policy with one cap on e-mails, named `cap`."""
    return {"caps": {"cap": {"limit": limit, "select": EMAIL} | more}}


def codes(decision: Any) -> list[str]:
    """The codes of the reasons."""
    return [reason.code for reason in decision.reasons]


def rules(decision: Any) -> set[str]:
    """The names of the rules that say no."""
    return {reason.rule for reason in decision.reasons}


def check_of(decision: Any, rule: str = "cap") -> Any:
    """The check of one rule."""
    return next(check for check in decision.checks if check.rule == rule)


def record(governor: Any, *instants: datetime, customer: str = "ada", **fields: Any) -> None:
    """Touches that already happened."""
    for instant in instants:
        governor.record(customer, **(MAIL | fields), at=instant)


def utc(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("limit", "span"),
    [
        ("1 per 1 second", timedelta(seconds=1)),
        ("1 per 90 minutes", timedelta(minutes=90)),
        ("1 per 4 hours", timedelta(hours=4)),
        ("1 per 24 hours", timedelta(hours=24)),
        ("1 per 7 days", timedelta(days=7)),
        ("1 per 2 weeks", timedelta(weeks=2)),
    ],
)
def test_rolling_windows_are_half_open_to_the_millisecond(limit, span, govern):
    """A touch fills a rolling cap for exactly its span: not a millisecond less, not a millisecond more."""
    governor, clock = govern(cap(limit), start=NOON)
    governor.confirm(governor.reserve("ada", **MAIL).reservation)
    first = governor.check("ada", **MAIL)
    clock.set(NOON + span - MS)
    last = governor.check("ada", **MAIL)
    clock.set(NOON + span)
    assert ([NOON + span] * 2, True) == (
        [first.next_allowed_at, last.next_allowed_at],
        governor.reserve("ada", **MAIL).allowed,
    )


def test_rolling_waits_for_the_right_touch(govern):
    """With several slots, the next instant is when enough of the old touches have left."""
    governor, _ = govern(cap("2 per 7 days"), start=NOON)
    record(governor, *(NOON - timedelta(days=days) for days in (6, 5, 4, 3)))
    decision = governor.check("ada", **MAIL)
    assert (4, NOON + timedelta(days=3)) == (check_of(decision).used, decision.next_allowed_at)


def test_a_rolling_day_is_24_hours(govern):
    """A day of a rolling cap is 24 hours, also over a change of the clocks."""
    start = utc("2026-03-28T12:00")
    governor, _ = govern(cap("1 per 1 day"), start=start)
    record(governor, start, timezone="Europe/Berlin")
    assert start + 24 * HOUR == governor.check("ada", **MAIL, timezone="Europe/Berlin").next_allowed_at


@pytest.mark.parametrize(
    ("period", "zone", "sent", "free"),
    [
        ("calendar day", "UTC", "2026-03-02T12:00", "2026-03-03T00:00"),
        ("calendar day", "America/New_York", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("calendar day", "America/New_York", "2026-03-08T04:59:59.999", "2026-03-08T05:00"),
        ("calendar day", "Europe/Berlin", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("calendar day", "Asia/Kathmandu", "2026-03-02T18:14", "2026-03-02T18:15"),
        ("calendar week", "Europe/Berlin", "2026-03-01T22:59", "2026-03-01T23:00"),
        ("calendar week", "Europe/Berlin", "2026-03-01T23:00", "2026-03-08T23:00"),
        ("calendar month", "America/New_York", "2026-02-01T05:00", "2026-03-01T05:00"),
        ("calendar month", "America/New_York", "2026-02-01T04:59", "2026-02-01T05:00"),
        ("calendar month", "Pacific/Kiritimati", "2026-02-28T09:59", "2026-02-28T10:00"),
        ("calendar quarter", "America/New_York", "2026-02-10T12:00", "2026-04-01T04:00"),
        ("calendar quarter", "UTC", "2026-04-01T00:00", "2026-07-01T00:00"),
        ("calendar quarter", "UTC", "2026-09-30T23:59", "2026-10-01T00:00"),
        ("calendar quarter", "UTC", "2026-10-01T00:00", "2027-01-01T00:00"),
        ("calendar year", "Asia/Tokyo", "2026-12-31T14:59", "2026-12-31T15:00"),
        ("calendar year", "Asia/Tokyo", "2025-12-31T15:00", "2026-12-31T15:00"),
        ("2 calendar days", "America/New_York", "2026-03-07T17:00", "2026-03-09T04:00"),
        ("7 calendar days", "Europe/Berlin", "2026-03-25T22:59", "2026-03-31T22:00"),
        ("1 calendar days", "UTC", "2026-03-02T12:00", "2026-03-03T00:00"),
    ],
)
def test_calendar_periods_end_by_the_local_calendar(period, zone, sent, free, govern):
    """A calendar period ends at its local boundary: held to the millisecond before, free from then on."""
    governor, clock = govern(cap(f"1 per {period}"), start=utc(sent))
    record(governor, utc(sent), timezone=zone)
    decision = governor.check("ada", **MAIL, timezone=zone)
    clock.set(utc(free) - MS)
    held = governor.check("ada", **MAIL, timezone=zone)
    clock.set(utc(free))
    assert (utc(free), False, True) == (
        decision.next_allowed_at,
        held.allowed,
        governor.reserve("ada", **MAIL, timezone=zone).allowed,
    )


def test_weeks_start_as_the_policy_says(govern):
    """With weeks that start on Sunday, a Saturday's touch is last week's on Sunday."""
    governor, _ = govern({"week_starts": "sunday"} | cap("1 per calendar week"), start=utc("2026-03-07T12:00"))
    record(governor, utc("2026-03-07T12:00"), timezone="UTC")
    assert utc("2026-03-08T00:00") == governor.check("ada", **MAIL, timezone="UTC").next_allowed_at


def test_history_is_read_again_in_another_zone(govern):
    """Which date an old touch belongs to is read in the zone of the touch that asks."""
    governor, _ = govern(cap("1 per calendar day"), start=utc("2026-03-02T23:30"))
    record(governor, utc("2026-03-02T22:30"), timezone="UTC")
    asked = {
        zone: governor.check("ada", **MAIL, timezone=zone).allowed for zone in ("UTC", "Europe/Berlin", "Asia/Tokyo")
    }
    assert {"UTC": False, "Europe/Berlin": True, "Asia/Tokyo": False} == asked


def test_the_customers_zone_holds_where_the_touch_names_none(govern):
    """Without a zone of its own a touch is read in the customer's."""
    governor, _ = govern(cap("1 per calendar day"), start=utc("2026-03-02T14:30"))
    governor.customers.set("ada", timezone="Asia/Tokyo")
    record(governor, utc("2026-03-02T14:30"))
    assert utc("2026-03-02T15:00") == governor.check("ada", **MAIL).next_allowed_at


def test_lifetime_counts_what_was_pruned(govern):
    """A lifetime cap remembers touches that left the ledger, and time never frees it."""
    policy = {"ledger": {"keep": "30 days"}} | cap("1 per lifetime")
    governor, clock = govern(policy, start=NOON)
    record(governor, NOON)
    seen = []
    for _ in range(3):
        decision = governor.check("ada", **MAIL)
        seen.append((decision.outcome, codes(decision), decision.next_allowed_at, check_of(decision).used))
        clock.advance(60 * DAY)
        governor.prune()
    assert [("refused", ["cap_reached"], None, 1)] * 3 == seen


def test_lifetime_totals_keep_what_they_select_by(govern):
    """After pruning, a lifetime cap still counts only what it selects."""
    select = {"channels": ["email"], "topics": ["newsletter"], "campaigns": ["spring"]}
    policy = {"ledger": {"keep": "30 days"}} | cap("1 per lifetime", select=select)
    governor, clock = govern(policy, start=NOON)
    for topic, campaign in (("newsletter", "winter"), ("digest", "spring")):
        record(governor, NOON, topic=topic, campaign=campaign)
    clock.advance(60 * DAY)
    governor.prune()
    free = governor.check("ada", **MAIL, topic="newsletter", campaign="spring")
    record(governor, clock(), topic="newsletter", campaign="spring")
    clock.advance(60 * DAY)
    governor.prune()
    held = governor.check("ada", **MAIL, topic="newsletter", campaign="spring")
    assert (True, False) == (free.allowed, held.allowed)


def test_counts_may_be_wider_than_what_is_limited(govern):
    """A service touch may fill a marketing cap and is not itself limited by it."""
    counts = {"categories": ["marketing", "service"]}
    policy = {"caps": {"cap": {"limit": "1 per 7 days", "select": {"categories": ["marketing"]}, "counts": counts}}}
    governor, _ = govern(policy, start=NOON)
    record(governor, NOON, category="service")
    service = governor.check("ada", **MAIL, category="service")
    marketing = governor.check("ada", **MAIL, category="marketing")
    assert (True, [], {"cap"}) == (
        service.allowed,
        [check.rule for check in service.checks if check.rule == "cap"],
        rules(marketing),
    )


def test_counts_may_be_elsewhere(govern):
    """What a cap limits need not be among what fills it."""
    policy = cap("1 per 7 days", counts={"channels": ["sms"]})
    governor, _ = govern(policy, start=NOON)
    record(governor, NOON)
    free = governor.check("ada", **MAIL)
    record(governor, NOON, channel="sms")
    assert (True, False) == (free.allowed, governor.check("ada", **MAIL).allowed)


@pytest.mark.parametrize(
    ("select", "inside", "outside"),
    [
        ({"categories": ["service"]}, {"category": "service"}, {"category": "marketing"}),
        ({"topics": ["digest"]}, {"topic": "digest"}, {"topic": "newsletter"}),
        ({"campaigns": ["spring"]}, {"campaign": "spring"}, {"campaign": "winter"}),
        ({"tags": ["vip"]}, {"tags": ["new", "vip"]}, {"tags": ["new"]}),
        ({"countries": ["DE"]}, {"country": "DE"}, {"country": "FR"}),
        (
            {"countries": ["US"], "regions": ["FL"]},
            {"country": "US", "region": "FL"},
            {"country": "US", "region": "NY"},
        ),
        ({"channels": ["email"], "tags": ["vip"]}, {"tags": ["vip"]}, {}),
    ],
    ids=str,
)
def test_selections_select(select, inside, outside, govern):
    """A rule applies to what its selection names: every key, any value of a key."""
    governor, _ = govern(cap("0 per 1 day", select=select), start=NOON)
    asked = [governor.check("ada", **(MAIL | fields)).allowed for fields in (inside, outside)]
    assert [False, True] == asked


def test_an_unknown_country_is_under_every_rule_that_selects_by_one(govern):
    """Where the country is unknown, rules that select by country apply."""
    governor, _ = govern(cap("0 per 1 day", select={"countries": ["DE"]}), start=NOON)
    assert not governor.check("ada", **MAIL)


PER_DEBT = {"caps": {"cap": {"limit": "1 per 7 days", "select": {"channels": ["voice"]}, "per": ["subject"]}}}


@pytest.mark.parametrize(
    ("filled", "asked", "expected"),
    [
        ("debt-1", "debt-1", False),
        ("debt-1", "debt-2", True),
        ("debt-1", None, False),
        (None, "debt-1", False),
        (None, None, False),
    ],
)
def test_caps_per_subject(filled, asked, expected, govern):
    """A cap per subject counts each on its own; a touch without one counts for all and is judged against all."""
    governor, _ = govern(PER_DEBT, start=NOON)
    record(governor, NOON, channel="voice", subject=filled)
    assert expected == governor.check("ada", channel="voice", subject=asked).allowed


def test_the_customer_is_implied_in_a_subject(govern):
    """The same subject of another customer is another budget."""
    governor, _ = govern(PER_DEBT, start=NOON)
    record(governor, NOON, channel="voice", subject="debt-1")
    assert governor.check("grace", channel="voice", subject="debt-1")


def test_a_touch_without_subject_is_judged_by_the_fullest(govern):
    """Without a subject the fullest subject decides, together with touches that count for every one."""
    limit = {"caps": {"cap": PER_DEBT["caps"]["cap"] | {"limit": "3 per 7 days"}}}
    governor, _ = govern(limit, start=NOON)
    for subject in ("debt-1", "debt-2", None):
        record(governor, NOON, channel="voice", subject=subject)
    before = governor.check("ada", channel="voice").allowed
    record(governor, NOON, channel="voice", subject="debt-2")
    asked = {s: governor.check("ada", channel="voice", subject=s).allowed for s in ("debt-1", "debt-2", "debt-3", None)}
    assert (True, {"debt-1": True, "debt-2": False, "debt-3": True, None: False}) == (before, asked)


HELD_BACK = cap("2 per 7 days", held_back={"slots": 1, "below_priority": 5})


@pytest.mark.parametrize(
    ("before", "asked", "expected"),
    [
        ([], 1, True),
        ([1], 1, False),
        ([1], 4, False),
        ([1], 5, True),
        ([9], 1, False),
        ([9], 9, True),
        ([9, 9], 9, False),
    ],
)
def test_slots_held_back_for_high_priority(before, asked, expected, govern):
    """Below the priority the limit is smaller, and every touch counts."""
    governor, _ = govern(HELD_BACK, start=NOON)
    for priority in before:
        record(governor, NOON, priority=priority)
    assert expected == governor.reserve("ada", **MAIL, priority=asked).allowed


def test_shadow_rules_report_and_never_refuse(govern):
    """A rule that is not enforced shows in the checks, never among the reasons, and bounds no instant."""
    policy = {
        "caps": {
            "shadow": {"limit": "0 per 1 day", "select": EMAIL, "enforce": False},
            "real": {"limit": "1 per 4 hours", "select": EMAIL},
        }
    }
    governor, _ = govern(policy, start=NOON)
    allowed = governor.check("ada", **MAIL)
    record(governor, NOON)
    held = governor.check("ada", **MAIL)
    shadow = check_of(allowed, "shadow")
    assert (True, [], False, False) == (allowed.allowed, codes(allowed), shadow.passed, shadow.enforced)
    assert ({"real"}, NOON + 4 * HOUR) == (rules(held), held.next_allowed_at)


def test_shadow_hours_never_refuse(govern):
    """Quiet hours in shadow mode are reported and let pass."""
    hours = {"shadow": {"select": EMAIL, "open": {"mon-sun": "01:00-02:00"}, "enforce": False}}
    governor, _ = govern({"quiet_hours": hours}, start=NOON)
    decision = governor.check("ada", **MAIL, timezone="UTC")
    assert (True, False) == (decision.allowed, check_of(decision, "shadow").passed)


@pytest.mark.parametrize(
    ("dates", "now", "expected"),
    [
        ({"effective_from": date(2026, 6, 2)}, "2026-06-01T00:00", True),
        ({"effective_from": date(2026, 6, 2)}, "2026-06-03T00:00", False),
        ({"effective_until": date(2026, 6, 2)}, "2026-06-01T00:00", False),
        ({"effective_until": date(2026, 6, 2)}, "2026-06-04T00:00", True),
        ({"effective_from": date(2026, 6, 2), "effective_until": date(2026, 6, 5)}, "2026-06-03T12:00", False),
    ],
)
def test_rules_hold_between_their_dates(dates, now, expected, govern):
    """Outside its effective dates a rule does not hold."""
    governor, _ = govern(cap("0 per 1 day", **dates), start=utc(now))
    assert expected == governor.check("ada", **MAIL, timezone="UTC").allowed


@pytest.mark.parametrize(
    "begins", [date(2026, 6, 2), "2026-06-02", utc("2026-06-02T00:00"), "2026-06-02T00:00:00Z"], ids=str
)
def test_a_date_is_written_as_in_toml_or_as_in_json(begins, govern):
    """An effective date may be a date or an instant, as TOML has them or as JSON must write them."""
    governor, clock = govern(cap("0 per 1 day", effective_from=begins), start=utc("2026-06-01T00:00"))
    before = governor.check("ada", **MAIL, timezone="UTC").allowed
    clock.set(utc("2026-06-03T00:00"))
    assert (True, False) == (before, governor.check("ada", **MAIL, timezone="UTC").allowed)


def assert_minimal(governor: Any, clock: Any, fields: dict[str, Any], samples: list[datetime]) -> None:
    """Allowed at the promised instant; not a millisecond before, nor at any sample in between."""
    now, decision = clock(), governor.check("ada", **fields)
    promised = decision.next_allowed_at
    between = sorted(sample for sample in samples if now < sample < promised)
    verdicts = []
    for instant in [*between, promised - MS, promised]:
        clock.set(instant)
        verdicts.append(governor.check("ada", **fields).allowed)
    assert [False] * (len(between) + 1) + [True] == verdicts


@pytest.mark.parametrize("now", ["2026-06-01T11:00", "2026-06-03T12:00", "2026-05-30T23:00"])
def test_the_next_instant_steps_over_effective_dates(now, govern):
    """Effective dates pass with time: the promise steps over a rule that begins and ends in between."""
    policy = cap("0 per 1 day", effective_from=date(2026, 6, 1), effective_until=date(2026, 6, 5)) | {
        "quiet_hours": {"short": {"select": EMAIL, "open": {"mon-sun": "09:00-10:00"}}}
    }
    governor, clock = govern(policy, start=utc(now))
    hours = [utc(now) + n * HOUR for n in range(24 * 12)]
    assert_minimal(governor, clock, MAIL | {"timezone": "UTC"}, hours)


def test_a_rule_that_ends_defers(govern):
    """What a rule with an end forbids is deferred to its end."""
    governor, _ = govern(cap("0 per 1 day", effective_until=date(2026, 6, 5)), start=utc("2026-06-01T00:00"))
    decision = governor.check("ada", **MAIL, timezone="UTC")
    ends = {utc("2026-06-05T00:00"), utc("2026-06-06T00:00")}
    assert ("deferred", True) == (decision.outcome, decision.next_allowed_at in ends)


def test_zero_forbids(govern):
    """`0 per 1 day` forbids, at any time: refused, and no instant is promised."""
    governor, _ = govern(cap("0 per 1 day"), start=NOON)
    decision = governor.reserve("ada", **MAIL)
    assert ("refused", None, 0, 0) == (
        decision.outcome,
        decision.next_allowed_at,
        check_of(decision).used,
        check_of(decision).limit,
    )


def test_wishes_of_the_customer_hold_too(govern):
    """A customer's own wish holds beside the policy, for its channel and that customer."""
    governor, _ = govern(cap("9 per 7 days"), start=NOON)
    governor.customers.set("ada", wishes={"email": "1 per 7 days"})
    for customer in ("ada", "grace"):
        record(governor, NOON, customer=customer)
        record(governor, NOON, customer=customer, channel="sms")
    ada = governor.reserve("ada", **MAIL)
    assert ("deferred", ["cap_reached"], NOON + 7 * DAY) == (ada.outcome, codes(ada), ada.next_allowed_at)
    assert [True, True] == [governor.check("ada", channel="sms").allowed, governor.check("grace", **MAIL).allowed]


def test_a_wish_cannot_weaken_the_policy(govern):
    """The strictest wins: a generous wish lifts no cap."""
    governor, _ = govern(cap("1 per 7 days"), start=NOON)
    governor.customers.set("ada", wishes={"email": "9 per 7 days"})
    record(governor, NOON)
    assert {"cap"} == rules(governor.check("ada", **MAIL))


def test_the_customers_own_hours_hold_too(govern):
    """A customer's own quiet hours hold beside the policy's: both must be open."""
    hours = {"day": {"select": EMAIL, "open": {"mon-sun": "09:00-20:00"}}}
    governor, clock = govern({"quiet_hours": hours}, start=NOON)
    governor.customers.set("ada", timezone="UTC", quiet_hours={"mon-sun": "18:00-22:00"})
    decision = governor.check("ada", **MAIL)
    clock.set(utc("2026-03-02T20:00"))
    late = governor.check("ada", **MAIL)
    assert (utc("2026-03-02T18:00"), {"day"}, utc("2026-03-03T18:00")) == (
        decision.next_allowed_at,
        rules(late),
        late.next_allowed_at,
    )


def test_a_wish_for_a_zone_moves_the_hours(govern):
    """A zone set for the customer is used by the very next decision."""
    hours = {"day": {"select": EMAIL, "open": {"mon-sun": "09:00-20:00"}}}
    governor, _ = govern({"quiet_hours": hours}, start=NOON)
    seen = []
    for zone in ("Europe/Berlin", "Asia/Tokyo", "Europe/Berlin"):
        governor.customers.set("ada", timezone=zone)
        seen.append(governor.reserve("ada", **MAIL).allowed)
    assert [True, False, True] == seen


US = {"customer": {"timezones": ["America/New_York", "America/Los_Angeles"]}}


def test_an_unknown_zone_is_open_in_every_candidate_or_not_at_all(govern):
    """Without a zone, the hours must be open in every zone that the customer may be in."""
    hours = {"day": {"select": EMAIL, "open": {"mon-sun": "09:00-20:00"}}}
    governor, clock = govern(US | {"quiet_hours": hours}, start=utc("2026-01-14T14:00"))
    morning = governor.check("ada", **MAIL).next_allowed_at
    clock.set(utc("2026-01-15T01:00"))
    evening = governor.check("ada", **MAIL).next_allowed_at
    assert (utc("2026-01-14T17:00"), utc("2026-01-15T17:00")) == (morning, evening)


@pytest.mark.parametrize(
    ("sent", "now", "free"),
    [
        ("2026-01-10T05:30", "2026-01-10T06:00", "2026-01-11T05:00"),
        ("2026-01-10T04:30", "2026-01-10T05:30", "2026-01-10T08:00"),
        ("2026-01-10T12:00", "2026-01-11T05:30", "2026-01-11T08:00"),
    ],
)
def test_an_unknown_zone_holds_a_calendar_cap_in_every_candidate(sent, now, free, govern):
    """Without a zone, a calendar cap must hold in every zone that the customer may be in."""
    governor, _ = govern(US | cap("1 per calendar day"), start=utc(now))
    record(governor, utc(sent))
    assert utc(free) == governor.check("ada", **MAIL).next_allowed_at


LOCAL_RULES = {
    "hours": {"quiet_hours": {"rule": {"select": EMAIL, "open": {"mon-sun": "00:00-24:00"}}}},
    "calendar": {"caps": {"rule": {"limit": "1 per calendar day", "select": EMAIL}}},
}


@pytest.mark.parametrize("kind", LOCAL_RULES)
def test_no_candidate_at_all_is_refused(kind, govern):
    """Where a rule reads local time and no zone is known or assumed, the touch is refused for that."""
    governor, _ = govern({"customer": {}} | LOCAL_RULES[kind], start=NOON)
    decision = governor.check("ada", **MAIL)
    assert ("refused", ["timezone_unknown"], None) == (decision.outcome, codes(decision), decision.next_allowed_at)


def test_rules_without_local_time_need_no_zone(govern):
    """Rolling and lifetime caps never ask where the customer is."""
    caps = {"rolling": {"limit": "1 per 7 days"}, "ever": {"limit": "5 per lifetime"}}
    governor, _ = govern({"customer": {}, "caps": caps}, start=NOON)
    assert governor.reserve("ada", **MAIL)


FOUR_RULES = {
    "caps": {
        "email-daily": {"limit": "1 per calendar day", "select": EMAIL},
        "everything-weekly": {"limit": "2 per 7 days"},
        "sms-gap": {"limit": "1 per 4 hours", "select": {"channels": ["sms"]}},
        "roomy": {"limit": "50 per 7 days"},
    },
    "quiet_hours": {"decent": {"select": EMAIL, "open": {"mon-sun": "09:00-11:00"}}},
}


def test_every_failing_rule_is_named_with_its_touches(govern):
    """No failing rule is left out, each names the touches that fill it, and passing ones name none as a reason."""
    governor, _ = govern(FOUR_RULES, start=NOON)
    record(governor, NOON - 4 * DAY, channel="sms", id="text")
    record(governor, NOON - HOUR, id="mail")
    governor.consent.opt_out("ada")
    decision = governor.check("ada", **MAIL, timezone="UTC")
    touches = {
        check.rule: {getattr(t, "id", t) for t in check.touches} for check in decision.checks if not check.passed
    }
    assert {"email-daily", "everything-weekly", "decent", "consent"} == rules(decision)
    assert ({"mail"}, {"text", "mail"}) == (touches["email-daily"], touches["everything-weekly"])


def test_checks_tell_the_window(govern):
    """A check tells what is used, the limit, and from when to when its window runs."""
    governor, _ = govern(FOUR_RULES, start=NOON)
    record(governor, NOON - HOUR, id="mail")
    check = check_of(governor.check("ada", **MAIL, timezone="UTC"), "email-daily")
    assert (1, 1, utc("2026-03-02T00:00"), utc("2026-03-03T00:00"), False, True) == (
        check.used,
        check.limit,
        check.window_start,
        check.window_end,
        check.passed,
        check.enforced,
    )


def test_used_leaves_the_asking_touch_out(govern):
    """An allowed reservation does not count itself in what it reports."""
    governor, _ = govern(cap("2 per 7 days"), start=NOON)
    seen = [check_of(governor.reserve("ada", **MAIL)).used for _ in range(3)]
    assert [0, 1, 2] == seen


def test_deferred_over_all_rules_together(govern):
    """The next instant satisfies every rule at once, not each on its own."""
    governor, clock = govern(FOUR_RULES, start=NOON)
    record(governor, NOON - HOUR, NOON - 2 * HOUR)
    promised = governor.check("ada", **MAIL, timezone="UTC").next_allowed_at
    assert utc("2026-03-09T10:00") == promised
    assert_minimal(governor, clock, MAIL | {"timezone": "UTC"}, [NOON + n * HOUR for n in range(170)])


def test_a_next_instant_beyond_the_horizon_is_not_promised(govern):
    """Beyond 400 days nothing is promised, and the reason says so."""
    policy = {"ledger": {"keep": "900 days"}} | cap("1 per 500 days")
    governor, _ = govern(policy, start=NOON)
    record(governor, NOON)
    decision = governor.check("ada", **MAIL)
    assert (None, True) == (
        decision.next_allowed_at,
        ("horizon", "horizon") in [(r.code, r.rule) for r in decision.reasons],
    )


def test_hours_that_never_open_promise_nothing(govern):
    """Where no instant is open within 400 days, none is promised."""
    hours = {"never": {"select": EMAIL, "open": {"mon": "09:00-10:00"}, "closed_on": ["RRULE:FREQ=WEEKLY;BYDAY=MO"]}}
    governor, _ = govern({"quiet_hours": hours}, start=NOON)
    decision = governor.check("ada", **MAIL, timezone="UTC")
    assert (False, None, "horizon" in codes(decision)) == (decision.allowed, decision.next_allowed_at, True)


def test_a_refused_touch_leaves_no_trace(govern):
    """All caps are consumed together or not at all: a refusal takes no slot of any, and no id."""
    policy = {"caps": {"mail": {"limit": "1 per 24 hours", "select": EMAIL}, "all": {"limit": "3 per 24 hours"}}}
    governor, _ = govern(policy, start=NOON)
    for number in range(5):
        governor.reserve("ada", **MAIL, id=f"news-{number}")
    sms = governor.check("ada", channel="sms")
    assert (1, 1, True) == (
        check_of(sms, "all").used,
        len(list(governor.history("ada"))),
        governor.reserve("ada", channel="sms", id="news-4").allowed,
    )


def test_a_new_policy_judges_old_history(govern_file):
    """The ledger holds facts: a cap that did not exist then counts the touches of then."""
    old, _ = govern_file({}, start=NOON)
    for topic in ("newsletter", "digest"):
        old.confirm(old.reserve("ada", **MAIL, topic=topic).reservation)
    old.close()
    new, _ = govern_file(cap("2 per 7 days"), start=NOON + HOUR)
    narrow, _ = govern_file(cap("2 per 7 days", select={"topics": ["digest"]}), start=NOON + HOUR)
    asked = [governor.check("ada", **MAIL, topic="digest") for governor in (new, narrow)]
    assert [(False, 2), (True, 1)] == [(decision.allowed, check_of(decision).used) for decision in asked]


@pytest.mark.parametrize(
    ("keep", "limit"),
    [
        ("30 days", "1 per 31 days"),
        ("30 days", "1 per 40 calendar days"),
        ("60 days", "1 per calendar quarter"),
        ("300 days", "1 per calendar year"),
    ],
)
def test_a_cap_beyond_the_horizon_does_not_load(keep, limit):
    """A policy with a cap that looks further back than facts are kept fails to load, and names the cap."""
    with pytest.raises(PolicyError, match="cap"):
        Policy.model_validate({"name": "short", "ledger": {"keep": keep}} | cap(limit))


def test_lifetime_needs_no_horizon():
    """A lifetime cap loads with any horizon: it counts totals."""
    policy = Policy.model_validate({"name": "short", "ledger": {"keep": "30 days"}} | cap("1 per lifetime"))
    assert "short" == policy.name


@pytest.mark.parametrize("subject", [None, "debt-1"])
def test_a_cooldown_follows_an_event(subject, govern):
    """After the event the selected touches wait for exactly as long as the rule says; others do not."""
    rule = {"after": "conversation", "for": "7 days", "select": {"channels": ["voice"]}}
    governor, clock = govern({"cooldowns": {"after-conversation": rule}}, start=NOON)
    before = governor.check("ada", channel="voice")
    governor.feedback("conversation", customer="ada", channel="voice", subject=subject)
    clock.advance(HOUR)
    after = governor.check("ada", channel="voice")
    assert (True, ["cooldown"], {"after-conversation"}) == (before.allowed, codes(after), rules(after))
    assert (NOON + 7 * DAY, True) == (after.next_allowed_at, governor.check("ada", channel="email").allowed)


def test_records_may_exceed_a_cap(govern):
    """What happened is recorded whatever the cap says; `used` may exceed `limit`."""
    governor, _ = govern(cap("1 per 7 days"), start=NOON)
    record(governor, *(NOON - n * HOUR for n in range(4)))
    check = check_of(governor.check("ada", **MAIL))
    assert (4, 1) == (check.used, check.limit)


def test_records_in_any_order_count_the_same(govern):
    """A record is inserted by its instant, whenever it is told."""
    instants = [NOON - n * DAY for n in (1, 6, 3, 8)]
    governor, _ = govern(cap("2 per 7 days"), start=NOON)
    record(governor, *instants, customer="ada")
    record(governor, *reversed(instants), customer="grace")
    seen = [governor.check(customer, **MAIL).next_allowed_at for customer in ("ada", "grace")]
    assert [NOON + 4 * DAY] * 2 == seen


def test_a_clock_set_back_is_believed(govern):
    """An injected clock is believed, even backwards: touches after now still count."""
    governor, clock = govern(cap("1 per 24 hours"), start=NOON)
    governor.confirm(governor.reserve("ada", **MAIL).reservation)
    clock.set(NOON - 2 * DAY)
    decision = governor.check("ada", **MAIL)
    assert (False, NOON + DAY) == (decision.allowed, decision.next_allowed_at)


LIMITS = [
    "1 per 4 hours",
    "2 per 24 hours",
    "3 per 7 days",
    "2 per 36 hours",
    "1 per calendar day",
    "2 per calendar day",
    "3 per calendar week",
    "5 per calendar month",
    "2 per 2 calendar days",
    "4 per 7 calendar days",
]
HOURS = [None, ["09:00-12:30", "13:30-20:00"], ["22:00-06:00"], ["02:15-02:45", "20:00-24:00"], ["00:00-24:00"]]
PLACES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
SWITCH = datetime(2026, 3, 29, 1, tzinfo=UTC)


def first_of(period: str, today: date) -> date:
    """The first local date that a calendar period around `today` counts."""
    words = period.split()
    if words[0].isdigit():
        return today - timedelta(days=int(words[0]) - 1)
    starts = {"day": today, "week": today - timedelta(days=today.weekday()), "month": today.replace(day=1)}
    return starts[words[1]]


def has_room(limit: str, zone: ZoneInfo, now: datetime, touched: list[datetime]) -> bool:
    """Whether a cap lets one more touch through, counted the slow way."""
    number, period = limit.split(" per ")
    if "calendar" in period:
        first = first_of(period, now.astimezone(zone).date())
        counted = [t for t in touched if t.astimezone(zone).date() >= first]
    else:
        length, unit = period.split()
        counted = [t for t in touched if t > now - timedelta(**{unit: int(length)})]
    return len(counted) < int(number)


def minutes_of(text: str) -> tuple[int, int]:
    """A window in minutes of its date."""
    start, end = (int(part[:2]) * 60 + int(part[3:]) for part in text.split("-"))
    return start, end if end > start else end + 24 * 60


def is_open(hours: list[str] | None, zone: ZoneInfo, now: datetime) -> bool:
    """Whether the hours are open, read the slow way."""
    local = now.astimezone(zone)
    minute = local.hour * 60 + local.minute
    windows = [minutes_of(text) for text in hours or ["00:00-24:00"]]
    return any(start <= minute < end or minute + 24 * 60 < end for start, end in windows)


def policy_of(limits: list[str], hours: list[str] | None) -> dict[str, Any]:
    """A policy with these caps and hours."""
    caps = {f"cap-{number}": {"limit": limit, "select": EMAIL} for number, limit in enumerate(limits)}
    quiet = {"hours": {"select": EMAIL, "open": {"mon-sun": hours}}} if hours else {}
    return {"caps": caps} | ({"quiet_hours": quiet} if quiet else {})


minutes = st.integers(0, 14 * 24 * 60)
histories = st.lists(minutes | st.integers(0, 300).map(lambda n: n * 30), max_size=8)


@dataclass(frozen=True)
class Situation:
    """A policy, where and when it is asked, and what happened before."""

    limits: list[str]
    hours: list[str] | None
    place: str
    ago: list[int]
    shift: int

    @property
    def now(self) -> datetime:
        """When it is asked."""
        return SWITCH + timedelta(minutes=self.shift)

    @property
    def touched(self) -> list[datetime]:
        """When the customer was touched before."""
        return [self.now - timedelta(minutes=minutes_ago) for minutes_ago in self.ago]

    def allows(self) -> bool:
        """The verdict, counted the slow way."""
        zone = ZoneInfo(self.place)
        room = all(has_room(limit, zone, self.now, self.touched) for limit in self.limits)
        return room and is_open(self.hours, zone, self.now)

    def samples(self, promised: datetime, fractions: list[float]) -> list[datetime]:
        """Instants up to the promised one: some at random, and those at which rolling windows end."""
        ends = [instant + span for instant in self.touched for span in (4 * HOUR, 24 * HOUR, 36 * HOUR, 7 * DAY)]
        between = [self.now + (promised - self.now) * fraction for fraction in fractions]
        return ends + [instant.replace(microsecond=instant.microsecond // 1000 * 1000) for instant in between]


situations = st.builds(
    Situation,
    limits=st.lists(st.sampled_from(LIMITS), min_size=1, max_size=3, unique=True),
    hours=st.sampled_from(HOURS),
    place=st.sampled_from(PLACES),
    ago=histories,
    shift=st.integers(-10_000, 10_000),
)


@settings(deadline=None, max_examples=150)
@given(situation=situations, fractions=st.lists(st.floats(0, 1), min_size=4, max_size=12))
def test_the_next_instant_is_the_first(govern_memory, situation, fractions):
    """Decisions are those of a slow count, and the promised instant is allowed, with nothing before it that is."""
    governor, clock = govern_memory(policy_of(situation.limits, situation.hours), start=situation.now)
    record(governor, *situation.touched)
    fields = MAIL | {"timezone": situation.place}
    decision = governor.check("ada", **fields)
    assert situation.allows() == decision.allowed
    assume(not decision.allowed)
    assert_minimal(governor, clock, fields, situation.samples(decision.next_allowed_at, fractions))


@settings(deadline=None, max_examples=60)
@given(
    limits=st.lists(st.sampled_from(LIMITS), min_size=1, max_size=4, unique=True),
    gaps=st.lists(st.integers(0, 30 * 60), min_size=5, max_size=25),
    place=st.sampled_from(PLACES),
)
def test_admissions_never_exceed_a_cap(govern_memory, limits, gaps, place):
    """Over any sequence of requests, exactly those are admitted that a slow count admits."""
    governor, clock = govern_memory(policy_of(limits, None), start=SWITCH - 5 * DAY)
    zone, admitted, verdicts, expected = ZoneInfo(place), [], [], []
    for gap in gaps:
        clock.advance(timedelta(minutes=gap))
        expected.append(all(has_room(limit, zone, clock(), admitted) for limit in limits))
        verdicts.append(governor.reserve("ada", **MAIL, timezone=place).allowed)
        admitted += [clock()] if verdicts[-1] else []
    assert expected == verdicts
