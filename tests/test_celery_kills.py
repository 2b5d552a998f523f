"""Celery on a real Redis broker: five hundred tasks in workers that are killed with SIGKILL, wherever they are.

Every customer got something just before, and the next only ten seconds later; the broker delivers again what was not
acknowledged within two seconds: every message hops. Half of the tasks are held when they are in doubt, half are resent.
Processes of the pools are killed, and whole workers. A worker is killed only when the broker has every message, because
kombu takes a message off its list before it notes that it did: what dies in between is lost to any task.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.celery_workers import Mailing, Worker, await_that, stop_all
from tests.redis_servers import Server

TASKS = 250  # of each kind
WORKERS = 2
POOL = 4
EARLY_KILLS = 8  # while nothing may go out yet
LATE_KILLS = 32
WORKERS_KILLED = 3  # at most: only when the broker has every message
MOMENT_SECONDS = 0.1  # at most so long after what a kill waits for
SEED = 20261122


@dataclass
class Found:
    """What the processes told, and what stands in the stores."""

    ids: dict[str, dict[str, str]]  # by kind: the task's id, and its customer
    lines: list[tuple[str, int, str]] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    states: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # by kind, by id: the states in the ledger

    def of(self, what: str) -> Counter[str]:
        """How often something was told of each task."""
        return Counter(task_id for told, _, task_id in self.lines if told == what)

    def last_words(self) -> Counter[str]:
        """What the killed told last: what they were killed in."""
        last = {pid: told for told, pid, _ in self.lines if pid in self.killed}
        return Counter(last.values())

    def died_after(self, what: str) -> set[str]:
        """The tasks of which a killed process told something, and not that it was done with them."""
        doing: dict[int, str] = {}
        for told, pid, task_id in self.lines:
            if told == what:
                doing[pid] = task_id
            elif told in {"end", "hop"}:
                doing.pop(pid, None)
        return {task_id for pid, task_id in doing.items() if pid in self.killed}


class Slaughter:
    """The broker, the workers, and whoever kills them."""

    def __init__(self, mailing: Mailing, broker: Server, folder: Path) -> None:
        self.mailing, self.broker, self.folder, self.dice = mailing, broker, folder, random.Random(SEED)
        self.workers_killed = 0
        self.workers = [self._worker(number) for number in range(WORKERS)]
        self.found = Found({})

    def _worker(self, number: int) -> Worker:
        return self.mailing.worker(f"worker-{number}", self.folder, f"--concurrency={POOL}")

    # The killer

    def kill_many(self) -> None:
        """Kill again and again: some while nothing may go out yet, the others while more and more tasks end."""
        for number in range(1, EARLY_KILLS + 1):
            hops = number * 10
            self.await_that(lambda hops=hops: self.mailing.told("hop").total() >= hops or self.mailing.told("end"))
            self.kill()
        for number in range(LATE_KILLS):
            ends = number * TASKS // LATE_KILLS
            self.await_that(lambda ends=ends: self.mailing.told("end").total() >= ends)
            self.kill()

    def kill(self) -> None:
        """Kill a process of a pool, or now and then a whole worker."""
        time.sleep(self.dice.random() * MOMENT_SECONDS)  # waits for nothing: wherever they are then
        if self.dice.random() < 0.5 and self.workers_killed < WORKERS_KILLED and self.kill_worker():
            self.workers_killed += 1
        else:
            self.await_that(lambda: self.kill_child() or not self.unfinished())

    def kill_child(self) -> bool:
        """Kill one that is at work."""
        last_words = {pid: told for told, pid, _ in self.mailing.lines()}
        at_work = [pid for pid in self.children() if last_words.get(pid) in {"begin", "reserved", "mail"}]
        if not at_work:
            return False
        pid = self.dice.choice(at_work)
        self.found.killed.add(pid)
        with suppress(ProcessLookupError):  # its worker gave up, and took it along
            os.kill(pid, signal.SIGKILL)
        return True

    def kill_worker(self) -> bool:
        """Kill a worker with its pool and start another, if the broker has every message just now."""
        number = self.dice.randrange(WORKERS)
        worker = self.workers[number]
        pool = self.children(worker.process.pid)
        if not pool:
            return False
        with self.broker.client() as client:
            client.execute_command("CLIENT", "PAUSE", "20000", "WRITE")  # nobody takes a message meanwhile
            try:
                if not self.unfinished() <= self.with_broker(client):
                    return False
                ports = worker.ports()
                worker.kill()
                self.await_that(lambda: not ports & heard(client))  # else it would be given what comes next
            finally:
                client.execute_command("CLIENT", "UNPAUSE")
        self.found.killed |= set(pool)
        self.workers[number] = self._worker(number)
        return True

    def children(self, parent: int | None = None) -> list[int]:
        """The processes of the pools, of all workers or of one."""
        parents = {worker.process.pid for worker in self.workers} if parent is None else {parent}
        born = {pid for told, pid, of in self.mailing.lines() if told == "born" and int(of) in parents}
        return sorted(born - self.found.killed)

    # What there is

    def unfinished(self) -> set[str]:
        """The tasks that did not end yet."""
        ids = {task_id for ids in self.found.ids.values() for task_id in ids}
        return ids - set(self.mailing.told("end"))

    def with_broker(self, client: Any) -> set[str]:
        """The tasks whose messages the broker has, waiting or handed out."""
        waiting = [json.loads(message) for message in client.lrange("celery", 0, -1)]
        handed_out = [json.loads(entry)[0] for entry in client.hvals("unacked")]
        return {message["headers"]["id"] for message in waiting + handed_out}

    def await_that(self, condition: Callable[[], Any]) -> None:
        """Look again and again until it is so, and replace workers that gave up."""

        def look() -> Any:
            for number, worker in enumerate(self.workers):
                if worker.process.poll() not in {None, -signal.SIGKILL}:  # its pool died while it started
                    self.workers[number] = self._worker(number)
            return condition()

        await_that(look, self.workers)

    def is_over(self) -> bool:
        """Whether every task has ended, and no message is left that could send."""
        with self.broker.client() as client:
            return not self.unfinished() and not client.llen("celery") and not client.hlen("unacked")

    def run(self) -> Found:
        """Kill, wait for the end, and look."""
        try:
            self.await_that(lambda: all(worker.is_ready() for worker in self.workers))
            self.mailing.just_sent(TASKS, *self.mailing.KINDS)
            self.found.ids = self.mailing.enqueue(TASKS, *self.mailing.KINDS)
            self.kill_many()
            self.await_that(self.is_over)
        finally:
            stop_all(self.workers)
        self.found.lines = self.mailing.lines()
        self.found.states = {kind: self.mailing.states(kind, ids) for kind, ids in self.found.ids.items()}
        return self.found


def heard(client: Any) -> set[int]:
    """From which ports somebody speaks with the broker."""
    return {int(each["addr"].rpartition(":")[2]) for each in client.client_list()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What the kills came to."""
    folders = [tmp_path_factory.mktemp(name) for name in ("mailing", "broker", "store")]
    broker, store = (Server(folder, "--appendonly", "yes") for folder in folders[1:])
    try:
        mailing = Mailing(broker.url, f"{store.url}?deadline_seconds=20", str(folders[0] / "lines"), gap_seconds=10)
        yield Slaughter(mailing, broker, folders[0]).run()
    finally:
        broker.stop()
        store.stop()


