"""Values that are no time zone: one documented error each, and nothing else."""

import sqlite3
import zoneinfo

import pytest

from fairtouch import Governor, Policy, Touch, TouchError
from fairtouch.zones import check_zone, zone_names
from tests.hostile_zones import NO_ZONES, NUMBER, hostile_zones

HOSTILE = hostile_zones()
POLICY = Policy.model_validate(
    {
        "quiet_hours": {"decent": {"open": {"mon-sun": "09:00-20:00"}}},
        "caps": {"daily": {"limit": "1 per calendar day"}},
    }
)


def check(governor: Governor, zone: object) -> object:
    """The zone of a touch."""
    return governor.check(Touch("ada", channel="email", timezone=zone))


def check_fields(governor: Governor, zone: object) -> object:
    """The same without making the touch first."""
    return governor.check("ada", channel="email", timezone=zone)


def reserve(governor: Governor, zone: object) -> object:
    """The zone of a touch that would take a slot."""
    return governor.reserve("ada", channel="email", id="touch-1", timezone=zone)


def set_customer(governor: Governor, zone: object) -> object:
    """The zone that is stored with a customer."""
    return governor.customers.set("ada", timezone=zone)


CALLS = [check, check_fields, reserve, set_customer]


def outcome(call, governor: Governor, zone: object) -> type:
    """The type of the error that a call raises, or of what it returns."""
    try:
        return type(call(governor, zone))
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return type(error)


@pytest.fixture
def file(tmp_path):
    """Where the SQLite store lies."""
    return tmp_path / "touches.db"


@pytest.fixture(params=["memory", "sqlite"])
def governor(request, file):
    """A governor that knows one customer and her zone."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{file}"
    with Governor(POLICY, url) as opened:
        opened.customers.set("ada", timezone="Asia/Tokyo")
        yield opened


def test_there_are_two_thousand():
    """There are two thousand hostile values, no two alike; none is a zone, and most are texts."""
    texts = [value for value in HOSTILE if isinstance(value, str)]
    assert NUMBER == len(HOSTILE) == len({(type(value), repr(value)) for value in HOSTILE})
    assert set() == set(texts) & (zoneinfo.available_timezones() - NO_ZONES)
    assert len(texts) > NUMBER - 50


@pytest.mark.parametrize("call", CALLS)
def test_a_hostile_zone_is_a_touch_error(call, governor):
    """Every call answers every hostile zone with TouchError, and with no other error."""
    found = [(zone, outcome(call, governor, zone)) for zone in HOSTILE]
    assert [] == [(ascii(zone)[:60], kind) for zone, kind in found if kind is not TouchError]


@pytest.mark.parametrize("call", CALLS)
def test_a_real_zone_is_none(call, governor):
    """What refuses the hostile takes every real zone of this machine."""
    found = {zone: outcome(call, governor, zone) for zone in sorted(zone_names())[::20]}
    assert [] == [zone for zone, kind in found.items() if issubclass(kind, Exception)]


def test_nothing_is_recorded(governor, file):
    """After all of them the customer's zone is the one set before, her history is empty, and the file is as it was."""

    def everything() -> list[str]:
        if not file.exists():
            return []
        with sqlite3.connect(file) as connection:
            return list(connection.iterdump())

    before = everything()
    for zone in HOSTILE:
        for call in CALLS:
            outcome(call, governor, zone)
    assert ("Asia/Tokyo", [], before) == (governor.customers.get("ada").timezone, governor.history("ada"), everything())


def test_no_hostile_zone_comes_near_a_file(governor, monkeypatch):
    """A name is looked up in the list of names; nothing is opened under it."""
    opened = []
    monkeypatch.setattr("fairtouch.zones.ZoneInfo", opened.append)
    for zone in HOSTILE:
        for call in CALLS:
            outcome(call, governor, zone)
    assert [] == opened


def test_the_error_fits_on_a_line():
    """The text of the error is short and printable whatever the value was, and says that nothing was recorded."""
    odd = []
    for zone in HOSTILE:
        with pytest.raises(TouchError) as caught:
            check_zone(zone)
        text = str(caught.value)
        if not (text.isascii() and text.isprintable() and len(text) < 1_000 and text.endswith("nothing was recorded")):
            odd.append(text)
    assert [] == odd


@pytest.mark.parametrize("name", sorted(NO_ZONES))
def test_a_zone_of_no_place_is_none(name, monkeypatch):
    """Names whose meaning is this machine's own business are refused, also where its list of zones has them."""
    monkeypatch.setattr("fairtouch.zones.available_timezones", lambda: {"UTC", *NO_ZONES})
    assert {"UTC"} == zone_names.__wrapped__()
    with pytest.raises(TouchError):
        check_zone(name)
