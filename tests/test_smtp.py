"""Around a real send: each recipient is judged, the message goes once to those allowed, slots follow its fate."""

import asyncio
import logging
import pickle
import re
import smtplib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from functools import partial
from typing import Any

import pytest

from examples.mail_server import MailServer
from fairtouch import Governor, IdConflict, Policy, StoreUnavailable, Touch
from fairtouch.integrations.smtp import GovernedSMTP, RefusedRecipient, email_touch
from fairtouch.testing import FrozenClock
from tests.flaky_stores import Flaky
from tests.mail_servers import (
    AsciiServer,
    Asleep,
    HangsUpAfterData,
    HangsUpInData,
    Mumbles,
    RamblesOn,
    RefusesData,
    RefusesSender,
    Stalls,
    reached,
)
from tests.mails import ADA, BOB, CLEO, DAN, headers_of, mail, nested

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAILY = {"caps": {"daily": {"limit": "1 per calendar day"}}}


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A server that accepts mail to everybody."""
    with MailServer() as running:
        yield running


@pytest.fixture
def govern() -> Iterator[Callable[..., Governor]]:
    """Builds governors at noon on a Monday in UTC, each on a store of its own, and closes them afterwards."""
    opened: list[Governor] = []

    def build(rules: dict[str, Any] | None = None, store: Any = "memory://") -> Governor:
        complete = {"name": "mail", "customer": {"timezones": ["UTC"]}, **(rules or {})}
        opened.append(Governor(Policy.model_validate(complete), store, clock=FrozenClock(NOON)))
        return opened[-1]

    yield build
    for governor in opened:
        governor.close()


def connect(server: MailServer) -> smtplib.SMTP:
    """A plain client of the server."""
    return smtplib.SMTP(server.host, server.port, local_hostname="client.example", timeout=30)


def send(server: MailServer, governor: Governor, message: Any, *args: Any, to_touch: Any = email_touch) -> Any:
    """Sends through the wrapper on a connection of its own."""
    with GovernedSMTP(connect(server), governor, to_touch) as smtp:
        return smtp.send_message(message, *args)


def failure(server: MailServer, governor: Governor, message: Any, *, patience: float = 30) -> smtplib.SMTPException:
    """What a send through the wrapper raises, when the client waits that many seconds for each answer."""
    client = connect(server)
    client.sock.settimeout(patience)
    with pytest.raises(smtplib.SMTPException) as caught:
        GovernedSMTP(client, governor).send_message(message)
    client.close()
    return caught.value


def states(governor: Governor, *customers: str) -> list[list[str]]:
    """How far each customer's touches have come."""
    return [[entry.state for entry in governor.history(customer)] for customer in customers]


def codes(refused: Any) -> dict[str, int]:
    """The reply code per refused recipient."""
    return {address: code for address, (code, _) in refused.items()}


# Who gets the message, and what it looks like


def test_each_of_to_cc_and_bcc_is_judged(server, govern):
    """One opted-out recipient each of To, Cc and Bcc is left out; the message goes once, to all others."""
    governor = govern()
    out = ["to@example.com", "cc@example.com", "bcc@example.com"]
    for customer in out:
        governor.consent.opt_out(customer)
    message = mail(to=f"{ADA}, {out[0]}", cc=f"{out[1]}, {BOB}", bcc=f"{CLEO}, {out[2]}")
    refused = send(server, governor, message)
    assert [(ADA, BOB, CLEO)] == reached(server)
    assert dict.fromkeys(out, 550) == codes(refused)
    assert ["opted_out"] * 3 == [refused[address].decision.reasons[0].code for address in out]


