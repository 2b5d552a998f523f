"""A Celery app with one task, which sends one issue of a newsletter to one customer when she may get it."""

import os
import smtplib
from datetime import timedelta
from email.message import EmailMessage
from functools import cache
from pathlib import Path

from celery import Celery

from fairtouch import Governor, Policy, Touch
from fairtouch.integrations.celery import NotSent, governed

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
MAIL_HOST, MAIL_PORT = os.environ.get("MAIL_HOST", "localhost"), int(os.environ.get("MAIL_PORT", "1025"))
ADDRESSES = {"ada": "ada@example.org", "bob": "bob@example.org", "cleo": "cleo@example.org"}

app = Celery("tasks", broker=REDIS_URL, backend=REDIS_URL)
app.conf.broker_transport_options = {"visibility_timeout": 3_600}  # seconds; no message rests for more than half of it


@cache
def governor() -> Governor:
    """Made where it is first needed: a program that only enqueues need not reach the store."""
    return Governor(Policy.load(Path(__file__).with_name("policy.toml")), REDIS_URL)


def newsletter_touch(customer: str, issue: int) -> Touch:
    """What touch a call of the task makes."""
    return Touch(customer, channel="email", topic="newsletter", id=f"news-{issue}", address=ADDRESSES[customer])


@app.task(acks_late=True, reject_on_worker_lost=True, throws=(NotSent,))
@governed(governor, newsletter_touch, spread=timedelta(seconds=1))
def send_newsletter(customer: str, issue: int) -> str:
    """Send an issue."""
    message = EmailMessage()
    message["From"], message["To"] = "news@example.com", ADDRESSES[customer]
    message["Subject"] = f"No. {issue}"
    message.set_content("It is here.")
    with smtplib.SMTP(MAIL_HOST, MAIL_PORT) as smtp:
        smtp.send_message(message)
    return "sent"
