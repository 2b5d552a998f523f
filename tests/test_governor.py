"""What the governor promises around the decisions: batches, guards, observers, lifts, pruned history."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from fairtouch import Decision, Governor, Policy, PolicyError, Refused, Reservation, StoreError, Touch, TouchError
from fairtouch.testing import FrozenClock

MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NIGHT = datetime(2026, 3, 2, 3, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def govern(request, tmp_path):
    """Makes governors on one kind of store, and closes them."""
    opened = []
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/touches.db"}
    url = urls.get(request.param) or request.getfixturevalue(f"{request.param}_url")

    def open_one(policy: dict, start: datetime = MONDAY_NOON, **options) -> tuple[Governor, FrozenClock]:
        clock = FrozenClock(start)
        opened.append(Governor(Policy.model_validate(policy), url, clock=clock, **options))
        return opened[-1], clock

    yield open_one
    for governor in opened:
        governor.close()


def codes(decision: Decision) -> list[str]:
    """The codes of the reasons."""
    return [reason.code.value for reason in decision.reasons]


def test_leaving_a_stream_early_gives_the_rest_back(govern):
    """What was reserved ahead and never looked at is released."""
    governor, _ = govern({})
    decisions = governor.reserve_many(Touch(f"customer-{number}", channel="email") for number in range(10))
    taken = list(islice(decisions, 3))
    decisions.close()
    held = [number for number in range(10) if governor.history(f"customer-{number}")]
    assert ([0, 1, 2], 3) == (held, len(taken))


@pytest.mark.parametrize(("verb", "batch"), [("check_many", 50), ("reserve_many", 500)])
def test_an_endless_stream_is_read_batch_by_batch(govern, verb, batch):
    """No more than a batch is read ahead."""
    read = []

    def endless():
        number = 0
        while True:
            number += 1
            read.append(number)
            yield Touch(f"customer-{number}", channel="email")

    governor, _ = govern({})
    decisions = getattr(governor, verb)(endless())
    assert batch + 1 == len(list(islice(decisions, batch + 1)))
    assert 2 * batch == len(read)
    decisions.close()


def test_a_refusal_inside_a_guarded_send_is_not_its_own(govern):
    """A guarded function that meets a refusal of another touch raises it, and does not take it for its own."""
    governor, _ = govern({"caps": {"sms-never": {"limit": "0 per 1 day", "select": {"channels": ["sms"]}}}})

    @governor.guard(lambda: Touch("ada", channel="email"), on_refused="skip")
    def send_both() -> None:
        with governor.touch("ada", channel="sms"):
            pytest.fail("the inner body must not run")

    with pytest.raises(Refused):
        send_both()
    assert [] == governor.history("ada")


def test_generators_cannot_be_guarded(govern):
    """A generator sends when it is iterated, long after the guard has looked."""
    governor, _ = govern({})

    def send():
        yield

    with pytest.raises(TypeError, match="generator"):
        governor.guard(lambda: Touch("ada", channel="email"))(send)


def test_an_observer_that_fails_changes_no_decision(govern, caplog):
    """Its error is logged, the decision stands, and the other observers hear of it."""
    governor, _ = govern({})
    heard = []

    def fail(decision: Decision) -> None:
        raise RuntimeError("out of order")

    governor.on_decision(fail)
    governor.on_decision(heard.append)
    decision = governor.reserve("ada", channel="email")
    assert (True, [decision]) == (decision.allowed, heard)
    assert "an observer of decisions failed" in caplog.text


@pytest.mark.parametrize(
    ("period", "used"), [("calendar day", 2), ("3 calendar days", 4), ("calendar week", 4), ("calendar month", 2)]
)
def test_a_clock_set_back_over_midnight_counts_that_days_dates(govern, period, used):
    """A plan made for today is not used for yesterday: the dates that end yesterday begin a day earlier."""
    governor, clock = govern(
        {"customer": {"timezones": ["UTC"]}, "caps": {"few": {"limit": f"9 per {period}"}}}, start=MONDAY_NOON
    )
    for days in range(-3, 1):
        governor.record("ada", MONDAY_NOON + timedelta(days=days), channel="email")
    governor.check("ada", channel="email")
    clock.set(MONDAY_NOON - timedelta(days=1))
    assert used == governor.check("ada", channel="email").checks[-1].used


HOURS = {"decent": {"open": {"mon-sun": "09:00-20:00"}, "lifted_by": {"topic": "any-hour"}}}
LIFTED = {"customer": {"timezones": ["UTC"]}, "quiet_hours": HOURS}


def test_a_consent_lifts_the_hours(govern):
    """Who agreed to any hour is contacted at night, until she says otherwise."""
    governor, clock = govern(LIFTED, NIGHT)
    before = codes(governor.reserve("ada", channel="push"))
    governor.consent.opt_in("ada", topic="any-hour")
    lifted = governor.reserve("ada", channel="push")
    clock.advance(timedelta(minutes=1))
    governor.consent.opt_out("ada", topic="any-hour")
    after = codes(governor.reserve("ada", channel="push"))
    assert (["quiet_hours"], True, ["quiet_hours"]) == (before, lifted.allowed, after)


def test_a_blanket_consent_does_not_lift_the_hours(govern):
    """Agreeing to everything is no answer to the question about the hours."""
    governor, _ = govern(LIFTED, NIGHT)
    governor.consent.opt_in("ada")
    governor.consent.opt_in("ada", channel="push")
    assert ["quiet_hours"] == codes(governor.reserve("ada", channel="push"))


EXPIRING = {"consent": {"yes": {"require": "opt_in", "expires_after": "1 month"}}}


def test_a_consent_is_good_to_its_last_millisecond(govern):
    """On the last day of a consent the touch is still reserved, and must be sent before it ends."""
    governor, clock = govern(EXPIRING, datetime(2026, 1, 31, 12, tzinfo=UTC))
    governor.consent.opt_in("ada")
    end = datetime(2026, 2, 28, 12, tzinfo=UTC)
    clock.set(end - timedelta(milliseconds=1))
    last = governor.reserve("ada", channel="email")
    clock.set(end)
    assert (end, ["consent_expired"]) == (last.reservation.send_before, codes(governor.reserve("ada", channel="email")))


def test_a_lease_ends_with_the_open_hours(govern):
    """A reservation taken just before the hours close must be used before they do."""
    governor, _ = govern(LIFTED, datetime(2026, 3, 2, 19, 55, tzinfo=UTC))
    decision = governor.reserve("ada", channel="push")
    assert datetime(2026, 3, 2, 20, tzinfo=UTC) == decision.reservation.send_before


def test_a_reservation_travels_as_json(govern):
    """Another process can confirm it; the text names neither customer nor address."""
    governor, _ = govern({})
    reservation = governor.reserve("ada", channel="email", address="ada@example.com", id="1").reservation
    text = reservation.to_json()
    settled = governor.confirm(Reservation.from_json(text))
    assert ("confirmed", True, "confirmed") == (settled.state, settled.changed, governor.history("ada")[0].state)
    assert "ada" not in text


def test_a_decision_travels_as_json(govern):
    """Everything but the touch comes back, refusals with the touches that fill the cap included."""
    governor, _ = govern({"caps": {"daily": {"limit": "1 per 24 hours"}}})
    governor.reserve("ada", channel="email", id="1")
    refused = governor.reserve("ada", channel="email", id="2")
    again = Decision.from_json(refused.to_json())
    assert (refused, refused.explain()) == (again, again.explain())


def test_a_cap_that_looks_into_pruned_history_is_an_error(govern, tmp_path):
    """A policy whose cap would count too little is refused, with the date from which on it can count."""
    short, clock = govern({"ledger": {"keep": "10 days"}})
    short.record("ada", at=MONDAY_NOON - timedelta(days=9), channel="email")
    clock.advance(timedelta(days=5))
    short.prune()
    store = short._store
    cap = {"limit": "1 per 30 days"}
    with pytest.raises(PolicyError, match="effective_from = 2026-03-28"):
        Governor(Policy.model_validate({"caps": {"monthly": cap}}), store, clock=clock)
    later = {"caps": {"monthly": cap | {"effective_from": "2026-03-28"}}}
    assert Governor(Policy.model_validate(later), store, clock=clock).check("ada", channel="email")


def test_the_policy_is_not_a_dict(govern):
    """A dict in the place of a policy is an error that says how to make one."""
    with pytest.raises(PolicyError, match="model_validate"):
        Governor({"caps": {}}, "memory://")


def test_several_namespaces_share_a_store_and_nothing_else(govern):
    """Brands in one file have their own histories and their own opt-outs."""
    one, _ = govern({}, namespace="one")
    two = Governor(Policy.model_validate({}), one._store, namespace="two", clock=FrozenClock(MONDAY_NOON))
    one.consent.opt_out("ada")
    assert (["opted_out"], True) == (
        codes(one.check("ada", channel="email")),
        two.check("ada", channel="email").allowed,
    )


def test_an_error_that_was_handled_before_the_send_says_nothing_about_it(govern):
    """Whoever tries again after a time-out gets the slot back when the second try is certainly refused."""
    governor, _ = govern({})

    def try_again() -> None:
        try:
            raise TimeoutError("the first server")
        except TimeoutError:
            with governor.touch("ada", channel="email"):
                raise ValueError("the second server said no") from None

    with pytest.raises(ValueError, match="second"):
        try_again()
    assert [] == governor.history("ada")


AMERICAN = {"caps": {"us-never": {"limit": "0 per 1 day", "select": {"countries": ["US"], "regions": ["us-fl"]}}}}


@pytest.mark.parametrize("country", ["US", "us", None])
@pytest.mark.parametrize("region", ["US-FL", "us-fl", None])
def test_a_place_is_selected_in_either_case_and_when_it_is_unknown(govern, country, region):
    """A rule for a place holds however the code is written, and for customers who may live there."""
    governor, _ = govern(AMERICAN)
    governor.customers.set("ada", country=country, region=region)
    assert ["cap_reached"] == codes(governor.check("ada", channel="email"))
    assert ["cap_reached"] == codes(governor.check("bob", channel="email", country=country, region=region))


def test_a_country_that_no_rule_could_select_is_an_error(govern):
    """A name in the place of a code would silently leave a customer without her country's rules."""
    governor, _ = govern(AMERICAN)
    for act in (
        lambda: governor.customers.set("ada", country="USA"),
        lambda: governor.check("ada", channel="email", country="USA"),
    ):
        with pytest.raises(TouchError, match="ISO 3166-1"):
            act()
    with pytest.raises(PolicyError, match="countries"):
        Policy.model_validate({"caps": {"x": {"limit": "0 per 1 day", "select": {"countries": ["USA"]}}}})


