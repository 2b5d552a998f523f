"""The tests would notice: boundary bugs, put one at a time into a copy of the engine, are each caught.

A bug is one fragment of the source replaced by another. It is caught by the replay of made-up traffic against the model
(tests/seeded_replay.py), or by the test that is named with it. A fragment that no longer stands where it stood fails
here, so that the bug is aimed anew.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.seeded_replay import write_verdicts

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.find_spec("fairtouch")
assert SPEC is not None
assert SPEC.origin is not None
PACKAGE = Path(SPEC.origin).parent  # the installed one, be it the working copy or a wheel
REPLAY = "replay"
AT_ONCE = 2


class Bug(NamedTuple):
    """What somebody might really have written."""

    file: str
    fragment: str
    replacement: str
    detector: str = REPLAY


BUGS = {
    "a rolling window closed at both ends": Bug(
        "plan.py",
        "now - span + 1 if span",
        "now - span if span",
        "acceptance/test_caps.py::test_rolling_windows_are_half_open_to_the_millisecond",
    ),
    "one touch more than the cap": Bug(
        "plan.py", "each.limit if each.enforced else NEVER", "each.limit + 1 if each.enforced else NEVER"
    ),
    "a next instant one millisecond early": Bug("periods.py", "return at + self.span", "return at + self.span - 1"),
    "weeks that start a day off": Bug(
        "periods.py",
        "(today.weekday() - week_starts) % 7",
        "(today.weekday() - week_starts - 1) % 7",
        "acceptance/test_caps.py::test_weeks_start_as_the_policy_says",
    ),
    "N dates that end yesterday": Bug(
        "periods.py", "dates_on(zone, today, 1 - self.days)", "dates_on(zone, today, -self.days)"
    ),
    "open hours that include their end": Bug(
        "hours.py",
        "bisect_right(spans, at, key=itemgetter(1))",
        "bisect_right(spans, at - 1, key=itemgetter(1))",
        "acceptance/test_hours_zones.py",
    ),
    "a window over midnight that belongs to the day of its end": Bug(
        "hours.py",
        "return start, end if end > start else end + DAY",
        "return (start, end) if end > start else (start - DAY, end)",
    ),
    "a date that never occurred owns hours": Bug(
        "hours.py",
        "if not windows or not instants_reading(zone, midnight, midnight + DAY):",
        "if not windows:",
        "acceptance/test_hours_zones.py::test_a_window_of_the_skipped_date_does_not_reach_into_the_next",
    ),
    "one candidate zone that is open is enough": Bug(
        "hours.py", "opens, closes = max(span[0]", "opens, closes = min(span[0]"
    ),
    "an opt-in wins at equal instants": Bug(
        "consent.py", "words.opted_out < said[other].opted_in", "words.opted_out <= said[other].opted_in"
    ),
    "a broader opt-in revives a narrower consent": Bug(
        "consent.py", "mask & other == mask", "mask & other in (mask, other)"
    ),
    "an expired opt-in still lifts": Bug(
        "checks.py", "expires_at(given, after) > at for after in rules", "given <= at for after in rules"
    ),
    "a consent lives one millisecond too long": Bug(
        "checks.py",
        "after is None or expires_at(given, after) > at",
        "after is None or expires_at(given, after) >= at",
        "test_governor.py::test_a_consent_is_good_to_its_last_millisecond",
    ),
    "priority needs to be above, not at": Bug(
        "policy/rules.py", "if priority < self.held_below", "if priority <= self.held_below"
    ),
    "a rule that begins a millisecond late": Bug(
        "policy/rules.py",
        "self.effective_from <= at < self.effective_until",
        "self.effective_from < at < self.effective_until",
        "test_governor.py::test_a_rule_begins_at_its_instant",
    ),
    "touches without a subject count for none": Bug(
        "stores/weighing.py", "entry.subject not in (None, subject)", "entry.subject != subject"
    ),
    "the wait is for the oldest touch": Bug("waiting.py", "group[condition.limit - 1].at", "group[-1].at"),
    "a lifetime forgets what was pruned": Bug(
        "stores/weighing.py",
        "total.number if starts[index] < 0 else 0",
        "0",
        "acceptance/test_caps.py::test_lifetime_counts_what_was_pruned",
    ),
    "a lease that includes its end": Bug(
        "stores/weighing.py",
        "now < entry.lease_end",
        "now <= entry.lease_end",
        "acceptance/test_ids.py::test_in_flight_under_hold_is_deferred_until_the_lease_ends",
    ),
    "a refused touch leaves a trace": Bug(
        "stores/memory.py",
        "if facts.taken and facts.holder is not Holder.OURS",
        "facts = facts._replace(entry=facts.entry or ask.entry._replace(at=now))\n"
        "        if ask.take and facts.holder is not Holder.OURS",
    ),
}


def noticed(bug: Bug | None, detector: str, place: Path, verdicts: Path) -> bool:
    """Whether the detector fails on a copy of the package that has the bug."""
    shutil.copytree(PACKAGE, place / "fairtouch", ignore=shutil.ignore_patterns("__pycache__"))
    if bug is not None:
        path = place / "fairtouch" / bug.file
        source = path.read_text("utf-8")
        assert source.count(bug.fragment) == 1, f"{bug.file} has no single {bug.fragment!r} any more: aim this bug anew"
        path.write_text(source.replace(bug.fragment, bug.replacement), "utf-8")
    if detector == REPLAY:
        command = ["-m", "tests.seeded_replay", str(verdicts), "memory://"]
    else:
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{detector}"]
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return done.returncode == 1


@pytest.fixture(scope="module")
def hunt(tmp_path_factory):
    """Looks for all bugs, and with every detector at an engine without any, a few at a time."""
    verdicts = tmp_path_factory.mktemp("model") / "verdicts.json"
    write_verdicts(verdicts)
    detectors = {bug.detector for bug in BUGS.values()}
    jobs = {name: (bug, bug.detector) for name, bug in BUGS.items()} | {name: (None, name) for name in detectors}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {
            name: pool.submit(noticed, bug, detector, tmp_path_factory.mktemp("copy"), verdicts)
            for name, (bug, detector) in jobs.items()
        }


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(name, hunt):
    """The tests fail when the engine has this bug."""
    assert hunt[name].result()


@pytest.mark.parametrize("detector", sorted({bug.detector for bug in BUGS.values()}))
def test_an_engine_without_the_bugs_passes(detector, hunt):
    """What catches the bugs does not fail on the engine as it is."""
    assert not hunt[detector].result()
