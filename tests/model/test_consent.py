"""Consent and suppression, by hand."""

from itertools import permutations
from typing import Any

import pytest

from .cases import ADA, MS, instant, passes, take, touch, verdict
from .model import Model

NOON = instant("2024-06-01T12:00Z")
OPT_IN = {"select": {"channels": ["email", "sms"], "categories": ["marketing"]}, "require": "opt_in"}


def asking(**table: Any) -> Model:
    """A model whose rule "rule" requires an opt-in for marketing by e-mail and SMS."""
    return Model({"essential": ["transactional"], "consent": {"rule": {**OPT_IN, **table}}})


def silent() -> Model:
    """A model that requires nothing: only opt-outs say no."""
    return Model({"essential": ["transactional"]})


def withdrawn(model: Model, **fields: Any) -> bool:
    """Whether an opt-out forbids the touch, long after all that was said."""
    return ("opted_out", "consent") in model.judge(touch(**fields), NOON).reasons


def test_without_a_word_consent_is_missing_and_time_does_not_help() -> None:
    """A touch that the rule does not select needs nothing."""
    model = asking()
    assert model.judge(touch(), NOON) == verdict("refused", ("consent_missing", "rule"))
    assert model.next_allowed_at(touch(), NOON) is None
    assert passes(model, "2024-06-01T12:00Z", category="service")
    assert passes(model, "2024-06-01T12:00Z", channel="push")


@pytest.mark.parametrize(
    ("scope", "enough"),
    [
        ({}, True),
        ({"category": "marketing"}, True),
        ({"channel": "email"}, True),
        ({"topic": "newsletter"}, True),
        ({"category": "marketing", "channel": "email", "topic": "newsletter"}, True),
        ({"category": "service"}, False),
        ({"channel": "sms"}, False),
        ({"topic": "offers"}, False),
        ({"category": "marketing", "channel": "email", "topic": "offers"}, False),
    ],
)
def test_an_opt_in_is_enough_for_what_its_scope_contains(scope: dict[str, str], enough: bool) -> None:
    """A scope names a value or any; a consent for one thing is never taken for another."""
    model = asking()
    model.opt_in(ADA, at=NOON - 9, **scope)
    assert passes(model, "2024-06-01T12:00Z", topic="newsletter") is enough


def test_an_opt_in_for_a_topic_is_not_one_for_touches_without_a_topic() -> None:
    """A broader consent is never inferred from a narrower one."""
    model = asking()
    model.opt_in(ADA, at=NOON - 9, topic="newsletter")
    assert not passes(model, "2024-06-01T12:00Z")


def test_a_scope_without_a_category_leaves_the_essential_ones_out() -> None:
    """A general opt-out does not stop receipts, and a general opt-in does not allow them; by name both do."""
    model = Model({"essential": ["transactional"], "consent": {"rule": {"require": "opt_in"}}})
    receipt = {"category": "transactional"}
    model.opt_in(ADA, at=NOON - 9)
    assert model.judge(touch(**receipt), NOON) == verdict("refused", ("consent_missing", "rule"))
    model.opt_in(ADA, at=NOON - 8, category="transactional")
    model.opt_out(ADA, at=NOON - 7)
    assert passes(model, "2024-06-01T12:00Z", **receipt)
    assert withdrawn(model)
    model.opt_out(ADA, at=NOON - 6, category="transactional")
    assert withdrawn(model, **receipt)


def test_nothing_is_essential_unless_the_policy_says_so() -> None:
    """Then a general opt-out stops everything."""
    model = Model({})
    model.opt_out(ADA, at=NOON - 9)
    assert withdrawn(model, category="transactional")


def test_an_opt_out_is_honoured_where_no_rule_asks_for_consent() -> None:
    """It refuses at once, and waiting does not help."""
    model = silent()
    model.opt_out(ADA, at=NOON, channel="email")
    assert model.judge(touch(), NOON) == verdict("refused", ("opted_out", "consent"))
    assert passes(model, "2024-06-01T12:00Z", channel="sms")


def test_a_narrower_opt_in_lifts_a_broader_opt_out_for_itself_only() -> None:
    """No to everything, then yes to the newsletter by e-mail: that, and nothing else."""
    model = silent()
    model.opt_out(ADA, at=NOON - 9)
    model.opt_in(ADA, at=NOON - 8, channel="email", topic="newsletter")
    assert not withdrawn(model, topic="newsletter")
    assert withdrawn(model, topic="newsletter", channel="sms")
    assert withdrawn(model, topic="offers")
    assert withdrawn(model)


