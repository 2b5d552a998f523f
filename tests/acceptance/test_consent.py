"""What customers said, and what follows from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairtouch import FairtouchError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ESSENTIAL = {"essential": ["transactional"]}
NEWSLETTER = {"channel": "email", "category": "marketing", "topic": "newsletter"}
OPT_IN = {"select": {"channels": ["email", "sms"], "categories": ["marketing"]}, "require": "opt_in"}

CHANNELS = ["email", "sms"]
CATEGORIES = ["marketing", "service"]
TOPICS = ["newsletter", "digest"]
TOUCHES = [{"channel": c, "category": k, "topic": t} for c in CHANNELS for k in CATEGORIES for t in TOPICS]

Scope = tuple[str | None, str | None, str | None]
Event = tuple[str, Scope, int]


def at(minute: int) -> datetime:
    """An instant in the past of every test, by number."""
    return NOON - timedelta(hours=2) + timedelta(minutes=minute)


def codes(decision: Any) -> list[str]:
    """The codes of the reasons."""
    return [reason.code for reason in decision.reasons]


def scope_fields(scope: Scope) -> dict[str, str]:
    """A scope as arguments; any is left out."""
    return {key: value for key, value in zip(("channel", "category", "topic"), scope, strict=True) if value}


def say(governor: Any, customer: str, event: Event) -> None:
    """Tell the ledger one event."""
    kind, scope, minute = event
    tell = governor.consent.opt_out if kind == "out" else governor.consent.opt_in
    tell(customer, **scope_fields(scope), at=at(minute))


def contains(outer: Scope, inner: Scope) -> bool:
    """Whether every touch in `inner` is in `outer`."""
    return all(o is None or o == i for o, i in zip(outer, inner, strict=True))


def withdrawn(events: list[Event], touch: dict[str, str]) -> bool:
    """The rule as it is written: an opt-out covers the touch, and no later opt-in in between lifts it."""
    point = (touch["channel"], touch["category"], touch["topic"])
    outs = [(scope, minute) for kind, scope, minute in events if kind == "out" and contains(scope, point)]
    ins = [(scope, minute) for kind, scope, minute in events if kind == "in" and contains(scope, point)]
    return any(not any(later > minute and contains(w, o) for o, later in ins) for w, minute in outs)


scopes = st.tuples(
    st.sampled_from([None, *CHANNELS]), st.sampled_from([None, *CATEGORIES]), st.sampled_from([None, *TOPICS])
)
events_said = st.lists(st.tuples(st.sampled_from(["in", "out"]), scopes, st.integers(0, 5)), min_size=1, max_size=7)


@settings(deadline=None, max_examples=150)
@given(events=events_said)
@example(events=[("out", (None, None, None), 0), ("in", ("email", None, None), 1), ("in", (None, "service", None), 2)])
@example(events=[("out", ("email", None, None), 0), ("in", (None, "marketing", None), 1)])
@example(events=[("out", (None, None, None), 3), ("in", (None, None, None), 3)])
def test_withdrawal_is_the_written_rule(govern_memory, events):
    """A touch is withdrawn iff an opt-out covers it and no later opt-in lies between the two."""
    governor, _ = govern_memory({}, start=NOON)
    for event in events:
        say(governor, "ada", event)
    expected = {tuple(touch.values()): withdrawn(events, touch) for touch in TOUCHES}
    actual = {tuple(touch.values()): "opted_out" in codes(governor.check("ada", **touch)) for touch in TOUCHES}
    assert expected == actual


@settings(deadline=None, max_examples=100)
@given(data=st.data(), events=events_said)
def test_events_in_every_order_settle_the_same(govern_memory, data, events):
    """The order in which events arrive does not matter, only when they happened; repeats change nothing."""
    governor, _ = govern_memory({}, start=NOON)
    shuffled = data.draw(st.permutations(events + events[:2]))
    for event in events:
        say(governor, "first", event)
    for event in shuffled:
        say(governor, "second", event)
    first = [codes(governor.check("first", **touch)) for touch in TOUCHES]
    assert first == [codes(governor.check("second", **touch)) for touch in TOUCHES]


def test_every_order_of_three_events_on_each_store(govern):
    """All six orders of three conflicting events leave the same consent behind."""
    governor, _ = govern({}, start=NOON)
    events = [("out", (None, None, None), 1), ("in", ("email", None, None), 2), ("out", ("email", None, None), 3)]
    states = set()
    for number, order in enumerate(permutations(events)):
        for event in order:
            say(governor, f"customer-{number}", event)
        states.add(str([codes(governor.check(f"customer-{number}", **touch)) for touch in TOUCHES]))
    assert 1 == len(states)


def test_no_word_at_all_asks_nothing(govern):
    """Where no consent rule covers a touch, silence does not stop it."""
    governor, _ = govern({}, start=NOON)
    assert [] == codes(governor.check("ada", **NEWSLETTER))


def test_narrower_lifts_broader_for_itself_only(govern):
    """An opt-in to one topic after an opt-out of everything brings back that topic and nothing else."""
    governor, _ = govern({}, start=NOON)
    say(governor, "ada", ("out", (None, None, None), 1))
    say(governor, "ada", ("in", ("email", "marketing", "newsletter"), 2))
    allowed = [touch for touch in TOUCHES if governor.check("ada", **touch)]
    assert [{"channel": "email", "category": "marketing", "topic": "newsletter"}] == allowed


def test_broader_never_revives_narrower(govern):
    """Who left one topic stays out of it, whatever broader consent follows."""
    governor, _ = govern({}, start=NOON)
    say(governor, "ada", ("out", ("email", "marketing", "newsletter"), 1))
    for minute, scope in enumerate([(None, None, None), ("email", None, None), ("email", "marketing", None)], 2):
        say(governor, "ada", ("in", scope, minute))
    assert ["opted_out"] == codes(governor.check("ada", **NEWSLETTER))


def test_incomparable_lifts_nothing(govern):
    """An opt-in by channel does not lift an opt-out by category: neither contains the other."""
    governor, _ = govern({}, start=NOON)
    say(governor, "ada", ("out", (None, "marketing", None), 1))
    say(governor, "ada", ("in", ("email", None, None), 2))
    assert ["opted_out"] == codes(governor.check("ada", **NEWSLETTER))


def test_equal_instants_the_opt_out_wins(govern):
    """At the same instant the opt-out wins, whichever was told last."""
    governor, _ = govern({}, start=NOON)
    for customer, kinds in (("out-last", ["in", "out"]), ("in-last", ["out", "in"])):
        for kind in kinds:
            say(governor, customer, (kind, ("email", None, None), 1))
    outcomes = [codes(governor.check(customer, **NEWSLETTER)) for customer in ("out-last", "in-last")]
    assert [["opted_out"], ["opted_out"]] == outcomes


def test_one_millisecond_later_is_later(govern):
    """Instants are told apart to the millisecond."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", channel="email", at=at(1))
    governor.consent.opt_in("ada", channel="email", at=at(1) + timedelta(milliseconds=1))
    assert governor.check("ada", **NEWSLETTER)


