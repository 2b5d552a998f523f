"""A disk may fail at any call: that is an error in words, what was acknowledged is kept, and nothing is half done.

The program that runs on such disks, and what it is judged by, stands in `tests/workers/bad_disks.py`.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from tempfile import mkdtemp

import pytest

from tests.faulty_disk import FAILURES
from tests.workers import in_new_process
from tests.workers.bad_disks import Tried, fail_everywhere, forget_writes

PARTS = 2  # at a time, because CI has two cores
SENTENCE = re.compile(r"touches\.db: the (disk|database file) .+ \(.+\); .+")

pytestmark = pytest.mark.usefixtures("disk_within_reach")


@pytest.fixture(scope="module", params=[False, True], ids=["once", "from then on"])
def lasts(request: pytest.FixtureRequest) -> bool:
    """Whether one call fails, or every one from then on."""
    return request.param


@pytest.fixture(scope="module")
def tried(lasts: bool, tmp_path_factory: pytest.TempPathFactory) -> list[Tried]:
    """What came of a failure at each single call of each method."""
    base = tmp_path_factory.mktemp("disk")

    def part(number: int) -> Tried:
        return in_new_process(fail_everywhere, mkdtemp(dir=base), list(FAILURES), number, PARTS, lasts)

    with ThreadPoolExecutor(PARTS) as pool:
        return list(pool.map(part, range(PARTS)))


def test_whatever_fails_what_was_acknowledged_is_there(tried):
    """Whichever call fails: what is raised is StoreUnavailable or StoreError, nobody is told anything wrong and nobody
    waits; and once the disk is well, the file is whole and everybody looks as after what was acknowledged, or as after
    the step that was not.
    """
    assert [] == [how for part in tried for how in part.broken]


def test_every_method_failed(tried):
    """The failures are many, at every method, and most of them stop something."""
    assert set(FAILURES) == {method for part in tried for method in part.faults}
    assert sum(part.faults.total() for part in tried) > 300
    assert sum(part.stopped[0] for part in tried) < sum(part.faults.total() for part in tried) / 3


def test_one_failure_stops_one_step(tried, lasts):
    """A disk that fails once stops at most one step, whoever repeats it gets what was asked for, and the same governor
    goes on; one that keeps failing stops many.
    """
    stopped_max = max(max(part.stopped) for part in tried)
    assert stopped_max > 5 if lasts else stopped_max == 1


def test_what_was_not_acknowledged_is_not_there(tried):
    """What raised is not there, with two exceptions: a write whose sync failed, which the next process may find in the
    log and complete; and a prune that had begun, which goes in steps.
    """
    there = {found for part in tried for found in part.raised_and_there}
    assert set() == {(method, name) for method, name in there if method != "xSync" and name != "old"}


def test_errors_say_what_failed(tried):
    """Every error names the file and says what the disk could not do."""
    assert [] == [text for part in tried for text in part.sentences if not SENTENCE.fullmatch(text)]
    assert 2 < len({text for part in tried for text in part.sentences})


def test_a_disk_that_forgets_is_noticed(tmp_path):
    """These tests would notice a lost write: when the disk forgets all from one on, wherever that is, something is
    missing afterwards; unless it is so early that not even a file is made.
    """
    found = in_new_process(forget_writes, str(tmp_path), 10)
    assert len(found) > 10
    assert sum(map(bool, found)) > 0.8 * len(found)
