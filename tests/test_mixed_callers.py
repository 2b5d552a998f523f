"""Threads, tasks and processes on one file, all at once: caps are exact, and nothing fails."""

from collections import Counter

from tests.test_concurrency import assert_exact
from tests.workers import govern, in_new_process, integrity
from tests.workers.contests import contest_in_process_somehow, nested_caps
from tests.workers.forks import Share, preloading


def test_nested_caps_are_exact_among_threads_tasks_and_processes(crew, tmp_path):
    """Eight processes, each with a governor in one thread or two, or an asynchronous one in many tasks, contest 1,000
    customers under four nested caps on one file: every tightest cap is full, no slot is burnt, and no call fails.
    """
    database = tmp_path / "touches.db"
    tallies = crew(contest_in_process_somehow, f"sqlite:///{database}", caps := nested_caps(), 2)
    with govern(f"sqlite:///{database}", caps) as governor:
        assert_exact(governor, tallies)
    assert ["ok"] == integrity(database)


CAP = {"caps": {"weekly": {"limit": "5 per 7 days"}}}
SHARED = 60
OPERATIONS = 2_000


def test_the_workers_of_a_server_keep_apart(tmp_path):
    """A server that used its governors and then forks four workers: of 10,000 operations and more none is answered
    about somebody else's customers, every cap is exact, and the file is sound.
    """
    database = tmp_path / "touches.db"
    left, shares = in_new_process(preloading, f"sqlite:///{database}", CAP, SHARED, OPERATIONS)
    assert_apart(f"sqlite:///{database}", left, shares)
    assert ["ok"] == integrity(database)


def assert_apart(url: str, left: list[int], shares: list[Share]) -> None:
    """Nobody was answered about somebody else's customers, and every cap is exact."""
    total = sum((share.kept for share in shares), Counter())
    assert ({0}, []) == (set(left), [told for share in shares for told in share.crossed])
    assert 10_000 <= sum(share.operations for share in shares)
    assert ([5] * SHARED, 5) == ([total[f"customer-{number}"] for number in range(SHARED)], max(total.values()))
    with govern(url, CAP) as governor:
        assert total == {name: len(governor.history(name)) for name in total}
