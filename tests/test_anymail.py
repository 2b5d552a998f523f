"""Around a mail service: its word about each recipient settles the slots, and what it tells later counts once."""

import base64
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from anymail.exceptions import AnymailAPIError, AnymailCancelSend, AnymailRecipientsRefused, AnymailUnsupportedFeature
from anymail.message import AnymailMessage, AnymailRecipientStatus
from anymail.signals import AnymailTrackingEvent, post_send, pre_send, tracking
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client, override_settings

from fairtouch.integrations.django import governor
from fairtouch.testing import FrozenClock
from tests import django_host
from tests.django_host import NOON, mailer
from tests.mail_service import MailService, inactive

DAILY = {"caps": {"daily": {"limit": "1 per calendar day"}}}
ADA, BOB, CLEO, DAN = "ada@example.com", "bob@example.com", "cleo@example.org", "dan@example.net"
POSTMARK, TEST = "anymail.backends.postmark.EmailBackend", "anymail.backends.test.EmailBackend"


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    """A Django project with anymail and fairtouch, and an empty outbox."""
    django_host.set_up()
    mail.outbox = []
    with override_settings(ANYMAIL={"WEBHOOK_SECRET": "name:word", "MAILGUN_WEBHOOK_SIGNING_KEY": "key"}):
        yield
    del mail.outbox


@pytest.fixture
def settings() -> Iterator[Callable[..., None]]:
    """Sets FAIRTOUCH at noon on a Monday, until the test ends."""
    with django_host.settings_at_noon() as override:
        yield override


@pytest.fixture
def service(settings: Callable[..., None]) -> Iterator[MailService]:
    """A mail service behind anymail's Postmark backend, which fairtouch's backend wraps."""
    settings(DAILY, BACKEND=POSTMARK)
    with MailService() as running:
        yield running


def postmark(service: MailService, **options: Any) -> Any:
    """The governed backend."""
    return mailer(server_token="token", api_url=service.url, **options)


def message(to: Any = ADA, kind: Any = EmailMessage, key: int = 1, **more: Any) -> Any:
    """A short message from the shop."""
    headers = {"Message-ID": f"<{key}@shop.example>"}
    to = [to] if isinstance(to, str) else to
    return kind(subject="Spring", body="Hello!", from_email="shop@shop.example", to=to, headers=headers, **more)


def states(*customers: str) -> list[list[str]]:
    """How far each customer's touches have come."""
    return [[entry.state for entry in governor().history(customer)] for customer in customers]


def fates(sent: Any) -> dict[str, str]:
    """What became of each recipient."""
    return {one.address: str(one.fate) for one in sent.fairtouch_status}


# Sending


def test_the_service_never_hears_of_whoever_is_left_out(service):
    """Each of To, Cc and Bcc is judged; whoever is left out is in no list, no header and no merged data; the caller's
    message is as it was, and has anymail's status.
    """
    for customer in ("to@example.com", "cc@example.com", "bcc@example.com"):
        governor().consent.opt_out(customer)
    sent = message(to=[f"Ada <{ADA}>", "to@example.com"], cc=[BOB, "cc@example.com"], bcc=["bcc@example.com", CLEO])
    sent.metadata, sent.fairtouch = {"order": 1}, {"campaign": "spring"}
    before = {name: repr(value) for name, value in vars(sent).items()}
    assert 1 == postmark(service).send_messages([sent])
    (posted,) = service.posted
    assert (f"Ada <{ADA}>", BOB, CLEO) == (posted["To"], posted["Cc"], posted["Bcc"])
    assert [] == [out for out in ("to@", "cc@example", "fairtouch") if out in json.dumps(posted)]
    assert {name: before[name] for name in before if name != "connection"} == {
        name: repr(value)
        for name, value in vars(sent).items()
        if name not in ("connection", "anymail_status", "fairtouch_status")
    }
    assert ({"sent"}, "m-1", {ADA, BOB, CLEO}) == (
        sent.anymail_status.status,
        sent.anymail_status.message_id,
        set(sent.anymail_status.recipients),
    )
    assert [["confirmed"]] * 3 == states(ADA, BOB, CLEO)


