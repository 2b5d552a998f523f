"""`manage.py send_newsletter NUMBER`: one message to each customer, and what became of it."""

from collections import Counter
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.core.management.base import BaseCommand, CommandParser

from shop.people import CUSTOMERS


class Command(BaseCommand):
    """Sends an issue; run again, it reaches those whom it did not reach."""

    help = "Sends the newsletter."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which issue."""
        parser.add_argument("number", type=int)

    def handle(self, *, number: int, **_: Any) -> None:
        """Sends, and counts."""
        fates: Counter[str] = Counter()
        for address in CUSTOMERS:
            message = EmailMultiAlternatives(f"News {number}", "Spring is here.", "shop@shop.example", [address])
            message.attach_alternative("<p>Spring is here.</p>", "text/html")
            message.fairtouch = {"topic": "newsletter", "id": f"news-{number}"}
            message.send(fail_silently=True)  # one mailbox that is gone does not keep the others from it
            fates.update(str(one.fate) for one in message.fairtouch_status)
        self.stdout.write(", ".join(f"{count} {fate}" for fate, count in sorted(fates.items())))