def test_an_import_names_every_line_that_cannot_be_used(govern, tmp_path):
    """Unknown words are found line by line before the first one is kept."""
    governor, _ = govern({})
    path = tmp_path / "consents.csv"
    rows = ["customer,channel,status,at", "ada,email,opted_in,", "ada,fax,opted_in,", "ada,sms,maybe,"]
    path.write_text("\n".join([*rows, "ada,sms,opted_in,2026-01-01"]))
    with pytest.raises(TouchError, match=r"(?s)line 3: 'fax'.*line 4: .*maybe.*line 5: .*no time zone"):
        governor.consent.import_file(path)
    assert [] == governor.consent.history("ada")


def test_a_wish_may_not_look_beyond_the_horizon(govern):
    """A wish that pruning would make forget is refused when it is made."""
    governor, _ = govern({"ledger": {"keep": "30 days"}})
    with pytest.raises(TouchError, match=r"ledger\.keep = '30 days'"):
        governor.customers.set("ada", wishes={"email": "1 per 60 days"})


def test_one_namespace_does_not_prune_what_another_counts(govern):
    """Where brands share a store, the longest horizon holds for all."""
    short, clock = govern({"ledger": {"keep": "10 days"}}, namespace="short")
    long = Governor(
        Policy.model_validate({"caps": {"x": {"limit": "1 per 90 days"}}}), short._store, namespace="long", clock=clock
    )
    long.reserve("ada", channel="email", id="1")
    clock.advance(timedelta(days=30))
    assert (0, ["cap_reached"]) == (short.prune(), codes(long.check("ada", channel="email")))


