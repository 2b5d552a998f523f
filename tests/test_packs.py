"""The packs say what their sources say: to the millisecond at their hours, to the touch at their caps, and only where
they hold.
"""

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.easter import easter

from fairtouch import Governor, Policy, PolicyError
from fairtouch.policy.load import load_pack, pack_names
from fairtouch.testing import FrozenClock

PACKS = pack_names()
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "packs.md"
SECTIONS = ("consent", "quiet_hours", "caps", "cooldowns")
MILLISECOND = timedelta(milliseconds=1)
MONDAY = date(2026, 11, 23)
OPEN_AND_CLOSED = [False, True, True, False]

MARKETING = {"category": "marketing"}
COLLECTION = {"category": "debt_collection", "country": "US"}
CALL = {"channel": "voice"}
FRENCH_CALL = CALL | MARKETING | {"country": "FR", "timezone": "Europe/Paris"}
COLLECTION_CALL = CALL | COLLECTION | {"timezone": "America/New_York"}


def source_of(name: str) -> str:
    """The text of a pack."""
    return files("fairtouch.policy").joinpath("packs", f"{name}.toml").read_text("utf-8")


def rules_of(name: str) -> dict[str, dict[str, Any]]:
    """The rules of a pack as they are written, by the name that decisions use."""
    pack = tomllib.loads(source_of(name))
    return {f"{name}:{rule}": keys for section in SECTIONS for rule, keys in pack.get(section, {}).items()}


RULES = {name: keys for pack in PACKS for name, keys in rules_of(pack).items()}


def policy(*packs: str, **sections: Any) -> Policy:
    """A policy that extends packs and declares the category that us/reg-f needs."""
    data = {"name": "shop", "extends": list(packs), "categories": ["debt_collection"], **sections}
    return Policy.model_validate(data)


def without(*rules: str) -> dict[str, Any]:
    """Waives rules, so that another one is seen alone."""
    return {"waive": {rule: {"because": "another rule is looked at"} for rule in rules}}


def at(zone: str, day: date, clock: str) -> datetime:
    """What a clock on the wall reads somewhere, as an instant."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def allows(rules: Policy, now: datetime, **touch: Any) -> bool:
    """Whether an empty ledger would take a touch at an instant."""
    with Governor(rules, "memory://", clock=FrozenClock(now)) as governor:
        return governor.check("ada", **touch).allowed


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that each test sets."""
    return FrozenClock(datetime(2026, 11, 23, 12, tzinfo=UTC))


@pytest.fixture
def collector(clock: FrozenClock) -> Iterator[Governor]:
    """A debt collector whose hours are waived, so that the frequency is seen alone."""
    with Governor(policy("us/reg-f", **without("us/reg-f:hours")), "memory://", clock=clock) as governor:
        yield governor


@pytest.fixture
def seller(clock: FrozenClock) -> Iterator[Governor]:
    """A French telemarketer whose hours are waived, so that the frequency is seen alone."""
    rules = policy("fr/telemarketing", **without("fr/telemarketing:hours"))
    with Governor(rules, "memory://", clock=clock) as governor:
        yield governor


def call(governor: Governor, clock: FrozenClock, moment: datetime, **touch: Any) -> None:
    """Place a call at an instant: reserved, made, confirmed."""
    clock.set(moment)
    with governor.touch("ada", **touch):
        pass


def assert_free_from(governor: Governor, clock: FrozenClock, moment: datetime, rule: str, **touch: Any) -> None:
    """One rule defers the touch until an instant: it says so now, says no a millisecond before, and says yes then."""
    decision = governor.check("ada", **touch)
    assert ([rule], moment) == ([reason.rule for reason in decision.reasons], decision.next_allowed_at)
    verdicts = []
    for instant in (moment - MILLISECOND, moment):
        clock.set(instant)
        verdicts.append(governor.check("ada", **touch).allowed)
    assert verdicts == [False, True]


# What every pack is


