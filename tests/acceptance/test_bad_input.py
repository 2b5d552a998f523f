"""Bad input gets one clear, documented error, and loses nothing."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import pytest

from fairtouch import (
    FairtouchError,
    Governor,
    Policy,
    PolicyError,
    Refused,
    StoreError,
    StoreUnavailable,
    Touch,
    TouchError,
)
from fairtouch.testing import FrozenClock

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NAIVE = datetime(2026, 3, 2, 11)  # noqa: DTZ001 - naive on purpose
EMAIL = {"channels": ["email"]}
DAILY = {"caps": {"daily": {"limit": "1 per 24 hours", "select": EMAIL}}}
TOPICS = {"topics": {"newsletter": {"category": "marketing"}}}


def load(policy: dict[str, Any]) -> Policy:
    """Load a policy that may be bad."""
    return Policy.model_validate({"name": "bad"} | policy)


def refusal_of(policy: dict[str, Any]) -> str:
    """The message with which a bad policy fails to load."""
    with pytest.raises(PolicyError) as refused:
        load(policy)
    return str(refused.value)


# Times


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.record("ada", channel="email", at=NAIVE),
        lambda g: g.consent.opt_in("ada", channel="email", at=NAIVE),
        lambda g: g.consent.opt_out("ada", at=NAIVE),
        lambda g: g.consent.request("ada", channel="email", at=NAIVE),
        lambda g: g.consent.confirm("ada", channel="email", at=NAIVE),
        lambda g: g.feedback("conversation", customer="ada", channel="voice", at=NAIVE),
    ],
    ids=["record", "opt_in", "opt_out", "request", "confirm", "feedback"],
)
def test_naive_instants_are_errors(call, govern):
    """An instant without an offset is an error, and nothing is kept of it."""
    governor, _ = govern({}, start=NOON)
    with pytest.raises(FairtouchError):
        call(governor)
    assert (0, 0) == (len(list(governor.history("ada"))), len(list(governor.consent.history("ada"))))


def test_a_clock_that_tells_naive_times_is_an_error(store_url):
    """A clock without an offset stops the decision instead of shifting it."""
    with Governor(load({}), store=store_url, clock=lambda: NAIVE) as governor, pytest.raises(FairtouchError):
        governor.reserve("ada", channel="email")


@pytest.mark.parametrize("ahead", [timedelta(milliseconds=1), timedelta(days=1), timedelta(days=4000)], ids=str)
def test_records_of_the_future_are_errors(ahead, govern):
    """What has not happened cannot be recorded."""
    governor, _ = govern({}, start=NOON)
    with pytest.raises(FairtouchError):
        governor.record("ada", channel="email", at=NOON + ahead)
    assert [] == list(governor.history("ada"))


# Touches


BAD_FIELDS = [
    {"customer": ""},
    {"customer": "x" * 100_000},
    {"id": ""},
    {"id": "x" * 100_000},
    {"channel": ""},
    {"channel": "pigeon"},
    {"channel": "emial"},
    {"channel": "EMAIL "},
    {"category": "marketting"},
    {"category": ""},
    {"topic": "newsleter"},
    {"topic": "x" * 100_000},
    {"campaign": "x" * 100_000},
    {"subject": "x" * 100_000},
    {"tags": ["x" * 100_000]},
    {"tags": [f"tag-{n}" for n in range(10_000)]},
    {"address": "x" * 100_000},
    {"country": "x" * 100_000},
    {"region": "x" * 100_000},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=lambda fields: str(fields)[:24])
@pytest.mark.parametrize("verb", ["check", "reserve"])
def test_bad_touches_are_errors(fields, verb, govern):
    """An empty, over-long or unknown field is a TouchError, from every verb alike, and takes nothing."""
    governor, _ = govern(TOPICS, start=NOON)
    complete = {"customer": "ada", "channel": "email", **fields}
    with pytest.raises(TouchError):
        getattr(governor, verb)(complete.pop("customer"), **complete)
    assert [] == list(governor.history("ada"))


@pytest.mark.parametrize("fields", BAD_FIELDS[:6], ids=str)
def test_bad_touches_cannot_be_recorded(fields, govern):
    """A record is held to the same fields as a reservation."""
    governor, _ = govern(TOPICS, start=NOON)
    complete = {"customer": "ada", "channel": "email", **fields}
    with pytest.raises(TouchError):
        governor.record(complete.pop("customer"), **complete, at=NOON)
    assert [] == list(governor.history("ada"))


def test_a_misspelt_channel_is_named_with_the_nearest(govern):
    """An unknown channel is named, and so is the one that was probably meant."""
    governor, _ = govern({}, start=NOON)
    with pytest.raises(TouchError) as refused:
        governor.check("ada", channel="emial")
    assert (True, True) == ("emial" in str(refused.value), "email" in str(refused.value))


def test_an_undeclared_topic_is_fine_until_topics_are_declared(govern):
    """Unknown topics are errors once a policy declares topics, not before."""
    free, _ = govern({}, start=NOON)
    assert free.check("ada", channel="email", topic="whatever")


@pytest.mark.parametrize("field", ["chanel", "customer_id", "templte"])
def test_unknown_fields_are_errors(field, govern):
    """A field that a touch does not have is an error, never ignored."""
    governor, _ = govern({}, start=NOON)
    with pytest.raises((FairtouchError, TypeError)):
        governor.check("ada", **{"channel": "email", field: "x"})


HOSTILE_IDS = [
    "\x00",
    "ada\x00",
    "a\nb",
    "{ada}",
    "{}",
    "ada:email",
    "'; DROP TABLE touches; --",
    "%s%d%n",
    "../../etc/passwd",
    "\ud800",
    "ada\udfff",
    "\u202eada",
    "\ufeff",
    " ",
    "\t",
    "🦉" * 20,
    "a\u0301",
    "\u00e1",
    "*",
    "?",
    "[a-z]",
    "$(id)",
    "=1+1",
]


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=ascii)
@pytest.mark.parametrize("field", ["customer", "id", "subject", "campaign"])
def test_hostile_ids_are_taken_literally_or_refused(hostile, field, govern):
    """A hostile id either counts like any other or is a TouchError; nothing else happens."""
    governor, _ = govern(DAILY, start=NOON)
    complete = {"customer": "ada", "channel": "email", field: hostile}
    customer = complete.pop("customer")
    try:
        governor.confirm(governor.reserve(customer, **complete).reservation)
    except TouchError:
        return
    assert (1, 0) == (len(list(governor.history(customer))), len(list(governor.history("grace"))))


def test_look_alike_customers_are_different_people(govern):
    """Customer ids are opaque: they are compared as they are, without folding or trimming."""
    governor, _ = govern(DAILY, start=NOON)
    customers = ["ada", "Ada", "a\u0301da", "\u00e1da", "ada:1", "ada{1}", "ad\u0430"]
    assert [True] * len(customers) == [governor.reserve(customer, channel="email").allowed for customer in customers]


@pytest.mark.parametrize(("customer", "other"), [("a", "b"), ("a:b", "a"), ("a", "a:b")])
def test_namespaces_and_customers_do_not_run_together(customer, other, govern_file):
    """The namespace `a` with customer `b:c` is not the namespace `a:b` with customer `c`."""
    one, _ = govern_file(DAILY, start=NOON, namespace=customer)
    two, _ = govern_file(DAILY, start=NOON, namespace=other)
    one.reserve("b:c", channel="email")
    assert [True, True] == [two.reserve(name, channel="email").allowed for name in ("b:c", "c")]


# Zones


def hostile_zones() -> list[str]:
    """Two hundred strings that are not the name of a zone, and that upset who opens them as files."""
    real = ["Europe/Berlin", "America/New_York", "UTC", "Asia/Tokyo"]
    paths = ["../../etc/passwd", "/etc/passwd", "..", ".", "/", "Europe", "Europe/", "/Europe/Berlin", "Europe//Berlin"]
    climbing = [f"{'../' * depth}etc/passwd" for depth in range(1, 80)]
    around = [template.format(zone) for zone in real for template in (" {}", "{} ", "{}\n", "{}\x00", "\x00{}", "{}/")]
    inside = [
        template.format(zone) for zone in real for template in ("./{}", "{}/.", "../zoneinfo/{}", "{}.txt", "{};")
    ]
    cased = [change(zone) for zone in real[:2] for change in (str.lower, str.upper, str.swapcase)]
    long = [
        *("A" * length for length in (64, 255, 256, 1024, 4096, 65_536, 1_000_000)),
        "Europe/" * 5_000,
        "a/" * 2_000,
    ]
    odd = ["", " ", "\x00", "\ud800", "Europe/\udfff", "\u202e", "\u00c9urope/Berlin", "Europe\\Berlin", "\u2044"]
    code = [
        "'; DROP TABLE t; --",
        "%s%s%s%n",
        "{0.__class__}",
        "${jndi:x}",
        "$(id)",
        "`id`",
        "=1+1",
        "<script>",
        "[]",
        "*",
    ]
    files = [
        "tzdata.zi",
        "zone.tab",
        "iso3166.tab",
        "__init__.py",
        "zone1970.tab",
        "leapseconds",
        "C:\\con",
        "con",
        "nul",
    ]
    offsets = [
        "+01:00",
        "UTC+25",
        "GMT+99",
        "EST5EDT6",
        "CEST",
        "Mars/Olympus",
        "Europe/Berln",
        "None",
        "null",
        "0",
        "-1",
    ]
    controls = [f"Europe{chr(code_point)}Berlin" for code_point in range(32)]
    return [*dict.fromkeys(paths + climbing + around + inside + cased + long + odd + code + files + offsets + controls)]


ZONES = hostile_zones()


def test_there_are_enough_hostile_zones():
    """The list is long, and no name in it is a zone's."""
    assert (True, set()) == (len(ZONES) >= 200, set(ZONES) & available_timezones())