def test_a_stale_opt_in_lifts_nothing(govern):
    """An opt-in that happened before the opt-out changes nothing, even when it is told afterwards."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", at=at(10))
    governor.consent.opt_in("ada", **NEWSLETTER, at=at(9))
    assert ["opted_out"] == codes(governor.check("ada", **NEWSLETTER))


@pytest.mark.parametrize(("words", "expected"), [("io", False), ("oi", True), ("oio", False), ("ioi", True)])
def test_the_latest_word_wins_although_the_clock_stands(words, expected, govern):
    """Events of one scope without an instant keep the order in which they were said, even within a millisecond."""
    governor, _ = govern({}, start=NOON)
    for word in words:
        (governor.consent.opt_in if word == "i" else governor.consent.opt_out)("ada", channel="email")
    assert expected == governor.check("ada", **NEWSLETTER).allowed


def test_an_opt_in_without_an_instant_follows_one_told_for_now(govern):
    """A word without an instant is later than the last one of its scope that carries one."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", channel="email", at=NOON)
    governor.consent.opt_in("ada", channel="email")
    assert governor.check("ada", **NEWSLETTER)


PASSWORD_RESET = {"channel": "email", "category": "transactional"}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, []),
        ({"channel": "email"}, []),
        ({"category": "marketing"}, []),
        ({"category": "transactional"}, ["opted_out"]),
        ({"channel": "email", "category": "transactional"}, ["opted_out"]),
        ({"channel": "sms", "category": "transactional"}, []),
    ],
)
def test_essential_touches_survive_a_general_opt_out(scope, expected, govern):
    """An opt-out of everything does not stop a password reset; an opt-out of transactional does."""
    governor, clock = govern(ESSENTIAL, start=NOON)
    governor.consent.opt_out("ada", **scope)
    clock.advance(timedelta(minutes=1))
    assert expected == codes(governor.check("ada", **PASSWORD_RESET))