def test_the_packs_of_the_first_release_are_there() -> None:
    """These packs come with fairtouch, under these names."""
    assert PACKS == ("ca/utr", "fr/telemarketing", "mailbox-providers", "us/reg-f", "us/tcpa")


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_loads_alone(name: str) -> None:
    """Every pack can be the only one that a policy extends, and decisions then carry its version."""
    assert policy(name).versions[name] == "2026-11-21"


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_is_called_as_it_is_extended(name: str) -> None:
    """A pack's name is its path."""
    assert load_pack(name).name == name


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_says_what_it_is_not(name: str) -> None:
    """Every pack opens with its date and with what it does not cover, and is no legal advice."""
    header = " ".join(source_of(name).partition("\nname =")[0].replace("\n#", "\n").split())
    told = (f"# {name}: ", "As of 2026-11-21. Not legal advice.", "Not covered")
    assert [text for text in told if text not in header] == []


@pytest.mark.parametrize("name", PACKS)
def test_a_pack_without_rules_says_so(name: str) -> None:
    """Nobody believes to be covered by a pack that has no rules."""
    assert bool(rules_of(name)) is not ("This pack has no rules" in (load_pack(name).note or ""))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_can_be_looked_up(rule: str) -> None:
    """Every rule carries its citation, the address of its source, its date, and a note on how certain it is."""
    keys = RULES[rule]
    assert keys["source"].startswith("https://")
    assert (date(2026, 11, 21), True, True) == (
        keys["as_of"],
        bool(keys["citation"]),
        "verified in the source" in keys["note"].lower(),
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_whom_it_is_about(rule: str) -> None:
    """Every rule selects channels, categories and countries; none holds for everybody."""
    assert RULES[rule]["select"].keys() == {"channels", "categories", "countries"}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_binds_its_countries_only(rule: str) -> None:
    """A rule applies in each of its countries and where the country is unknown, and nowhere else."""
    select = RULES[rule]["select"]
    touch = {"channel": select["channels"][0], "category": select["categories"][0], "timezone": "UTC"}
    rules, applies = policy(rule.partition(":")[0]), {}
    with Governor(rules, "memory://", clock=FrozenClock(datetime(2026, 11, 23, 12, tzinfo=UTC))) as governor:
        for country in (*select["countries"], None, "ZZ"):
            decision = governor.check("ada", country=country, **touch)
            applies[country] = rule in [check.rule for check in decision.checks]
    assert dict.fromkeys(select["countries"], True) | {None: True, "ZZ": False} == applies


def test_the_page_lists_every_rule() -> None:
    """The page about packs names each pack and version, and each rule with its citation and its source."""
    page = PAGE.read_text("utf-8")
    told = [f"`{name}`" for name in PACKS]
    told += [f"`{rule.partition(':')[2]}`" for rule in RULES]
    told += [text for keys in RULES.values() for text in (keys["citation"], keys["source"])]
    assert [text for text in told if text not in page] == []


# Hours

EDGES = [
    ("us/tcpa", CALL | MARKETING, "America/New_York", MONDAY, "08:00-21:00"),
    ("us/tcpa", {"channel": "sms", **MARKETING}, "America/Los_Angeles", MONDAY - timedelta(days=1), "08:00-21:00"),
    ("us/tcpa", CALL | MARKETING, "Pacific/Honolulu", date(2026, 12, 25), "08:00-21:00"),
    ("us/reg-f", CALL | COLLECTION, "America/Chicago", MONDAY, "08:00-21:00"),
    ("us/reg-f", {"channel": "sms", **COLLECTION}, "America/Denver", MONDAY, "08:00-21:00"),
    ("us/reg-f", {"channel": "email", **COLLECTION}, "America/Anchorage", MONDAY, "08:00-21:00"),
    ("us/reg-f", {"channel": "push", **COLLECTION}, "America/New_York", MONDAY - timedelta(days=2), "08:00-21:00"),
    ("fr/telemarketing", CALL | MARKETING, "Europe/Paris", MONDAY, "10:00-13:00"),
    ("fr/telemarketing", CALL | MARKETING, "Europe/Paris", MONDAY, "14:00-20:00"),
    ("fr/telemarketing", CALL | MARKETING, "Indian/Reunion", MONDAY + timedelta(days=4), "14:00-20:00"),
    ("ca/utr", CALL | MARKETING, "America/Toronto", MONDAY, "09:00-21:30"),
    ("ca/utr", CALL | MARKETING, "America/St_Johns", MONDAY + timedelta(days=4), "09:00-21:30"),
    ("ca/utr", CALL | MARKETING, "America/Vancouver", MONDAY + timedelta(days=5), "10:00-18:00"),
    ("ca/utr", CALL | MARKETING, "America/Halifax", MONDAY + timedelta(days=6), "10:00-18:00"),
]


@pytest.mark.parametrize(("pack", "touch", "zone", "day", "hours"), EDGES)
def test_hours_hold_to_the_millisecond(pack: str, touch: dict[str, str], zone: str, day: date, hours: str) -> None:
    """In the customer's zone a pack opens with its first minute and closes with its last, to the millisecond."""
    first, end = (at(zone, day, clock) for clock in hours.split("-"))
    instants = (first - MILLISECOND, first, end - MILLISECOND, end)
    assert [allows(policy(pack), now, timezone=zone, **touch) for now in instants] == OPEN_AND_CLOSED


@pytest.mark.parametrize("day", [MONDAY + timedelta(days=5), MONDAY + timedelta(days=6)])
def test_nobody_in_france_is_called_at_the_weekend(day: date) -> None:
    """Saturdays and Sundays are closed in France."""
    assert not allows(policy("fr/telemarketing"), at("Europe/Paris", day, "11:00"), **FRENCH_CALL)


@pytest.mark.parametrize("year", range(2026, 2031))
def test_nobody_in_france_is_called_on_a_holiday(year: int) -> None:
    """On a weekday of these years France is open at eleven unless the day is one of the eleven public holidays."""
    fixed = [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)]
    holidays = {date(year, month, day) for month, day in fixed}
    holidays |= {easter(year) + timedelta(days=days) for days in (1, 39, 50)}
    weekdays = [day for n in range(366) if (day := date(year, 1, 1) + timedelta(days=n)).weekday() < 5]
    clock, closed = FrozenClock(datetime(year, 1, 1, tzinfo=UTC)), set()
    with Governor(policy("fr/telemarketing"), "memory://", clock=clock) as governor:
        for day in weekdays:
            clock.set(at("Europe/Paris", day, "11:00"))
            if day.year == year and not governor.check("ada", **FRENCH_CALL):
                closed.add(day)
    assert {day for day in holidays if day.weekday() < 5} == closed


