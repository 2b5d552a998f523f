"""Many processes send for one queue, and die wherever they are: nothing is lost, and nothing goes out too often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.workers import NOON, Crew, in_new_process, integrity
from tests.workers.queues import kill_senders, opened, send_all

KILLS = 60
SEED = 20261122
HOLDS: dict[str, Any] = {"ledger": {"keep": "400 days"}}
SENDS_AGAIN = {**HOLDS, "in_doubt": "resend"}


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store for many processes."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/touches.db"


def test_everybody_at_once(url: str, crew: Crew):
    """Eight processes send what is due at once: each touch goes out once, and no process is in another's way."""
    ids = [f"id-{number}" for number in range(300)]
    governor, queue = opened(url, HOLDS, NOON)
    with governor:
        for number, touch_id in enumerate(ids):
            queue.defer(f"customer-{number % 40}", None, channel="email", id=touch_id)
    results = crew(send_all, url, HOLDS)
    assert sorted(ids) == sorted(touch_id for sent, _ in results for touch_id in sent)
    assert 300 == sum(turns for _, turns in results)
    assert sum(bool(sent) for sent, _ in results) > 1


def losses(told: dict[str, Any]) -> set[str]:
    """What was kept, and neither went out nor was reported."""
    return set(told["kept"]) - set(told["sent"]) - set(told.get("in_doubt", ()))


def test_kills_under_hold(url: str, tmp_path: Path):
    """Sixty senders and thirty who defer are killed: what was acknowledged went out once, or is reported as in doubt;
    nothing goes out twice, and what may not have gone out is named.
    """
    told = in_new_process(kill_senders, url, HOLDS, KILLS, SEED, False)
    assert set() == losses(told)
    assert {1} == set(told["sent"].values())
    assert {"asked", "kept", "sent", "in_doubt"} <= set(told) <= {*HOLD_WORDS}
    assert 0 < len(told["in_doubt"]) <= KILLS
    assert set(told.get("already_sent", ())) <= set(told["sent"])
    assert {1} == set(told["held"].values())
    assert set(told["sent"]) | set(told["in_doubt"]) == set(told["held"])
    assert 0 == told["left"]
    assert len(told["kept"]) > 300
    if url.startswith("sqlite"):
        assert ["ok"] == integrity(tmp_path / "touches.db")


HOLD_WORDS = ("asked", "kept", "sent", "in_doubt", "already_sent", "done", "held", "left")


def test_kills_under_resend(url: str):
    """Under `resend` everything that was acknowledged went out at least once, and no kill doubles more than one."""
    told = in_new_process(kill_senders, url, SENDS_AGAIN, KILLS, SEED, False)
    sent = Counter(told["sent"])
    assert set() == set(told["kept"]) - set(sent)
    assert 0 < sent.total() - len(sent) <= KILLS
    assert "in_doubt" not in told
    assert {1} == set(told["held"].values())
    assert 0 == told["left"]


def test_haste_is_noticed(tmp_path: Path):
    """These tests would notice a lost touch: senders that take it out of the queue before they send are found out."""
    told = in_new_process(kill_senders, f"sqlite:///{tmp_path}/touches.db", HOLDS, KILLS // 3, SEED, True)
    assert set() != losses(told)