def other_than(expected: type[Exception], call: Any) -> list[tuple[str, str]]:
    """The hostile zones that a call answers with something else than the one documented error."""
    surprises = []
    for zone in ZONES:
        try:
            call(zone)
        except expected:
            continue
        except Exception as error:  # noqa: BLE001 - whatever else it is, it is a finding
            surprises.append((ascii(zone)[:60], type(error).__name__))
        else:
            surprises.append((ascii(zone)[:60], "accepted"))
    return surprises


def test_hostile_zones_of_touches(govern):
    """Each hostile zone of a touch is a TouchError."""
    governor, _ = govern({}, start=NOON)
    assert [] == other_than(TouchError, lambda zone: governor.check("ada", channel="email", timezone=zone))


def test_hostile_zones_of_customers(govern):
    """Each hostile zone of a customer is one documented error, and the zone that was set before stays."""
    governor, _ = govern({}, start=NOON)
    governor.customers.set("ada", timezone="Asia/Tokyo")
    assert [] == other_than(FairtouchError, lambda zone: governor.customers.set("ada", timezone=zone))
    assert "Asia/Tokyo" == governor.customers.get("ada").timezone


def test_hostile_zones_of_policies():
    """Each hostile zone in a policy is a PolicyError, as a candidate and as a rule's own."""
    hours = {"select": EMAIL, "open": {"mon-sun": "09:00-20:00"}}
    assert [] == other_than(PolicyError, lambda zone: load({"customer": {"timezones": [zone]}}))
    assert [] == other_than(PolicyError, lambda zone: load({"quiet_hours": {"desk": hours | {"zone": zone}}}))