def test_an_unknown_zone_is_open_only_where_every_candidate_is() -> None:
    """A collector who does not know where the debtor is may call when it is neither early nor late anywhere likely."""
    rules = policy("us/reg-f", customer={"timezones": ["America/New_York", "America/Los_Angeles"]})
    first, end = at("America/Los_Angeles", MONDAY, "08:00"), at("America/New_York", MONDAY, "21:00")
    instants = (first - MILLISECOND, first, end - MILLISECOND, end)
    assert [allows(rules, now, **CALL, **COLLECTION) for now in instants] == OPEN_AND_CLOSED


def test_consent_does_not_lift_the_hours() -> None:
    """Whether an opt-in lifts the American hours is disputed; here it does not."""
    night = at("America/New_York", MONDAY, "22:00")
    with Governor(policy("us/tcpa"), "memory://", clock=FrozenClock(night)) as governor:
        governor.consent.opt_in("ada", channel="sms", category="marketing")
        decision = governor.check("ada", channel="sms", timezone="America/New_York", country="US")
    assert [reason.rule for reason in decision.reasons] == ["us/tcpa:hours"]


@pytest.mark.parametrize("channel", ["email", "push", "post"])
def test_hours_of_calls_leave_other_channels_alone(channel: str) -> None:
    """Hours of telemarketing calls say nothing about e-mail, push or post."""
    night = at("America/New_York", MONDAY, "03:00")
    rules = policy("us/tcpa", "ca/utr", "fr/telemarketing", "mailbox-providers")
    assert allows(rules, night, channel=channel, timezone="America/New_York")


# Frequency


def test_seven_calls_a_week_about_a_debt(collector: Governor, clock: FrozenClock) -> None:
    """The eighth call about a debt waits for the seventh date after the first one; another debt has its own seven."""
    about = COLLECTION_CALL | {"subject": "card-1"}
    for hour in range(7):
        call(collector, clock, at("America/New_York", date(2026, 3, 2), f"{8 + hour:02}:30"), **about)
    assert collector.check("ada", **COLLECTION_CALL, subject="card-2").allowed
    free = at("America/New_York", date(2026, 3, 9), "00:00")  # the clocks went forward the day before
    assert_free_from(collector, clock, free, "us/reg-f:calls-per-debt", **about)