def test_headers_stay_and_bcc_never_goes_out(server, govern):
    """To and Cc name everybody as they did, also who was left out; there is no Bcc and no Resent-Bcc."""
    governor = govern()
    governor.consent.opt_out(ADA)
    message = mail(to=f"Ada <{ADA}>, {BOB}", cc=f"Ada again <{ADA}>", bcc=CLEO)
    message["Resent-Bcc"] = DAN
    send(server, governor, message)
    (received,) = server.mails
    assert (BOB, CLEO) == received.recipients
    assert [str(message[name]) for name in ("To", "Cc")] == [str(received.message[name]) for name in ("To", "Cc")]
    assert not [name for name in received.message if name.lower().endswith("bcc")]
    assert CLEO.encode() not in received.content
    assert DAN.encode() not in received.content


def test_the_message_is_what_smtplib_sends(server, govern):
    """Every byte is the one that smtplib would have sent without the wrapper."""
    message = mail(to=f"Ada <{ADA}>", cc=BOB, bcc=CLEO)
    send(server, govern(), message)
    with connect(server) as plain:
        plain.send_message(message)
    governed, ungoverned = server.mails
    assert ungoverned.content == governed.content


@pytest.mark.parametrize("make", [partial(mail, bcc=BOB), nested])
def test_the_callers_message_is_unchanged(server, govern, make):
    """The caller's object is the same before and after, Bcc and the boundaries of inner parts included."""
    message, untouched = make(), make()
    send(server, govern(), message)
    assert headers_of(untouched) == headers_of(message)
    if not message.is_multipart():
        assert untouched.as_bytes() == message.as_bytes()


class Vandal:
    """An app's own sender: it knows no options, has no sendmail, returns nothing, and writes into what it gets."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, str | None, list[str]]] = []

    def send_message(self, msg: Any, from_addr: str | None = None, to_addrs: Any = None) -> None:
        """Keeps what it was given, then spoils it."""
        self.sent.append((msg.as_bytes(), from_addr, to_addrs))
        msg["X-Mailer"] = "vandal"
        del msg["To"]
        msg.set_payload("spoiled")

    def greeting(self) -> str:
        """Something of the app's own."""
        return "hello"


def test_an_apps_own_sender_is_wrapped_too(govern):
    """The rules do not need smtplib: the inner object gets a message without Bcc and the allowed recipients."""
    governor, vandal = govern(), Vandal()
    governor.consent.opt_out(ADA)
    message = mail(to=f"{ADA}, {BOB}", bcc=CLEO)
    message["Resent-Bcc"] = DAN
    before = message.as_bytes()
    smtp = GovernedSMTP(vandal, governor)
    refused = smtp.send_message(message, from_addr="bounces@shop.example")
    ((content, sender, to_addrs),) = vandal.sent
    assert (before, "bounces@shop.example", [BOB, CLEO]) == (message.as_bytes(), sender, to_addrs)
    assert ([], [ADA], "hello") == (re.findall(rb"(?i)bcc:", content), list(refused), smtp.greeting())
    assert [[], ["confirmed"], ["confirmed"]] == states(governor, ADA, BOB, CLEO)


def test_what_the_inner_object_lacks_is_lacking(govern):
    """A method that the wrapped object has not got takes no slot before it says so."""
    governor = govern()
    with pytest.raises(AttributeError):
        GovernedSMTP(Vandal(), governor).sendmail("shop@shop.example", [ADA], b"Subject: x\r\n\r\n")
    assert [] == governor.history(ADA)


def test_coroutines_are_not_taken_for_sends(govern):
    """An object that sends in coroutines is turned down at once, because nobody would await them."""

    class Later:
        async def send_message(self, msg: Any) -> None:
            pass

    with pytest.raises(TypeError, match="Later sends in coroutines"):
        GovernedSMTP(Later(), govern())


def test_with_stays_governed(server, govern):
    """What `with` hands out is the wrapper, also when the wrapped object enters as another one."""

    class Pool:
        def __enter__(self) -> smtplib.SMTP:
            self.client = connect(server)
            return self.client

        def __exit__(self, *error: object) -> None:
            self.client.quit()

    governor = govern()
    governor.consent.opt_out(ADA)
    for outer in (connect(server), Pool()):
        with GovernedSMTP(outer, governor) as smtp, pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.send_message(mail())
    assert [] == server.mails