def test_a_general_opt_in_does_not_lift_an_opt_out_of_transactional(govern):
    """Broader never revives narrower, for essential categories too."""
    governor, _ = govern(ESSENTIAL, start=NOON)
    governor.consent.opt_out("ada", category="transactional", at=at(1))
    governor.consent.opt_in("ada", at=at(2))
    assert ["opted_out"] == codes(governor.check("ada", **PASSWORD_RESET))


def test_a_general_opt_in_lifts_a_general_opt_out(govern):
    """Who comes back to everything comes back to what the general opt-out had covered."""
    governor, _ = govern(ESSENTIAL, start=NOON)
    governor.consent.opt_out("ada", at=at(1))
    governor.consent.opt_in("ada", channel="email", at=at(2))
    assert ([], ["opted_out"]) == (
        codes(governor.check("ada", **NEWSLETTER)),
        codes(governor.check("ada", channel="sms", category="marketing")),
    )


def test_nothing_is_essential_where_the_policy_says_so(govern):
    """With an empty list of essential categories an opt-out of everything is of everything."""
    governor, _ = govern({"essential": []}, start=NOON)
    governor.consent.opt_out("ada", at=at(1))
    assert ["opted_out"] == codes(governor.check("ada", **PASSWORD_RESET))


def test_opted_out_is_refused_with_the_rule_named_consent(govern):
    """Time does not undo an opt-out: refused, no next instant, and the reason's rule is `consent`."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", at=at(1))
    decision = governor.check("ada", **NEWSLETTER)
    assert ("refused", None, "consent") == (decision.outcome, decision.next_allowed_at, decision.reasons[0].rule)


def test_required_consent_that_is_missing(govern):
    """A rule that requires an opt-in refuses silence, for what it selects and nothing else."""
    governor, _ = govern({"consent": {"marketing-opt-in": OPT_IN}}, start=NOON)
    asked = [governor.check("ada", channel=c, category=k) for c, k in (("email", "marketing"), ("email", "service"))]
    assert ["consent_missing"] == codes(asked[0])
    assert ("refused", "marketing-opt-in", True) == (asked[0].outcome, asked[0].reasons[0].rule, asked[1].allowed)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"channel": "email", "category": "marketing", "topic": "newsletter"}, []),
        ({"channel": "email", "category": "marketing"}, []),
        ({}, []),
        ({"channel": "sms"}, ["consent_missing"]),
        ({"channel": "email", "category": "service"}, ["consent_missing"]),
        ({"channel": "email", "category": "marketing", "topic": "digest"}, ["consent_missing"]),
    ],
)
def test_consent_is_never_inferred_from_a_narrower_or_another_one(scope, expected, govern):
    """A required opt-in is met by a consent whose scope contains the touch, and by no other."""
    governor, _ = govern({"consent": {"marketing-opt-in": OPT_IN}}, start=NOON)
    governor.consent.opt_in("ada", **scope, at=at(1))
    assert expected == codes(governor.check("ada", **NEWSLETTER))


@pytest.mark.parametrize(
    ("span", "given_at", "expires"),
    [
        ("1 month", datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("2 years", datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("1 year", datetime(2027, 3, 1, 12, tzinfo=UTC), datetime(2028, 3, 1, 12, tzinfo=UTC)),
        ("30 days", datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)),
    ],
)
def test_consent_expires_by_the_calendar(span, given_at, expires, govern):
    """Consent runs for calendar months and years, to the same day or the last one of a shorter month."""
    governor, clock = govern({"consent": {"aging": OPT_IN | {"expires_after": span}}}, start=given_at)
    governor.customers.set("ada", timezone="UTC")
    governor.consent.opt_in("ada", **NEWSLETTER)
    clock.set(expires - timedelta(milliseconds=1))
    before = codes(governor.check("ada", **NEWSLETTER))
    clock.set(expires + timedelta(milliseconds=1))
    assert ([], ["consent_expired"]) == (before, codes(governor.check("ada", **NEWSLETTER)))


def test_an_expired_opt_in_no_longer_lifts(govern):
    """When the opt-in that lifted an opt-out has expired, the opt-out holds again."""
    governor, clock = govern({"consent": {"aging": OPT_IN | {"expires_after": "1 month"}}}, start=NOON)
    governor.consent.opt_out("ada", at=at(1))
    governor.consent.opt_in("ada", **NEWSLETTER, at=at(2))
    fresh = governor.check("ada", **NEWSLETTER)
    clock.advance(timedelta(days=60))
    assert ([], True) == (codes(fresh), "opted_out" in codes(governor.check("ada", **NEWSLETTER)))


def test_a_lease_ends_with_the_consent(govern):
    """A reservation shortly before consent expires must be sent before it does."""
    governor, clock = govern({"consent": {"aging": OPT_IN | {"expires_after": "30 days"}}}, start=NOON)
    governor.consent.opt_in("ada", **NEWSLETTER)
    clock.set(NOON + timedelta(days=30) - timedelta(minutes=5))
    decision = governor.reserve("ada", **NEWSLETTER)
    assert timedelta(minutes=5) >= decision.reservation.send_before - clock()


def test_expiry_bounds_the_next_instant(govern):
    """When consent expires before the cap is free again, no later instant is promised."""
    caps = {"weekly": {"limit": "1 per 7 days", "select": {"channels": ["email"]}}}
    policy = {"consent": {"aging": OPT_IN | {"expires_after": "3 days"}}, "caps": caps}
    governor, _ = govern(policy, start=NOON)
    governor.consent.opt_in("ada", **NEWSLETTER)
    governor.record("ada", **NEWSLETTER, at=NOON)
    decision = governor.check("ada", **NEWSLETTER)
    assert ("refused", None) == (decision.outcome, decision.next_allowed_at)


def test_double_opt_in_takes_both_steps(govern):
    """Asked, then pending, then confirmed: only the confirmation allows."""
    governor, clock = govern({"consent": {"double": OPT_IN | {"require": "double_opt_in"}}}, start=NOON)
    seen = [codes(governor.check("ada", **NEWSLETTER))]
    for step in (governor.consent.request, governor.consent.confirm):
        clock.advance(timedelta(minutes=1))
        step("ada", **NEWSLETTER)
        seen.append(codes(governor.check("ada", **NEWSLETTER)))
    assert [["consent_missing"], ["consent_pending"], []] == seen


def test_status_follows_the_steps(govern):
    """The status at a scope goes from unknown over pending and opted in to opted out."""
    governor, clock = govern({}, start=NOON)
    steps = [governor.consent.request, governor.consent.confirm, governor.consent.opt_out]
    states = [governor.consent.status("ada", **NEWSLETTER).state]
    for step in steps:
        clock.advance(timedelta(minutes=1))
        step("ada", **NEWSLETTER)
        states.append(governor.consent.status("ada", **NEWSLETTER).state)
    assert ["unknown", "pending", "opted_in", "opted_out"] == states


def test_a_single_opt_in_is_not_a_double_one(govern):
    """Where a policy requires the double opt-in, a plain one does not do."""
    governor, _ = govern({"consent": {"double": OPT_IN | {"require": "double_opt_in"}}}, start=NOON)
    governor.consent.opt_in("ada", **NEWSLETTER, at=at(1))
    assert not governor.check("ada", **NEWSLETTER)


def test_a_request_lifts_no_opt_out(govern):
    """A pending consent is not a consent: the opt-out before it holds until the confirmation."""
    governor, clock = govern({}, start=NOON)
    governor.consent.opt_out("ada", **NEWSLETTER, at=at(1))
    seen = []
    for step in (governor.consent.request, governor.consent.confirm):
        step("ada", **NEWSLETTER)
        clock.advance(timedelta(minutes=1))
        seen.append(codes(governor.check("ada", **NEWSLETTER)))
    assert [["opted_out"], []] == seen


@pytest.mark.parametrize(
    ("opt_out", "expected"),
    [
        (None, False),
        ({}, True),
        ({"channel": "email"}, True),
        ({"channel": "sms"}, False),
        ({"topic": "digest"}, False),
    ],
)
def test_confirm_reports_an_opt_out_in_between(opt_out, expected, govern):
    """Who opted out between the reservation and the confirmation is reported, and the send stays a fact."""
    governor, clock = govern({}, start=NOON)
    decision = governor.reserve("ada", **NEWSLETTER, id="news-1")
    clock.advance(timedelta(minutes=1))
    if opt_out is not None:
        governor.consent.opt_out("ada", **opt_out)
    result = governor.confirm(decision.reservation)
    assert (expected, 1) == (bool(result.opted_out), len(list(governor.history("ada"))))


def test_an_opt_out_is_visible_to_the_very_next_decision(govern):
    """After an opt-out returns, neither a check nor a reservation is allowed, at the same instant already."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_in("ada", **NEWSLETTER)
    before = governor.check("ada", **NEWSLETTER)
    governor.consent.opt_out("ada")
    after = [governor.check("ada", **NEWSLETTER), governor.reserve("ada", **NEWSLETTER)]
    assert (True, [False, False]) == (before.allowed, [decision.allowed for decision in after])


