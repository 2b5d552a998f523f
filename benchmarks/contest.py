"""The words of a benchmark: contestants run, lines compare them, a group is both.

Rule 1: a contestant answers with numbers by metric; `us` is microseconds per call. Rule 2: nothing here runs anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much work a run is; the defaults are what the documentation shows."""

    crowd: int = 1_000_000  # customers in the largest file
    ledger: int = 1_000  # touches of a customer with a long history
    customers_max: int = 1_000_000
    heats_max: int = 1_000
    processes_max: int = 64


SMOKE: Final = Sizes(crowd=1_200, ledger=20, customers_max=12, heats_max=1, processes_max=2)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a contestant works: `folder` holds the files that were prepared for it, which it never changes."""

    folder: Path
    sizes: Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Somebody who is measured, in a process of its own; `needs` names the files in its site."""

    name: str
    run: Callable[[Site], dict[str, float]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Goal:
    """What a number must be to be good enough, and what it should be."""

    kind: Literal["at most", "at least"]
    limit: float
    aim: float | None = None

    def holds(self, value: float, limit: float) -> bool:
        """Whether a value is on the right side of a limit."""
        return value <= limit if self.kind == "at most" else value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One number of the report: a contestant's metric, divided by another contestant's when there is one."""

    text: str
    of: str
    to: str | None = None
    metric: str = "us"
    unit: str = ""
    goal: Goal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Contestants that take turns, and what their numbers are held against."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    lines: tuple[Line, ...]
    rounds: int

    def contestant(self, name: str) -> Contestant:
        """The contestant of that name."""
        return next(one for one in self.contestants if one.name == name)

    def needs(self, file: str) -> bool:
        """Whether anybody needs that file."""
        return any(file in contestant.needs for contestant in self.contestants)


Results = dict[str, dict[str, list[float]]]
"""Of one group: by contestant and metric, a number per round."""
