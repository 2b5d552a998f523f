"""In a Django project each recipient is judged, the message goes once to those allowed, and slots follow its fate."""

import asyncio
import email
import io
import json
import logging
import os
import pickle
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from django.core import checks, mail, management
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend
from django.core.management.base import CommandError
from django.test import override_settings

from examples.mail_server import MailServer
from fairtouch import StoreUnavailable, Touch
from fairtouch.errors import TouchError
from fairtouch.integrations.django import deferred, governor, message_touch, only_to, refused
from fairtouch.testing import FrozenClock
from tests import django_host
from tests.django_host import LOCMEM, NOON, mailer

ROOT = Path(__file__).parent.parent
DAILY = {"caps": {"daily": {"limit": "1 per calendar day"}}}
ADA, BOB, CLEO, DAN = "ada@example.com", "bob@example.com", "cleo@example.org", "dan@example.net"


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    """A Django project with fairtouch, and an empty outbox."""
    django_host.set_up()
    mail.outbox = []
    yield
    del mail.outbox


@pytest.fixture
def settings() -> Iterator[Callable[..., None]]:
    """Sets FAIRTOUCH at noon on a Monday, until the test ends."""
    with django_host.settings_at_noon() as override:
        yield override


class CountingServer(MailServer):
    """Knows how often it was connected to."""

    connections = 0

    def _converse(self) -> SMTP:
        self.connections += 1
        return super()._converse()


@pytest.fixture
def server() -> Iterator[CountingServer]:
    """A server that accepts mail to everybody."""
    with CountingServer() as running:
        yield running


def smtp(server: MailServer, **options: Any) -> Any:
    """The governed backend before Django's SMTP backend."""
    return mailer(host=server.host, port=server.port, timeout=30, **options)


def message(to: Any = ADA, kind: Any = EmailMessage, key: str | None = "<1@shop.example>", **more: Any) -> Any:
    """A short message from the shop."""
    headers = {"Date": "Mon, 02 Mar 2026 12:00:00 -0000", **more.pop("headers", {})}
    if key is not None:
        headers["Message-ID"] = key
    return kind(
        subject="Grüße",
        body="Hello!",
        from_email="Shop <shop@shop.example>",
        to=[to] if isinstance(to, str) else to,
        headers=headers,
        **more,
    )


def states(*customers: str) -> list[list[str]]:
    """How far each customer's touches have come."""
    return [[entry.state for entry in governor().history(customer)] for customer in customers]


def reached(server: MailServer) -> list[tuple[str, ...]]:
    """Whom each accepted message went to."""
    return [received.recipients for received in server.mails]


def fates(sent: Any) -> dict[str, str]:
    """What became of each recipient."""
    return {one.address: str(one.fate) for one in sent.fairtouch_status}


def opt_out(*customers: str) -> None:
    """These want no more of it."""
    for customer in customers:
        governor().consent.opt_out(customer)


# Who gets the message, and what it looks like


def rich(**lists: Any) -> Any:
    """A message with two texts, a file, and a part whose inner boundaries are set when it is written out."""
    rich = message(kind=EmailMultiAlternatives, **lists)
    rich.attach_alternative("<p>Hello!</p>", "text/html")
    rich.attach("prices.csv", b"a,b\n1,2\n", "text/csv")
    rich.attach("logo.png", b"\x89PNG", "image/png")
    rich.merge_data = {ADA: {"name": "Ada"}}
    return rich


def looks(sent: Any) -> tuple[Any, ...]:
    """Everything that a caller can see of a message, without writing it out."""
    ours = {name: value for name, value in vars(sent).items() if name not in ("connection", "fairtouch_status")}
    parts = [part.items() for part in sent.attachments if hasattr(part, "items")]
    return repr(ours), parts


def without_boundaries(content: bytes) -> bytes:
    """Boundaries are random."""
    return re.sub(rb"={10,}\d+==", b"boundary", content)


def test_each_of_to_cc_and_bcc_is_judged(server, settings):
    """One opted out of each of To, Cc and Bcc: the message goes once to all others, headers intact, without a Bcc; the
    caller's own is unchanged, with its attachments and alternatives.
    """
    settings()
    out = ["to@example.com", "cc@example.com", "bcc@example.com"]
    opt_out(*out)
    lists = {"to": [f"Ada <{ADA}>", out[0]], "cc": [out[1], BOB], "bcc": [CLEO, out[2]]}
    sent, untouched = rich(**lists), rich(**lists)
    assert 1 == smtp(server).send_messages([sent])
    (received,) = server.mails
    assert (ADA, BOB, CLEO) == received.recipients
    assert ("Ada <ada@example.com>, to@example.com", "cc@example.com, bob@example.com") == (
        str(received.message["To"]),
        str(received.message["Cc"]),
    )
    assert [] == [name for name in received.message if name.lower().endswith("bcc")]
    assert CLEO.encode() not in received.content
    assert looks(untouched) == looks(sent)
    assert without_boundaries(untouched.message().as_bytes()) == without_boundaries(sent.message().as_bytes())
    assert dict.fromkeys((f"Ada <{ADA}>", BOB, CLEO), "sent") | dict.fromkeys(out, "refused") == fates(sent)


