"""Governed tasks in real workers of every kind of pool, over every kind of store; and the example."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.mail_server import MailServer
from tests.celery_workers import PROJECT, Mailing, Worker, await_that, stop_all
from tests.redis_servers import Server
from tests.workers import PATIENCE

POOLS = {"prefork": "sqlite", "threads": "redis", "solo": "sqlite"}
EXAMPLE = PROJECT / "examples" / "celery_app"


@pytest.fixture(scope="module")
def enqueued(
    redis_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Mailing, dict[str, str]]]]:
    """A worker of each kind, at work at the same time, each with a broker's database of its own; and its tasks."""
    folder = tmp_path_factory.mktemp("pools")
    mailings = {}
    for number, (pool, kind) in enumerate(POOLS.items(), start=5):
        broker = f"redis://127.0.0.1:{redis_server.port}/{number}"
        store = f"{broker}?deadline_seconds=5" if kind == "redis" else f"sqlite:///{folder / pool}.db"
        mailings[pool] = Mailing(broker, store, str(folder / pool), gap_seconds=6)
    workers = [
        mailing.worker(f"worker-{pool}", folder, f"--pool={pool}", "--concurrency=3")
        for pool, mailing in mailings.items()
    ]
    try:
        for worker in workers:
            await_that(worker.is_ready, workers)
        for mailing in mailings.values():
            mailing.just_sent(20, "hold")
        yield {pool: (mailing, mailing.enqueue(20, "hold")["hold"]) for pool, mailing in mailings.items()}
    finally:
        stop_all(workers)


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_sends_once(pool, enqueued):
    """In processes that were forked, in threads, and alone: what is deferred comes back and sends exactly once."""
    mailing, ids = enqueued[pool]
    await_that(lambda: mailing.told("end").keys() >= ids.keys(), [])
    assert dict.fromkeys(ids, 1) == mailing.told("mail")
    assert ids.keys() >= mailing.told("hop").keys() != set()
    assert {task_id: ["confirmed"] for task_id in ids} == mailing.states("hold", ids)


def test_a_store_that_is_down(own, tmp_path):
    """While the store is down nothing goes out, and the worker says which store; when it is back, everything does."""
    broker, store = own(), own("--appendonly", "yes", "--appendfsync", "always")
    mailing = Mailing(broker.url, f"{store.url}?deadline_seconds=0.3", str(tmp_path / "lines"), gap_seconds=1)
    worker = mailing.worker("worker", tmp_path, "--concurrency=2")
    try:
        await_that(worker.is_ready, [worker])
        store.stop()
        ids = mailing.enqueue(20, "hold")["hold"]
        await_that(lambda: len(mailing.told("hop")) > len(ids) / 2, [worker])
        assert (set(), set()) == (set(mailing.told("mail")), set(mailing.told("end")))
        assert "StoreUnavailable('Redis " in worker.log.read_text()
        store.start()
        await_that(lambda: mailing.told("end").keys() >= ids.keys(), [worker])
    finally:
        stop_all([worker])
    assert dict.fromkeys(ids, 1) == mailing.told("mail")
    assert {task_id: ["confirmed"] for task_id in ids} == mailing.states("hold", ids)


SAID = """\
ada   47  sent
bob   47  sent
cleo  47  sent
ada   48  sent
bob   48  sent
"""


def test_the_example(own, tmp_path):
    """The example's worker and its enqueuer: every issue reaches everybody once, and after an opt-out nobody."""
    redis = own("--appendonly", "yes")
    with MailServer() as server:
        environment = {"REDIS_URL": redis.url, "MAIL_HOST": server.host, "MAIL_PORT": str(server.port)}
        worker = Worker("tasks", "example", tmp_path / "log", environment, "--concurrency=2", cwd=EXAMPLE)
        try:
            done = subprocess.run(
                [sys.executable, "enqueue.py"],
                cwd=EXAMPLE,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * PATIENCE,
            )
        finally:
            stop_all([worker])
    assert 0 == done.returncode, done.stderr + Path(worker.log).read_text()
    assert done.stdout.startswith(SAID)
    assert done.stdout.removeprefix(SAID).startswith("cleo  48  refused: consent: the customer opted out")
    sent = [(mail.recipients[0], mail.message["Subject"]) for mail in server.mails]
    both = {(f"{name}@example.org", f"No. {issue}") for name in ("ada", "bob") for issue in (47, 48)}
    assert both | {("cleo@example.org", "No. 47")} == set(sent)
    assert 5 == len(sent)