def test_a_call_without_a_debt_counts_for_every_debt(collector: Governor, clock: FrozenClock) -> None:
    """Calls that name no debt fill the cap of each one."""
    for hour in range(7):
        call(collector, clock, at("America/New_York", MONDAY, f"{8 + hour:02}:00"), **COLLECTION_CALL)
    decision = collector.check("ada", **COLLECTION_CALL, subject="card-2")
    assert [reason.rule for reason in decision.reasons] == ["us/reg-f:calls-per-debt"]


def test_a_call_that_did_not_connect_does_not_count(collector: Governor, clock: FrozenClock) -> None:
    """A released call leaves its slot to another one."""
    about = COLLECTION_CALL | {"subject": "card-1"}
    for hour in range(6):
        call(collector, clock, at("America/New_York", MONDAY, f"{8 + hour:02}:00"), **about)
    unconnected = collector.reserve("ada", **about).reservation
    assert unconnected is not None
    assert not collector.check("ada", **about)
    collector.release(unconnected)
    assert collector.check("ada", **about)


def test_the_day_of_a_conversation_is_the_first_of_seven(collector: Governor, clock: FrozenClock) -> None:
    """After a conversation about a debt nobody calls about it until seven dates, its own included, are over."""
    about = COLLECTION_CALL | {"subject": "card-1"}
    clock.set(at("America/New_York", date(2026, 3, 2), "20:59"))
    collector.feedback("conversation", customer="ada", channel="voice", subject="card-1")
    assert collector.check("ada", **COLLECTION_CALL, subject="card-2").allowed
    free = at("America/New_York", date(2026, 3, 9), "00:00")
    assert_free_from(collector, clock, free, "us/reg-f:after-conversation", **about)


def test_a_conversation_holds_up_no_letters(collector: Governor) -> None:
    """After a conversation a text about the debt may still be sent: the limit is about calls."""
    collector.feedback("conversation", customer="ada", channel="voice", subject="card-1")
    touch = COLLECTION | {"channel": "sms", "timezone": "America/New_York", "subject": "card-1"}
    assert collector.check("ada", **touch).allowed


def test_collection_needs_its_category_declared() -> None:
    """A policy that extends us/reg-f without the category of collection does not load, and is told which one."""
    with pytest.raises(PolicyError, match="'debt_collection' is no known category"):
        Policy.model_validate({"extends": ["us/reg-f"]})


def test_four_sales_calls_in_thirty_days(seller: Governor, clock: FrozenClock) -> None:
    """The fifth call to a French consumer waits until the date of the first is out of the last thirty."""
    for day in (2, 3, 4, 5):
        call(seller, clock, at("Europe/Paris", date(2026, 3, day), "19:59"), **FRENCH_CALL)
    free = at("Europe/Paris", date(2026, 4, 1), "00:00")
    assert_free_from(seller, clock, free, "fr/telemarketing:calls", **FRENCH_CALL)


def test_sixty_days_of_peace_after_a_refusal(seller: Governor, clock: FrozenClock) -> None:
    """After a refusal sixty whole dates pass before the next sales call to a French consumer."""
    clock.set(at("Europe/Paris", date(2026, 3, 2), "10:00"))
    seller.feedback("refusal", customer="ada", channel="voice")
    free = at("Europe/Paris", date(2026, 3, 2) + timedelta(days=61), "00:00")
    assert_free_from(seller, clock, free, "fr/telemarketing:after-refusal", **FRENCH_CALL)


def test_the_pause_needs_a_ledger_that_remembers_it() -> None:
    """A ledger that forgets a French refusal before its pause is over is an error; one of ten weeks suffices."""
    assert policy("fr/telemarketing", ledger={"keep": "10 weeks"})
    with pytest.raises(PolicyError, match=r"after-refusal\.for = '61 calendar days': looks further back"):
        policy("fr/telemarketing", ledger={"keep": "61 days"})


# A policy of one's own on top

