"""A thousand processes are killed with SIGKILL while they write to one file: nothing that one acknowledged is lost, and
nothing is sent too often.

What they do, and what is looked at after every hundred, stands in `tests/workers/thousand_kills.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers import in_new_process
from tests.workers.thousand_kills import PROMISES, Toll, kill_many

ROUNDS = 10
KILLS = 100  # per round
SEED = 20261121


@pytest.fixture(scope="module")
def toll(tmp_path_factory: pytest.TempPathFactory) -> Toll:
    """What a thousand kills came to."""
    path: Path = tmp_path_factory.mktemp("kills") / "touches.db"
    return in_new_process(kill_many, str(path), ROUNDS, KILLS, SEED, False)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_thousand_kills_break_nothing(promise, toll):
    """After every hundred kills: every acknowledged opt-out, suppression, reservation, confirmation and release
    stands, every message that went out is counted, none went out twice or over a cap, caps count what the ledger holds
    and it holds nothing that nobody asked for, and SQLite finds the file in order.
    """
    assert [] == toll.broken[promise]


def test_the_kills_were_in_the_middle(toll):
    """A thousand processes died, most of them within a call, and within each kind of call; and they had acknowledged
    thousands of things.
    """
    assert ROUNDS * KILLS == toll.kills
    assert toll.kills / 2 < toll.kills - toll.killed_in["between"]
    assert {"reserve", "confirm", "release", "opt_out", "suppress"} <= set(toll.killed_in)
    told = {what: toll.told[f"!{what}"] for what in ("reserve", "sent", "confirm", "release", "opt_out", "suppress")}
    assert {} == {what: times for what, times in told.items() if times < 100}


def test_haste_is_noticed(tmp_path):
    """These tests would notice a lost word: processes that acknowledge something before they do it are found out."""
    hasty = in_new_process(kill_many, str(tmp_path / "touches.db"), 1, KILLS, SEED, True)
    assert {"opt-outs lost", "suppressions lost", "reservations lost"} <= {
        promise for promise, lost in hasty.broken.items() if lost
    }