def test_the_message_is_what_django_sends(server, settings):
    """Every byte, but for random boundaries, is the one that Django's own backend would have sent."""
    settings()
    opt_out(BOB)
    for make in (message, rich):
        server.mails.clear()
        sent = make(to=[f"Ada <{ADA}>", BOB], cc=["Jürgen <jurgen@bücher.example>"], bcc=[CLEO], reply_to=[DAN])
        smtp(server).send_messages([sent])
        governing = mailer(host=server.host, port=server.port)
        governing._inner.backend.send_messages([sent])
        ours, djangos = (without_boundaries(received.content) for received in server.mails)
        assert djangos == ours
        assert {BOB} == set(server.mails[1].recipients) - set(server.mails[0].recipients)
        settings()
        opt_out(BOB)


def test_parts_of_the_callers_message_are_not_written_into(server, settings):
    """A multipart that is attached gets the boundaries of its parts in the copy alone."""
    if django_host.HAS_MAILERS:
        attached: Any = email.message.MIMEPart()
        attached.make_mixed()
        attached.attach(MIMEText("inner"))
    else:
        attached = MIMEMultipart("related")
        attached.attach(MIMEText("inner"))
    sent = message()
    sent.attach(attached)
    settings()
    smtp(server).send_messages([sent])
    assert None is attached.get_boundary()
    assert 1 == len(server.mails)


def test_a_bcc_among_the_headers_stays_here(server, settings):
    """Until Django 6.0 a header Bcc goes out as it is; here it never does."""
    settings()
    smtp(server).send_messages([message(headers={"Bcc": BOB, "Resent-Bcc": CLEO})])
    assert ([(ADA,)], []) == (reached(server), re.findall(rb"(?i)bcc|bob|cleo", server.mails[0].content))


def test_a_contact_point_counts_once(server, settings):
    """An address in To and again in Bcc, with its domain spelled otherwise, is one recipient and one touch."""
    settings(DAILY)
    smtp(server).send_messages([message(to=[ADA], bcc=["ada@EXAMPLE.com", f"Ada <{ADA}>"])])
    assert ([(ADA,)], [["confirmed"]]) == (reached(server), states(ADA))


def test_several_addresses_in_one_text_are_each_judged(server, settings):
    """A text with two addresses, which some backends send to both, is two recipients."""
    settings()
    opt_out(BOB)
    sent = message(to=[f"{ADA}, Bob <{BOB}>"])
    smtp(server).send_messages([sent])
    assert ([(ADA,)], {ADA: "sent", BOB: "refused"}) == (reached(server), fates(sent))
    assert f"{ADA}, Bob <{BOB}>" == str(server.mails[0].message["To"])


@pytest.mark.parametrize(
    "odd",
    [
        "ada@",
        "ada@example.com <bob@example.com>",
        "",
        "a" * 250 + "@example.com",
        "a\n@b.c",
        "Bee, Bob <bob@example.com>",
        "=?utf-8?q?eve=40evil=2Eorg?=@x.org",
    ],
)
def test_what_two_parsers_read_differently_is_sent_to_nobody(server, settings, odd):
    """Whoever is judged is whoever is written to; an error says so before anything is sent, and names nobody."""
    settings()
    sent = message(to=[ADA, odd])
    if not odd:
        assert 1 == smtp(server).send_messages([sent])  # Django passes over it
        return
    with pytest.raises(TouchError, match="cannot be read as an e-mail address") as caught:
        smtp(server).send_messages([sent])
    assert ([], [[]], False) == (server.mails, states(ADA), "example.com" in str(caught.value))


class WithArchive(EmailMessage):
    """An app's own class, which copies everything to an archive."""

    def recipients(self) -> list[str]:
        return [*super().recipients(), DAN]


def test_recipients_that_a_class_adds_are_judged(server, settings):
    """Whom `recipients` names is judged, whatever stands in the lists."""
    settings()
    smtp(server).send_messages([message(kind=WithArchive)])
    opt_out(DAN)
    smtp(server).send_messages([message(kind=WithArchive, key="<2@shop.example>")])
    assert [(ADA, DAN), (ADA,)] == reached(server)


@pytest.mark.parametrize(
    "path", [LOCMEM, *(LOCMEM.replace("locmem", name) for name in ("console", "dummy", "filebased"))]
)
def test_every_backend_of_django_is_wrapped(settings, tmp_path, capsys, path):
    """The number of messages is returned, and whoever is left out is in no list."""
    settings(BACKEND=path)
    opt_out(BOB)
    options = {"file_path": str(tmp_path)} if "filebased" in path else {}
    sent = [
        message(to=[ADA, BOB]),
        message(to=[BOB], key="<2@shop.example>"),
        message(to=[CLEO], key="<3@shop.example>"),
    ]
    assert 2 == mailer(**options).send_messages(sent)
    written = capsys.readouterr().out + "".join(file.read_text() for file in tmp_path.iterdir())
    for headers in [f"To: {ADA}, {BOB}\n", f"To: {CLEO}\n"] if "@" in written else []:
        assert headers in written
    assert [[ADA], [CLEO]][: len(mail.outbox)] == [kept.to for kept in mail.outbox]
    assert ("locmem" in path, "console" in path or "file" in path) == (bool(mail.outbox), bool(written))


