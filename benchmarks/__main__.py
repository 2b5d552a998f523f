"""`make bench`: what a decision costs, next to what it is made of and next to its peers.

Every contestant runs in a process of its own, in turns with the others, several times. Only the ratios mean anything.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks import machine, report, runs
from benchmarks.contest import SMOKE, Site, Sizes
from benchmarks.contestants import GROUPS

PAGE: Final = runs.ROOT / "docs" / "benchmarks.md"
CUSTOMERS_MIN: Final = 60_000


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures fairtouch; see docs/benchmarks")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="these groups")
    parser.add_argument("--rounds", type=int, help="how often everybody has a turn")
    parser.add_argument("--customers", type=int, default=Sizes().crowd, help="in the largest file; fewer fill faster")
    parser.add_argument("--folder", help="where files are made: on the disk to be measured, never in memory")
    parser.add_argument("--smoke", action="store_true", help="a few calls each, to see that everything runs")
    parser.add_argument("--write", action="store_true", help="put the results into docs/benchmarks.md")
    wanted = parser.parse_args(given)
    if wanted.customers < CUSTOMERS_MIN:
        parser.error(f"--customers: at least {CUSTOMERS_MIN:,}, or a hundredth of them are too few to be called")
    if wanted.smoke and wanted.write:
        parser.error("--smoke: a few calls are no results to write down")
    return wanted


def minutes(seconds: float) -> str:
    """How long something took, as a person says it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes if so wanted."""
    wanted = arguments(given)
    sizes = SMOKE if wanted.smoke else Sizes(crowd=wanted.customers)
    with tempfile.TemporaryDirectory(prefix="fairtouch-benchmarks-", dir=wanted.folder) as folder:
        for name in wanted.only:
            group, site = GROUPS[name], Site(Path(folder), sizes)
            start = monotonic()
            runs.fill_files(group, site)
            filled = monotonic()
            results = runs.measure(group, site, rounds=wanted.rounds)
            took = f"Filling files took {minutes(filled - start)}, measuring {minutes(monotonic() - filled)}."
            crowd = f" The largest file has {sizes.crowd:,} customers." if group.needs("crowd") else ""
            text = report.rendered(group, results, f"{machine.described()}{crowd} {took}")
            print(f"\n{group.title}\n\n{text}\n", flush=True)
            if wanted.write:
                report.write(PAGE, group, text)


if __name__ == "__main__":
    main()
