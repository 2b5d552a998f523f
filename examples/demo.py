"""Three messages to three hundred people, through a real mail server on this machine, governed: `make demo`.

Everything it reads lies beside it. It ends with 1 when the mail server's count contradicts fairtouch's.
"""

import csv
import smtplib
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mail_server import MailServer

from fairtouch import Decision, Governor, Outcome, Policy, Touch
from fairtouch.integrations.smtp import GovernedSMTP, Replies, email_touch
from fairtouch.reasons import SENTENCES
from fairtouch.testing import FrozenClock

HERE = Path(__file__).parent
FIRST_PASS = datetime(2026, 11, 24, 17, 45, tzinfo=UTC)
SECOND_PASS = FIRST_PASS + timedelta(hours=1)
TOPICS = {"1-newsletter.eml": "newsletter", "2-offer.eml": "offers", "3-password-reset.eml": "account"}
ROWS_MAX = 6  # groups of deferred recipients that are shown one by one


class Recipient(NamedTuple):
    """One line of recipients.csv."""

    customer: str
    name: str
    address: str
    timezone: str
    suppressed: str
    sent: str
    mailbox: str


class Result(NamedTuple):
    """What became of one message in one pass: whom the mail server says it took it for, and who was left out."""

    message: EmailMessage
    topic: str
    delivered: tuple[str, ...]
    left_out: Replies


class Waiting(NamedTuple):
    """What deferred recipients have in common."""

    until: datetime
    zone: str
    rules: str


def main() -> int:
    """Runs the demo; 0 when everything adds up."""
    began = perf_counter()
    with (HERE / "recipients.csv").open(encoding="utf-8", newline="") as file:
        recipients = [Recipient(**row) for row in csv.DictReader(file)]
    messages = [(topic, (HERE / "messages" / name).read_bytes()) for name, topic in TOPICS.items()]
    gone = [person.address for person in recipients if person.mailbox == "gone"]
    with tempfile.TemporaryDirectory() as folder, MailServer(gone=gone) as server:
        introduce(server, recipients)
        with open_governor(folder, FIRST_PASS) as governor:
            fill(governor, recipients)
            first = run(governor, server, recipients, messages)
            show(first, "First pass", recipients)
            explain(first)
        with open_governor(folder, SECOND_PASS) as governor:
            second = run(governor, server, recipients, messages)
            show(second, "Second pass, an hour later: the same messages to the same people", recipients)
            confirmed = ledger(governor, recipients)
    problems = audit(server, [*first, *second], confirmed, recipients)
    print(f"\nIt took {perf_counter() - began:.1f} seconds.")
    return 1 if problems else 0


def open_governor(folder: str, now: datetime) -> Governor:
    """Each pass opens the file anew, as another run of a job would."""
    return Governor(Policy.load(HERE / "policy.toml"), f"sqlite:///{folder}/touches.db", clock=FrozenClock(now))


def fill(governor: Governor, recipients: Sequence[Recipient]) -> None:
    """What the shop already knows: consents, zones, suppressed addresses, and what was sent before."""
    governor.consent.import_file(HERE / "consents.csv")
    for person in recipients:
        if person.timezone:
            governor.customers.set(person.customer, timezone=person.timezone)
        if person.suppressed:
            governor.feedback(person.suppressed, address=person.address, channel="email")
        for instant in person.sent.split():
            touch = Touch(person.customer, channel="email", topic="offers", id=f"offer-of-{instant[:10]}")
            governor.record(touch, datetime.fromisoformat(instant))


def run(
    governor: Governor, server: MailServer, recipients: Sequence[Recipient], messages: Sequence[tuple[str, bytes]]
) -> list[Result]:
    """Sends each message to everybody, in Bcc."""
    customers = {person.address: person.customer for person in recipients}
    results = []
    for topic, raw in messages:
        message = message_from_bytes(raw, policy=policy.SMTP)
        message["Bcc"] = ", ".join(customers)

        def to_touch(message: EmailMessage, address: str, topic: str = topic) -> Touch:
            return email_touch(message, address, customer=customers[address], topic=topic)

        taken_before = len(server.mails)
        with GovernedSMTP(smtplib.SMTP(server.host, server.port), governor, to_touch) as smtp:
            try:
                left_out = smtp.send_message(message)
            except smtplib.SMTPRecipientsRefused as nobody:
                left_out = nobody.recipients
        delivered = tuple(one for mail in server.mails[taken_before:] for one in mail.recipients)
        results.append(Result(message, topic, delivered, left_out))
    return results


def ledger(governor: Governor, recipients: Sequence[Recipient]) -> list[tuple[str, str]]:
    """What fairtouch says was sent: (customer, touch id), without what went out before."""
    return [
        (person.customer, entry.id)
        for person in recipients
        for entry in governor.history(person.customer)
        if entry.state == "confirmed" and not entry.id.startswith("offer-of-")
    ]


# What is shown


def introduce(server: MailServer, recipients: Sequence[Recipient]) -> None:
    """Says what runs here, and when."""
    say(
        f"{len(recipients)} recipients, {len(TOPICS)} messages, a real mail server on {server.host}:{server.port}, "
        "one SQLite file; the rules are those of examples/policy.toml."
    )
    say(
        "So that every outcome shows, at whatever hour you run it, the clock stands at "
        f"{FIRST_PASS:%A %d %B %Y, %H:%M} UTC: morning in Los Angeles, lunch in New York, evening in Berlin, night in "
        "Tokyo. The e-mails are real, and stay on this machine."
    )


