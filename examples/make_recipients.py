"""Writes recipients.csv and consents.csv: three hundred invented people, the same ones every time.

Usage: python examples/make_recipients.py [directory]

Names and addresses are made up; example.com, .org and .net belong to nobody (RFC 2606).
"""

import csv
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SEED = 47
FIRST = "Ada Ben Cleo Dan Elsa Finn Gita Hugo Ines Jonas Kira Liam Mona Noel Olga Paul Rosa Sven Tara Umar"
LAST = "Abel Brandt Costa Dube Ender Frey Garro Holm Imura Jansen Kaya Lund Moreau Nkosi Okada Petit"
DOMAINS = ("example.com", "example.org", "example.net")
ZONES = {
    "America/New_York": 60,
    "Europe/London": 45,
    "America/Los_Angeles": 40,
    "Europe/Berlin": 40,
    "America/Chicago": 30,
    "Asia/Tokyo": 25,
    "Asia/Kolkata": 20,
    "Australia/Sydney": 20,
    "": 20,  # nobody knows where these live
}

# What a customer said, as rows of a consent file: (topic, category, status, when); and how many said it.
YES, LATER, LONG_AGO = "2026-03-14T10:00:00Z", "2026-10-02T18:30:00Z", "2024-05-06T08:00:00Z"
NEWS, OFFERS = ("newsletter", "", "opted_in", YES), ("offers", "", "opted_in", YES)
WORDS: tuple[tuple[int, Sequence[tuple[str, str, str, str]]], ...] = (
    (150, (NEWS, OFFERS)),
    (65, (NEWS,)),
    (30, (OFFERS,)),
    (18, ()),  # never asked, never said
    (10, (("newsletter", "", "opted_in", LONG_AGO), ("offers", "", "opted_in", LONG_AGO))),
    (10, (NEWS, OFFERS, ("newsletter", "", "opted_out", LATER))),
    (12, (NEWS, OFFERS, ("", "", "opted_out", LATER))),  # "leave me alone": everything but what is essential
    (5, (NEWS, OFFERS, ("", "", "opted_out", LATER), ("", "transactional", "opted_out", LATER))),
)

# Marketing e-mails that went out before, by another system: earlier today, three this week, or one last week.
SENT = {24: "2026-11-24T15:00Z", 16: "2026-11-18T15:00Z 2026-11-20T15:00Z 2026-11-23T15:00Z", 40: "2026-11-17T15:00Z"}
SUPPRESSED = {7: "hard_bounce", 4: "complaint"}
MAILBOX = {5: "gone"}  # the mail server does not know them any more, and we do not know that yet


def shuffled(counts: Iterable[tuple[int, object]], total: int, rest: object, numbers: random.Random) -> list[object]:
    """Each value as often as its count says, the rest filled up, in random order."""
    values = [value for count, value in counts for _ in range(count)]
    values += [rest] * (total - len(values))
    return sorted(values, key=lambda _: numbers.random())


def main(directory: Path) -> None:
    """Writes both files."""
    numbers = random.Random(SEED)
    names = sorted(((first, last) for first in FIRST.split() for last in LAST.split()), key=lambda _: numbers.random())
    zones = [zone for zone, count in ZONES.items() for _ in range(count)]
    total = len(zones)
    columns = [
        shuffled(((count, zone) for zone, count in ZONES.items()), total, "", numbers),
        shuffled(((count, value) for count, value in SUPPRESSED.items()), total, "", numbers),
        shuffled(((count, value) for count, value in SENT.items()), total, "", numbers),
        shuffled(((count, value) for count, value in MAILBOX.items()), total, "", numbers),
    ]
    words = shuffled(WORDS, total, (), numbers)
    people = [
        (f"c-{number:04}", f"{first} {last}", f"{first}.{last}@{DOMAINS[number % 3]}".lower())
        for number, (first, last) in enumerate(names[:total], start=1)
    ]
    rows = [(*person, *facts) for person, *facts in zip(people, *columns, strict=True)]
    write(directory / "recipients.csv", "customer name address timezone suppressed sent mailbox", rows)
    said = [
        (person[0], "email", topic, category, status, at)
        for person, spoken in zip(people, words, strict=True)
        for topic, category, status, at in spoken
    ]
    write(directory / "consents.csv", "customer channel topic category status at", said)


def write(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """A CSV file, with line ends that look the same everywhere."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split())
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