SHOP = """
name = "shop"
extends = ["us/tcpa", "mailbox-providers"]
essential = ["transactional"]
week_starts = "sunday"

[ledger]
keep = "100 days"

[customer]
timezones = ["America/New_York", "America/Los_Angeles"]
country = "US"

[topics.offers]
category = "marketing"

[consent.asked-first]
select = { channels = ["email", "sms"], categories = ["marketing"] }
require = "opt_in"
expires_after = "1 year"

[quiet_hours.shop-hours]
select = { categories = ["marketing"] }
open = { mon-fri = ["07:00-12:00", "13:00-22:00"], sat-sun = "10:00-22:00" }
closed_on = ["01-01", "RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"]
open_on = { "12-24" = "09:00-12:00" }

[caps.texts]
limit = "1 per calendar day"
select = { channels = ["sms"], categories = ["marketing"] }

[caps.all-in-all]
limit = "3 per 7 days"
select = { categories = ["marketing"] }
counts = { categories = ["marketing", "service"] }
held_back = { slots = 1, below_priority = 5 }

[caps.gap]
limit = "1 per 2 hours"
select = { channels = ["sms"] }
enforce = false

[caps.about-one-order]
limit = "2 per 3 calendar days"
select = { channels = ["voice"], countries = ["US"] }
per = ["subject"]

[cooldowns.after-talking]
after = "conversation"
for = "2 days"
select = { channels = ["voice"] }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Policy:
    """The policy of a shop, read from its file."""
    path = tmp_path / "policy.toml"
    path.write_text(SHOP, encoding="utf-8")
    return Policy.load(path)


def test_a_policy_with_packs_and_rules_of_its_own_loads(shop: Policy) -> None:
    """A policy may extend packs and use everything that the language has beside them."""
    own = ["asked-first", "shop-hours", "us/tcpa:hours", "texts", "all-in-all", "gap", "about-one-order"]
    assert [*own, "after-talking"] == list(shop.rules.names())
    assert {"us/tcpa", "mailbox-providers"} <= shop.versions.keys()


@pytest.mark.parametrize(
    ("clock_reads", "refusing"),
    [
        ("07:30", ["us/tcpa:hours"]),
        ("08:00", []),
        ("12:00", ["shop-hours"]),
        ("21:00", ["us/tcpa:hours"]),
        ("22:00", ["shop-hours", "us/tcpa:hours"]),
    ],
)
def test_the_strictest_of_pack_and_policy_wins(shop: Policy, clock_reads: str, refusing: list[str]) -> None:
    """A pack's hours and the policy's own both hold, and each that says no is named."""
    now = at("America/Chicago", MONDAY, clock_reads)
    with Governor(shop, "memory://", clock=FrozenClock(now)) as governor:
        decision = governor.check("ada", channel="voice", topic="offers", timezone="America/Chicago")
    assert refusing == [reason.rule for reason in decision.reasons]


def test_a_waived_rule_does_not_hold() -> None:
    """A rule of a pack that the policy waives is gone, and the others stay."""
    night, evening = at("Europe/Paris", MONDAY, "23:00"), at("America/New_York", MONDAY, "22:00")
    rules = policy("us/tcpa", "fr/telemarketing", **without("us/tcpa:hours"))
    french, american = FRENCH_CALL, CALL | {"country": "US", "timezone": "America/New_York"}
    assert [allows(rules, night, **french), allows(rules, evening, **american)] == [False, True]


@pytest.mark.parametrize(
    ("rule", "nearest"), [("us/tcpa:hour", "us/tcpa:hours"), ("ca/utr:hours", "us/tcpa:hours"), ("hours", "")]
)
def test_an_unknown_rule_cannot_be_waived(rule: str, nearest: str) -> None:
    """To waive what no extended pack has is an error that names the nearest rule."""
    with pytest.raises(PolicyError) as raised:
        policy("us/tcpa", **without(rule))
    assert all(text in str(raised.value) for text in (f"{rule!r}: no pack has this rule", nearest))


def test_an_unknown_pack_cannot_be_extended() -> None:
    """To extend a pack that does not exist is an error that names the nearest one."""
    with pytest.raises(PolicyError, match="there is no pack 'us/tpca'; did you mean 'us/tcpa'"):
        policy("us/tpca")