def test_an_opt_out_is_visible_to_another_worker(govern_file):
    """An opt-out that one governor took is honoured by another on the same file."""
    shop, _ = govern_file({}, start=NOON)
    mailer, _ = govern_file({}, start=NOON)
    mailer.check("ada", **NEWSLETTER)
    shop.consent.opt_out("ada")
    assert ["opted_out"] == codes(mailer.reserve("ada", **NEWSLETTER))


def test_an_opt_out_survives_the_process_and_pruning(govern_file):
    """An opt-out is there after closing, opening, years and pruning."""
    first, _ = govern_file({"ledger": {"keep": "30 days"}}, start=NOON)
    first.consent.opt_out("ada")
    first.close()
    second, _ = govern_file({"ledger": {"keep": "30 days"}}, start=NOON + timedelta(days=2000))
    second.prune()
    assert ["opted_out"] == codes(second.check("ada", **NEWSLETTER))


def test_shadow_rules_do_not_soften_an_opt_out(govern):
    """A consent rule in shadow mode asks for nothing, and an opt-out is honoured all the same."""
    governor, _ = govern({"consent": {"shadow": OPT_IN | {"enforce": False}}}, start=NOON)
    silent = governor.check("ada", **NEWSLETTER)
    governor.consent.opt_out("ada")
    assert ([], ["opted_out"]) == (codes(silent), codes(governor.check("ada", **NEWSLETTER)))


