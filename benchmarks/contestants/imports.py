"""What an import costs a new interpreter, next to what fairtouch imports anyway and to a peer."""

import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final

from benchmarks.contest import Contestant, Group, Line, Site

STARTS: Final = 6  # of which the first only warms the disk


def starting(program: str) -> Callable[[Site], dict[str, float]]:
    """How long a new interpreter takes to run a program."""

    def run(site: Site) -> dict[str, float]:
        starts = min(STARTS, site.sizes.heats_max)
        times = []
        for _ in range(starts):
            start = perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - a constant of this file
            times.append(perf_counter() - start)
        timed = times[1:] or times
        return {"us": sum(timed) / len(timed) * 1e6}

    return run


PROGRAMS: Final = ("pass", "import fairtouch", "import pydantic", "import limits")

IMPORTS: Final = Group(
    name="import",
    title="Import",
    rounds=5,
    contestants=tuple(Contestant(name=f"python -c '{program}'", run=starting(program)) for program in PROGRAMS),
    lines=tuple(
        Line(
            text=f"{PROGRAMS[1]} / {program}",
            of=f"python -c '{PROGRAMS[1]}'",
            to=f"python -c '{program}'",
        )
        for program in ("pass", "import pydantic", "import limits")
    ),
)