# Policies


CAP = {"limit": "1 per 7 days", "select": EMAIL}
HOURS = {"select": EMAIL, "open": {"mon-fri": "09:00-20:00"}}
CONSENT = {"select": EMAIL, "require": "opt_in"}
UNKNOWN_KEYS = [
    ({"quite_hours": {"decent": HOURS}}, ["quite_hours", "quiet_hours"]),
    ({"cap": {"daily": CAP}}, ["cap", "caps"]),
    ({"essentials": ["transactional"]}, ["essentials", "essential"]),
    ({"week_start": "monday"}, ["week_start", "week_starts"]),
    ({"ledger": {"kept": "30 days"}}, ["ledger", "kept", "keep"]),
    ({"customer": {"timezone": ["UTC"]}}, ["customer", "timezone", "timezones"]),
    ({"caps": {"daily": CAP | {"limt": "1 per 1 day"}}}, ["caps", "daily", "limt", "limit"]),
    ({"caps": {"daily": CAP | {"selcet": EMAIL}}}, ["caps", "daily", "selcet", "select"]),
    ({"caps": {"daily": CAP | {"select": {"chanels": ["email"]}}}}, ["caps", "daily", "select", "chanels", "channels"]),
    ({"caps": {"daily": CAP | {"efective_from": "2026-01-01"}}}, ["caps", "daily", "efective_from", "effective_from"]),
    (
        {"caps": {"daily": CAP | {"held_back": {"slot": 1, "below_priority": 5}}}},
        ["daily", "held_back", "slot", "slots"],
    ),
    ({"quiet_hours": {"decent": HOURS | {"close_on": ["12-25"]}}}, ["quiet_hours", "decent", "close_on", "closed_on"]),
    ({"consent": {"marketing": CONSENT | {"expire_after": "1 year"}}}, ["marketing", "expire_after", "expires_after"]),
    ({"cooldowns": {"call": {"after": "reply", "four": "1 day"}}}, ["cooldowns", "call", "four", "for"]),
    ({"topics": {"newsletter": {"categroy": "marketing"}}}, ["topics", "newsletter", "categroy", "category"]),
]