@pytest.mark.parametrize("verb", ["opt_in", "opt_out", "request", "confirm"])
def test_future_instants_are_errors(verb, govern):
    """An event that has not happened yet is an error, and leaves nothing behind."""
    governor, _ = govern({}, start=NOON)
    with pytest.raises(FairtouchError):
        getattr(governor.consent, verb)("ada", **NEWSLETTER, at=NOON + timedelta(hours=1))
    assert "unknown" == governor.consent.status("ada", **NEWSLETTER).state


def test_instants_may_carry_any_offset(govern):
    """An aware instant in another offset is the same instant."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_in("ada", channel="email", at=NOON.astimezone(timezone(timedelta(hours=9))))
    governor.consent.opt_out("ada", channel="email", at=at(0))
    assert governor.check("ada", **NEWSLETTER)


def write_csv(path: Any, *rows: str) -> Any:
    """A file of consent rows, as another system exports it."""
    path.write_text("\n".join(["customer,channel,topic,category,status,at", *rows, ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("", ["opted_out"]),
        (at(9).isoformat(), ["opted_out"]),
        (at(10).isoformat(), ["opted_out"]),
        (at(11).isoformat(), []),
    ],
)
def test_imported_rows_lift_only_what_they_follow(instant, expected, govern, tmp_path):
    """An imported opt-in lifts an earlier opt-out; one that is stale, equal or without an instant lifts nothing."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", **NEWSLETTER, at=at(10))
    rows = f"ada,email,newsletter,marketing,opted_in,{instant}"
    governor.consent.import_file(write_csv(tmp_path / "consent.csv", rows))
    assert expected == codes(governor.check("ada", **NEWSLETTER))