def test_a_contact_point_counts_once(server, govern):
    """An address in To and again in Bcc, with its domain spelled otherwise, is one recipient and one touch."""
    governor = govern(DAILY)
    refused = send(server, governor, mail(to=ADA, bcc=f"ada@EXAMPLE.com, Ada <{ADA}>"))
    assert ([(ADA,)], {}) == (reached(server), refused)
    assert [["confirmed"]] == states(governor, ADA)


def test_odd_headers_lose_nobody(server, govern):
    """Groups, commas, comments, quotes and encoded words in To do not hide or add a recipient."""
    text = (
        'Friends: ada@example.com, "B, C" <bob@example.com>;, "odd@name" <cleo@example.org>,'
        ' =?utf-8?q?M=C3=BCller=2C_J?= <dan@example.net>, <"a b"@example.com>, eve@example.com (Eve),'
        " undisclosed-recipients:;"
    )
    raw = f"From: shop@shop.example\r\nTo: {text}\r\n\r\nHello!\r\n".encode()
    expected = (ADA, BOB, CLEO, DAN, '"a b"@example.com', "eve@example.com")
    for rules in (policy.default, policy.compat32):
        send(server, govern(), message_from_bytes(raw, policy=rules))
    assert [expected, expected] == reached(server)


def test_a_resent_message_goes_to_the_new_recipients(server, govern):
    """Resent-To decides when a message is resent; with two such blocks nobody can know, and nothing is sent."""
    message = mail(to=ADA)
    message["Resent-Date"] = "Mon, 02 Mar 2026 12:00:00 +0000"
    message["Resent-From"], message["Resent-To"] = "desk@shop.example", BOB
    send(server, govern(), message)
    assert [("desk@shop.example", (BOB,))] == [received[:2] for received in server.mails]
    message["Resent-Date"] = "Mon, 02 Mar 2026 13:00:00 +0000"
    vandal = Vandal()
    with pytest.raises(ValueError, match="more than one 'Resent-' header block"):
        GovernedSMTP(vandal, govern()).send_message(message)
    assert [] == vandal.sent


@pytest.mark.parametrize(
    "text", [b"Message-ID: <1@shop.example>\r\n\r\nHi\r\n", "Message-ID: <1@shop.example>\n\nHi\n"]
)
def test_sendmail_is_governed_too(server, govern, text):
    """sendmail, with bytes and with text, leaves out who may not be contacted and knows the message again."""
    governor = govern()
    governor.consent.opt_out(ADA)
    with GovernedSMTP(connect(server), governor) as smtp:
        refused = smtp.sendmail("shop@shop.example", [ADA, f"Bob <{BOB}>", CLEO, BOB], text)
        with pytest.raises(smtplib.SMTPRecipientsRefused) as again:
            smtp.sendmail("shop@shop.example", BOB, text)
    assert ([(BOB, CLEO)], {ADA: 550}) == (reached(server), codes(refused))
    assert {BOB: (550, b"5.7.1 refused: duplicate (id)")} == again.value.recipients
    assert [b"Message-ID: <1@shop.example>\r\n\r\nHi\r\n"] == [received.content for received in server.mails]


def test_international_addresses_pass_unharmed(server, govern):
    """Addresses beyond ASCII (RFC 6531) reach the server as they were written, and are known by their normal form."""
    governor = govern()
    addresses = ("jürgen@bücher.example", "用户@例え.example")
    refused = send(server, governor, mail(to=", ".join(addresses)))
    assert ({}, [addresses]) == (refused, reached(server))
    assert [["confirmed"]] == states(governor, "jürgen@xn--bcher-kva.example")