def test_nobody_and_nothing(server, settings):
    """No messages, a message to nobody, and one of whom nobody is left: none is sent, and nobody is connected to."""
    settings()
    opt_out(ADA)
    governing, lonely = smtp(server), message()
    assert [0, 0, 0, 0] == [governing.send_messages(each) for each in ([], iter([]), [message(to=[])], [lonely])]
    assert (0, {ADA: "refused"}) == (server.connections, fates(lonely))
    assert "<Status 1 refused>" == repr(lonely.fairtouch_status)
    assert "<Recipient refused>" == repr(lonely.fairtouch_status[0])
    assert ["opted_out"] == [reason.code for reason in lonely.fairtouch_status.of("refused")[0].decision.reasons]


def test_a_message_that_cannot_be_copied_whole_is_sent(server, settings, tmp_path):
    """What an app hung on its message is shared when it cannot be copied."""
    settings()
    sent = message()
    with (tmp_path / "log").open("w") as sent.log:
        assert 1 == smtp(server).send_messages([sent])


def test_what_goes_out_holds_nothing_of_fairtouch(settings):
    """The copy has neither connection nor status nor what the message said, so that it can be copied and queued; where
    nobody is left out, its headers are those of the message.
    """
    settings(BACKEND=LOCMEM)
    governing, sent = mailer(), message(to=[ADA, BOB])
    sent.fairtouch, sent.fairtouch_status = {"campaign": "spring"}, governing
    vars(sent)["_connection" if django_host.HAS_MAILERS else "connection"] = governing
    assert 1 == governing.send_messages([sent])
    (kept,) = mail.outbox
    assert (sent.extra_headers, []) == (
        kept.extra_headers,
        [name for name in vars(kept) if "fairtouch" in name or vars(kept)[name] is governing],
    )
    assert pickle.loads(pickle.dumps(kept)).to == sent.to


# What a message says of itself


RULES = {
    "topics": {"newsletter": {"category": "marketing"}, "receipts": {"category": "transactional"}},
    "caps": {"news": {"limit": "1 per calendar day", "select": {"topics": ["newsletter"]}}},
}


def touch_of(sent: Any) -> Touch:
    """The touch that the only recipient was."""
    (one,) = sent.fairtouch_status
    return one.touch


SAID = {"topic": "receipts", "campaign": "spring", "subject": "order-1", "tags": ("a", "b")}


@pytest.mark.parametrize(
    "said",
    [
        {"attribute": SAID},
        {
            "headers": {
                "X-Fairtouch-Topic": "receipts",
                "x-fairtouch-campaign": "spring",
                "X-FAIRTOUCH-SUBJECT": "order-1",
                "X-Fairtouch-Tags": "b, a",
            }
        },
        {"TOUCH": SAID},
    ],
    ids=["attribute", "headers", "settings"],
)
def test_what_a_message_is_about(server, settings, said):
    """Topic and the rest come from an attribute, from headers, or from the settings; the headers stay here."""
    settings(RULES, TOUCH=said.get("TOUCH", {}))
    sent = message(headers=said.get("headers", {}))
    if "attribute" in said:
        sent.fairtouch = said["attribute"]
    smtp(server).send_messages([sent])
    touch = touch_of(sent)
    assert SAID == {name: getattr(touch, name) for name in SAID}
    assert b"fairtouch" not in server.mails[0].content.lower()


def test_the_message_knows_better_than_the_settings(server, settings):
    """The attribute is believed before a header, a header before what the mailer says, and that before FAIRTOUCH."""
    settings(RULES, TOUCH={"topic": "newsletter", "campaign": "c", "category": "marketing"})
    sent = message(headers={"X-Fairtouch-Topic": "newsletter", "X-Fairtouch-Category": "marketing"})
    sent.fairtouch = {"topic": "receipts", "category": "transactional"}
    plain = message(key="<2@shop.example>")
    smtp(server).send_messages([sent])
    smtp(server, fairtouch={"TOUCH": {"topic": "receipts"}}).send_messages([plain])
    assert [("receipts", "c"), ("receipts", None)] == [
        (touch.topic, touch.campaign) for touch in map(touch_of, (sent, plain))
    ]