def test_a_broader_opt_in_never_revives_what_was_narrowly_declined() -> None:
    """No to e-mail, then yes to everything: still no e-mail. The requirement of an opt-in as such is met."""
    model = asking()
    model.opt_out(ADA, at=NOON - 9, channel="email")
    model.opt_in(ADA, at=NOON - 8)
    assert model.judge(touch(), NOON) == verdict("refused", ("opted_out", "consent"))
    assert passes(model, "2024-06-01T12:00Z", channel="sms")


def test_the_same_scope_lifts_itself() -> None:
    """Yes, no, yes is yes."""
    model = asking()
    model.opt_in(ADA, at=NOON - 9, channel="email")
    model.opt_out(ADA, at=NOON - 8, channel="email")
    assert model.judge(touch(), NOON) == verdict("refused", ("opted_out", "consent"), ("consent_missing", "rule"))
    model.opt_in(ADA, at=NOON - 7, channel="email")
    assert passes(model, "2024-06-01T12:00Z")


def test_scopes_of_which_neither_contains_the_other_lift_nothing() -> None:
    """No to e-mail, then yes to the newsletter on any channel: the newsletter by e-mail stays declined."""
    model = silent()
    model.opt_out(ADA, at=NOON - 9, channel="email")
    model.opt_in(ADA, at=NOON - 8, topic="newsletter")
    assert withdrawn(model, topic="newsletter")


def test_a_yes_to_a_category_does_not_lift_a_no_to_a_topic() -> None:
    """Even if all of the topic is of that category by default."""
    model = Model({"topics": {"newsletter": {"category": "marketing"}}})
    model.opt_out(ADA, at=NOON - 9, topic="newsletter")
    model.opt_in(ADA, at=NOON - 8, category="marketing")
    assert withdrawn(model, topic="newsletter")


def test_every_opt_out_needs_lifting() -> None:
    """A yes between two noes lifts the earlier one only."""
    model = silent()
    model.opt_out(ADA, at=NOON - 9)
    model.opt_in(ADA, at=NOON - 8, channel="email", topic="newsletter")
    model.opt_out(ADA, at=NOON - 7, channel="email")
    assert withdrawn(model, topic="newsletter")
    model.opt_in(ADA, at=NOON - 6, channel="email", topic="newsletter")
    assert not withdrawn(model, topic="newsletter")


def test_at_equal_instants_the_opt_out_wins() -> None:
    """For the requirement of an opt-in as well."""
    model = asking()
    model.opt_out(ADA, at=NOON - 9, channel="email")
    model.opt_in(ADA, at=NOON - 9, channel="email")
    assert model.judge(touch(), NOON) == verdict("refused", ("opted_out", "consent"), ("consent_missing", "rule"))
    model.opt_in(ADA, at=NOON - 9 + MS, channel="email")
    assert passes(model, "2024-06-01T12:00Z")


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        (
            [("opt_out", 1, None), ("opt_in", 2, "email"), ("opt_out", 3, "email"), ("opt_in", 4, None)],
            {("opted_out", "consent")},
        ),
        ([("opt_out", 1, "email"), ("opt_in", 2, "email"), ("opt_out", 3, "email"), ("opt_in", 4, "email")], set()),
        (
            [("opt_in", 1, "email"), ("opt_out", 2, "email"), ("opt_in", 3, "email"), ("opt_out", 4, "email")],
            {("opted_out", "consent"), ("consent_missing", "rule")},
        ),
    ],
)
def test_what_was_said_settles_the_same_in_whichever_order_it_arrives(
    said: list[tuple[str, int, str | None]], reasons: set[tuple[str, str]]
) -> None:
    """Of each scope only the latest yes and the latest no matter."""
    for order in permutations(said):
        model = asking()
        for verb, when, channel in order:
            getattr(model, verb)(ADA, at=when, channel=channel)
        assert model.judge(touch(), NOON).reasons == reasons


