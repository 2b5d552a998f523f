"""The power may fail at any instant: what was acknowledged before is on the disk, whatever becomes of the rest.

Each cut is made from what SQLite wrote and synced, by the rules on top of `tests/workers/power_cuts.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from tempfile import mkdtemp

import pytest

from tests.workers import in_new_process
from tests.workers.power_cuts import LIES, PROMISES, Aftermath, Plan, cut_and_look

SEEDS = range(1, 5)
OPERATIONS = 600
CUTS = 255  # per seed

pytestmark = pytest.mark.usefixtures("disk_within_reach")

Cut = Callable[[Plan], Aftermath]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """Work and cut by a plan, in a new process."""
    base = tmp_path_factory.mktemp("power")
    return lambda plan: in_new_process(cut_and_look, mkdtemp(dir=base), plan)


@pytest.fixture(scope="module")
def found(cut: Cut) -> list[Aftermath]:
    """What every seed's cuts left on an honest disk; two at a time, because CI has two cores."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(cut, [Plan(seed, OPERATIONS, CUTS) for seed in SEEDS]))


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_that_every_power_cut_keeps(promise, found):
    """After a power cut the file opens and is whole, every acknowledged opt-out and suppression stands, acknowledged
    reservations, confirmations and releases are what the caps count, to the slot, and whoever looks at a customer sees
    all that was acknowledged, with the one operation that was under way entirely or not at all. (And while the power
    lasts, what was written down is what the disk holds, byte for byte.)
    """
    assert [] == [how for aftermath in found for how in aftermath.broken[promise]]


def test_cuts_are_everywhere(found):
    """There are more than a thousand cuts: during every kind of operation, and after the log was begun anew."""
    under_way = sum((aftermath.under_way for aftermath in found), Counter())
    assert sum(aftermath.cuts for aftermath in found) > 1000
    assert all(aftermath.checkpoints for aftermath in found)
    assert set() == {
        *("opening", "admitted", "confirmed", "released", "recorded", "opted_in", "opted_out", "suppressed"),
        *("unsuppressed", "set", "pruned", "closed", "reopened"),
    } - set(under_way)


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "nothing"])
def test_a_disk_that_lies_is_noticed(lie, cut):
    """The promises need the syncs: on a disk that only pretends to have done them, cuts break what they stand for."""
    broken = cut(Plan(SEEDS[0], 100, 30, lie)).broken
    assert {"no cap is exceeded", "nothing is half done"} <= {promise for promise in broken if broken[promise]}
    assert [] == broken["all was written down"]


def test_a_store_that_does_not_wait_for_the_disk(cut):
    """With `synchronous=normal` a power cut may cost reservations, which these tests notice, and nothing else: the file
    is whole, and every acknowledged opt-out and suppression stands.
    """
    broken = cut(Plan(SEEDS[0], 200, 80, query="?synchronous=normal")).broken
    assert [] == [how for promise in PROMISES[:4] for how in broken[promise]]
    assert broken["no cap is exceeded"]