def test_a_topic_keeps_its_category_whatever_the_settings_say(server, settings):
    """Where mail is transactional unless it says otherwise, a newsletter is not: its opt-out holds."""
    settings(RULES, TOUCH={"category": "transactional", "campaign": "c"})
    opt_out(ADA)
    news, marketing, plain = (message(key=f"<{n}@shop.example>") for n in range(3))
    news.fairtouch, marketing.fairtouch = {"topic": "newsletter"}, {"category": "marketing"}
    assert 1 == smtp(server).send_messages([news, marketing, plain])
    assert [(None, "newsletter", "c"), ("marketing", None, "c"), ("transactional", None, "c")] == [
        (touch.category, touch.topic, touch.campaign) for touch in map(touch_of, (news, marketing, plain))
    ]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"headers": {"X-Fairtouch-Topics": "receipts"}}, "did you mean 'topic'"),
        ({"fairtouch": {"topics": "receipts"}}, "did you mean 'topic'"),
        ({"fairtouch": {"xyz": 1}}, "known are category, "),
        ({"fairtouch": "receipts"}, "must be a dict, not str"),
    ],
)
def test_a_misspelt_word_stops_the_message(server, settings, sent, said):
    """Nothing is judged as something else because of a spelling."""
    settings()
    wrong = message(headers=sent.get("headers", {}))
    if "fairtouch" in sent:
        wrong.fairtouch = sent["fairtouch"]
    with pytest.raises(TouchError, match=said):
        smtp(server, fail_silently=True).send_messages([wrong])
    assert ([], [[]]) == (server.mails, states(ADA))


def test_who_the_customer_is(server, settings):
    """By address in the message, else for all of it, else by the app's function, else the normalised address."""
    settings(CUSTOMER={ADA: "customer-1"}.get)
    plain, named, each = (message(to=[ADA, "bob@Example.COM"], key=f"<{n}@shop.example>") for n in range(3))
    named.fairtouch = {"customer": "household-1"}
    each.fairtouch = {"customers": {"ada@EXAMPLE.com": "customer-2"}}
    smtp(server).send_messages([plain, named, each])
    assert [["customer-1", BOB], ["household-1"] * 2, ["customer-2", BOB]] == [
        [one.touch.customer for one in sent.fairtouch_status] for sent in (plain, named, each)
    ]
    header = message(headers={"X-Fairtouch-Customer": "customer-3"}, key="<9@shop.example>")
    smtp(server).send_messages([header])
    assert "customer-3" == touch_of(header).customer


def to_touch(sent: Any, address: str) -> Touch:
    """An app's own."""
    return message_touch(sent, address, topic="receipts", customer="customer-7")


def test_an_app_says_the_touch_itself(server, settings):
    """TO_TOUCH, as a function or as its dotted path, makes the touch of a message to an address."""
    for said in (to_touch, "tests.test_django.to_touch"):
        settings(RULES, TO_TOUCH=said)
        sent = message()
        smtp(server).send_messages([sent])
        assert ("customer-7", "receipts") == (touch_of(sent).customer, touch_of(sent).topic)


def test_the_same_message_again_reaches_nobody_twice(server, settings):
    """A Message-ID or an id of the app's own makes the touch's id; without either every send is another touch."""
    settings()
    named = [message(key=None) for _ in range(2)]
    for each in named:
        each.fairtouch = {"id": "order 1"}
    nameless = [message(key=None) for _ in range(2)]
    by_header = [message(key=None, headers={"X-Fairtouch-Id": "order 2"}) for _ in range(2)]
    sent = [message(), message(), *named, *nameless, *by_header]
    assert 5 == smtp(server).send_messages(sent)
    assert ["sent", "refused", "sent", "refused", "sent", "sent", "sent", "refused"] == [
        each.fairtouch_status[0].fate for each in sent
    ]
    assert ["duplicate"] == [reason.code for reason in sent[1].fairtouch_status[0].decision.reasons]