@pytest.mark.parametrize("sender", ["shop@shop.example", "büro@shop.example"])
def test_an_international_address_that_is_left_out_stays_readable(server, govern, sender):
    """To still names the person beyond ASCII whom the envelope no longer has, and the server is told to expect it."""
    governor = govern()
    governor.consent.opt_out("jürgen@xn--bcher-kva.example")
    message = mail(to=f"Jürgen <jürgen@bücher.example>, {BOB}")
    del message["From"]
    message["From"] = sender
    refused = send(server, governor, message, None, iter(["jürgen@bücher.example", BOB]))
    (received,) = server.mails
    assert ((BOB,), ["jürgen@bücher.example"]) == (received.recipients, list(refused))
    assert f"To: Jürgen <jürgen@bücher.example>, {BOB}\r\n".encode() in received.content
    assert ["BODY=8BITMIME", "SMTPUTF8"] == sorted(one for one in received.options if not one.startswith("SIZE"))


def test_options_pass_through(server, govern):
    """What the caller asks of the server reaches it."""
    with GovernedSMTP(connect(server), govern()) as smtp:
        smtp.send_message(mail(), mail_options=["BODY=8BITMIME"])
        smtp.sendmail("shop@shop.example", BOB, b"Subject: x\r\n\r\n", ["BODY=8BITMIME"])
    assert [True, True] == ["BODY=8BITMIME" in received.options for received in server.mails]


def test_a_server_without_smtputf8_gets_what_smtplib_would_send(govern):
    """Where SMTPUTF8 is not on offer it is not asked for."""
    governor = govern()
    governor.consent.opt_out("jürgen@example.com")
    with AsciiServer() as server:
        send(server, governor, mail(to=f"jürgen@example.com, {BOB}"))
    assert ([(BOB,)], False) == (reached(server), "SMTPUTF8" in server.mails[0].options)


# Who is left out, and how the caller learns of it


def test_nobody_allowed_raises_and_leaves_the_connection_alone(govern):
    """When all are refused, smtplib's own exception says so, and the connection, which here is none, is not used."""
    governor = govern()
    for customer in (ADA, BOB):
        governor.consent.opt_out(customer)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        GovernedSMTP(smtplib.SMTP(), governor).send_message(mail(to=ADA, bcc=BOB))
    assert {ADA: 550, BOB: 550} == codes(caught.value.recipients)


def test_a_message_to_nobody_is_smtplibs_empty_refusal(govern):
    """No recipients at all: SMTPRecipientsRefused with an empty dict, as smtplib raises it."""
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        GovernedSMTP(smtplib.SMTP(), govern()).send_message(mail(to="undisclosed-recipients:;"))
    assert {} == caught.value.recipients


def test_a_deferral_is_a_temporary_reply(server, govern):
    """450 and the instant from which on it may go; the text names rules, and neither the person nor the address."""
    governor = govern(DAILY)
    governor.record(ADA, NOON, channel="email", address=ADA)
    refused = send(server, governor, mail(to=f"{ADA}, {BOB}"))
    assert {ADA: (450, b"4.7.1 deferred until 2026-03-03T00:00:00+00:00: cap_reached (daily)")} == refused
    assert datetime(2026, 3, 3, tzinfo=UTC) == refused[ADA].decision.next_allowed_at
    assert [(BOB,)] == reached(server)


def test_a_suppressed_address_is_refused(server, govern):
    """A suppression binds the address, in any spelling of its domain."""
    governor = govern()
    governor.feedback("hard_bounce", address=ADA, channel="email")
    refused = send(server, governor, mail(to=f"ada@Example.COM, {BOB}"))
    assert {"ada@Example.COM": (550, b"5.7.1 refused: suppressed (suppression)")} == refused


