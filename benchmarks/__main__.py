"""`make bench`: what one governed reservation costs, next to the bare transaction under it and to a peer.

Every contestant runs in a process of its own (a peer's sweeping thread would disturb its neighbours), in turns, several
times; medians are compared, and the spread is shown. Only the ratios mean anything.
"""

import json
import statistics
import subprocess
import sys

from benchmarks.contestants import CONTESTANTS

ROUNDS = 5
REFERENCE = {"governor, SQLite": "bare SQLite transaction", "governor, memory": "limits, four tests and four hits"}


def microseconds(name: str) -> float:
    """One contestant, once, in a new process."""
    command = [sys.executable, "-m", "benchmarks.contestants", name]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))  # noqa: S603


def main() -> None:
    """Prints a row per contestant and the ratios."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for turn in range(ROUNDS):
        for name in CONTESTANTS:
            print(f"round {turn + 1} of {ROUNDS}: {name}", file=sys.stderr)
            times[name].append(microseconds(name))
    for name, runs in times.items():
        print(f"{name:34} {statistics.median(runs):8.1f} us a call   ({min(runs):.1f} to {max(runs):.1f})")
    for name, reference in REFERENCE.items():
        ratio = statistics.median(times[name]) / statistics.median(times[reference])
        print(f"{name} / {reference}: {ratio:.2f}")


if __name__ == "__main__":
    main()
