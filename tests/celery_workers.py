"""Real Celery workers for tests: programs of their own, ended by pid, and what their processes told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

from celery import Celery

from fairtouch import Governor, Policy
from tests.workers import PATIENCE

PROJECT = Path(__file__).parent.parent
LEASE_SECONDS = 5


class Worker:
    """A `celery worker`, which runs until it is stopped or killed."""

    def __init__(
        self, app: str, name: str, log: Path, environment: dict[str, str], *options: str, cwd: Path = PROJECT
    ) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "celery", "--app", app, "worker"]
        command += ["--hostname", f"{name}@localhost", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *options]
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=cwd, env={**os.environ, **environment}
            )

    def is_ready(self) -> bool:
        """Whether it takes messages."""
        return "ready." in self.log.read_text()

    def kill(self) -> None:
        """As the kernel does when memory runs out: its pool dies with it."""
        self.process.kill()
        self.process.wait()

    def ports(self) -> set[int]:
        """From which ports it speaks, with whomever."""
        process = Path(f"/proc/{self.process.pid}")
        own = {str(end.readlink()) for end in (process / "fd").iterdir()}
        rows = [line.split() for line in (process / "net/tcp").read_text().splitlines()[1:]]
        return {int(row[1].partition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in own}


def stop_all(workers: Collection[Worker]) -> None:
    """Lets them end what they do; those that take too long are killed."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()


@dataclass(frozen=True)
class Mailing:
    """The workers of `tests.workers.mailing`: where they are told to look, what they told, and what they shall send.

    `store`: the URL of a store. Every customer gets at most one mail in `gap_seconds`.
    """

    broker: str
    store: str
    path: str
    gap_seconds: int
    KINDS: ClassVar = ("hold", "resend")

    @classmethod
    def from_environment(cls) -> Self:
        """What a worker was given."""
        return cls(**json.loads(os.environ["MAILING"]))

    def governor(self, kind: str) -> Governor:
        """A governor that holds or resends what is in doubt."""
        caps = {"gap": {"limit": f"1 per {self.gap_seconds} seconds"}}
        policy = Policy.model_validate({"name": "mailing", "in_doubt": kind, "caps": caps})
        return Governor(policy, self.store, namespace=kind, lease_seconds=LEASE_SECONDS)

    def worker(self, name: str, folder: Path, *options: str) -> Worker:
        """Starts a worker."""
        environment = {"MAILING": json.dumps(asdict(self))}
        return Worker("tests.workers.mailing", name, folder / f"{name}.log", environment, *options)

    def just_sent(self, number: int, *kinds: str) -> None:
        """So many customers of each kind got something just now."""
        for kind in kinds:
            with self.governor(kind) as governor:
                for index in range(number):
                    governor.record(f"{kind}-{index}", datetime.now(UTC), channel="email", id="before")

    def enqueue(self, number: int, *kinds: str) -> dict[str, dict[str, str]]:
        """Enqueues a mail to each of so many customers of each kind: by kind, whose by the task's id."""
        ids: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
        with Celery(broker=self.broker, set_as_current=False) as app:
            for index, kind in product(range(number), kinds):
                ids[kind][app.send_task(kind, (f"{kind}-{index}",)).id] = f"{kind}-{index}"
        return ids

    def lines(self) -> list[tuple[str, int, str]]:
        """What was told until now: what, by which process, of which task."""
        path = Path(self.path)
        told = path.read_text().splitlines() if path.exists() else []
        return [(what, int(pid), task_id) for what, pid, task_id in map(str.split, told)]

    def told(self, what: str) -> Counter[str]:
        """How often something was told of each task."""
        return Counter(task_id for told, _, task_id in self.lines() if told == what)

    def states(self, kind: str, ids: dict[str, str]) -> dict[str, list[str]]:
        """In which states the touches of some tasks stand in the ledger."""
        with self.governor(kind) as governor:
            return {
                task_id: [entry.state for entry in governor.history(customer) if entry.id == task_id]
                for task_id, customer in ids.items()
            }


def await_that(condition: Callable[[], Any], workers: Collection[Worker]) -> None:
    """Look again and again until it is so; else show what the workers said."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "".join(worker.log.read_text()[-3000:] for worker in workers)
        time.sleep(0.02)
