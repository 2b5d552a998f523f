"""What tests of several processes and threads share: how these are started together, and how their work comes back.

A spawned process imports what it shall do, so that stands in this package. Rule 1: nobody sleeps; everybody waits for a
barrier, a pipe or the end of a process, and never for longer than `PATIENCE`. Rule 2: what a process did comes back as
plain data, and the test judges it.
"""

import multiprocessing
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fairtouch import AsyncGovernor, Decision, Governor, Policy

SPAWN = multiprocessing.get_context("spawn")
PARTIES = 8
PATIENCE = 120  # seconds after which a test gives up on a process
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

Sections = dict[str, Any]
Ready = Callable[[], Any]
_LINE: dict[str, Any] = {}  # what this process was given when its crew was made: the barrier, and the sign to stop


def govern(url: str, sections: Sections, **options: Any) -> Governor:
    """A governor for a policy given as sections."""
    return Governor(worded(sections), url, **options)


def govern_async(url: str, sections: Sections, **options: Any) -> AsyncGovernor:
    """The same, asynchronous."""
    return AsyncGovernor(worded(sections), url, **options)


def worded(sections: Sections) -> Policy:
    """The policy of some sections."""
    return Policy.model_validate({"name": "workers", "customer": {"timezones": ["UTC"]}, **sections})


def codes(decision: Decision) -> list[str]:
    """The codes of the reasons."""
    return [str(reason.code) for reason in decision.reasons]


def answer(decision: Decision) -> str:
    """The codes in one text; "allowed" when there are none."""
    return ", ".join(codes(decision)) or "allowed"


def used(decision: Decision) -> dict[str, int | None]:
    """How full each cap is that the touch is judged by, without the touch itself."""
    return {check.rule: check.used for check in decision.checks if check.kind == "cap"}


def integrity(path: Path) -> list[str]:
    """What SQLite finds wrong with a file; ["ok"] when that is nothing."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")]


def await_that(condition: Callable[[], Any]) -> None:
    """Look again and again until it is so: for what another process or thread does in its own time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"


class Crew:
    """Eight processes that start every piece of work together."""

    def __init__(self) -> None:
        self.stop = SPAWN.Event()
        line = (SPAWN.Barrier(PARTIES), self.stop)
        self._pool = ProcessPoolExecutor(PARTIES, mp_context=SPAWN, initializer=_enlist, initargs=line)

    def start(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], list[Any]]:
        """Let every process do `work(ready, number, *arguments)`; call the result to wait for what each returned."""
        futures = [self._pool.submit(_in_line, work, number, arguments) for number in range(PARTIES)]
        return lambda: [future.result(PATIENCE) for future in futures]

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Let every process do the work, and wait."""
        return self.start(work, *arguments)()

    def close(self) -> None:
        """Send everybody home."""
        self._pool.shutdown()


def _enlist(barrier: Any, stop: Any) -> None:
    _LINE.update(barrier=barrier, stop=stop)


def _in_line(work: Callable[..., Any], number: int, arguments: Sequence[Any]) -> Any:
    return work(lambda: _LINE["barrier"].wait(PATIENCE), number, *arguments)


def told_to_stop() -> bool:
    """Whether the crew that this process belongs to was told to stop."""
    return bool(_LINE["stop"].is_set())


@contextmanager
def switching_often() -> Iterator[None]:
    """Threads take turns every few operations; the usual 5 ms let most steps pass that are not atomic."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def in_threads(work: Callable[..., Any], *arguments: Any, parties: int = PARTIES) -> list[Any]:
    """Let every thread do `work(ready, number, *arguments)`, and return what each returned."""
    barrier = threading.Barrier(parties)
    with switching_often(), ThreadPoolExecutor(parties) as pool:
        futures = [pool.submit(work, lambda: barrier.wait(PATIENCE), number, *arguments) for number in range(parties)]
        return [future.result(PATIENCE) for future in futures]


def in_two_threads(ready: Ready, number: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The same in a process of a crew, starting when the crew does; threads are numbered through all processes."""

    def twin(ready_here: Ready, thread: int) -> Any:
        def ready_everywhere() -> None:
            if thread == 0:
                ready()
            ready_here()

        return work(ready_everywhere, 2 * number + thread, *arguments)

    return in_threads(twin, parties=2)


def in_new_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Let a new process, of one thread, do `work(*arguments)`, and return what it returned."""
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_report, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE), "the process says nothing"
        worked, result = ours.recv()
        process.join(PATIENCE)
    except EOFError:
        process.join(PATIENCE)
        raise AssertionError(f"the process died: {process.exitcode}") from None
    finally:
        process.kill()
    assert worked, result
    return result


def _report(theirs: Connection, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        theirs.send((True, work(*arguments)))
    except Exception:  # noqa: BLE001 - it is the test's to know
        theirs.send((False, traceback.format_exc()))