def test_what_is_no_address_stops_nobody_else(server, govern):
    """What cannot be judged is not sent, and the others get their message."""
    governor, long = govern(), "a" * 250 + "@example.com"
    refused = send(server, governor, mail(), None, ["", "ada@", long, BOB, "cleo@[192.0.2.1]"])
    assert ({"": 553, "ada@": 553, long: 553}, [(BOB, "cleo@[192.0.2.1]")]) == (codes(refused), reached(server))
    assert [None] * 3 == [refusal.decision for refusal in refused.values()]


@pytest.mark.parametrize("spelling", ["zoe@example..org", "zoe@example.org.", "a@b@example.org", "zoe@ "])
def test_what_python_cannot_read_in_a_header_is_told(server, govern, spelling):
    """A recipient whom Python's parser loses is reported, and the others are served."""
    refused = send(server, govern(), mail(to=f"{spelling}, {BOB}"))
    assert ({"": 553}, [(BOB,)]) == (codes(refused), reached(server))
    with pytest.raises(smtplib.SMTPRecipientsRefused) as alone:
        send(server, govern(), mail(to=spelling))
    assert {"": 553} == codes(alone.value.recipients)


def test_a_refusal_travels_as_smtplibs_tuple(govern):
    """A refusal that is pickled, on its way to another process, is the plain pair of code and text."""
    governor = govern()
    governor.consent.opt_out(ADA)
    refusal = RefusedRecipient(governor.check(ADA, channel="email"))
    copy = pickle.loads(pickle.dumps(refusal))
    assert (tuple, refusal) == (type(copy), copy)


# What becomes of the slots


def test_a_recipient_whom_the_server_refuses_gets_the_slot_back(govern):
    """The server's own refusal is passed on as it is; that slot is free again, the others are used."""
    governor = govern(DAILY)
    governor.consent.opt_out(CLEO)
    with MailServer(gone=[ADA]) as server:
        refused = send(server, governor, mail(to=f"{ADA}, {BOB}, {CLEO}"))
    assert ((550, b"5.1.1 no such mailbox"), [ADA, CLEO]) == (refused[ADA], sorted(refused))
    assert [[], ["confirmed"], []] == states(governor, ADA, BOB, CLEO)


def test_nobody_left_names_everybody(govern):
    """When the server refuses all whom fairtouch allowed, the exception lists both kinds, and the slots are free."""
    governor = govern(DAILY)
    governor.consent.opt_out(CLEO)
    with MailServer(gone=[ADA, BOB]) as server:
        error = failure(server, governor, mail(to=f"{ADA}, {BOB}, {CLEO}"))
    assert isinstance(error, smtplib.SMTPRecipientsRefused)
    assert ([ADA, BOB, CLEO], True) == (sorted(error.recipients), hasattr(error.recipients[CLEO], "decision"))
    assert [[], []] == states(governor, ADA, BOB)


@pytest.mark.parametrize(
    ("unwilling", "error"),
    [
        (RefusesSender, smtplib.SMTPSenderRefused),
        (RefusesData, smtplib.SMTPDataError),
        (Asleep, smtplib.SMTPRecipientsRefused),
        (partial(MailServer, gone=[ADA, BOB]), smtplib.SMTPRecipientsRefused),
    ],
)
def test_a_hundred_failures_burn_no_slot(govern, unwilling, error):
    """Sends that certainly failed leave nothing behind: the history is empty, and the cap still admits one, no more."""
    governor, message = govern(DAILY), mail(to=f"{ADA}, {BOB}")
    with unwilling() as server:
        raised = {type(failure(server, governor, message)) for _ in range(100)}
    assert ({error}, [[], []]) == (raised, states(governor, ADA, BOB))
    with MailServer() as willing:
        send(willing, governor, message)
        refused = failure(willing, governor, mail(to=f"{ADA}, {BOB}", key="<2@shop.example>")).recipients
    assert ({ADA: 450, BOB: 450}, [(ADA, BOB)]) == (codes(refused), reached(willing))