def show(results: Sequence[Result], title: str, recipients: Sequence[Recipient]) -> None:
    """A table per message: delivered, deferred until when, refused and why."""
    zones = {person.address: person.timezone for person in recipients}
    headline(title)
    for message, topic, delivered, left_out in results:
        decisions = {one: refusal.decision for one, refusal in left_out.items() if hasattr(refusal, "decision")}
        deferred = {one: decision for one, decision in decisions.items() if decision.outcome is Outcome.DEFERRED}
        refused = [decision for decision in decisions.values() if decision.outcome is Outcome.REFUSED]
        turned_away = Counter(reply.decode() for one, (_, reply) in left_out.items() if one not in decisions)
        print(f"\n{message['Subject']}  (topic {topic}, {len(recipients)} recipients in Bcc)")
        print(f"{len(delivered):6}  delivered, by the mail server's own count")
        print(f"{len(deferred):6}  deferred")
        show_waiting(Counter(waiting(decision, zones[one]) for one, decision in deferred.items()))
        print(f"{len(refused):6}  refused")
        for why, count in Counter(SENTENCES[decision.reasons[0].code] for decision in refused).most_common():
            print(f"{count:12}  {why}")
        for reply, count in turned_away.items():
            print(f"{count:6}  turned away by the mail server, so their slots are free again: {reply}")


def waiting(decision: Decision, zone: str) -> Waiting:
    """Until when, where, and by which rules."""
    assert decision.next_allowed_at is not None
    return Waiting(decision.next_allowed_at, zone, ", ".join(reason.rule for reason in decision.reasons))


def show_waiting(groups: Counter[Waiting]) -> None:
    """The largest groups in the order of their instants, in UTC and on their own clocks; the others in one line."""
    largest = [group for group, _ in groups.most_common(len(groups) if len(groups) <= ROWS_MAX + 1 else ROWS_MAX)]
    for group in sorted(largest):
        there = (
            f"{group.until.astimezone(ZoneInfo(group.zone)):%a %H:%M} in {city(group.zone)}"
            if group.zone
            else "zone unknown"
        )
        print(f"{groups[group]:12}  until {stamp(group.until)}  {there:25}  {group.rules}")
    others = sorted(groups.keys() - set(largest))
    if others:
        count = sum(groups[group] for group in others)
        print(
            f"{count:12}  in {len(others)} smaller groups, until {stamp(others[0].until)} to {stamp(others[-1].until)}"
        )


def explain(results: Sequence[Result]) -> None:
    """Two who were left out, in plain words: one by the most rules of all, one by the most that she had received."""
    decisions = [refusal.decision for refusal in results[0].left_out.values() if hasattr(refusal, "decision")]
    for outcome, most in (
        (Outcome.REFUSED, lambda decision: len(decision.reasons)),
        (
            Outcome.DEFERRED,
            lambda decision: (sum(len(check.touches) for check in decision.checks), -len(decision.reasons)),
        ),
    ):
        chosen = max((decision for decision in decisions if decision.outcome is outcome), key=most, default=None)
        if chosen is not None:
            headline(f"One of the {outcome}, explained")
            for line in chosen.explain().splitlines():
                print(textwrap.fill(line, 100, subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2)))


def audit(
    server: MailServer,
    results: Sequence[Result],
    confirmed: Sequence[tuple[str, str]],
    recipients: Sequence[Recipient],
) -> list[str]:
    """Compares the mail server's count with fairtouch's; what does not agree."""
    customers = {person.address: person.customer for person in recipients}
    taken = [(mail.message["Message-ID"], one) for mail in server.mails for one in mail.recipients]
    touches = [(customers[one], email_touch(mail.message, one).id) for mail in server.mails for one in mail.recipients]
    outcomes = [len(result.delivered) + len(result.left_out) for result in results]
    leaks = [one for mail in server.mails for one in customers if one.encode() in mail.content.lower()]
    checks = {
        f"{len(taken)} deliveries by the mail server are {len(set(taken))} different (Message-ID, recipient) pairs: "
        "nobody got a message twice": len(taken) == len(set(taken)),
        f"the same {len(confirmed)} touches, one by one, are confirmed in fairtouch's ledger": (
            sorted(confirmed) == sorted(touches)
        ),
        f"{sum(outcomes)} outcomes for {len(results)} times {len(recipients)} recipients: nobody is missing": (
            outcomes == [len(recipients)] * len(results)
        ),
        f"{len(server.mails)} messages on the wire, none with a Bcc header or any recipient's address in it": (
            not leaks and all(mail.message["Bcc"] is None for mail in server.mails)
        ),
    }
    headline("Does it add up?")
    for claim, holds in checks.items():
        print(textwrap.fill(claim, 100, initial_indent="  yes: " if holds else "  NO:  ", subsequent_indent=" " * 7))
    return [claim for claim, holds in checks.items() if not holds]


def stamp(at: datetime) -> str:
    """An instant in UTC."""
    return f"{at:%a %d %b %H:%M} UTC"


def city(zone: str) -> str:
    """A zone's name for people."""
    return zone.partition("/")[2].replace("_", " ")


def headline(text: str) -> None:
    """A title with a line under it."""
    print(f"\n\n{text}\n{'-' * len(text)}")


def say(text: str) -> None:
    """A paragraph that fits the terminal."""
    print(textwrap.fill(text, 100))


if __name__ == "__main__":
    sys.exit(main())
