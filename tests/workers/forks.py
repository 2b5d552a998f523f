"""Programs that fork after they used a governor, and go on using it on both sides.

Each runs in a new process of one thread: a fork copies one thread only, and the locks that others held.
"""

import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any, Literal

from fairtouch import Governor
from tests.workers import PATIENCE, Sections, govern

FORK = multiprocessing.get_context("fork")


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
