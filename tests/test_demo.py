"""What the demo shows a newcomer is true, and it says so when it is not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
OUTCOMES = re.compile(r"^ *(\d+)  (delivered|deferred|refused|turned away)\b", re.MULTILINE)
GROUPS = re.compile(r"^ {8,}(\d+)  ", re.MULTILINE)

# Runs the demo after changing what it relies on: `server` is the mail server's class.
TAMPERED = """
import sys
sys.path.insert(0, sys.argv[1])
import demo
server = demo.MailServer
{change}
sys.exit(demo.main())
"""
FORGETS = "take = server.handle_DATA\nasync def forget(self, *rest):\n    reply = await take(self, *rest)\n"
FORGETS += "    self.mails[-1] = self.mails[-1]._replace(recipients=self.mails[-1].recipients[1:])\n    return reply\n"
FORGETS += "server.handle_DATA = forget"
DOUBLES = FORGETS.replace("recipients[1:]", "recipients * 2")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, as a newcomer starts it."""
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    """The demo, once."""
    return run(str(EXAMPLES / "demo.py"))


def tables(text: str) -> list[str]:
    """What is shown for each message in each pass."""
    return text.split(" recipients in Bcc)")[1:]


def outcomes(table: str) -> dict[str, int]:
    """The totals of one message."""
    return {name: int(count) for count, name in OUTCOMES.findall(table)}


def test_the_demo_succeeds(demo):
    """It ends with 0, prints nothing but its tables, fits 100 columns and needs no colours."""
    assert (0, "") == (demo.returncode, demo.stderr)
    assert [] == [line for line in demo.stdout.splitlines() if len(line) > 100 or not line.isascii()]


def test_every_recipient_has_an_outcome(demo):
    """Delivered, deferred, refused and turned away add up to three hundred, for three messages in two passes."""
    totals = [sum(outcomes(table).values()) for table in tables(demo.stdout)]
    assert [300] * 6 == totals


def test_the_groups_add_up(demo):
    """The rows under deferred and refused account for everybody who was."""
    for table in tables(demo.stdout):
        rows = sum(int(count) for count in GROUPS.findall(table))
        assert outcomes(table)["deferred"] + outcomes(table)["refused"] == rows


def test_all_outcomes_appear(demo):
    """At the demo's instant some of each message's recipients, or of another's, meet every outcome."""
    first_pass = [outcomes(table) for table in tables(demo.stdout)[:3]]
    seen = {name for table in first_pass for name, count in table.items() if count}
    assert {"delivered", "deferred", "refused", "turned away"} == seen
    assert all(table["delivered"] for table in first_pass)


def test_whom_the_first_pass_reached_the_second_does_not(demo):
    """In the second pass as many are refused as already sent as the first pass delivered to."""
    first, second = tables(demo.stdout)[:3], tables(demo.stdout)[3:]
    sent_before = [int(match[1]) for table in second if (match := re.search(r"(\d+)  a touch with the same id", table))]
    assert [outcomes(table)["delivered"] for table in first] == sent_before


def test_lunch_ends(demo):
    """Who was deferred until half past one in New York gets the newsletter in the second pass."""
    newsletter = [outcomes(table) for table in tables(demo.stdout)[::3]]
    assert newsletter[0]["delivered"] > 0
    assert newsletter[1]["delivered"] > 0


def test_refusals_are_explained(demo):
    """One refusal and one deferral are explained, with the touches that used the slots."""
    assert "Refused: waiting alone does not help." in demo.stdout
    assert 3 == len(re.findall(r"email  marketing/offers  \[offer-of-", demo.stdout))


@pytest.mark.parametrize("change", [FORGETS, DOUBLES], ids=["a delivery less", "deliveries twice"])
def test_a_contradiction_is_an_error(change):
    """When the mail server's count is another than fairtouch's, the demo says so and ends with 1."""
    done = run("-c", TAMPERED.format(change=change), str(EXAMPLES))
    assert (1, True) == (done.returncode, "  NO:  " in done.stdout)


def test_the_recipients_are_always_the_same(tmp_path):
    """The script that wrote the recipients writes the same files again."""
    assert 0 == run(str(EXAMPLES / "make_recipients.py"), str(tmp_path)).returncode
    for name in ("recipients.csv", "consents.csv"):
        assert (EXAMPLES / name).read_bytes() == (tmp_path / name).read_bytes()
