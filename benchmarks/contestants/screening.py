"""A campaign is screened before it is sent: a stream of checks over a file, next to one check after the other.

Memory must not grow with the number of customers: what is shown is by how much the process grew after its first batch.
"""

import gc
import resource
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.contest import Contestant, Goal, Group, Line, Site
from benchmarks.files import governing
from benchmarks.world import asked, policy

BATCH: Final = 500
SAMPLE: Final = 20  # single checks are made for every twentieth customer


def peak_mib() -> float:
    """The most memory this process ever had. Where Linux tells, without what its parent had when it started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def screening(file: str, share: int) -> Callable[[Site], dict[str, float]]:
    """`check_many` over every customer of a file, which holds a share of the crowd."""

    def run(site: Site) -> dict[str, float]:
        customers = site.sizes.crowd // share
        with governing(site.folder / f"{file}.db", policy(), durability="full") as governor:
            for _ in governor.check_many(asked(customer) for customer in range(min(BATCH, customers))):
                pass
            gc.collect()
            before = peak_mib()
            start = perf_counter()
            allowed = sum(map(bool, governor.check_many(asked(customer) for customer in range(customers))))
            seconds = perf_counter() - start
        assert allowed == customers
        return {"us": seconds / customers * 1e6, "grown_mib": max(peak_mib() - before, 0)}

    return run


def one_by_one(site: Site) -> dict[str, float]:
    """A loop of checks, on a sample of the same customers."""
    sample: Sequence[int] = range(0, site.sizes.crowd, SAMPLE)
    with governing(site.folder / "crowd.db", policy(), durability="full") as governor:
        for customer in islice(range(1, site.sizes.crowd, SAMPLE), BATCH):
            governor.check(asked(customer))
        gc.collect()
        start = perf_counter()
        allowed = sum(bool(governor.check(asked(customer))) for customer in sample)
        seconds = perf_counter() - start
    assert allowed == len(sample)
    return {"us": seconds / len(sample) * 1e6}


ALL: Final = "check_many, all customers"
TENTH: Final = "check_many, a tenth of them"
SINGLE: Final = "check, one by one"

SCREENING: Final = Group(
    name="screening",
    title="Screening a campaign",
    rounds=3,
    contestants=(
        Contestant(name=ALL, run=screening("crowd", 1), needs=("crowd",)),
        Contestant(name=TENTH, run=screening("crowd-tenth", 10), needs=("crowd-tenth",)),
        Contestant(name=SINGLE, run=one_by_one, needs=("crowd",)),
    ),
    lines=(
        Line(text="check, one by one / check_many", of=SINGLE, to=ALL, goal=Goal("at least", 3)),
        Line(text="memory grown, all customers", of=ALL, metric="grown_mib", unit="MiB"),
        Line(text="memory grown, a tenth of them", of=TENTH, metric="grown_mib", unit="MiB"),
    ),
)