@pytest.mark.parametrize(("policy", "words"), UNKNOWN_KEYS, ids=lambda value: str(value)[:50])
def test_unknown_keys_are_named_with_path_and_nearest_key(policy, words):
    """A key that does not exist is an error that names its path and the key that was probably meant."""
    message = refusal_of(policy)
    assert ([], message) == ([word for word in words if word not in message], message)


BAD_VALUES = [
    ({"caps": {"daily": CAP | {"limit": "one per day"}}}, ["caps", "daily", "limit", "one per day"]),
    ({"caps": {"daily": CAP | {"limit": "1 pr 7 days"}}}, ["daily", "limit", "1 pr 7 days"]),
    ({"caps": {"daily": CAP | {"limit": "1 per 7 dys"}}}, ["daily", "limit", "1 per 7 dys"]),
    ({"caps": {"daily": CAP | {"limit": "-1 per 7 days"}}}, ["daily", "limit", "-1 per 7 days"]),
    ({"caps": {"daily": CAP | {"limit": "1 per 0 days"}}}, ["daily", "limit", "1 per 0 days"]),
    ({"caps": {"daily": CAP | {"limit": "1.5 per 7 days"}}}, ["daily", "limit", "1.5 per 7 days"]),
    ({"caps": {"daily": CAP | {"limit": "1 per 2 months"}}}, ["daily", "limit", "1 per 2 months"]),
    ({"caps": {"daily": CAP | {"limit": "1 per 7 calender days"}}}, ["daily", "limit", "1 per 7 calender days"]),
    ({"caps": {"daily": CAP | {"limit": ""}}}, ["daily", "limit"]),
    ({"caps": {"daily": CAP | {"limit": 3}}}, ["daily", "limit", "3"]),
    ({"caps": {"daily": CAP | {"limit": "1" * 5000 + " per 7 days"}}}, ["daily", "limit"]),
    ({"caps": {"daily": CAP | {"limit": "1 per " + "9" * 5000 + " days"}}}, ["daily", "limit"]),
    ({"caps": {"daily": CAP | {"per": ["debt"]}}}, ["daily", "per", "debt"]),
    ({"caps": {"daily": CAP | {"select": {"channels": ["emial"]}}}}, ["daily", "channels", "emial", "email"]),
    ({"caps": {"daily": CAP | {"select": {"channels": []}}}}, ["daily", "channels"]),
    ({"caps": {"daily": CAP | {"select": {"categories": []}}}}, ["daily", "categories"]),
    ({"caps": {"daily": CAP | {"counts": {"topics": []}}}}, ["daily", "counts", "topics"]),
    ({"caps": {"daily": CAP | {"select": {"categories": ["marketting"]}}}}, ["daily", "marketting", "marketing"]),
    ({"caps": {"daily": CAP | {"effective_from": "soon"}}}, ["daily", "effective_from", "soon"]),
    (TOPICS | {"caps": {"daily": CAP | {"select": {"topics": ["newsleter"]}}}}, ["newsleter", "newsletter"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mond": "09:00-20:00"}}}}, ["decent", "open", "mond"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mon": "09:00-25:00"}}}}, ["decent", "open", "mon", "25:00"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mon": "9-17"}}}}, ["decent", "open", "mon", "9-17"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mon": "09:60-17:00"}}}}, ["decent", "mon", "09:60"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mon": "24:00-06:00"}}}}, ["decent", "mon", "24:00"]),
    ({"quiet_hours": {"decent": HOURS | {"open": {"mon": []}}}}, ["decent", "mon"]),
    ({"quiet_hours": {"decent": HOURS | {"closed_on": ["13-45"]}}}, ["decent", "closed_on", "13-45"]),
    ({"quiet_hours": {"decent": HOURS | {"closed_on": ["RRULE:FREQ=SOMETIMES"]}}}, ["closed_on", "SOMETIMES"]),
    ({"quiet_hours": {"decent": HOURS | {"closed_on": ["RRULE:FREQ=DAILY;INTERVAL=2"]}}}, ["closed_on", "INTERVAL"]),
    ({"quiet_hours": {"decent": HOURS | {"closed_on": ["RRULE:FREQ=DAILY;COUNT=2"]}}}, ["closed_on", "COUNT"]),
    ({"quiet_hours": {"decent": HOURS | {"zone": "Europe/Berln"}}}, ["decent", "zone", "Europe/Berln"]),
    ({"consent": {"marketing": CONSENT | {"require": "optin"}}}, ["marketing", "require", "optin"]),
    ({"consent": {"marketing": CONSENT | {"expires_after": "2 yers"}}}, ["marketing", "expires_after", "2 yers"]),
    ({"cooldowns": {"call": {"after": "talk", "for": "7 days"}}}, ["cooldowns", "call", "after", "talk"]),
    ({"in_doubt": "holdd"}, ["in_doubt", "holdd", "hold"]),
    ({"week_starts": "mnday"}, ["week_starts", "mnday", "monday"]),
    ({"essential": ["transactionall"]}, ["essential", "transactionall", "transactional"]),
    ({"ledger": {"keep": "forever and a day"}}, ["ledger", "keep", "forever and a day"]),
    ({"extends": ["us/tcpaa"]}, ["extends", "us/tcpaa"]),
    ({"extends": ["../../etc/passwd"]}, ["extends", "../../etc/passwd"]),
]


