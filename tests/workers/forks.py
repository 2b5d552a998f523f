"""Programs that fork after they used a governor, and go on using it on both sides.

Each runs in a new process. Most are of one thread: a fork copies one thread only, and the locks that others held.
"""

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any, Literal

from fairtouch import AsyncGovernor, Governor, Touch
from tests.in_a_loop import InALoop
from tests.workers import PATIENCE, Sections, govern, govern_async, switching_often

FORK = multiprocessing.get_context("fork")
HANGS_SECONDS = 30
PAST = datetime.now(UTC) - timedelta(hours=1)


def forked(work: Callable[..., Any], *arguments: Any, leave: Callable[[int], Any] = os._exit) -> int:
    """Let a fork of this process do `work(*arguments)` and leave with 0; the parent gets its number."""
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - a fork must never come back into its parent's program
        traceback.print_exc()
        os._exit(1)
    leave(0)
    raise AssertionError("a fork came back")


def joined(children: Iterable[int]) -> list[int]:
    """What each child left with; the negative signal, when one ended it."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def fill_caps(governor: Governor, seed: int, customers: int, tries: int) -> None:
    """Reserve for everybody in an order of one's own, and confirm half of the time."""
    dice = random.Random(seed)
    for index in dice.sample(range(customers), customers) * tries:
        reservation = governor.reserve(f"customer-{index}", channel="email").reservation
        if reservation is not None and dice.random() < 0.5:
            governor.confirm(reservation)


def by_the_system(url: str, sections: Sections, customers: int) -> list[int]:
    """Four children by os.fork."""
    with govern(url, sections) as governor:
        fill_caps(governor, 0, customers, 1)
        children = [forked(fill_caps, governor, seed, customers, 3) for seed in range(1, 5)]
        fill_caps(governor, 5, customers, 3)
        return joined(children)


def by_multiprocessing(url: str, sections: Sections, customers: int) -> list[int | None]:
    """Four children by multiprocessing."""
    with govern(url, sections) as governor:
        fill_caps(governor, 0, customers, 1)
        children = [FORK.Process(target=fill_caps, args=(governor, seed, customers, 3)) for seed in range(1, 5)]
        for child in children:
            child.start()
        fill_caps(governor, 5, customers, 3)
        for child in children:
            child.join(PATIENCE)
        return [child.exitcode for child in children]


def twice(url: str, sections: Sections, customers: int) -> list[int]:
    """A child that forks again."""

    def second_generation(governor: Governor) -> None:
        fill_caps(governor, 1, customers, 1)
        grandchild = forked(fill_caps, governor, 2, customers, 3)
        fill_caps(governor, 3, customers, 3)
        assert joined([grandchild]) == [0]

    with govern(url, sections) as governor:
        fill_caps(governor, 0, customers, 1)
        child = forked(second_generation, governor)
        fill_caps(governor, 4, customers, 3)
        return joined([child])


def leaving_properly(url: str, sections: Sections, customers: int) -> list[int]:
    """Children that end as programs do, tidying up what they inherited: two that used the governor, two others."""
    with govern(url, sections) as governor:
        fill_caps(governor, 0, customers, 1)
        users = [forked(fill_caps, governor, seed, customers, 3, leave=sys.exit) for seed in range(1, 3)]
        idlers = [forked(int, leave=sys.exit) for _ in range(2)]
        fill_caps(governor, 5, customers, 3)
        return joined([*users, *idlers])


def outlive_parent(url: str, parent: Literal["closes", "is killed"]) -> None:
    """A child works on after its parent is gone and others opened and closed the file."""
    ours, theirs = FORK.Pipe()
    order, heard = FORK.Pipe()
    program = forked(_parent, url, theirs, heard)
    theirs.close()
    assert ours.recv() == "used"
    if parent == "closes":
        order.send("close")
    else:
        os.kill(program, signal.SIGKILL)
    joined([program])
    govern(url, {}).close()
    ours.send("go on")
    assert ours.recv() == "acknowledged"
    assert ours.poll(PATIENCE)  # the end of the pipe, and so of the child


def _parent(url: str, theirs: Connection, heard: Connection) -> None:
    governor = govern(url, {})
    governor.consent.opt_out("before the fork", category="marketing")
    forked(_child, governor, theirs)
    heard.recv()
    governor.close()


def _child(governor: Governor, theirs: Connection) -> None:
    governor.consent.opt_out("while the parent lived", category="marketing")
    theirs.send("used")
    theirs.recv()
    governor.consent.opt_out("after the parent", category="marketing")
    theirs.send("acknowledged")


@dataclass
class Share:
    """What one process of a family did: so many operations; what it was told of others; its slots per customer."""

    operations: int = 0
    crossed: list[str] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)