def test_an_address_that_the_server_cannot_carry_gives_the_slots_back(govern):
    """SMTPNotSupportedError comes before anything is sent."""
    governor = govern()
    with AsciiServer() as server:
        error = failure(server, governor, mail(to=f"jürgen@example.com, {BOB}"))
    assert (smtplib.SMTPNotSupportedError, [[], []]) == (type(error), states(governor, "jürgen@example.com", BOB))


@pytest.mark.parametrize("unsure", [Stalls, HangsUpAfterData, HangsUpInData, Mumbles, RamblesOn])
def test_what_may_have_gone_out_keeps_its_slots(govern, unsure):
    """Time-outs, lost connections and unreadable answers say nothing: the slots stay, and nobody is sent to twice."""
    governor, message = govern(), mail(to=ADA, bcc=BOB)
    with unsure() as server:
        error = failure(server, governor, message, patience=0.25 if unsure is Stalls else 30)
    assert not isinstance(error, smtplib.SMTPRecipientsRefused)
    assert [["reserved"], ["reserved"]] == states(governor, ADA, BOB)
    with MailServer() as willing:
        refused = failure(willing, governor, message).recipients
    assert ([450, 450], []) == (list(codes(refused).values()), willing.mails)
    assert ["in_flight"] == [reason.code for reason in refused[ADA].decision.reasons]


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (KeyboardInterrupt(), [["reserved"]]),
        (asyncio.CancelledError(), [["reserved"]]),
        (TimeoutError(), [["reserved"]]),
        (ConnectionRefusedError(), [[]]),
        (ValueError("a header with a line break"), [[]]),
    ],
)
def test_other_exceptions_are_judged_by_what_they_say(govern, error, left):
    """Cancellation and time-outs keep the slot, what fails before the wire gives it back, and all are raised on."""

    class Raises:
        def send_message(self, *_: Any) -> None:
            raise error

    governor = govern()
    with pytest.raises(type(error)) as caught:
        GovernedSMTP(Raises(), governor).send_message(mail())
    assert (error, left) == (caught.value, states(governor, ADA))


def test_a_sender_that_refuses_everybody_without_raising_is_an_exception(govern):
    """smtplib's convention holds for an app's own object as well: nobody left is an exception."""

    class Politely:
        def send_message(self, *_: Any) -> dict[str, tuple[int, bytes]]:
            return {ADA: (550, b"no")}

    governor = govern()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        GovernedSMTP(Politely(), governor).send_message(mail())
    assert [] == governor.history(ADA)


# Once, and once only


def test_the_same_message_reaches_nobody_twice(govern):
    """A repeated Message-ID goes only to those whom it has not reached."""
    governor, message = govern(), mail(to=f"{ADA}, {BOB}")
    with MailServer(gone=[BOB]) as server:
        send(server, governor, message)
        server.gone = frozenset()
        refused = send(server, governor, message)
        last = failure(server, governor, message).recipients
    assert [(ADA,), (BOB,)] == reached(server)
    assert [["duplicate"], ["duplicate"]] == [[why.code for why in last[one].decision.reasons] for one in (ADA, BOB)]
    assert {ADA: 550} == codes(refused)


def test_a_folded_message_id_is_the_same(govern):
    """White space around a Message-ID, where a header was folded, makes no other message."""
    ids = {email_touch(mail(key=text), ADA).id for text in ("<1@shop.example>", " <1@shop.example> ")}
    assert 1 == len(ids)


def test_without_a_message_id_every_send_is_another(server, govern):
    """Nothing shows that two messages without Message-ID are one, so both go, and both count."""
    governor = govern()
    for _ in range(2):
        send(server, governor, mail(key=None))
    assert ([(ADA,), (ADA,)], [["confirmed"] * 2]) == (reached(server), states(governor, ADA))


def test_two_addresses_of_one_customer_are_two_touches(server, govern):
    """One a day holds for the customer: of her two addresses one gets the message, and no ids conflict."""
    governor = govern(DAILY)
    refused = send(server, governor, mail(to=f"{ADA}, {BOB}"), to_touch=partial(email_touch, customer="ada"))
    assert ([(ADA,)], {BOB: 450}) == (reached(server), codes(refused))
    assert [["confirmed"]] == states(governor, "ada")