@pytest.mark.parametrize(("policy", "words"), BAD_VALUES, ids=lambda value: str(value)[:60])
def test_bad_values_are_named_with_path_and_value(policy, words):
    """A value that makes no sense is an error that names where it is and what it is."""
    message = refusal_of(policy)
    assert ([], message) == ([word for word in words if word not in message], message)


@pytest.mark.parametrize(
    ("limit", "readings"),
    [
        ("1 per month", ["calendar month", "days"]),
        ("1 per week", ["calendar week", "7 days"]),
        ("1 per day", ["calendar day", "24 hours"]),
    ],
)
def test_a_bare_period_offers_its_two_readings(limit, readings):
    """A bare "per month" is an error that offers the calendar reading and the rolling one."""
    message = refusal_of({"caps": {"monthly": CAP | {"limit": limit}}})
    assert ([], message) == ([words for words in ["monthly", *readings] if words not in message], message)


@pytest.mark.parametrize(
    ("days", "twice"),
    [
        ({"mon-fri": "09:00-12:00", "fri": "13:00-15:00"}, "fri"),
        ({"sat-mon": "09:00-12:00", "sun": "13:00-15:00"}, "sun"),
        ({"mon-wed": "09:00-12:00", "wed-fri": "13:00-15:00"}, "wed"),
    ],
)
def test_a_weekday_named_twice_is_an_error(days, twice):
    """A weekday that two keys name is an error that names the day."""
    message = refusal_of({"quiet_hours": {"decent": {"select": EMAIL, "open": days}}})
    assert ([], message) == ([word for word in ("decent", twice) if word not in message], message)


CONTRADICTIONS = {
    "ends before it begins": {
        "caps": {"rule": CAP | {"effective_from": "2026-06-02", "effective_until": "2026-06-01"}}
    },
    "holds back more than there is": {"caps": {"rule": CAP | {"held_back": {"slots": 3, "below_priority": 5}}}},
    "open and closed on one date": {
        "quiet_hours": {"rule": HOURS | {"closed_on": ["12-24"], "open_on": {"12-24": "09:00-14:00"}}}
    },
    "windows overlap": {"quiet_hours": {"rule": HOURS | {"open": {"mon": ["09:00-12:00", "11:00-14:00"]}}}},
    "a window without length": {"quiet_hours": {"rule": HOURS | {"open": {"mon": "09:00-09:00"}}}},
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictory_rules_do_not_load(name):
    """A rule that contradicts itself fails to load, and is named."""
    message = refusal_of(CONTRADICTIONS[name])
    assert ("rule" in message, message) == (True, message)


def test_a_waiver_of_nothing_does_not_load():
    """Waiving a rule that no pack has is an error that names it."""
    message = refusal_of({"waive": {"us/tcpa:hourz": {"because": "we know better"}}})
    assert ("us/tcpa:hourz" in message, message) == (True, message)


@pytest.mark.parametrize(
    "text",
    ["name = ", "caps = 3", "\x00\x01", 'name = "a"\nname = "b"', "[caps.daily]\nlimit = 1979-05-27", "{}}"],
    ids=ascii,
)
def test_broken_policy_files(text, tmp_path):
    """A file that is not a policy is a PolicyError that names the file."""
    path = tmp_path / "broken-policy.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as refused:
        Policy.load(path)
    assert "broken-policy.toml" in str(refused.value)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"name = '\xff'", b"# " + b"x" * 20_000_000], ids=["bom", "latin", "huge"]
)
def test_policy_files_of_bytes(data, tmp_path):
    """A file that is not text, or without end, is a PolicyError."""
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    with pytest.raises(PolicyError):
        Policy.load(path)


