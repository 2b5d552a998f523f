"""Turns the numbers of a group into tables, and puts them into the page of the documentation.

A ratio is taken round by round, between runs that were made within the same minutes, and the median of these is shown;
what lies around it is the lowest and the highest.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.contest import Goal, Group, Line, Results


def duration(microseconds: float) -> str:
    """Microseconds as a person writes them."""
    if microseconds >= 10_000:
        return f"{microseconds / 1_000:.0f} ms"
    if microseconds >= 1_000:
        return f"{microseconds / 1_000:.2f} ms"
    return f"{microseconds:.1f} µs"


def number(value: float, unit: str) -> str:
    """A number with as many digits as mean something."""
    value = round(value, 2)
    digits = 0 if value == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def values(line: Line, results: Results) -> list[float]:
    """What a line shows, by round."""
    numbers = results[line.of][line.metric]
    if line.to is None:
        return numbers
    return [one / other for one, other in zip(numbers, results[line.to][line.metric], strict=True)]


def goal_cells(goal: Goal | None, value: float) -> tuple[str, str, str]:
    """The goal, the aim, and which of them is reached."""
    if goal is None:
        return "", "", ""
    sign = "≤" if goal.kind == "at most" else "≥"
    aim = "" if goal.aim is None else f"{sign} {goal.aim:g}"
    reached = "aim" if goal.aim is not None and goal.holds(value, goal.aim) else "goal"
    return f"{sign} {goal.limit:g}", aim, reached if goal.holds(value, goal.limit) else "**missed**"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, of which the first row is the head, in columns that also read well in a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if index == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def rendered(group: Group, results: Results, machine: str) -> str:
    """A group's part of the report."""
    times = [("one call", "median", "lowest to highest")]
    timed = {name: metrics["us"] for name, metrics in results.items() if "us" in metrics}
    for name, us in timed.items():
        times.append((name, duration(median(us)), f"{duration(min(us))} to {duration(max(us))}"))
    ratios = [("compared", "median", "lowest to highest", "goal", "aim", "reached")]
    for line in group.lines:
        shown = values(line, results)
        value, spread = median(shown), f"{number(min(shown), '')} to {number(max(shown), line.unit)}"
        ratios.append((line.text, number(value, line.unit), spread, *goal_cells(line.goal, value)))
    rounds = max(len(numbers) for metrics in results.values() for numbers in metrics.values())
    second = (*table(times), "") if timed else ()
    return "\n".join((*table(ratios), "", *second, f"{machine} Rounds: {rounds}."))


def written(page: str, group: Group, text: str) -> str:
    """The page with a group's part replaced. Raises ValueError when the page has no place for it."""
    begin, end = f"<!-- results of {group.name} -->\n", f"<!-- end of {group.name} -->"
    pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", flags=re.DOTALL)
    replaced, found = pattern.subn(lambda _: f"\n{text}\n\n", page)
    if found != 1:
        raise ValueError(f"the page has no place for the results of {group.name}")
    return replaced


def write(path: Path, group: Group, text: str) -> None:
    """Refreshes a group's part of a page."""
    path.write_text(written(path.read_text(encoding="utf-8"), group, text), encoding="utf-8")