def test_the_ledger_holds_no_address(server, govern):
    """The ids that the default makes do not show whom they were for."""
    governor = govern()
    send(server, governor, mail(key="<ada@example.com>"))
    (entry,) = governor.history(ADA)
    assert ("@" in entry.id, "ada" in entry.id) == (False, False)


def test_the_touch_says_what_the_message_is_about(server, govern):
    """A topic is given once per wrapper, and decides for each recipient."""
    governor = govern({"topics": {"offers": {}, "news": {}}})
    governor.consent.opt_out(ADA, topic="offers")
    for topic in ("offers", "news"):
        send(
            server,
            governor,
            mail(to=f"{ADA}, {BOB}", key=f"<{topic}@shop.example>"),
            to_touch=partial(email_touch, topic=topic),
        )
    assert [(BOB,), (ADA, BOB)] == reached(server)


# When the store fails


def test_a_store_that_fails_after_the_send_makes_nobody_send_again(server, govern, caplog):
    """The message is out, so nothing is raised: the others are confirmed, one slot stays taken, and the log says so."""
    governor, message = govern(store=Flaky(confirm=[2])), mail(to=f"{ADA}, {BOB}, {CLEO}")
    with caplog.at_level(logging.ERROR, "fairtouch"):
        refused = send(server, governor, message)
    assert ({}, [(ADA, BOB, CLEO)]) == (refused, reached(server))
    assert [["confirmed"], ["reserved"], ["confirmed"]] == states(governor, ADA, BOB, CLEO)
    assert ["1 touches could not be settled (StoreUnavailable)"] == [text.partition(";")[0] for text in caplog.messages]
    assert {ADA: 550, BOB: 450, CLEO: 550} == codes(failure(server, governor, message).recipients)


def test_a_store_that_fails_after_a_failed_send_hides_nothing(govern, caplog):
    """The server's error is raised, not the store's; every other slot is given back."""
    governor = govern(store=Flaky(release=[1]))
    with RefusesData() as server, caplog.at_level(logging.ERROR, "fairtouch"):
        error = failure(server, governor, mail(to=f"{ADA}, {BOB}"))
    assert (smtplib.SMTPDataError, [["reserved"], []]) == (type(error), states(governor, ADA, BOB))
    assert 1 == len(caplog.messages)


def test_a_store_that_does_not_answer_sends_nothing(server, govern):
    """Without an answer nobody is contacted, and the failure is no refusal."""
    with pytest.raises(StoreUnavailable):
        send(server, govern(store=Flaky(decide=range(100))), mail())
    assert [] == server.mails


def test_what_the_policy_lets_out_unverified_is_recorded(server, govern):
    """A category that the policy lets out goes even so, and the ledger knows of it once the store answers again."""
    governor = govern({"fail_open": ["transactional"]}, store=Flaky(decide=[1]))
    send(server, governor, mail(), to_touch=partial(email_touch, category="transactional"))
    assert ([(ADA,)], [["confirmed"]]) == (reached(server), states(governor, ADA))


def test_an_error_while_reserving_gives_everything_back(server, govern):
    """One touch of many that cannot be judged: nothing is sent, and the slots of every batch before it are free."""
    governor = govern()
    addresses = [f"reader-{number}@example.com" for number in range(700)]
    governor.record(addresses[-1], NOON, channel="sms", id="news-1")

    def to_touch(_: Any, address: str) -> Touch:
        return Touch(address, channel="email", id="news-1")

    with pytest.raises(IdConflict):
        send(server, governor, mail(to=", ".join(addresses)), to_touch=to_touch)
    assert ([], []) == (server.mails, [state for state in states(governor, *addresses[:-1]) if state])