def mind_ones_own(governor: Any, name: str, shared: int, operations: int) -> Share:
    """So many operations, three in four for customers of one's own, the others for those that all contest.

    Whatever the governor says about one's own customers must be about these: their touches, and not another's.
    """
    dice, share = random.Random(name), Share()
    while share.operations < operations:
        own = dice.random() < 0.75
        customer = f"{name}-{dice.randrange(100)}" if own else f"customer-{dice.randrange(shared)}"
        touch = Touch(customer, channel="email", id=f"{customer}/{name}/{share.operations}", campaign=name)
        decision = governor.reserve(touch)
        share.kept[customer] += decision.allowed
        told = [entry.id for check in decision.checks for entry in check.touches]
        if decision.reservation is not None and dice.random() < 0.5:
            governor.confirm(decision.reservation)
            share.operations += 1
        told += [entry.id for entry in governor.history(customer)]
        share.operations += 2
        belonging = f"{customer}/{name}/" if own else f"{customer}/"
        share.crossed += [each for each in told if not each.startswith(belonging)]
        if own and share.kept[customer] != len(governor.history(customer)):
            share.crossed.append(customer)
    return share


def mind_ones_own_in_a_loop(governor: AsyncGovernor, name: str, shared: int, operations: int) -> Share:
    """The same through an asynchronous governor, in an event loop of this process's own."""
    with asyncio.Runner() as runner:
        return mind_ones_own(InALoop(governor, runner), name, shared, operations)


def preloading(url: str, sections: Sections, shared: int, operations: int) -> tuple[list[int], list[Share]]:
    """A server that loads the application, uses it, and forks its workers, as gunicorn's preload and Celery do.

    Four children, two of which use the asynchronous governor that was made before the fork, and the parent. One child
    ends early and is replaced.
    """
    with govern(url, sections) as governor:
        awaited = govern_async(url, sections)
        shares = [
            mind_ones_own(governor, "before", shared, operations // 5),
            mind_ones_own_in_a_loop(awaited, "before in a loop", shared, operations // 5),
        ]
        ours, theirs = FORK.Pipe(duplex=False)
        lock = FORK.Lock()

        def work(mind: Callable[..., Share], through: Any, name: str, count: int) -> None:
            share = mind(through, name, shared, count)
            with lock:
                theirs.send(share)

        ways = [(mind_ones_own, governor), (mind_ones_own_in_a_loop, awaited)] * 2
        early = forked(work, *ways[0], "early", operations // 5)
        left, shares = joined([early]), [*shares, ours.recv()]
        children = [forked(work, *way, f"child {number}", operations) for number, way in enumerate(ways)]
        shares.append(mind_ones_own(governor, "parent", shared, operations))
        shares += [ours.recv() for _ in children]
        left += joined(children)
        asyncio.run(awaited.close())
        return left, shares


def among_threads(url: str, sections: Sections, shared: int, operations: int) -> tuple[list[int], list[Share]]:
    """A program that forks while its threads use the governor: three threads, the program itself, and four children,
    one of which ends early and is replaced. Of a store without locks of its own, since a fork copies these as they are.
    """
    with govern(url, sections) as governor, ThreadPoolExecutor() as pool:
        threads = [
            pool.submit(mind_ones_own, governor, f"parent's thread {number}", shared, operations) for number in range(3)
        ]
        ours, theirs = FORK.Pipe(duplex=False)
        lock = FORK.Lock()

        def work(name: str, count: int) -> None:
            share = mind_ones_own(governor, name, shared, count)
            with lock:
                theirs.send(share)

        early = forked(work, "early", operations // 5)
        shares = [mind_ones_own(governor, "parent", shared, operations), ours.recv()]
        left = joined([early])
        children = [forked(work, f"child {number}", operations) for number in range(3)]
        shares += [ours.recv() for _ in children]
        shares += [thread.result(PATIENCE) for thread in threads]
        return left + joined(children), shares


def fork_among_threads(url: str, sections: Sections, children: int) -> list[int | None]:
    """What short-lived children leave with that are forked while threads of their parent decide; None: it hangs.

    All ask about a customer who is out of slots, and has a ledger of many kinds: so much has to be looked at, and told
    of by later calls, that threads are always in the middle of it.
    """
    stop = threading.Event()

    def decide() -> None:
        while not stop.is_set():
            governor.check("ada", channel="email")

    with govern(url, sections) as governor, switching_often(), ThreadPoolExecutor() as pool:
        for index in range(60):
            governor.record("ada", PAST, channel="email", campaign=f"campaign-{index}", id=str(index))
        threads = [pool.submit(decide) for _ in range(3)]
        try:
            return [ended(forked(governor.check, Touch("ada", channel="email"))) for _ in range(children)]
        finally:
            stop.set()
            for thread in threads:
                thread.result(PATIENCE)


def ended(child: int) -> int | None:
    """What a child leaves with; None for one that hangs, and is killed."""
    deadline = time.monotonic() + HANGS_SECONDS
    while time.monotonic() < deadline:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