# What an app hears


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What the signals told."""
    told: list[Any] = []

    def hear(sender: Any, message: Any, recipients: Any, signal: Any, **_: Any) -> None:
        told.append((signal, message, recipients))

    for signal in (deferred, refused):
        signal.connect(hear)
    yield told
    for signal in (deferred, refused):
        signal.disconnect(hear)


def test_the_app_hears_who_was_left_out(server, settings, heard, caplog):
    """Both signals tell of the message and its recipients, each once; the log names rules and counts alone."""
    caplog.set_level(logging.INFO, "fairtouch")
    settings(DAILY)
    opt_out(BOB)
    governor().record(CLEO, NOON, channel="email")
    sent = message(to=[ADA, BOB], bcc=[CLEO])
    assert 1 == smtp(server).send_messages([sent])
    assert [(deferred, sent, [CLEO]), (refused, sent, [BOB])] == [
        (signal, told, [one.address for one in met]) for signal, told, met in heard
    ]
    assert NOON.replace(hour=0) + timedelta(days=1) == heard[0][2][0].decision.next_allowed_at
    assert [
        "1 recipients of a message are deferred (daily: 1)",
        "1 recipients of a message are refused (consent: 1)",
    ] == (caplog.messages)


def test_what_is_deferred_can_be_sent_later(server, settings):
    """`only_to` keeps the message for those who were deferred, also pickled; later it goes to them, headers intact."""
    clock = FrozenClock(NOON)
    settings(DAILY, CLOCK=clock)
    governor().record(BOB, NOON, channel="email")
    kept: list[bytes] = []

    def keep(message: Any, recipients: Any, **_: Any) -> None:
        kept.append(pickle.dumps(only_to(message, [one.address for one in recipients])))

    deferred.connect(keep)
    sent = rich(to=[ADA, f"Bob <{BOB}>"])
    sent.fairtouch = {"campaign": "spring"}
    smtp(server).send_messages([sent])
    deferred.disconnect(keep)
    clock.advance(timedelta(days=1))
    later = pickle.loads(kept[0])
    assert 1 == smtp(server).send_messages([later])
    assert ([(ADA,), (BOB,)], "spring") == (reached(server), touch_of(later).campaign)
    first, second = (without_boundaries(received.content) for received in server.mails)
    assert first == second


def test_a_receiver_that_fails_stops_the_message(server, settings):
    """What could not be handed over is an error before anything is sent, and the slots are free again."""
    settings(DAILY)
    opt_out(BOB)

    def fail(**_: Any) -> None:
        raise LookupError("the queue is full")

    refused.connect(fail)
    with pytest.raises(LookupError):
        smtp(server).send_messages([message(to=[ADA, BOB])])
    refused.disconnect(fail)
    assert ([], [[]]) == (server.mails, states(ADA))


# What becomes of the slots


class Moody(CountingServer):
    """Does not take the third message: it refuses it, or hangs up while or before it takes it."""

    mood = "refuse"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if b"<3@shop.example>" in (envelope.content or b""):
            if self.mood == "refuse":
                return "554 5.6.0 no"
            if self.mood == "close":
                return "421 4.3.0 closing"
            server.transport.abort()
            await asyncio.sleep(0)
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def moody() -> Iterator[Moody]:
    """A server with a third message that it does not take."""
    with Moody() as running:
        yield running


def ten() -> list[Any]:
    """Ten messages, each to somebody else."""
    return [message(to=f"c{n}@example.com", key=f"<{n}@shop.example>") for n in range(1, 11)]


TEN = [f"c{n}@example.com" for n in range(1, 11)]


@pytest.mark.parametrize(("mood", "third"), [("refuse", []), ("abort", ["reserved"])])
def test_the_third_of_ten_raises(moody, settings, mood, third):
    """What went out is confirmed; what certainly did not is released, what may have is kept; the rest has no slots."""
    moody.mood = mood
    settings(DAILY)
    sent = ten()
    with pytest.raises(smtplib.SMTPException):
        smtp(moody).send_messages(sent)
    assert [["confirmed"], ["confirmed"], third] == states(*TEN[:3])
    assert [[]] * 7 == states(*TEN[3:])
    assert ["sent", "sent", "in_doubt" if third else "unsent"] == [each.fairtouch_status[0].fate for each in sent[:3]]
    assert (False, 1) == (hasattr(sent[3], "fairtouch_status"), moody.connections)
    slots = [entry for customer in TEN for entry in governor().history(customer)]
    assert 3 - (not third) == len(slots)


@pytest.mark.parametrize(("mood", "connections"), [("refuse", 1), ("abort", 2)])
def test_silently_the_others_are_sent(moody, settings, mood, connections):
    """With fail_silently the next message is tried, on a new connection when the old one was lost; nine are sent."""
    moody.mood = mood
    settings(DAILY)
    assert 9 == smtp(moody, fail_silently=True).send_messages(ten())
    third = [] if mood == "refuse" else ["reserved"]
    assert [["confirmed"], ["confirmed"], third, *([["confirmed"]] * 7)] == states(*TEN)
    assert connections == moody.connections


def test_a_connection_that_the_server_closed_sends_no_more(moody, settings):
    """On a connection of the caller's own that is gone, certainly nothing goes out: those slots are free again."""
    moody.mood = "close"
    settings(DAILY)
    governing = smtp(moody, fail_silently=True)
    governing.open()
    assert 2 == governing.send_messages(ten())
    governing.close()
    assert [["confirmed"], ["confirmed"], *([[]] * 8)] == states(*TEN)


def test_a_recipient_whom_the_server_refuses_gets_the_slot_back(settings):
    """Django drops what the server said of one recipient; here that slot is free again, and the others are used."""
    settings(DAILY)
    with MailServer(gone=["bob@xn--bcher-kva.example"]) as server:
        sent = message(to=[ADA, "Bob <bob@bücher.example>"], cc=[CLEO])
        assert 1 == smtp(server).send_messages([sent])
        nobody = message(to=["bob@bücher.example"], key="<2@shop.example>")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp(server).send_messages([nobody])
    assert {ADA: "sent", "Bob <bob@bücher.example>": "turned_away", CLEO: "sent"} == fates(sent)
    assert {"bob@bücher.example": "turned_away"} == fates(nobody)
    assert [["confirmed"], [], ["confirmed"]] == states(ADA, "bob@xn--bcher-kva.example", CLEO)


