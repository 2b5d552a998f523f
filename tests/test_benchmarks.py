"""The benchmarks run, and their report says what was measured. How fast anything is, no test asserts."""

from dataclasses import replace

import pytest

from benchmarks import __main__ as command
from benchmarks import files, machine, report, runs
from benchmarks.contest import SMOKE, Contestant, Goal, Group, Line, Site
from benchmarks.contestants import GROUPS

EVERYBODY = [
    pytest.param(contestant, id=f"{group.name}: {contestant.name}")
    for group in GROUPS.values()
    for contestant in group.contestants
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One folder for all, so that each file is filled once."""
    return Site(tmp_path_factory.mktemp("benchmarks"), SMOKE)


@pytest.mark.parametrize("contestant", EVERYBODY)
def test_every_contestant_runs(contestant, site):
    """Each of them does a few calls, meets the history that it says it meets, and says what it took."""
    for name in contestant.needs:
        files.prepare(site, name)

    numbers = contestant.run(site)

    assert next(numbers[metric] for metric in ("us", "instructions", "bytes") if metric in numbers) > 0


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_lines_compare_contestants_that_exist(group):
    """A name in a line is a contestant of its group, and every contestant is there for some line."""
    names = {contestant.name for contestant in group.contestants}
    compared = {name for line in group.lines for name in (line.of, line.to) if name}

    assert names == compared


def test_contestants_take_turns_in_processes_of_their_own(site, capsys):
    """A round asks everybody once, in a new process, and says so."""
    memory = GROUPS["memory"]
    two = replace(memory, contestants=memory.contestants[-2:], lines=())

    results = runs.measure(two, site, rounds=1)

    told = capsys.readouterr().err.splitlines()
    assert [contestant.name for contestant in two.contestants] == list(results)
    assert [1, 1] == [len(metrics["us"]) for metrics in results.values()]
    assert [f"memory: round 1 of 1: {name}" for name in results] == [line.partition(" (")[0] for line in told]


def test_every_second_round_goes_backwards():
    """Nobody always comes after the same neighbour."""
    assert [["a", "b"], ["b", "a"], ["a", "b"]] == [runs.order(["a", "b"], turn) for turn in range(3)]


PAIR = Group(
    name="pair",
    title="A pair",
    rounds=3,
    contestants=tuple(Contestant(name=name, run=lambda site: {}) for name in ("ours", "theirs")),
    lines=(
        Line(text="theirs / ours", of="theirs", to="ours", goal=Goal("at least", 6, 10)),
        Line(text="ours / theirs", of="ours", to="theirs", goal=Goal("at most", 0.1)),
        Line(text="errors", of="ours", metric="errors", goal=Goal("at most", 0)),
        Line(text="grown", of="ours", metric="grown", unit="MiB"),
    ),
)
NUMBERS = {
    "ours": {"us": [1.0, 2.0, 4.0], "errors": [0, 0, 0], "grown": [0.5, 0.25, 12]},
    "theirs": {"us": [8.0, 14.0, 40_000.0]},
}


def cells(text):
    """The rows of all tables by their first cell, without the padding."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_a_report_takes_ratios_round_by_round():
    """The median of the rounds' ratios, their spread, and which goal it reaches."""
    told = cells(report.rendered(PAIR, NUMBERS, "Measured somewhere."))

    assert ["8.00", "7.00 to 10000", "≥ 6", "≥ 10", "goal"] == told["theirs / ours"]
    assert ["0.12", "0 to 0.14", "≤ 0.1", "", "**missed**"] == told["ours / theirs"]
    assert ["0", "0 to 0", "≤ 0", "", "goal"] == told["errors"]
    assert ["0.50 MiB", "0.25 to 12.0 MiB", "", "", ""] == told["grown"]
    assert ["14.0 µs", "8.0 µs to 40 ms"] == told["theirs"]


def test_a_report_says_where_it_was_measured():
    """The machine, the interpreter, SQLite, every library, and how many rounds."""
    text = report.rendered(PAIR, NUMBERS, machine.described())

    for word in ("CPython", "SQLite", *machine.LIBRARIES, "Rounds: 3."):
        assert word in text


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS)
def test_the_page_has_a_place_for_every_group(group):
    """Refreshing the page replaces the group's own part, however often, and nothing else."""
    page = command.PAGE.read_text("utf-8")

    once = report.written(page, group, "| the table |")

    assert "| the table |" in once
    assert once == report.written(report.written(page, group, "another"), group, "| the table |")


def test_a_page_without_a_place_is_an_error():
    """Results are never dropped in silence."""
    with pytest.raises(ValueError, match="no place for the results of pair"):
        report.written("a page", PAIR, "text")


def test_the_command_measures_prints_and_writes(tmp_path, monkeypatch, capsys):
    """`make bench ARGS="--only … --write"` shows the report and refreshes the page."""
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- results of memory -->\n<!-- end of memory -->\n", encoding="utf-8")
    monkeypatch.setattr(command, "PAGE", page)
    numbers = {contestant.name: {"us": [1.0]} for contestant in GROUPS["memory"].contestants}
    monkeypatch.setattr(runs, "measure", lambda group, site, rounds: numbers)

    command.main(["--only", "memory", "--write"])

    told = capsys.readouterr().out
    assert cells(told) == cells(page.read_text("utf-8"))
    assert ["1.00", "1.00 to 1.00", "≤ 1.5", "≤ 1", "aim"] == cells(told)["reserve / limits: 1 hit"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--customers", "1000"], "at least 60,000"),  # or a heat would call customers who are not there
        (["--smoke", "--write"], "no results to write down"),
    ],
)
def test_what_would_mislead_is_refused(given, said, capsys):
    """The command says why it does not start."""
    with pytest.raises(SystemExit):
        command.arguments(given)

    assert said in capsys.readouterr().err