@pytest.mark.parametrize("instant", ["", at(9).isoformat()])
def test_imported_opt_outs_count(instant, govern, tmp_path):
    """An imported opt-out is honoured, with an instant or without; empty cells mean any."""
    governor, _ = govern({}, start=NOON)
    governor.consent.import_file(write_csv(tmp_path / "consent.csv", f"ada,,,,opted_out,{instant}"))
    assert ["opted_out"] == codes(governor.check("ada", **NEWSLETTER))


def test_an_imported_opt_in_meets_a_requirement(govern, tmp_path):
    """Imported consent with an instant is consent."""
    governor, _ = govern({"consent": {"marketing-opt-in": OPT_IN}}, start=NOON)
    rows = f"ada,email,newsletter,marketing,opted_in,{at(1).isoformat()}"
    governor.consent.import_file(write_csv(tmp_path / "consent.csv", rows))
    assert [] == codes(governor.check("ada", **NEWSLETTER))


def test_history_keeps_every_word(govern):
    """The history lists what was said and when, the lifted opt-out too."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada", **NEWSLETTER, at=at(1))
    governor.consent.opt_in("ada", **NEWSLETTER, at=at(2), evidence={"source": "form", "text": "v3"})
    assert {at(1), at(2)} == {event.at for event in governor.consent.history("ada")}


def test_customers_do_not_share_consent(govern):
    """One customer's opt-out says nothing about another, nor about the same id in another namespace."""
    governor, _ = govern({}, start=NOON)
    governor.consent.opt_out("ada")
    assert governor.check("grace", **NEWSLETTER)


def test_namespaces_do_not_share_consent(govern_file):
    """One namespace's opt-out is not seen in another."""
    here, _ = govern_file({}, start=NOON, namespace="here")
    there, _ = govern_file({}, start=NOON, namespace="there")
    here.consent.opt_out("ada")
    assert ([False, True]) == [governor.check("ada", **NEWSLETTER).allowed for governor in (here, there)]