def test_a_missing_policy_file(tmp_path):
    """A policy file that is not there is a PolicyError that names it."""
    with pytest.raises(PolicyError, match=r"nowhere\.toml"):
        Policy.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["policy.toml", "policy.json"])
def test_toml_json_and_dict_are_one_policy(name, tmp_path):
    """The same policy from a file of either kind and from a dict has the same revision."""
    path = tmp_path / name
    toml = 'name = "one"\n[caps.daily]\nlimit = "1 per calendar day"\nselect = { channels = ["email"] }\n'
    json = '{"caps": {"daily": {"select": {"channels": ["email"]}, "limit": "1 per calendar day"}}, "name": "one"}'
    path.write_text(toml if name.endswith("toml") else json, encoding="utf-8")
    caps = {"daily": {"limit": "1 per calendar day", "select": EMAIL}}
    assert revision(Policy.model_validate({"name": "one", "caps": caps})) == revision(Policy.load(path))


def test_another_limit_is_another_revision():
    """The revision tells policies apart by what they say."""
    policies = [load({"caps": {"daily": CAP | {"limit": f"{number} per 7 days"}}}) for number in (1, 2)]
    assert 2 == len({revision(policy) for policy in policies})


def revision(policy: Policy) -> str:
    """The revision that decisions of a policy carry."""
    with Governor(policy, store="memory://", clock=FrozenClock(NOON)) as governor:
        return governor.check("ada", channel="email", timezone="UTC").policy_revision


# Files of the store


def test_a_file_that_is_no_database(database, sqlite_url, govern_file):
    """A file that is not a database is a StoreError, and it is left as it was."""
    garbage = b"these are somebody's notes\n" * 1000
    database.write_bytes(garbage)
    with pytest.raises(StoreError):
        govern_file(DAILY, start=NOON)[0].reserve("ada", channel="email")
    assert garbage == database.read_bytes()


def filled(database: Path, sqlite_url: str) -> Path:
    """A database with some history, closed and in one file."""
    with Governor(load(DAILY), store=sqlite_url, clock=FrozenClock(NOON)) as governor:
        for number in range(200):
            governor.reserve(f"customer-{number}", channel="email")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database


def test_a_damaged_database(database, sqlite_url, govern_file):
    """A database whose pages are damaged is a StoreError, never a decision."""
    data = bytearray(filled(database, sqlite_url).read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    database.write_bytes(bytes(data))
    with pytest.raises(StoreError):
        govern_file(DAILY, start=NOON)[0].reserve("customer-1", channel="email")


def ask_everyone(govern_file: Any) -> None:
    """Touch every page of the database that `filled` made."""
    governor, _ = govern_file(DAILY, start=NOON)
    for number in range(200):
        governor.reserve(f"customer-{number}", channel="email")


def test_a_truncated_database(database, sqlite_url, govern_file):
    """A database that lost its second half is a StoreError, never a decision."""
    data = filled(database, sqlite_url).read_bytes()
    database.write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError):
        ask_everyone(govern_file)


def test_a_newer_database(database, sqlite_url, govern_file):
    """A database that a newer version wrote is a StoreError, and it is left as it was."""
    with closing(sqlite3.connect(filled(database, sqlite_url))) as connection:
        connection.execute("PRAGMA user_version = 9999")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = database.read_bytes()
    with pytest.raises(StoreError):
        govern_file(DAILY, start=NOON)[0].reserve("ada", channel="email")
    assert before == database.read_bytes()


@pytest.mark.parametrize(
    "call",
    [lambda g: g.reserve("ada", channel="email"), lambda g: g.consent.opt_out("ada")],
    ids=["reserve", "opt_out"],
)
def test_a_locked_database_is_unavailable(call, database, govern_file):
    """While another process holds the file, a write is StoreUnavailable, not Refused; nothing is half done."""
    governor, _ = govern_file(DAILY, start=NOON)
    governor.check("ada", channel="email")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as refused:
            call(governor)
        other.execute("ROLLBACK")
    assert not isinstance(refused.value, Refused)
    assert governor.reserve("ada", channel="email")