@pytest.mark.parametrize(
    ("span", "said", "last"),
    [
        ("1 month", "2024-01-31T12:00:00.007Z", "2024-02-29T12:00:00.006Z"),
        ("1 month", "2023-01-30T12:00Z", "2023-02-28T11:59:59.999Z"),
        ("1 year", "2024-02-29T12:00Z", "2025-02-28T11:59:59.999Z"),
        ("2 years", "2024-02-28T12:00Z", "2026-02-28T11:59:59.999Z"),
        ("14 months", "2023-12-31T12:00Z", "2025-02-28T11:59:59.999Z"),
        ("30 days", "2024-02-29T12:00Z", "2024-03-30T11:59:59.999Z"),
    ],
)
def test_consent_expires_by_the_calendar_to_the_millisecond(span: str, said: str, last: str) -> None:
    """The same day and time so many months later in UTC, or the last day of a shorter month."""
    model = asking(expires_after=span)
    model.opt_in(ADA, at=instant(said))
    assert model.judge(touch(), instant(last)).outcome == "allowed"
    assert model.judge(touch(), instant(last) + MS) == verdict("refused", ("consent_expired", "rule"))


def test_an_expired_opt_in_no_longer_lifts_an_opt_out() -> None:
    """No to everything, yes to e-mail, and a month later it is no again, for both reasons."""
    model = asking(expires_after="1 month")
    model.opt_out(ADA, at=instant("2024-01-01T00:00Z"))
    model.opt_in(ADA, at=instant("2024-01-02T00:00Z"), channel="email")
    assert passes(model, "2024-02-01T23:59:59.999Z")
    decided = model.judge(touch(), instant("2024-02-02T00:00Z"))
    assert decided == verdict("refused", ("opted_out", "consent"), ("consent_expired", "rule"))


def test_consent_that_was_declined_after_it_expired_is_missing() -> None:
    """Expired is only what would hold but for its age."""
    model = asking(expires_after="1 month")
    model.opt_in(ADA, at=instant("2024-01-02T00:00Z"), channel="email")
    model.opt_out(ADA, at=instant("2024-01-03T00:00Z"), channel="email", topic="newsletter")
    letter = touch(topic="newsletter")
    assert model.judge(letter, NOON) == verdict("refused", ("opted_out", "consent"), ("consent_missing", "rule"))
    assert model.judge(touch(), NOON) == verdict("refused", ("consent_expired", "rule"))


def test_an_opt_in_does_not_expire_where_no_rule_says_so() -> None:
    """What a rule for e-mail and SMS says of expiry is nothing to push messages."""
    model = asking(expires_after="1 month")
    model.opt_out(ADA, at=instant("2004-01-01T00:00Z"))
    model.opt_in(ADA, at=instant("2004-01-02T00:00Z"), channel="push")
    assert passes(model, "2024-01-01T00:00Z", channel="push")


def test_each_rule_has_its_own_expiry() -> None:
    """The strictest wins: one rule's expiry is enough to say no, and only that rule says it."""
    model = Model(
        {"consent": {"long": {"require": "opt_in"}, "short": {"require": "opt_in", "expires_after": "1 day"}}}
    )
    model.opt_in(ADA, at=NOON - 2 * 86_400_000)
    assert model.judge(touch(), NOON) == verdict("refused", ("consent_expired", "short"))


def test_waiting_does_not_help_if_the_consent_runs_out_first() -> None:
    """The cap has room again on the eighth, the consent only lasts until the fifth."""
    model = Model(
        {
            "consent": {"rule": {**OPT_IN, "expires_after": "4 days"}},
            "caps": {"cap": {"limit": "1 per 7 days"}},
        }
    )
    model.opt_in(ADA, at=NOON)
    take(model, "2024-06-01T12:00Z")
    assert model.judge(touch(), NOON) == verdict("refused", ("cap_reached", "cap"))
    assert model.next_allowed_at(touch(), NOON) is None
    model.opt_in(ADA, at=NOON + 3 * 86_400_000 + MS)
    assert model.judge(touch(), NOON).outcome == "deferred"
    assert model.next_allowed_at(touch(), NOON) == instant("2024-06-08T12:00Z")


def test_a_suppressed_address_is_refused_on_its_channel() -> None:
    """A touch without an address is not checked."""
    model = silent()
    model.suppress("ada@example.com", channel="email")
    address = {"address": "ada@example.com"}
    assert model.judge(touch(**address), NOON) == verdict("refused", ("suppressed", "suppression"))
    assert passes(model, "2024-06-01T12:00Z", channel="push", **address)
    assert passes(model, "2024-06-01T12:00Z")
    model.unsuppress("ada@example.com", channel="email")
    assert passes(model, "2024-06-01T12:00Z", **address)