def test_merged_data_of_those_left_out_stays_here(settings):
    """A batch of personal messages is one for each who is allowed, with their data alone."""
    settings(BACKEND=TEST)
    governor().consent.opt_out(BOB)
    sent = message(to=[ADA, BOB], kind=AnymailMessage)
    sent.merge_data = {"ada@EXAMPLE.com": {"name": "Ada"}, BOB: {"name": "Bob"}}
    sent.merge_metadata = {BOB: {"id": 2}}
    assert 1 == mailer().send_messages([sent])
    params = mail.outbox[0].anymail_test_params
    assert ([ADA], {"ada@EXAMPLE.com": {"name": "Ada"}}, {}, True) == (
        [each.addr_spec for each in params["to"]],
        params["merge_data"],
        params["merge_metadata"],
        params["is_batch_send"],
    )
    assert {BOB} == {"ada@EXAMPLE.com", BOB} & set(sent.merge_metadata) & set(sent.merge_data)


def test_whom_the_service_rejects_gets_the_slot_back(service):
    """Postmark writes the rejected in small letters; the others are confirmed."""
    service.answer = inactive(BOB)
    sent = message(to=[ADA, "Bob@example.com"], cc=[CLEO])
    assert 1 == postmark(service).send_messages([sent])
    assert {ADA: "sent", "Bob@example.com": "turned_away", CLEO: "sent"} == fates(sent)
    assert [["confirmed"], [], ["confirmed"]] == states(ADA, "Bob@example.com", CLEO)


@pytest.mark.parametrize(
    ("status", "fate", "state", "count"),
    [
        ("sent", "sent", ["confirmed"], 1),
        ("queued", "sent", ["confirmed"], 1),
        ("failed", "turned_away", [], 0),
        ("unknown", "in_doubt", ["reserved"], 1),
        (None, "in_doubt", ["reserved"], 1),
    ],
)
def test_every_status_of_anymail(settings, status, fate, state, count):
    """Sent and queued confirm, failed releases, and of what is unknown the slot is kept."""
    settings(DAILY, BACKEND=TEST)
    sent = message()
    sent.anymail_test_response = {"recipient_status": {ADA: AnymailRecipientStatus("m-1", status)}}
    assert count == mailer().send_messages([sent])
    assert ({ADA: fate}, [state]) == (fates(sent), states(ADA))


def test_a_service_that_writes_all_small_is_understood(settings):
    """Some answer with addresses in small letters; an exact one goes first."""
    settings(DAILY, BACKEND=TEST)
    sent = message(to=["Ada@example.com", "BOB@example.com", BOB])
    told = {ADA: "sent", "BOB@example.com": "rejected", BOB: "sent"}
    sent.anymail_test_response = {
        "recipient_status": {address: AnymailRecipientStatus("m-1", status) for address, status in told.items()}
    }
    mailer().send_messages([sent])
    assert {"Ada@example.com": "sent", "BOB@example.com": "turned_away", BOB: "sent"} == fates(sent)


def test_a_recipient_of_whom_the_service_says_nothing_keeps_the_slot(settings):
    """What a service leaves out of its answer nobody knows."""
    settings(DAILY, BACKEND=TEST)
    sent = message(to=[ADA, BOB])
    sent.anymail_test_response = {"recipient_status": {ADA: AnymailRecipientStatus("m-1", "sent")}}
    mailer().send_messages([sent])
    assert [["confirmed"], ["reserved"]] == states(ADA, BOB)


