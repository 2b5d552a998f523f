"""`manage.py fairtouch_check CUSTOMER`: may this customer be contacted now, and why not?"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fairtouch.errors import FairtouchError
from fairtouch.integrations.django.configuration import governor
from fairtouch.touch import Touch

FIELDS = ("category", "topic", "campaign", "subject", "address")


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Asks without taking a slot."""

    help = (
        "Whether a customer may be contacted now: which rules say no, which touches used the slots, and from when on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The fields of the touch."""
        parser.add_argument("customer", help="the id under which the touches are recorded; by default the address")
        parser.add_argument("--channel", default="email")
        parser.add_argument("--tag", action="append", default=[], dest="tags", help="may be repeated")
        for name in FIELDS:
            parser.add_argument(f"--{name}")

    def handle(self, **options: Any) -> None:
        """Prints the explanation."""
        said = {name: options[name] for name in FIELDS if options[name] is not None}
        try:
            touch = Touch(options["customer"], channel=options["channel"], tags=tuple(options["tags"]), **said)
            decision = governor().check(touch)
        except FairtouchError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(decision.explain())
