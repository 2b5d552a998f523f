"""`manage.py fairtouch_history CUSTOMER`: what went to a customer, what she did, and what she said."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fairtouch.consent import ConsentEvent
from fairtouch.errors import FairtouchError
from fairtouch.facts import LedgerEntry
from fairtouch.integrations.django.configuration import governor

Entry = LedgerEntry | ConsentEvent


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Reads only."""

    help = "A customer's touches, events and consents within the horizon, oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose, and how."""
        parser.add_argument("customer", help="the id under which the touches are recorded; by default the address")
        parser.add_argument("--json", action="store_true", help="one JSON object per line")

    def handle(self, **options: Any) -> None:
        """Prints a line for each."""
        keeper = governor()
        try:
            entries: list[Entry] = [*keeper.history(options["customer"]), *keeper.consent.history(options["customer"])]
        except FairtouchError as error:
            raise CommandError(str(error)) from error
        for entry in sorted(entries, key=lambda entry: entry.at):
            self.stdout.write(_json(entry) if options["json"] else "  ".join(_words(entry)))
        if not entries and not options["json"]:
            self.stdout.write("Nothing is recorded under this id.")


def _json(entry: Entry) -> str:
    known = {name: value for name, value in asdict(entry).items() if value is not None and value != ()}
    return json.dumps(known, default=str)


def _words(entry: Entry) -> Iterator[str]:
    yield f"{entry.at:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(entry, ConsentEvent):
        yield entry.word
        yield "/".join(part or "any" for part in entry.scope)
        yield json.dumps(dict(entry.evidence), default=str)
        return
    yield entry.channel
    yield entry.event or entry.state
    yield "/".join(part for part in (entry.category, entry.topic, entry.campaign) if part) or "-"
    yield f"[{entry.id}]"