@pytest.mark.parametrize("topic", ["", " ", "x" * 300, 7, "\ud800"])
def test_a_word_has_a_usable_scope(govern, topic):
    """An empty, over-long or unreadable topic is an error, and never stands for every topic."""
    governor, _ = govern({})
    governor.consent.opt_out("eve")
    for speak in (governor.consent.opt_in, governor.consent.opt_out, governor.consent.request, governor.consent.status):
        with pytest.raises(TouchError):
            speak("eve", topic=topic)
    assert ["opted_out"] == codes(governor.check("eve", channel="email"))


def test_feedback_about_the_future_records_nothing(govern):
    """Neither the event nor the suppression is kept when the instant is wrong."""
    governor, _ = govern({})
    with pytest.raises(TouchError, match="nothing was recorded"):
        governor.feedback(
            "complaint", customer="ada", address="a@b.example", channel="email", at=MONDAY_NOON + timedelta(days=1)
        )
    assert (False, []) == (governor.suppressions.contains("a@b.example", "email"), governor.history("ada"))


def test_one_id_tells_different_events_apart(govern):
    """The message's id may stand for its opening and for its click."""
    governor, _ = govern({})
    told = [
        governor.feedback(event, customer="ada", channel="email", id="message-7") for event in ("open", "click", "open")
    ]
    assert ([True, True, False], 2) == (told, len(governor.history("ada")))