def test_a_locked_database_stops_the_wrapped_send(database, govern_file):
    """While the store cannot answer, a wrapped send does not run: fail closed."""
    governor, _ = govern_file(DAILY, start=NOON)
    governor.check("ada", channel="email")
    ran = []
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable), governor.touch("ada", channel="email"):
            ran.append(True)
    assert [] == ran


@pytest.mark.parametrize(
    "url", ["", "touches.db", "mysql://host/db", "sqlite://", "sqlite:///", "memory", "://", "\x00"]
)
def test_bad_store_urls(url):
    """A store URL that names no store is an error at once."""
    with pytest.raises((FairtouchError, ValueError)):
        Governor(load({}), store=url, clock=FrozenClock(NOON)).check("ada", channel="email")


def test_a_directory_that_is_not_there(tmp_path):
    """A file in a missing directory is a documented error of the store."""
    with pytest.raises((StoreError, StoreUnavailable)):
        Governor(load({}), store=f"sqlite:///{tmp_path}/no/such/touches.db").check("ada", channel="email")


def test_there_is_no_default_store():
    """A governor without a store is an error: a file wherever a process starts would be several budgets."""
    with pytest.raises(TypeError):
        Governor(load({}))


# Imports


@pytest.mark.parametrize(
    "row",
    [
        "ada,email,newsletter,marketing,opted_in,2026-03-01T10:00:00",
        "ada,email,newsletter,marketing,opted_in,2036-03-01T10:00:00+00:00",
        "ada,pigeon,newsletter,marketing,opted_in,2026-03-01T10:00:00+00:00",
        "ada,email,newsletter,marketing,maybe,2026-03-01T10:00:00+00:00",
        ",email,newsletter,marketing,opted_in,2026-03-01T10:00:00+00:00",
        "ada,email,newsletter,marketing,opted_in,yesterday-ish",
    ],
    ids=["naive", "future", "channel", "status", "customer", "instant"],
)
def test_bad_rows_import_no_consent(row, govern, tmp_path):
    """A row that makes no sense opts nobody in, whether it is reported or stops the import."""
    path = tmp_path / "consent.csv"
    path.write_text(f"customer,channel,topic,category,status,at\n{row}\n", encoding="utf-8")
    governor, _ = govern({}, start=NOON)
    with suppress(FairtouchError):
        governor.consent.import_file(path)
    assert "opted_in" != governor.consent.status("ada", channel="email", category="marketing", topic="newsletter").state


# Privacy


SECRETS = ["ada-lovelace-1815", "ada.lovelace@example.org"]
PERSONAL = {"channel": "email", "address": SECRETS[1]}


def leaks(*texts: str) -> list[str]:
    """The personal strings that occur in a text."""
    return [secret for secret in SECRETS for text in texts if secret.lower() in text.lower()]


def test_decisions_name_nobody(govern):
    """The reprs of touches, decisions and reservations name neither customer nor address."""
    governor, _ = govern(DAILY, start=NOON)
    decisions = [governor.reserve(SECRETS[0], **PERSONAL) for _ in range(2)]
    things = [*decisions, decisions[0].reservation, *decisions[1].reasons, *decisions[1].checks, governor]
    things += [Touch(SECRETS[0], **PERSONAL), governor.confirm(decisions[0].reservation), decisions[1].basis]
    assert [] == leaks(*map(repr, things), *map(str, things), decisions[1].explain())


def message_of(call: Any) -> str:
    """What an error says, in words and in its repr."""
    with pytest.raises((FairtouchError, Refused)) as raised:
        call()
    return f"{raised.value} {raised.value!r}"


def test_errors_name_nobody(govern):
    """No error names the customer or the address, whichever field was wrong."""
    governor, _ = govern(DAILY, start=NOON)
    governor.reserve(SECRETS[0], **PERSONAL, id="news-1")
    calls = [
        lambda: governor.reserve(SECRETS[0], channel="sms", address=SECRETS[1], id="news-1"),
        lambda: governor.touch(SECRETS[0], **PERSONAL, id="news-2").__enter__(),
        lambda: governor.check(SECRETS[0], channel="pigeon", address=SECRETS[1]),
        lambda: governor.check(SECRETS[0], **PERSONAL, timezone="Mars/Olympus"),
        lambda: governor.check(SECRETS[0] * 1000, **PERSONAL),
        lambda: governor.check(SECRETS[0], channel="email", address=SECRETS[1] * 1000),
        lambda: governor.record(SECRETS[0], **PERSONAL, at=NOON + timedelta(days=1)),
        lambda: governor.consent.opt_out(SECRETS[0], at=NAIVE),
        lambda: governor.customers.set(SECRETS[0], timezone="Mars/Olympus"),
    ]
    assert [] == leaks(*(message_of(call) for call in calls))


