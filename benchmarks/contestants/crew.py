"""Several processes that reserve in one file at once: what they manage together, and how long the unlucky ones wait."""

import multiprocessing
import statistics
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.contest import Site
from benchmarks.files import Durability, copied, governing
from benchmarks.world import asked, policy
from fairtouch import FairtouchError

CUSTOMERS: Final = 600  # of each process, who are called once; the first sixth only to warm up

Report = tuple[float, float, list[float], int]
"""When a process began and ended, how long each call took, and how many failed."""


def work(path: Path, durability: Durability, customers: range, barrier: Barrier, report: Connection) -> None:
    """One process: it warms up, waits for the others, and reserves for its own customers."""
    warmup, latencies, errors = len(customers) // 6, [], 0
    with governing(path, policy(), durability=durability) as governor:
        for customer in customers[:warmup]:
            governor.reserve(asked(customer))
        barrier.wait(60)
        begin = before = perf_counter()
        for customer in customers[warmup:]:
            try:
                errors += not governor.reserve(asked(customer))
            except FairtouchError:
                errors += 1
            after = perf_counter()
            latencies.append(after - before)
            before = after
    report.send((begin, before, latencies, errors))


def crew(processes: int, durability: Durability) -> Callable[[Site], dict[str, float]]:
    """So many processes on a copy of the file in which everybody has eight touches."""

    def run(site: Site) -> dict[str, float]:
        share, size = min(CUSTOMERS, site.sizes.customers_max), min(processes, site.sizes.processes_max)
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(size)
        with copied(site, "eight") as path:
            started = []
            for first in range(0, size * share, share):
                receiver, sender = context.Pipe(duplex=False)
                args = (path, durability, range(first, first + share), barrier, sender)
                process = context.Process(target=work, args=args, daemon=True)
                process.start()
                sender.close()  # so that the end of a process that tells nothing is the end of its pipe
                started.append((process, receiver))
            reports = [receiver.recv() for _, receiver in started]
            for process, receiver in started:
                process.join()
                receiver.close()
        return numbers(reports)

    return run


def numbers(reports: list[Report]) -> dict[str, float]:
    """What the processes did together, from the first one's beginning to the last one's end."""
    begins, ends, latencies, errors = zip(*reports, strict=True)
    together = sorted(latency for own in latencies for latency in own)
    median = statistics.median(together)
    return {
        "us": median * 1e6,
        "per_second": len(together) / (max(ends) - min(begins)),
        "tail": together[len(together) * 99 // 100] / median,
        "errors": sum(errors),
    }