@pytest.mark.parametrize("status", ["rejected", "invalid"])
def test_nobody_left_raises_as_anymail_does(settings, status):
    """When the service rejects all, anymail's own exception says so, and the slots are free."""
    settings(DAILY, BACKEND=TEST)
    sent = message()
    sent.anymail_test_response = {"recipient_status": {ADA: AnymailRecipientStatus(None, status)}}
    with pytest.raises(AnymailRecipientsRefused):
        mailer().send_messages([sent])
    assert ({ADA: "turned_away"}, {status}, [[]]) == (fates(sent), sent.anymail_status.status, states(ADA))


@pytest.mark.parametrize(
    ("answer", "third"),
    [
        ((401, {}), []),
        ((429, {}), []),
        ((500, {}), ["reserved"]),
        ((503, b"gateway"), ["reserved"]),
        ((200, b"not JSON"), ["reserved"]),
        ((0, None), ["reserved"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Anymail will drop support for fail_silently:DeprecationWarning")
def test_the_third_of_five_fails(service, answer, third):
    """What the service turned away is free again, what it may have taken is kept; the rest is sent only silently."""
    refuse_third = service.answer
    service.answer = lambda posted: answer if "c3@" in posted["To"] else refuse_third(posted)
    customers = [f"c{n}@example.com" for n in range(1, 6)]
    five = [message(to=customer, key=n) for n, customer in enumerate(customers)]
    with pytest.raises(AnymailAPIError):
        postmark(service).send_messages(five)
    assert [["confirmed"], ["confirmed"], third, [], []] == states(*customers)
    again = [message(to=customer, key=n) for n, customer in enumerate(customers)]
    assert 2 == postmark(service, fail_silently=True).send_messages(again)
    assert [["confirmed"], ["confirmed"], third, ["confirmed"], ["confirmed"]] == states(*customers)


def test_a_service_that_is_not_there(settings):
    """Nobody answers: nothing was sent, and the slots are free."""
    settings(DAILY, BACKEND=POSTMARK)
    with MailService() as gone:
        pass
    with pytest.raises(requests.ConnectionError):
        postmark(gone).send_messages([message()])
    assert [[]] == states(ADA)


def test_what_a_service_cannot_do_is_said_before_it_is_asked(service):
    """What anymail finds before it sends gives the slots back."""
    sent = message()
    sent.attach_alternative = None
    sent.merge_global_data = {"a": 1}
    sent.send_at = NOON + timedelta(days=1)
    with pytest.raises(AnymailUnsupportedFeature):
        postmark(service).send_messages([sent])
    assert ([], [[]]) == (service.posted, states(ADA))


def test_the_apps_own_receivers_are_heard(settings):
    """A receiver that cancels a send gives the slots back; one that fails after it does not make it unsent."""
    settings(DAILY, BACKEND=TEST)

    def cancel(**_: Any) -> None:
        raise AnymailCancelSend

    def fail(**_: Any) -> None:
        raise LookupError("too late")

    pre_send.connect(cancel)
    assert 0 == mailer().send_messages([message()])
    pre_send.disconnect(cancel)
    assert [[]] == states(ADA)
    post_send.connect(fail)
    with pytest.raises(LookupError):
        mailer().send_messages([message()])
    post_send.disconnect(fail)
    assert [["confirmed"]] == states(ADA)


# What the service tells later


def tell(service: str, document: Any, *, secret: str = "name:word", times: int = 1, code: int = 200) -> None:
    """Posts to anymail's own view what a service would, so many times."""
    word = base64.b64encode(secret.encode()).decode()
    for _ in range(times):
        response = Client(raise_request_exception=False).post(
            f"/anymail/{service}/tracking/",
            data=json.dumps(document),
            content_type="application/json",
            headers={"Authorization": f"Basic {word}"},
        )
        assert code == response.status_code


def bounce(address: str = ADA, *, kind: str = "HardBounce", number: int = 901542550) -> dict[str, Any]:
    """A bounce as Postmark tells it."""
    return {
        "RecordType": "Bounce",
        "ID": number,
        "Type": kind,
        "TypeCode": 1,
        "Name": "Hard bounce",
        "Description": "The server was unable to deliver your message",
        "Details": "smtp;550 5.1.1 no such user",
        "Email": address,
        "From": "shop@shop.example",
        "BouncedAt": "2026-03-02T11:00:00Z",
        "MessageID": "2706ee8a-737c-4285-b032-ccd317af53ed",
        "MessageStream": "outbound",
    }


def complaint(address: str = ADA) -> dict[str, Any]:
    """A spam complaint as Postmark tells it."""
    return {**bounce(address, kind="SpamComplaint", number=42), "RecordType": "SpamComplaint"}


def suppressed(*addresses: str) -> list[str]:
    """Which of them must not be written to."""
    return [address for address in addresses if governor().suppressions.contains(address, "email")]


def events(customer: str) -> list[str | None]:
    """What befell a customer."""
    return [entry.event for entry in governor().history(customer) if entry.event]


@pytest.fixture
def ledgers(settings: Callable[..., None]) -> None:
    """A memory of its own."""
    settings()


@pytest.mark.usefixtures("ledgers")
def test_one_bounce_in_a_batch_suppresses_one_address():
    """One of three recipients bounces: told ten times, it suppresses one address and stands in one ledger, once."""
    tell("postmark", bounce(BOB), times=10)
    assert ([BOB], ["hard_bounce"], []) == (suppressed(ADA, BOB, CLEO), events(BOB), events(ADA))
    (entry,) = governor().history(BOB)
    assert datetime(2026, 3, 2, 11, tzinfo=UTC) == entry.at


@pytest.mark.usefixtures("ledgers")
def test_a_repeated_event_does_not_undo_what_was_lifted():
    """An operator lifts a suppression; the same event told again changes nothing, another bounce does."""
    tell("postmark", bounce())
    governor().suppressions.remove(ADA, "email")
    tell("postmark", bounce(), times=10)
    assert ([], ["hard_bounce"]) == (suppressed(ADA), events(ADA))
    tell("postmark", bounce(number=2))
    assert ([ADA], ["hard_bounce"] * 2) == (suppressed(ADA), events(ADA))
    left = {"RecordType": "SubscriptionChange", "Recipient": BOB, "SuppressionReason": "ManualSuppression"}
    tell("postmark", {**left, "ChangedAt": "2026-03-02T11:00:00Z", "SuppressSending": True})
    assert [BOB] == suppressed(BOB)
    governor().suppressions.remove(BOB, "email")
    tell("postmark", {**left, "ChangedAt": "2026-03-02T11:00:00Z", "SuppressSending": True})
    assert [] == suppressed(BOB)


@pytest.mark.usefixtures("ledgers")
def test_a_forged_event_changes_nothing():
    """Without the secret, anymail lets nobody in."""
    tell("postmark", bounce(), secret="name:guess", code=400)
    assert ([], []) == (suppressed(ADA), events(ADA))


SENDGRID = {"email": ADA, "timestamp": 1772445600, "event": "bounce", "sg_event_id": "e-1", "smtp-id": "<1@x>"}
BREVO = {"email": ADA, "ts_epoch": 1772445600000, "message-id": "<1@x>", "id": 1}
MAILJET = {"event": "bounce", "time": 1772445600, "MessageID": 1, "email": ADA, "blocked": False}


def mailgun(reason: str, **more: Any) -> dict[str, Any]:
    """A failure as Mailgun tells it, signed."""
    signature = hmac.new(b"key", b"1772445600t-1", "sha256").hexdigest()
    said = {"event": "failed", "severity": "permanent", "reason": reason, "recipient": ADA, "timestamp": 1772445600.5}
    status = {"code": 550, "message": "no such user", "description": ""}
    headers = {"message": {"headers": {"message-id": "1@x"}}, "delivery-status": status}
    return {
        "signature": {"token": "t-1", "timestamp": "1772445600", "signature": signature},
        "event-data": {**said, **headers, **more},
    }


def sparkpost(kind: str) -> Any:
    """A bounce as SparkPost tells it."""
    said = {"type": "bounce", "bounce_class": kind, "event_id": "1", "message_id": "2", "rcpt_to": ADA}
    return [{"msys": {"message_event": {**said, "timestamp": "1772445600", "raw_rcpt_to": ADA}}}]


@pytest.mark.usefixtures("ledgers")
@pytest.mark.parametrize(
    ("service", "document", "found"),
    [
        ("postmark", bounce(), ["hard_bounce"]),
        ("postmark", bounce(kind="SoftBounce"), ["soft_bounce"]),
        ("postmark", bounce(kind="Transient"), []),
        ("postmark", bounce(kind="BadEmailAddress"), ["hard_bounce"]),
        ("postmark", complaint(), ["complaint"]),
        (
            "postmark",
            {**bounce(), "RecordType": "Open", "Recipient": ADA, "ReceivedAt": "2026-03-02T11:00:00Z"},
            ["open"],
        ),
        ("postmark", {"RecordType": "Click", "Recipient": ADA, "OriginalLink": "https://x.example/"}, ["click"]),
        ("postmark", {"RecordType": "Delivery", "Recipient": ADA, "DeliveredAt": "2026-03-02T11:00:00Z"}, []),
        ("sendgrid", [{**SENDGRID, "type": "bounce", "reason": "550 5.1.1 no such user"}], ["hard_bounce"]),
        ("sendgrid", [{**SENDGRID, "type": "blocked", "reason": "550 5.7.1 listed"}], ["soft_bounce"]),
        ("sendgrid", [{**SENDGRID, "event": "dropped", "reason": "Bounced Address"}], ["hard_bounce"]),
        ("sendgrid", [{**SENDGRID, "event": "dropped", "reason": "Unsubscribed Address"}], ["unsubscribe"]),
        ("sendgrid", [{**SENDGRID, "event": "dropped", "reason": "Spam Content"}], []),
        ("sendgrid", [{**SENDGRID, "event": "spamreport"}], ["complaint"]),
        ("sendgrid", [{**SENDGRID, "event": "unsubscribe"}], ["unsubscribe"]),
        ("brevo", {**BREVO, "event": "hard_bounce"}, ["hard_bounce"]),
        ("brevo", {**BREVO, "event": "soft_bounce"}, ["soft_bounce"]),
        ("mailjet", {**MAILJET, "hard_bounce": True, "error": "user unknown"}, ["hard_bounce"]),
        ("mailjet", {**MAILJET, "hard_bounce": False, "error": "user unknown"}, ["soft_bounce"]),
        ("mailgun", mailgun("bounce"), ["hard_bounce"]),
        ("mailgun", mailgun("bounce", **{"delivery-status": {"message": "452 4.2.2 full"}}), ["soft_bounce"]),
        ("mailgun", mailgun("generic"), ["soft_bounce"]),
        ("sparkpost", sparkpost("10"), ["hard_bounce"]),
        ("sparkpost", sparkpost("22"), ["soft_bounce"]),
    ],
)
@pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")
def test_what_services_tell(service, document, found):
    """Each word of a service is one of fairtouch's, or none; ten times it is the same as once."""
    tell(service, document, times=10)
    kept = events(ADA) or (["unsubscribe"] if suppressed(ADA) else [])
    is_suppressing = found in (["hard_bounce"], ["complaint"], ["unsubscribe"])
    assert (found, [ADA] if is_suppressing else []) == (kept, suppressed(ADA))
    assert [] == suppressed(BOB)


@pytest.mark.usefixtures("ledgers")
def test_several_recipients_in_one_event_are_several_events():
    """Amazon SES tells of all recipients of a notification under one id: each address counts."""
    for address, kind in ((ADA, "Permanent"), (BOB, "Permanent"), (CLEO, "Transient")):
        said = {"bounce": {"bounceType": kind}}
        event = AnymailTrackingEvent(
            event_type="bounced",
            event_id="n-1",
            esp_event=said,
            recipient=address,
            reject_reason="bounced",
            timestamp=NOON,
        )
        tracking.send(sender=None, event=event, esp_name="Amazon SES")
    assert ([ADA, BOB], ["soft_bounce"]) == (suppressed(ADA, BOB, CLEO), events(CLEO))


def test_two_addresses_of_one_customer_are_two_events(settings):
    """One notification about two addresses of the same person stands twice in her ledger, however often it is told."""
    settings(CUSTOMER={ADA: "customer-1", BOB: "customer-1"}.get)
    for address in (ADA, BOB, ADA):
        event = AnymailTrackingEvent(event_type="complained", event_id="n-1", recipient=address, timestamp=NOON)
        tracking.send(sender=None, event=event, esp_name="Amazon SES")
    assert ["complaint", "complaint"] == events("customer-1")


@pytest.mark.usefixtures("ledgers")
@pytest.mark.parametrize(("to", "found"), [([ADA], [ADA]), ([ADA, BOB], [])])
def test_a_service_that_does_not_say_whom_it_means_is_not_believed(to, found):
    """Resend tells of a message to several and names the first of them, whoever bounced."""
    said = {"data": {"to": to, "bounce": {"type": "Permanent"}}}
    event = AnymailTrackingEvent(
        event_type="bounced", event_id="1", esp_event=said, recipient=to[0], reject_reason="bounced"
    )
    tracking.send(sender=None, event=event, esp_name="Resend")
    assert found == suppressed(ADA, BOB)


@pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")
@pytest.mark.parametrize(("who", "opted_out"), [({ADA: "customer-1"}, ["customer-1"]), ({}, [])])
def test_whoever_unsubscribes_at_the_service_has_opted_out(settings, who, opted_out):
    """Whom CUSTOMER knows opts out of e-mail, but for what is essential, once; else the address is suppressed. An old
    event told late does not overrule a newer opt-in.
    """
    settings(CUSTOMER=who.get)
    tell("sendgrid", [{**SENDGRID, "event": "unsubscribe"}], times=10)
    refused = [
        customer
        for customer in ("customer-1",)
        if not governor().check(customer, channel="email", category="marketing")
    ]
    assert (opted_out, [] if who else [ADA]) == (refused, suppressed(ADA))
    assert governor().check("customer-1", channel="email", category="transactional")
    assert len(opted_out) == len(governor().consent.history("customer-1"))
    if who:
        governor().consent.opt_in("customer-1", channel="email")
        tell("sendgrid", [{**SENDGRID, "event": "unsubscribe"}])
        assert governor().check("customer-1", channel="email", category="marketing")


@pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")
def test_a_service_whose_clock_is_ahead_is_believed(settings):
    """An event of the near future is kept as of now."""
    settings(CUSTOMER={ADA: "customer-1"}.get, CLOCK=FrozenClock(datetime(2026, 3, 2, 9, tzinfo=UTC)))
    tell("postmark", bounce(), times=2)
    tell("sendgrid", [{**SENDGRID, "event": "unsubscribe"}])
    assert (["hard_bounce"], [ADA]) == (events("customer-1"), suppressed(ADA))
    assert not governor().check("customer-1", channel="email", category="marketing")


@pytest.mark.usefixtures("ledgers")
def test_an_event_that_names_no_one_address_is_logged(caplog):
    """Where a service does not say which recipient it means, nobody is suppressed for another; the log names nobody."""
    tell("postmark", bounce("not@"), times=1)
    assert ["Postmark tells of a hard_bounce and names no one address; nothing was recorded"] == [
        record.getMessage() for record in caplog.records if record.name == "fairtouch" and record.levelno > logging.INFO
    ]


def test_while_the_store_is_down_the_service_is_asked_to_tell_again(settings, own):
    """The webhook fails, so that the event comes again, and nothing is lost."""
    redis = own()
    settings(STORE=redis.url + "?deadline_seconds=0.2", CLOCK=None)
    governor()
    redis.stop()
    tell("postmark", bounce(), code=500)