def test_a_server_that_is_not_there(settings):
    """When nobody answers, nothing was sent: the exception is Django's, or silence, and no slot is taken."""
    settings(DAILY)
    with MailServer() as gone:
        pass
    sent = ten()
    with pytest.raises(ConnectionRefusedError):
        smtp(gone).send_messages(sent)
    assert 0 == smtp(gone, fail_silently=True).send_messages(sent)
    assert None is smtp(gone, fail_silently=True).open()
    with pytest.raises(ConnectionRefusedError):
        smtp(gone).open()
    assert ([[]] * 10, False) == (states(*TEN), hasattr(sent[1], "fairtouch_status"))


class Quiet(SmtpBackend):
    """An app's own: it says nothing of a connection that it cannot make."""

    def open(self) -> None:
        """Makes none."""


class Counts(BaseEmailBackend):
    """An app's own, which counts as it likes."""

    def __init__(self, *, count: int | None = None, **_: Any) -> None:
        super().__init__()
        self.count = count

    def send_messages(self, email_messages: Any) -> int | None:
        """So many."""
        return self.count


@pytest.mark.parametrize(
    ("name", "options", "fate"),
    [
        ("Quiet", {"host": "localhost"}, "unsent"),
        ("Counts", {"count": 0}, "unsent"),
        ("Counts", {"count": 1}, "sent"),
        ("Counts", {}, "sent"),  # it does not count
    ],
)
def test_the_count_of_an_apps_own_backend_is_believed(settings, name, options, fate):
    """What it counts as not sent gives the slots back."""
    settings(DAILY, BACKEND=f"tests.test_django.{name}")
    sent = message()
    assert (fate == "sent") == mailer(**options).send_messages([sent])
    assert ({ADA: fate}, [["confirmed"] if fate == "sent" else []]) == (fates(sent), states(ADA))


def test_one_connection_for_all_messages(server, settings):
    """It is opened by the first message that goes out, and closed after the last; one that was open stays open."""
    settings()
    opt_out("c1@example.com")
    governing = smtp(server)
    assert 9 == governing.send_messages(ten())
    assert (1, None) == (server.connections, governing._inner.backend.connection)
    with governing:
        assert (1, 1) == tuple(governing.send_messages([message(key=f"<{n}@x.example>")]) for n in (21, 22))
        assert isinstance(governing._inner.backend.connection, smtplib.SMTP)
    assert (2, None) == (server.connections, governing._inner.backend.connection)


# When the store fails


def test_a_store_that_is_down_stops_the_send(server, settings, own, caplog):
    """Nothing goes out, and the error names the store; silently, 0 messages are sent and the log says why."""
    redis = own()
    settings(DAILY, STORE=redis.url + "?deadline_seconds=0.5", CLOCK=None)
    assert 1 == smtp(server).send_messages([message()])
    redis.stop()
    with pytest.raises(StoreUnavailable, match="Redis did not answer"):
        smtp(server).send_messages(ten())
    caplog.clear()
    sent = ten()
    assert 0 == smtp(server, fail_silently=True).send_messages(sent)
    assert ((), False) == (sent[0].fairtouch_status, hasattr(sent[1], "fairtouch_status"))
    ((level, text),) = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("ERROR", "a message was not sent, nor those after it: Redis did not answer") == (level, text[:64])
    assert ([(ADA,)], []) == (reached(server), re.findall("@", text))


class Mailing(logging.Handler):
    """Mails what is logged, silently, as Django's AdminEmailHandler does."""

    rounds = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.rounds += 1
        assert self.rounds < 3
        assert 0 == self.governing.send_messages([message(to="admin@shop.example")])


def test_a_log_that_is_mailed_does_not_go_round(server, settings, own):
    """A handler that mails errors through the same backend is asked once, not for ever."""
    redis = own()
    settings(STORE=redis.url + "?deadline_seconds=0.2", CLOCK=None)
    governor()
    redis.stop()
    handler = Mailing()
    handler.governing = smtp(server, fail_silently=True)
    logging.getLogger("fairtouch").addHandler(handler)
    try:
        assert 0 == handler.governing.send_messages([message()])
    finally:
        logging.getLogger("fairtouch").removeHandler(handler)
    assert (1, []) == (handler.rounds, server.mails)


def test_what_the_policy_lets_out_goes_out_unverified(server, settings, own):
    """A category that the policy lets out when the store is down is sent; that it could not be recorded is logged."""
    redis = own()
    settings({"fail_open": ["transactional"]}, STORE=redis.url + "?deadline_seconds=0.2", CLOCK=None)
    governor()
    redis.stop()
    sent = message()
    sent.fairtouch = {"category": "transactional"}
    assert 1 == smtp(server).send_messages([sent])
    assert ([(ADA,)], True) == (reached(server), sent.fairtouch_status[0].decision.unverified)


