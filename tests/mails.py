"""Messages, and how they are looked at without changing them."""

from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

ADA, BOB, CLEO, DAN = "ada@example.com", "bob@example.com", "cleo@example.org", "dan@example.net"


def mail(*, to: str = ADA, cc: str | None = None, bcc: str | None = None, key: str | None = "<1@shop.example>") -> Any:
    """A short message from the shop."""
    message = EmailMessage()
    message["From"] = "Shop <shop@shop.example>"
    for name, value in (("To", to), ("Cc", cc), ("Bcc", bcc), ("Message-ID", key), ("Subject", "Grüße")):
        if value is not None:
            message[name] = value
    message.set_content("Hello!\n")
    return message


def nested() -> MIMEMultipart:
    """A message whose parts get their boundaries when it is first written out."""
    inner = MIMEMultipart("alternative")
    inner.attach(MIMEText("Hello!"))
    message = MIMEMultipart()
    message.attach(inner)
    for name, value in (("From", "shop@shop.example"), ("To", ADA), ("Bcc", BOB), ("Message-ID", "<1@shop.example>")):
        message[name] = value
    return message


def headers_of(message: Any) -> list[Any]:
    """Every header of a message and its parts, without writing it out, because that changes it."""
    return [part.items() for part in message.walk()]
