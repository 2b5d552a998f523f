"""What a call in memory consists of: the instructions that Python interprets for it.

No clock is involved, so the numbers are the same on an idle machine and on a busy one, and say where the time goes.
What happens inside C (hashing, searching, comparing) is not counted, on either side.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.contest import Contestant, Group, Line, Site
from benchmarks.contestants.memory import ALL_LIMITS, ONE_HIT, RESERVE, hitting, reserving, testing_and_hitting
from benchmarks.timing import Call

CUSTOMERS: Final = 20
ROOMS: Final = {
    "making the touch": ("touch.py",),
    "asking: digest, plan, id and token": ("asking.py", "planning.py", "digests.py", "clock.py"),
    "the plan's comparisons, twice": ("plan.py",),
    "the store's step": ("memory.py", "weighing.py"),
    "judging again, and the decision": ("checks.py", "decision.py"),
    "the governor around it": ("governor.py",),
}


def instructions(call: Callable[[], object]) -> Counter[str]:
    """How many instructions a call interprets, by the name of the file they come from."""
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            found[Path(frame.f_code.co_filename).name] += 1
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return found


def counted(prepare: Callable[[Site, int], AbstractContextManager[Call]]) -> Callable[[Site], dict[str, float]]:
    """A contestant's run: the last of a few calls, so that what is cached is cached."""

    def run(site: Site) -> dict[str, float]:
        with prepare(site, CUSTOMERS) as call:
            customers = count()
            for _ in range(CUSTOMERS - 1):
                call(next(customers))
            found = instructions(lambda: call(next(customers)))
        parts = {room: float(sum(found[file] for file in files)) for room, files in ROOMS.items()}
        return {"instructions": float(found.total()), **parts}

    return run


BYTECODES: Final = Group(
    name="bytecodes",
    title="What a call consists of",
    rounds=1,
    contestants=(
        Contestant(name=RESERVE, run=counted(reserving)),
        Contestant(name=ONE_HIT, run=counted(hitting(1))),
        Contestant(name=ALL_LIMITS, run=counted(testing_and_hitting)),
    ),
    lines=(
        Line(text=f"{ALL_LIMITS} / reserve", of=ALL_LIMITS, to=RESERVE, metric="instructions"),
        Line(text=f"reserve / {ONE_HIT}", of=RESERVE, to=ONE_HIT, metric="instructions"),
        Line(text=ALL_LIMITS, of=ALL_LIMITS, metric="instructions"),
        Line(text=ONE_HIT, of=ONE_HIT, metric="instructions"),
        Line(text=RESERVE, of=RESERVE, metric="instructions"),
        *(Line(text=f"… {room}", of=RESERVE, metric=room) for room in ROOMS),
    ),
)