# Settings


def test_mailers_differ_by_their_options(server, settings):
    """One mailer says what its messages are about; the rest of its options are the sending backend's."""
    settings(RULES)
    news = smtp(server, alias="news", fairtouch={"TOUCH": {"topic": "newsletter"}})
    receipts = smtp(server, alias="receipts", fairtouch={"TOUCH": {"topic": "receipts"}})
    assert [1, 0, 1, 1] == [
        backend.send_messages([message(key=f"<{n}@shop.example>")])
        for n, backend in enumerate([news, news, receipts, receipts])
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"POLICI": 1}, "unknown key 'POLICI'; did you mean 'POLICY'"),
        ({"XYZ": 1}, "known are POLICY, STORE"),
        ({"TOUCH": {"topics": "x"}}, "its keys are category, topic"),
        ({"TOUCH": "x"}, "must be a dict such as"),
        ({"TOUCH": {"topic": "x"}, "TO_TOUCH": to_touch}, "both TOUCH and TO_TOUCH"),
        ({"TO_TOUCH": "no.where"}, "'no.where' cannot be imported"),
        ({"BACKEND": "no.where"}, "'no.where' cannot be imported"),
        ({"BACKEND": django_host.BACKEND}, "would wrap itself"),
        ({"STORE": None}, "has no STORE"),
        ({"POLICY": None}, "has no POLICY"),
    ],
)
def test_a_wrong_setting_says_what_to_do(settings, said, told):
    """Whatever is missing or misspelt is named when the backend is made, at the latest when it sends."""
    settings(**{"BACKEND": LOCMEM, **said})
    with pytest.raises(ImproperlyConfigured, match=re.escape(told)):
        mailer().send_messages([message()])
    assert [] == mail.outbox


def test_one_governor_until_the_setting_changes(settings, tmp_path):
    """Everything in a process shares one governor; a test that changes the setting gets another, and a new memory."""
    clock = FrozenClock(NOON)
    settings(BACKEND=LOCMEM, CLOCK=clock)
    first = governor()
    assert 1 == mailer().send_messages([message()])
    with override_settings(DEBUG=True):
        assert (first, [["confirmed"]]) == (governor(), states(ADA))
    settings(BACKEND=LOCMEM, CLOCK=clock)
    assert (False, [[]]) == (first is governor(), states(ADA))
    path = tmp_path / "policy.toml"
    path.write_text('name = "from a file"\n')
    settings(POLICY=path)
    assert "from a file" == governor().policy.name
    assert governor() is not governor({"NAMESPACE": "another"})


# manage.py


def test_checks_find_what_is_wrong_before_the_first_message(settings, tmp_path):
    """A missing or invalid policy and a missing store are errors; mail that nobody governs, or that is all marketing, a
    warning.
    """
    (tmp_path / "policy.toml").write_text('[caps.daily]\nlimit = "1 per month"\n')
    fine = {"TOUCH": {"category": "transactional"}}
    for said, found in (
        (fine, []),
        ({}, ["fairtouch.W003"]),
        ({**fine, "POLICY": None}, ["fairtouch.E001"]),
        ({**fine, "POLICY": tmp_path / "policy.toml"}, ["fairtouch.E001"]),
        ({**fine, "POLICY": tmp_path / "missing.toml"}, ["fairtouch.E001"]),
        ({**fine, "TO_TOUCH": "no.where"}, ["fairtouch.E001"]),
        ({**fine, "BACKEND": "no.where"}, ["fairtouch.E001"]),
        ({**fine, "BACKEND": "fairtouch.integrations.django.EmailBackend"}, ["fairtouch.E001"]),
        ({**fine, "TOUCH": {"category": "transactionel"}}, ["fairtouch.E001"]),
        ({**fine, "STORE": None}, ["fairtouch.E002"]),
    ):
        settings(**said)
        with django_host.governing():
            assert found == [each.id for each in run_checks()]
    settings()
    assert ["fairtouch.W004"] == [each.id for each in run_checks()]


def run_checks(**options: Any) -> list[Any]:
    """What `manage.py check` says about fairtouch."""
    return checks.run_checks(tags=["fairtouch"], **options)


def test_a_deployment_has_a_store_that_answers_and_keeps(settings, own):
    """With --deploy: a store that does not answer is an error; one that may evict or forget opt-outs, a warning."""
    evicting = own("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes")
    gone = own()
    gone.stop()
    fine = {"TOUCH": {"category": "transactional"}}
    for store, found, told in (
        (evicting.url, ["fairtouch.W006"], "may evict opt-outs"),
        (gone.url + "?deadline_seconds=0.2", ["fairtouch.E005"], "Redis did not answer"),
        ("memory://", ["fairtouch.W007"], "not shared"),
    ):
        settings(STORE=store, **fine)
        with django_host.governing():
            assert [] == run_checks()
            (found_one,) = run_checks(include_deployment_checks=True)
        assert (found, True) == ([found_one.id], told in found_one.msg)