def in_doubt(found: Found) -> set[str]:
    """The tasks whose touches the ledger holds as reserved: nobody settled them."""
    return {task_id for task_id, states in found.states["hold"].items() if states == ["reserved"]}


def test_the_kills_were_in_the_middle(found):
    """Dozens of processes died, many before they reserved and many between reservation and confirmation, and workers
    with their whole pool.
    """
    words = found.last_words()
    assert len(found.killed) >= EARLY_KILLS + LATE_KILLS / 2
    assert found.of("set-up").total() > WORKERS  # some workers, too
    assert words["begin"] >= 5, words
    assert words["reserved"] + words["mail"] >= 5, words
    assert in_doubt(found)


def test_messages_hopped(found):
    """The tasks came back, again and again, before they sent: nothing was judged once and for all."""
    hops = found.of("hop")
    assert len(hops) >= TASKS / 5, hops
    assert max(hops.values()) > 2


def test_hold_sends_at_most_once(found):
    """Under hold no task sends two mails, and each that is not in doubt sends exactly one, which counts once."""
    mails, doubtful = found.of("mail"), in_doubt(found)
    ids = set(found.ids["hold"])
    assert {} == {task_id: mails[task_id] for task_id in ids if mails[task_id] > 1}
    assert ids - doubtful == {task_id for task_id in ids - doubtful if mails[task_id] == 1}
    assert ids - doubtful == {task_id for task_id, states in found.states["hold"].items() if states == ["confirmed"]}


def test_every_id_in_doubt_is_reported(found):
    """What is in doubt is reported by its id, and only that: tasks whose process died in the middle."""
    assert in_doubt(found) == set(found.of("in_doubt"))
    assert in_doubt(found) <= found.died_after("begin")


def test_resend_sends_at_least_once(found):
    """Under resend every task sends, and only those again whose process died between the mail and confirm."""
    mails, ids = found.of("mail"), set(found.ids["resend"])
    assert ids == {task_id for task_id in ids if mails[task_id]}
    assert ids == {task_id for task_id, states in found.states["resend"].items() if states == ["confirmed"]}
    assert {task_id for task_id in ids if mails[task_id] > 1} <= found.died_after("mail")


def test_nothing_else_goes_out(found):
    """Mails are of these tasks alone, and nothing is reported but what is in doubt."""
    ids = set(found.ids["hold"]) | set(found.ids["resend"])
    assert set(found.of("mail")) <= ids
    assert {"set-up", "born", "begin", "hop", "reserved", "mail", "end", "in_doubt"} == {
        told for told, _, _ in found.lines
    }
