"""Runs contestants in turns, each time in a new process, with a line on stderr for whoever waits.

Every second round goes backwards, so that nobody always comes after the same neighbour.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any, Final

from benchmarks.contest import Group, Results, Site

ROOT: Final = Path(__file__).parent.parent


def alone(site: Site, task: Mapping[str, str]) -> Any:
    """What a new process prints; its own complaints go to our stderr."""
    text = json.dumps({**task, "folder": str(site.folder), "sizes": asdict(site.sizes)})
    command = [sys.executable, "-m", "benchmarks.alone", text]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603 - ourselves
    return json.loads(done.stdout) if done.stdout else None


def tell(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def fill_files(group: Group, site: Site) -> None:
    """Makes the files that a group needs and that are not there yet."""
    for name in sorted({name for contestant in group.contestants for name in contestant.needs}):
        if not (site.folder / f"{name}.db").exists():
            tell(f"{group.name}: filling {name}.db")
            start = monotonic()
            alone(site, {"file": name})
            tell(f"{group.name}: {name}.db took {monotonic() - start:.0f} s")


def measure(group: Group, site: Site, *, rounds: int | None = None) -> Results:
    """The numbers of every contestant of a group, one per round; its files are there. Raises when one of them fails."""
    results: Results = {contestant.name: {} for contestant in group.contestants}
    total = rounds or group.rounds
    for turn in range(total):
        for name in order(results, turn):
            start = monotonic()
            numbers = alone(site, {"group": group.name, "contestant": name})
            tell(f"{group.name}: round {turn + 1} of {total}: {name} ({monotonic() - start:.1f} s)")
            for metric, number in numbers.items():
                results[name].setdefault(metric, []).append(number)
    return results


def order(names: Iterable[str], turn: int) -> list[str]:
    """Whose turn is when in a round."""
    return list(names)[:: -1 if turn % 2 else 1]