@pytest.mark.parametrize("secret", ["", b"", 5])
def test_a_secret_is_a_text(govern, secret):
    """An empty or wrongly typed secret is not taken for none."""
    with pytest.raises(TouchError, match="secret"):
        govern({}, secret=secret)


def test_what_is_no_store_and_no_reservation_is_said_so(govern):
    """The errors name what to pass instead."""
    governor, _ = govern({})
    with pytest.raises(StoreError, match="sqlite:///"):
        Governor(Policy(), None)
    with pytest.raises(TouchError, match=r"decision\.reservation"):
        governor.confirm(governor.check("ada", channel="email"))
    with pytest.raises(TypeError, match="'skip'"):
        governor.guard(lambda: Touch("ada", channel="email"), on_refused="ignore")


@pytest.mark.parametrize(
    "policy",
    [
        {"caps": {"x": {"limit": "1 per 9999999 weeks"}}},
        {"caps": {"x": {"limit": "1 per 9999999 calendar days"}}},
        {"consent": {"x": {"require": "opt_in", "expires_after": "99999 years"}}},
        {"caps": {"consent": {"limit": "1 per 7 days"}}},
        {"caps": {"x": {"limit": "1 per 7 days", "counts": {"events": ["reply"], "topics": ["a"]}}}},
    ],
)
def test_rules_that_would_fail_later_fail_at_load(policy):
    """Periods beyond a century, names of built-in checks, and keys that nothing reads are errors of the policy."""
    with pytest.raises(PolicyError):
        Policy.model_validate(policy | {"ledger": {"keep": "36000 days"}})


@pytest.mark.parametrize(
    ("until", "first_free"),
    [
        ("2026-03-05T12:00:00Z", datetime(2026, 3, 5, 12, tzinfo=UTC)),
        ("2026-03-05", datetime(2026, 3, 6, tzinfo=UTC)),
    ],
)
def test_a_rule_ends_at_its_instant_or_after_its_last_day(govern, until, first_free):
    """An instant is the first at which the rule no longer holds; a date is the last day on which it does, in UTC."""
    governor, clock = govern({"caps": {"pause": {"limit": "0 per 1 day", "effective_until": until}}})
    asked = governor.check("ada", channel="email")
    clock.set(first_free - timedelta(milliseconds=1))
    before = codes(governor.check("ada", channel="email"))
    clock.set(first_free)
    after = codes(governor.check("ada", channel="email"))
    assert (first_free, ["cap_reached"], []) == (asked.next_allowed_at, before, after)


def test_a_rule_begins_at_its_instant(govern):
    """The instant from which on a rule holds is the first at which it does."""
    start = MONDAY_NOON + timedelta(days=1)
    governor, clock = govern({"caps": {"pause": {"limit": "0 per 1 day", "effective_from": start.isoformat()}}})
    clock.set(start - timedelta(milliseconds=1))
    before = codes(governor.check("ada", channel="email"))
    clock.set(start)
    assert ([], ["cap_reached"]) == (before, codes(governor.check("ada", channel="email")))