def command(*words: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    management.call_command(*words, stdout=out)
    return out.getvalue()


def test_an_operator_asks_why(server, settings):
    """`fairtouch_check` explains a decision and takes no slot; what cannot be judged is an error."""
    settings(DAILY)
    assert "Allowed: every rule passes." in command("fairtouch_check", ADA)
    smtp(server).send_messages([message()])
    told = command("fairtouch_check", ADA, "--category=marketing", "--campaign=spring", "--tag=a", "--address", ADA)
    assert ("Deferred: allowed from 2026-03-03 00:00:00 UTC", True) == (told[:46], "daily (cap)" in told)
    assert [["confirmed"]] == states(ADA)
    with pytest.raises(CommandError, match="channel"):
        command("fairtouch_check", ADA, "--channel", "pigeon")


def test_an_operator_reads_a_history(server, settings):
    """`fairtouch_history` shows touches, events and consents in order, as lines or as JSON."""
    settings()
    smtp(server).send_messages([message()])
    governor().feedback("click", customer=ADA, channel="email", id="click-1", at=NOON)
    governor().consent.opt_out(ADA, channel="email", evidence={"source": "link"})
    lines = command("fairtouch_history", ADA).splitlines()
    assert ["confirmed", "click", "opt_out"] == [
        line.split("  ")[place] for line, place in zip(lines, (2, 2, 1), strict=True)
    ]
    documents = [json.loads(line) for line in command("fairtouch_history", ADA, "--json").splitlines()]
    assert [("marketing", None, None), (None, "click", None), (None, None, {"source": "link"})] == [
        tuple(document.get(key) for key in ("category", "event", "evidence")) for document in documents
    ]
    assert "Nothing is recorded under this id.\n" == command("fairtouch_history", BOB)
    with pytest.raises(CommandError, match="customer is empty"):
        command("fairtouch_history", "")


# Threads and processes


def test_threads_share_a_backend_and_a_governor(server, settings):
    """Eight threads, half of them on one backend: each of ten people gets one message, whoever comes first."""
    settings(DAILY)
    shared = smtp(server)

    def run(number: int) -> int:
        sender = shared if number % 2 else smtp(server)
        return sender.send_messages([message(to=customer, key=f"<{number}-{customer}>") for customer in TEN])

    with ThreadPoolExecutor(8) as pool:
        assert 10 == sum(pool.map(run, range(8)))
    assert sorted(TEN) == sorted(recipient for (recipient,) in reached(server))
    assert [["confirmed"]] * 10 == states(*TEN)


FORKING = """
import os, sys
from tests import django_host
django_host.set_up()
from django.core.mail import EmailMessage
from fairtouch.integrations.django import governor
from fairtouch.integrations.django.configuration import _governors

policy = {"caps": {"daily": {"limit": "1 per calendar day"}}}
django_host.governed(policy, "sqlite:///touches.db", BACKEND=django_host.LOCMEM).enable()

def send(number):
    message = EmailMessage("x", "y", "shop@shop.example", [f"c{number}@example.com"])
    return django_host.mailer().send_messages([message])

assert send(0) == 1
children = []
for number in range(4):
    with _governors._lock:  # another thread may hold it just then
        child = os.fork()
        if not child:
            os._exit(send(number) + 2 * send(number))
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
print([send(number) for number in range(5)], [len(governor().history(f"c{n}@example.com")) for n in range(5)])
"""


def test_a_fork_shares_the_store_and_no_connection(tmp_path):
    """A server that forks after its first message stays exact, and the process ends without a word."""
    command, environment = [sys.executable, "-c", FORKING], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ("[0, 1, 1, 1]\n[0, 0, 0, 0, 1] [1, 1, 1, 1, 1]\n", "") == (done.stdout, done.stderr)


# Without the hosts


@pytest.mark.parametrize("host", ["django", "anymail"])
def test_a_missing_host_is_named_with_its_extra(host):
    """Where Django or anymail is not installed, the error says what to install."""
    program = f"import sys\nsys.modules[{host!r}] = None\nimport fairtouch.integrations.{host}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, f"pip install 'fairtouch[{host}]'" in done.stderr)


# The example


def test_the_example_does_what_it_says():
    """`examples/django_project/run.py`: a shop with a newsletter, against a real mail server, command by command."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/django_project/run.py")], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    steps = dict(re.findall(r"^\$ python manage.py (.*)\n((?:(?!\$ ).*\n)*)", done.stdout, flags=re.MULTILINE))
    assert "System check identified no issues" in steps["check --deploy --tag fairtouch"]
    assert "1 refused, 3 sent, 1 turned_away\n" in done.stdout
    assert "Deferred: allowed from " in steps["fairtouch_check customer-1 --topic newsletter"]
    assert "confirmed  marketing/newsletter" in steps["fairtouch_history customer-1"]
    assert done.stdout.endswith(" messages for ada@example.com, cleo@example.org, dan@example.net\n")