def live(governor: Any) -> None:
    """Everything that leaves something behind in a store."""
    governor.customers.set(SECRETS[0], timezone="Asia/Tokyo", country="JP", wishes={"email": "3 per 7 days"})
    governor.consent.opt_in(SECRETS[0], channel="email", evidence={"source": "form"})
    governor.confirm(governor.reserve(SECRETS[0], **PERSONAL, id="news-1").reservation)
    governor.reserve(SECRETS[0], **PERSONAL, id="news-2")
    governor.record(SECRETS[0], channel="voice", at=NOON)
    governor.feedback("conversation", customer=SECRETS[0], channel="voice")
    governor.feedback("hard_bounce", address=SECRETS[1], channel="email")
    governor.consent.opt_out(SECRETS[0])


@pytest.mark.parametrize("secret", [None, "a long enough secret of the application"])
def test_the_file_names_nobody(secret, database, govern_file):
    """No byte of the database, its log or its index names a customer or an address."""
    governor, _ = govern_file(DAILY, start=NOON, secret=secret)
    live(governor)
    files = [path for path in database.parent.iterdir() if path.name.startswith(database.name)]
    contents = b"".join(path.read_bytes() for path in files)
    found = [s for s in SECRETS for coding in ("utf-8", "utf-16-le") if s.encode(coding) in contents]
    assert (True, []) == (len(contents) > 0, found)


def test_logs_name_nobody(govern, caplog):
    """Nothing that is logged, at any level, names a customer or an address."""
    caplog.set_level(logging.DEBUG)
    governor, _ = govern(DAILY, start=NOON)
    live(governor)
    assert [] == leaks(caplog.text)


def test_another_secret_reads_nothing(govern_file):
    """With another secret the same file holds another world, or is refused; it never answers for this one."""
    first, _ = govern_file(DAILY, start=NOON, secret="the first secret of the application")
    first.reserve("ada", channel="email", id="news-1")
    try:
        second, _ = govern_file(DAILY, start=NOON, secret="the second secret of the application")
        seen = len(list(second.history("ada")))
    except FairtouchError:
        seen = 0
    assert 0 == seen


# Suppressions


@pytest.mark.parametrize(
    "address", ["ada.lovelace@example.org", " ada.lovelace@example.org ", "ada.lovelace@EXAMPLE.org"], ids=ascii
)
def test_a_bounced_address_is_suppressed(address, govern):
    """A hard bounce suppresses the address on its channel, however its domain is written, for every customer."""
    governor, _ = govern({}, start=NOON)
    governor.feedback("hard_bounce", address=address, channel="email")
    decisions = [governor.reserve(customer, **PERSONAL) for customer in ("ada", "grace")]
    assert [("refused", ["suppressed"], "suppression")] * 2 == [
        (d.outcome, [reason.code for reason in d.reasons], d.reasons[0].rule) for d in decisions
    ]
    assert governor.check("ada", channel="email", address="ada@example.org")


def test_suppressions_come_and_go(govern):
    """What was suppressed by hand is contained, refuses, and can be removed."""
    governor, _ = govern({}, start=NOON)
    governor.suppressions.add(SECRETS[1], channel="email")
    held = (governor.suppressions.contains(SECRETS[1], channel="email"), governor.check("ada", **PERSONAL).allowed)
    governor.suppressions.remove(SECRETS[1], channel="email")
    free = (governor.suppressions.contains(SECRETS[1], channel="email"), governor.check("ada", **PERSONAL).allowed)
    assert ((True, False), (False, True)) == (held, free)


def test_a_required_address_that_is_missing(govern):
    """Where a policy requires the address, a touch without one is refused for that."""
    governor, _ = govern({"require_address": True}, start=NOON)
    decision = governor.check("ada", channel="email")
    assert ("refused", ["address_missing"]) == (decision.outcome, [reason.code for reason in decision.reasons])
