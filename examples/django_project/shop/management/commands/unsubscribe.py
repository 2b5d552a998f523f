"""`manage.py unsubscribe ADDRESS`: what the link in a newsletter would do."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from fairtouch.integrations.django import governor
from shop.people import customer_of


class Command(BaseCommand):
    """The very next message knows."""

    help = "Ends a subscription of the newsletter."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose."""
        parser.add_argument("address")

    def handle(self, *, address: str, **_: Any) -> None:
        """Keeps the customer's word."""
        customer = customer_of(address)
        if customer is not None:
            governor().consent.opt_out(customer, topic="newsletter", evidence={"source": "link"})
