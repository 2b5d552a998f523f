"""Ledgers so long that most of their touches stand apart from the newest ones, in every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers import answer, govern, used

MANY = 150
EVER = {"caps": {"ever": {"limit": f"{MANY} per lifetime"}}}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind in turn."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/touches.db"


def test_slots_that_were_all_given_back_are_taken_again(store_url):
    """When all touches that stand apart were released, a customer can be sent as many again as the cap admits."""
    with govern(store_url, EVER) as governor:
        for _ in range(2):
            held = [governor.reserve("ada", channel="email").reservation for _ in range(MANY)]
            assert None not in held
            assert {"ever": MANY} == used(governor.check("ada", channel="email"))
            for reservation in held:
                governor.release(reservation)
        assert [] == governor.history("ada")


def test_the_oldest_slots_that_were_given_back_are_taken_again(store_url):
    """When the touches that stand apart were released and the newest ones were not, the cap is exact all the same."""
    with govern(store_url, EVER) as governor:
        held = [governor.reserve("ada", channel="email", id=f"early-{number}").reservation for number in range(70)]
        for reservation in held[:40]:
            governor.release(reservation)
        answers = [answer(governor.reserve("ada", channel="email", id=f"late-{number}")) for number in range(MANY)]
        assert ["allowed"] * (MANY - 30) + ["cap_reached"] * 30 == answers
        assert MANY == len(governor.history("ada"))
