"""Around a real awaited send: each recipient is judged, the message goes once to those allowed, slots follow its fate,
and a cancellation leaves nothing half done.
"""

import asyncio
import logging
import pickle
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email import message_from_bytes, policy
from functools import partial
from typing import Any

import aiosmtplib
import pytest

from examples.mail_server import MailServer
from fairtouch import AsyncGovernor, IdConflict, Policy, StoreUnavailable, Touch
from fairtouch.integrations.smtp_async import AsyncGovernedSMTP, RefusedRecipient, RefusedResponse, email_touch
from fairtouch.stores.memory_async import AsyncMemoryStore
from fairtouch.testing import FrozenClock
from tests.flaky_stores import Flaky
from tests.in_a_loop import Distant, in_a_loop, turns
from tests.mail_servers import (
    AsciiServer,
    Asleep,
    Babbles,
    HangsUpAfterData,
    HangsUpAtOnce,
    HangsUpInData,
    Mumbles,
    RamblesOn,
    RefusesData,
    RefusesSender,
    Silent,
    Stalls,
    TurnsAway,
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


def govern(rules: dict[str, Any] | None = None, store: Any = "memory://") -> AsyncGovernor:
    """A governor at noon on a Monday in UTC, on a store of its own."""
    complete = {"name": "mail", "customer": {"timezones": ["UTC"]}, **(rules or {})}
    return AsyncGovernor(Policy.model_validate(complete), store, clock=FrozenClock(NOON))


def client_of(server: MailServer, **options: Any) -> aiosmtplib.SMTP:
    """A plain client of the server, which connects on `async with`."""
    known = {"hostname": server.host, "port": server.port, "local_hostname": "client.example", "timeout": 30}
    return aiosmtplib.SMTP(**known | options)


async def send(
    server: MailServer, governor: AsyncGovernor, message: Any, to_touch: Any = email_touch, **to: Any
) -> Any:
    """Sends through the wrapper on a connection of its own; who was left out."""
    async with AsyncGovernedSMTP(client_of(server), governor, to_touch) as smtp:
        refused, text = await smtp.send_message(message, **to)
    assert "OK" == text
    return refused


async def failure(server: MailServer, governor: AsyncGovernor, message: Any, *, patience: float = 30) -> Exception:
    """What a send through the wrapper raises, when the client waits that many seconds for each answer."""
    smtp = AsyncGovernedSMTP(client_of(server), governor)
    await smtp.connect()
    try:
        with pytest.raises(aiosmtplib.SMTPException) as caught:
            await smtp.send_message(message, timeout=patience)
    finally:
        smtp.close()
        await turns(2)
    return caught.value


async def states(governor: AsyncGovernor, *customers: str) -> list[list[str | None]]:
    """How far each customer's touches have come."""
    return [[entry.state for entry in await governor.history(customer)] for customer in customers]


def codes(refused: Any) -> dict[str, int]:
    """The reply code per refused recipient, of a dict or of an exception."""
    if isinstance(refused, aiosmtplib.SMTPRecipientsRefused):
        return {one.recipient: one.code for one in refused.recipients}
    return {address: response.code for address, response in refused.items()}


# Who gets the message, and what it looks like


@pytest.mark.parametrize("store", ["memory://", "sqlite"])
@in_a_loop
async def test_each_of_to_cc_and_bcc_is_judged(server, store, tmp_path):
    """One opted-out recipient each of To, Cc and Bcc is left out; the message goes once, to all others, with its
    headers intact, no Bcc, and the caller's own object unchanged.
    """
    out = ["to@example.com", "cc@example.com", "bcc@example.com"]
    message = mail(to=f"Ada <{ADA}>, {out[0]}", cc=f"{out[1]}, {BOB}", bcc=f"{CLEO}, {out[2]}")
    message["Resent-Bcc"] = DAN
    before = message.as_bytes()
    async with govern(store=store if "://" in store else f"sqlite:///{tmp_path}/touches.db") as governor:
        for customer in out:
            await governor.consent.opt_out(customer)
        refused = await send(server, governor, message)
        assert [["confirmed"]] * 3 + [[]] * 3 == await states(governor, ADA, BOB, CLEO, *out)
    (received,) = server.mails
    assert ((ADA, BOB, CLEO), before) == (received.recipients, message.as_bytes())
    assert dict.fromkeys(out, 550) == codes(refused)
    assert ["opted_out"] * 3 == [refused[address].decision.reasons[0].code for address in out]
    assert [str(message[name]) for name in ("To", "Cc")] == [str(received.message[name]) for name in ("To", "Cc")]
    assert [] == re.findall(rb"(?i)bcc:|cleo@|dan@", received.content)


@in_a_loop
async def test_the_message_is_what_aiosmtplib_sends(server):
    """Every byte, and every option, is the one that aiosmtplib would have sent without the wrapper."""
    for message in (mail(to=f"Ada <{ADA}>", cc=BOB, bcc=CLEO), nested(), mail(to="jürgen@bücher.example")):
        await send(server, govern(), message)
        async with client_of(server) as plain:
            await plain.send_message(message)
        governed, ungoverned = server.mails[-2:]
        boundaries = partial(re.sub, rb"={15}\d+==", b"")  # of parts are random when the copy is first written out
        assert boundaries(ungoverned.content) == boundaries(governed.content)
        strip = {option for option in governed.options if not option.startswith(("SIZE", "size"))}
        assert strip == {option for option in ungoverned.options if not option.startswith(("SIZE", "size"))}


@pytest.mark.parametrize("make", [partial(mail, bcc=BOB), nested])
@in_a_loop
async def test_the_callers_message_is_unchanged(server, make):
    """The caller's object is the same before and after, Bcc and the boundaries of inner parts included."""
    message, untouched = make(), make()
    await send(server, govern(), message)
    assert headers_of(untouched) == headers_of(message)
    if not message.is_multipart():
        assert untouched.as_bytes() == message.as_bytes()


class Vandal:
    """An app's own sender: it knows no options, has no sendmail, returns nothing, and writes into what it gets."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, str | None, list[str]]] = []

    async def send_message(self, message: Any, *, sender: str | None = None, recipients: Any = None) -> None:
        """Keeps what it was given, then spoils it."""
        await turns(2)
        self.sent.append((message.as_bytes(), sender, recipients))
        message["X-Mailer"] = "vandal"
        del message["To"]
        message.set_payload("spoiled")
        await turns(2)

    def greeting(self) -> str:
        """Something of the app's own."""
        return "hello"


@in_a_loop
async def test_an_apps_own_sender_is_wrapped_too():
    """The rules do not need aiosmtplib: the inner object gets a message without Bcc and the allowed recipients."""
    governor, vandal = govern(), Vandal()
    await governor.consent.opt_out(ADA)
    message = mail(to=f"{ADA}, {BOB}", bcc=CLEO)
    before = message.as_bytes()
    smtp = AsyncGovernedSMTP(vandal, governor)
    refused, text = await smtp.send_message(message, sender="bounces@shop.example")
    ((content, sender, recipients),) = vandal.sent
    assert (before, "bounces@shop.example", [BOB, CLEO]) == (message.as_bytes(), sender, recipients)
    assert ([], [ADA], "", "hello") == (re.findall(rb"(?i)bcc:", content), list(refused), text, smtp.greeting())
    assert [[], ["confirmed"], ["confirmed"]] == await states(governor, ADA, BOB, CLEO)


@in_a_loop
async def test_what_the_inner_object_lacks_is_lacking():
    """A method that the wrapped object has not got takes no slot before it says so."""
    governor = govern()
    with pytest.raises(AttributeError):
        await AsyncGovernedSMTP(Vandal(), governor).sendmail("shop@shop.example", [ADA], b"Subject: x\r\n\r\n")
    assert [] == await governor.history(ADA)


def test_plain_functions_are_not_awaited():
    """An object that sends in plain functions is turned down at once, whichever of them it is."""

    class Now:
        async def send_message(self, message: Any) -> None: ...

        def sendmail(self, *_: Any) -> None: ...

    with pytest.raises(TypeError, match="Now does not send in coroutine functions"):
        AsyncGovernedSMTP(Now(), govern())


def test_no_send_goes_around_the_governor():
    """aiosmtplib's sends that start a loop of their own do not pass through, because nobody would ask."""
    smtp = AsyncGovernedSMTP(aiosmtplib.SMTP(), govern())
    for name in ("send_message", "sendmail"):
        with pytest.raises(AttributeError, match=f"await {name}"):
            getattr(smtp, f"{name}_sync")
    assert smtp.is_connected is False


@in_a_loop
async def test_with_stays_governed(server):
    """What `async with` hands out is the wrapper, also when the wrapped object enters as another one."""

    class Pool:
        async def __aenter__(self) -> aiosmtplib.SMTP:
            self.client = client_of(server)
            return await self.client.__aenter__()

        async def __aexit__(self, *error: object) -> None:
            await self.client.__aexit__(*error)

    governor = govern()
    await governor.consent.opt_out(ADA)
    for outer in (client_of(server), Pool()):
        async with AsyncGovernedSMTP(outer, governor) as smtp:
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await smtp.send_message(mail())
    assert [] == server.mails


@in_a_loop
async def test_a_repeated_header_loses_nobody(server):
    """Of several To headers all are read, as aiosmtplib reads them, and each contact point counts once."""
    raw = (
        f"From: shop@shop.example\r\nTo: Ada <{ADA}>\r\nTo: friends: {BOB}, ada@EXAMPLE.com;\r\nBcc: {CLEO}\r\n"
        f"Bcc: {DAN}\r\n\r\nHello!\r\n"
    ).encode()
    for rules in (policy.default, policy.compat32):
        await send(server, govern(DAILY), message_from_bytes(raw, policy=rules))
        async with client_of(server) as plain:
            await plain.send_message(message_from_bytes(raw, policy=policy.compat32))
    assert {ADA, BOB, CLEO, DAN} == set(server.mails[1].recipients) - {"ada@EXAMPLE.com"}
    assert [(ADA, BOB, CLEO, DAN)] * 2 == reached(server)[::2]


@in_a_loop
async def test_a_resent_message_goes_to_the_new_recipients(server):
    """Resent-To decides when a message is resent; with two such blocks nobody can know, and nothing is sent."""
    message = mail(to=ADA)
    message["Resent-Date"] = "Mon, 02 Mar 2026 12:00:00 +0000"
    message["Resent-From"], message["Resent-To"] = "desk@shop.example", BOB
    await send(server, govern(), message)
    assert [("desk@shop.example", (BOB,))] == [received[:2] for received in server.mails]
    message["Resent-Date"] = "Mon, 02 Mar 2026 13:00:00 +0000"
    vandal = Vandal()
    with pytest.raises(ValueError, match="more than one 'Resent-' header block"):
        await AsyncGovernedSMTP(vandal, govern()).send_message(message)
    assert [] == vandal.sent


@pytest.mark.parametrize(
    "text", [b"Message-ID: <1@shop.example>\r\n\r\nHi\r\n", "Message-ID: <1@shop.example>\n\nHi\n"]
)
@in_a_loop
async def test_sendmail_is_governed_too(server, text):
    """sendmail, with bytes and with text, leaves out who may not be contacted and knows the message again."""
    governor = govern()
    await governor.consent.opt_out(ADA)
    async with AsyncGovernedSMTP(client_of(server), governor) as smtp:
        refused, _ = await smtp.sendmail("shop@shop.example", [ADA, f"Bob <{BOB}>", CLEO, BOB], text)
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as again:
            await smtp.sendmail("shop@shop.example", BOB, text)
    assert ([(BOB, CLEO)], {ADA: 550}) == (reached(server), codes(refused))
    assert [(550, "5.7.1 refused: duplicate (id)", BOB)] == [one.args for one in again.value.recipients]
    assert [b"Message-ID: <1@shop.example>\r\n\r\nHi\r\n"] == [received.content for received in server.mails]


@in_a_loop
async def test_options_pass_through(server):
    """What the caller asks of the server reaches it."""
    async with AsyncGovernedSMTP(client_of(server), govern()) as smtp:
        await smtp.sendmail("shop@shop.example", BOB, b"Subject: x\r\n\r\n", mail_options=["BODY=8BITMIME"], timeout=20)
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as caught:  # aiosmtpd knows no options of RCPT
            await smtp.sendmail("shop@shop.example", ADA, b"Subject: x\r\n\r\n", rcpt_options=["NOTIFY=NEVER"])
    assert (["BODY=8BITMIME" in received.options for received in server.mails], {ADA: 555}) == (
        [True],
        codes(caught.value),
    )


# Addresses beyond ASCII


@in_a_loop
async def test_international_addresses_pass_unharmed(server):
    """Addresses beyond ASCII (RFC 6531) reach the server as they were written, and are known by their normal form."""
    governor = govern()
    addresses = ("jürgen@bücher.example", "用户@例え.example")
    refused = await send(server, governor, mail(to=", ".join(addresses)))
    assert ({}, [addresses]) == (refused, reached(server))
    assert [["confirmed"]] == await states(governor, "jürgen@xn--bcher-kva.example")


@pytest.mark.parametrize("sender", ["shop@shop.example", "büro@shop.example"])
@pytest.mark.parametrize("greeted", [True, False])
@in_a_loop
async def test_an_international_address_that_is_left_out_stays_readable(server, sender, greeted):
    """To still names the person beyond ASCII whom the envelope no longer has, and the server is told to expect it."""
    governor = govern()
    await governor.consent.opt_out("jürgen@xn--bcher-kva.example")
    message = mail(to=f"Jürgen <jürgen@bücher.example>, {BOB}", bcc=CLEO)
    message.replace_header("From", sender)
    async with AsyncGovernedSMTP(client_of(server, start_tls=None if greeted else False), governor) as smtp:
        assert greeted is not smtp.is_ehlo_or_helo_needed
        refused, _ = await smtp.send_message(
            message, recipients=iter(["jürgen@bücher.example", BOB]), mail_options=["body=8bitmime"]
        )
    (received,) = server.mails
    assert (sender, (BOB,), ["jürgen@bücher.example"]) == (*received[:2], list(refused))
    assert f"To: Jürgen <jürgen@bücher.example>, {BOB}\r\n".encode() in received.content
    assert b"cleo" not in received.content
    assert ["BODY=8BITMIME", "SMTPUTF8"] == sorted(
        one.upper() for one in received.options if not one.lower().startswith("size")
    )


@in_a_loop
async def test_a_server_without_smtputf8_gets_what_aiosmtplib_would_send():
    """Where SMTPUTF8 is not on offer it is not asked for."""
    governor = govern()
    await governor.consent.opt_out("jürgen@example.com")
    with AsciiServer() as server:
        await send(server, governor, mail(to=f"jürgen@example.com, {BOB}"))
        assert ([(BOB,)], False) == (reached(server), "SMTPUTF8" in server.mails[0].options)


@in_a_loop
async def test_an_address_that_the_server_cannot_carry_gives_the_slots_back():
    """SMTPNotSupported comes before anything is sent."""
    governor = govern()
    with AsciiServer() as server:
        error = await failure(server, governor, mail(to=f"jürgen@example.com, {BOB}"))
    assert aiosmtplib.SMTPNotSupported is type(error)
    assert [[], []] == await states(governor, "jürgen@example.com", BOB)


# Who is left out, and how the caller learns of it


@in_a_loop
async def test_nobody_allowed_raises_and_leaves_the_connection_alone():
    """When all are refused, aiosmtplib's own exception says so, and the connection, which here is none, is not used."""
    governor = govern()
    for customer in (ADA, BOB):
        await governor.consent.opt_out(customer)
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as caught:
        await AsyncGovernedSMTP(aiosmtplib.SMTP(), governor).send_message(mail(to=ADA, bcc=BOB))
    assert {ADA: 550, BOB: 550} == codes(caught.value)
    assert ["opted_out"] * 2 == [one.decision.reasons[0].code for one in caught.value.recipients]


@in_a_loop
async def test_a_message_to_nobody_is_what_aiosmtplib_says():
    """No recipients at all: ValueError for a message, SMTPRecipientsRefused with an empty list for an envelope."""
    smtp = AsyncGovernedSMTP(aiosmtplib.SMTP(), govern())
    with pytest.raises(ValueError, match="no recipients"):
        await smtp.send_message(mail(to="undisclosed-recipients:;"))
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as caught:
        await smtp.sendmail("shop@shop.example", [], b"Subject: x\r\n\r\n")
    assert [] == caught.value.recipients


@in_a_loop
async def test_a_message_from_nobody_gives_the_slots_back(server):
    """aiosmtplib's ValueError for a message without From is raised on; nothing was sent, also beyond ASCII."""
    governor = govern()
    await governor.consent.opt_out("jürgen@example.com")
    for to in (BOB, f"{BOB}, jürgen@example.com"):
        message = mail(to=to)
        del message["From"]
        async with AsyncGovernedSMTP(client_of(server), governor) as smtp:
            with pytest.raises(ValueError, match="From"):
                await smtp.send_message(message)
    assert ([], [[]]) == (server.mails, await states(governor, BOB))


@in_a_loop
async def test_a_deferral_is_a_temporary_reply(server):
    """450 and the instant from which on it may go; the text names rules, and neither the person nor the address."""
    governor = govern(DAILY)
    await governor.record(ADA, NOON, channel="email", address=ADA)
    refused = await send(server, governor, mail(to=f"{ADA}, {BOB}"))
    assert {ADA: (450, "4.7.1 deferred until 2026-03-03T00:00:00+00:00: cap_reached (daily)")} == refused
    assert datetime(2026, 3, 3, tzinfo=UTC) == refused[ADA].decision.next_allowed_at
    assert "450 4.7.1 deferred until 2026-03-03T00:00:00+00:00: cap_reached (daily)" == str(refused[ADA])
    assert [(BOB,)] == reached(server)


@in_a_loop
async def test_what_python_cannot_read_in_a_header_is_told(server):
    """A recipient whom Python's parser loses is reported, and the others are served."""
    refused = await send(server, govern(), mail(to=f"zoe@example..org, {BOB}"))
    assert ({"": 553}, [(BOB,)]) == (codes(refused), reached(server))
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as alone:
        await send(server, govern(), mail(to="zoe@example..org"))
    assert [(553, "")] == [(each.code, each.recipient) for each in alone.value.recipients]


@in_a_loop
async def test_what_is_no_address_stops_nobody_else(server):
    """What cannot be judged is not sent, and the others get their message."""
    governor, long = govern(), "a" * 250 + "@example.com"
    refused = await send(server, governor, mail(), recipients=["", "ada@", long, BOB, "cleo@[192.0.2.1]"])
    assert ({"": 553, "ada@": 553, long: 553}, [(BOB, "cleo@[192.0.2.1]")]) == (codes(refused), reached(server))
    assert [None] * 3 == [refusal.decision for refusal in refused.values()]


@in_a_loop
async def test_a_refusal_travels_as_aiosmtplibs_own():
    """A refusal that is pickled, on its way to another process, is the plain response or exception."""
    governor = govern()
    await governor.consent.opt_out(ADA)
    response = RefusedResponse(await governor.check(ADA, channel="email"))
    copy = pickle.loads(pickle.dumps(response))
    assert (aiosmtplib.SMTPResponse, response) == (type(copy), copy)
    error = RefusedRecipient(response, ADA)
    copied = pickle.loads(pickle.dumps(error))
    assert (aiosmtplib.SMTPRecipientRefused, error.args) == (type(copied), copied.args)


# What becomes of the slots


@in_a_loop
async def test_a_recipient_whom_the_server_refuses_gets_the_slot_back():
    """The server's own refusal is passed on as it is; that slot is free again, the others are used."""
    governor = govern(DAILY)
    await governor.consent.opt_out(CLEO)
    with MailServer(gone=[ADA]) as server:
        refused = await send(server, governor, mail(to=f"{ADA}, {BOB}, {CLEO}"))
    assert ((550, "5.1.1 no such mailbox"), [ADA, CLEO]) == (refused[ADA], sorted(refused))
    assert [[], ["confirmed"], []] == await states(governor, ADA, BOB, CLEO)


@in_a_loop
async def test_nobody_left_names_everybody():
    """When the server refuses all whom fairtouch allowed, the exception lists both kinds, and the slots are free."""
    governor = govern(DAILY)
    await governor.consent.opt_out(CLEO)
    with MailServer(gone=[ADA, BOB]) as server:
        error = await failure(server, governor, mail(to=f"{ADA}, {BOB}, {CLEO}"))
    assert isinstance(error, aiosmtplib.SMTPRecipientsRefused)
    assert {CLEO: True, ADA: False, BOB: False} == {one.recipient: hasattr(one, "decision") for one in error.recipients}
    assert [[], []] == await states(governor, ADA, BOB)


@pytest.mark.parametrize(
    ("unwilling", "error"),
    [
        (RefusesSender, aiosmtplib.SMTPSenderRefused),
        (RefusesData, aiosmtplib.SMTPDataError),
        (Asleep, aiosmtplib.SMTPServerDisconnected),
        (partial(MailServer, gone=[ADA, BOB]), aiosmtplib.SMTPRecipientsRefused),
    ],
)
@in_a_loop
async def test_a_hundred_failures_burn_no_slot(unwilling, error):
    """Sends that certainly failed leave nothing behind: the history is empty, and the cap still admits one, no more."""
    governor, message = govern(DAILY), mail(to=f"{ADA}, {BOB}")
    with unwilling() as server:
        raised = {type(await failure(server, governor, message)) for _ in range(100)}
    assert ({error}, [[], []]) == (raised, await states(governor, ADA, BOB))
    with MailServer() as willing:
        await send(willing, governor, message)
        refused = await failure(willing, governor, mail(to=f"{ADA}, {BOB}", key="<2@shop.example>"))
    assert ({ADA: 450, BOB: 450}, [(ADA, BOB)]) == (codes(refused), reached(willing))


@pytest.mark.parametrize("unsure", [Stalls, HangsUpAfterData, HangsUpInData, Mumbles, Babbles, RamblesOn])
@in_a_loop
async def test_what_may_have_gone_out_keeps_its_slots(unsure):
    """Time-outs, lost connections and unreadable answers say nothing: the slots stay, and nobody is sent to twice."""
    governor, message = govern(), mail(to=ADA, bcc=BOB)
    with unsure() as server:
        error = await failure(server, governor, message, patience=0.25 if unsure is Stalls else 30)
    assert not isinstance(error, aiosmtplib.SMTPRecipientsRefused)
    assert [["reserved"], ["reserved"]] == await states(governor, ADA, BOB)
    with MailServer() as willing:
        refused = await failure(willing, governor, message)
    assert ([450, 450], []) == (list(codes(refused).values()), willing.mails)
    assert ["in_flight"] == [reason.code for reason in refused.recipients[0].decision.reasons]


@in_a_loop
async def test_a_connection_that_is_known_to_be_gone_takes_no_slot():
    """Never connected, or closed by the server while it waited: nothing is sent, and the slots are free."""
    governor = govern(DAILY)
    with MailServer() as server:
        smtp = AsyncGovernedSMTP(client_of(server), governor)
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await smtp.send_message(mail())
        await smtp.connect()
    while smtp.is_connected:
        await turns(1)
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await smtp.send_message(mail())
    assert [[]] == await states(governor, ADA)


class ConnectsItself:
    """An app's own sender, which connects for each message."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    async def send_message(self, message: Any, *, sender: str | None = None, recipients: Any = None) -> Any:
        """As aiosmtplib's quickest way."""
        return await aiosmtplib.send(message, sender=sender, recipients=recipients, **self.options)


def options_for(server: MailServer) -> dict[str, Any]:
    """How to reach a server, with little patience."""
    return {"hostname": server.host, "port": server.port, "timeout": 0.25}


@contextmanager
def stopped() -> Iterator[MailServer]:
    """A server that is no longer there."""
    with MailServer() as server:
        pass
    yield server


@pytest.mark.parametrize("closed", [Silent, HangsUpAtOnce, TurnsAway, stopped])
@in_a_loop
async def test_where_no_connection_comes_about_no_slot_is_taken(closed):
    """Whatever keeps a connection from coming about: nothing went out, in a wrapped send and in a touch."""
    governor, slots = govern(DAILY), []
    with closed() as server:
        sender = ConnectsItself(**options_for(server))
        with pytest.raises(aiosmtplib.SMTPConnectError):
            await AsyncGovernedSMTP(sender, governor).send_message(mail())
        slots += await states(governor, ADA)
        with pytest.raises(aiosmtplib.SMTPConnectError):
            async with governor.touch(ADA, channel="email"):
                await sender.send_message(mail())
        slots += await states(governor, ADA)
    assert [[], []] == slots


@pytest.mark.parametrize("lost", [HangsUpAfterData, Stalls])
@pytest.mark.parametrize("closed", [Silent, HangsUpAtOnce, TurnsAway, stopped])
@in_a_loop
async def test_a_failed_second_attempt_says_nothing_about_the_first(lost, closed):
    """A sender that connects again after a send went wrong, in vain: what may have gone out keeps its slot."""

    class TriesTwice:
        async def send_message(self, message: Any, **to: Any) -> Any:
            try:
                return await ConnectsItself(**options_for(first)).send_message(message, **to)
            except aiosmtplib.SMTPException:
                return await ConnectsItself(**options_for(second)).send_message(message, **to)

    governor = govern(DAILY)
    with lost() as first, closed() as second:
        with pytest.raises(aiosmtplib.SMTPConnectError):
            await AsyncGovernedSMTP(TriesTwice(), governor).send_message(mail())
        assert (1, [["reserved"]]) == (len(first.mails), await states(governor, ADA))


@in_a_loop
async def test_a_second_attempt_without_a_connection_says_nothing_about_the_first():
    """The same where the second attempt meets a client that is not connected."""

    class TriesTwice:
        async def send_message(self, message: Any, **to: Any) -> Any:
            try:
                return await ConnectsItself(**options_for(server)).send_message(message, **to)
            except aiosmtplib.SMTPException:
                return await aiosmtplib.SMTP().send_message(message, **to)

    governor = govern(DAILY)
    with HangsUpAfterData() as server:
        with pytest.raises(aiosmtplib.SMTPServerDisconnected, match="Server not connected"):
            await AsyncGovernedSMTP(TriesTwice(), governor).send_message(mail())
        assert (1, [["reserved"]]) == (len(server.mails), await states(governor, ADA))


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (asyncio.CancelledError(), [["reserved"]]),
        (TimeoutError(), [["reserved"]]),
        (ConnectionRefusedError(), [[]]),
        (ValueError("a header with a line break"), [[]]),
    ],
)
@in_a_loop
async def test_other_exceptions_are_judged_by_what_they_say(error, left):
    """Cancellation and time-outs keep the slot, what fails before the wire gives it back, and all are raised on."""

    class Raises:
        async def send_message(self, *_: Any, **__: Any) -> None:
            raise error

    governor = govern()
    with pytest.raises(type(error)) as caught:
        await AsyncGovernedSMTP(Raises(), governor).send_message(mail())
    assert (error, left) == (caught.value, await states(governor, ADA))


@in_a_loop
async def test_a_sender_that_refuses_everybody_without_raising_is_an_exception():
    """aiosmtplib's convention holds for an app's own object as well: nobody left is an exception."""

    class Politely:
        async def send_message(self, *_: Any, **__: Any) -> dict[str, tuple[int, str]]:
            return {ADA: (550, "no")}

    governor = govern()
    with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as caught:
        await AsyncGovernedSMTP(Politely(), governor).send_message(mail())
    assert ({ADA: 550}, []) == (codes(caught.value), await governor.history(ADA))


@in_a_loop
async def test_the_same_message_reaches_nobody_twice():
    """A repeated Message-ID goes only to those whom it has not reached."""
    governor, message = govern(), mail(to=f"{ADA}, {BOB}")
    with MailServer(gone=[BOB]) as server:
        await send(server, governor, message)
        server.gone = frozenset()
        refused = await send(server, governor, message)
        last = await failure(server, governor, message)
    assert [(ADA,), (BOB,)] == reached(server)
    assert ({ADA: 550}, {ADA: 550, BOB: 550}) == (codes(refused), codes(last))


# Cancellation


async def sent_until(governor: AsyncGovernor, sender: Vandal, turn: int, *, again: int | None = None) -> bool:
    """Sends in a task that is cancelled after so many turns, and once more after `again`; whether that was in time."""
    task = asyncio.create_task(AsyncGovernedSMTP(sender, governor).send_message(mail(to=ADA, bcc=BOB)))
    await turns(turn)
    was_in_time = task.cancel()
    if again is not None:
        await turns(again)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is was_in_time
    return was_in_time


@pytest.mark.parametrize("again", [None, 1, 4])
@in_a_loop
async def test_a_cancellation_at_any_turn_leaves_slots_that_add_up(again):
    """Before the send nothing is left; during it the slots stay taken; once it is over all of them are settled."""
    seen, turn, was_in_time = Counter[str](), 0, True
    while was_in_time:
        governor, sender = govern(DAILY, store=Distant()), Vandal()
        was_in_time = await sent_until(governor, sender, turn, again=again)
        (ada, bob), is_out = await states(governor, ADA, BOB), bool(sender.sent)
        assert ada == bob
        assert (ada, is_out) in [([], False), (["reserved"], False), (["reserved"], True), (["confirmed"], True)]
        seen[f"{''.join(map(str, ada))}, {'out' if is_out else 'not out'}"] += was_in_time
        turn += 1
    assert {", not out", "reserved, not out", "reserved, out", "confirmed, out"} == set(seen)
    assert min(seen.values()) >= 1


class Failing(Vandal):
    """A sender that certainly sends nothing, and says so after a while."""

    has_failed = False

    async def send_message(self, message: Any, **_: Any) -> None:
        """Fails."""
        await turns(2)
        self.has_failed = True
        raise ValueError("a header with a line break")


@pytest.mark.parametrize("again", [None, 1, 4])
@in_a_loop
async def test_a_cancellation_keeps_no_slot_of_a_send_that_failed(again):
    """Once the send has failed for certain, all slots are given back, whoever cancels meanwhile."""
    seen, turn, was_in_time = set(), 0, True
    while was_in_time:
        governor, sender = govern(DAILY, store=Distant()), Failing()
        was_in_time = await sent_until(governor, sender, turn, again=again)
        ada, bob = await states(governor, ADA, BOB)
        assert ada == bob
        seen.add((*ada, sender.has_failed, was_in_time))
        turn += 1
    assert {(False, True), ("reserved", False, True), (True, True), (True, False)} == seen


def test_a_loop_that_ends_leaves_slots_that_add_up():
    """`asyncio.run` cancels whatever runs when its coroutine returns, the settling too: it comes to its end even so."""
    seen, turn = set(), 0
    while ("confirmed", True, False) not in seen:
        governor, sender, tasks = govern(DAILY, store=Distant()), Vandal(), []

        async def main(
            governor: AsyncGovernor = governor, sender: Vandal = sender, tasks: list[Any] = tasks, turn: int = turn
        ) -> None:
            tasks.append(asyncio.create_task(AsyncGovernedSMTP(sender, governor).send_message(mail(to=ADA, bcc=BOB))))
            await turns(turn)

        asyncio.run(main())
        ada, bob = asyncio.run(states(governor, ADA, BOB))
        assert ada == bob
        seen.add(("".join(map(str, ada)), bool(sender.sent), tasks[0].cancelled()))
        turn += 1
    assert seen == {
        ("", False, True),
        ("reserved", False, True),
        ("reserved", True, True),
        ("confirmed", True, True),
        ("confirmed", True, False),
    }


@in_a_loop
async def test_a_cancellation_while_the_server_thinks_keeps_the_slots():
    """The server has the message and its answer is on its way: a time-out around the send keeps the slots."""
    governor = govern()
    with Stalls() as server:
        client = client_of(server)
        async with AsyncGovernedSMTP(client, governor) as smtp:
            task = asyncio.create_task(smtp.send_message(mail(to=ADA, bcc=BOB)))
            while not server.mails:
                await turns(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            client.close()
            await turns(2)
    assert [["reserved"], ["reserved"]] == await states(governor, ADA, BOB)


# Many tasks


@in_a_loop
async def test_many_tasks_share_a_client_and_a_governor(server, tmp_path):
    """Forty tasks on one connection: as many messages reach each person as the cap says, and all are settled."""
    people = [f"reader-{number}@example.com" for number in range(5)]
    rules = {"caps": {"daily": {"limit": "3 per calendar day"}}}

    async def one(smtp: AsyncGovernedSMTP, number: int) -> None:
        with suppress(aiosmtplib.SMTPRecipientsRefused):
            await smtp.send_message(mail(to=", ".join(people), key=f"<{number}@shop.example>"))

    async with govern(rules, store=f"sqlite:///{tmp_path}/touches.db") as governor:
        async with AsyncGovernedSMTP(client_of(server), governor) as smtp:
            await asyncio.gather(*(one(smtp, number) for number in range(40)))
        assert [["confirmed"] * 3] * 5 == await states(governor, *people)
    assert dict.fromkeys(people, 3) == Counter(address for received in server.mails for address in received.recipients)


@pytest.mark.parametrize("seed", range(12))
@in_a_loop
async def test_a_task_that_is_cancelled_on_a_shared_client_confuses_no_slot(seed):
    """A cancelled send leaves the connection in the middle of a conversation. Whatever the others then meet there:
    what the server accepted holds its slot, and what is confirmed was accepted.
    """
    choose, governor = random.Random(seed), govern()
    people = [f"reader-{number}@example.com" for number in range(12)]
    with MailServer() as server:
        async with AsyncGovernedSMTP(client_of(server, timeout=0.25), governor) as smtp:

            def sending(number: int) -> Any:
                message = mail(to=people[number], bcc=f"bcc-{people[number]}", key=f"<{number}@shop.example>")
                return asyncio.create_task(smtp.send_message(message))

            tasks = [sending(number) for number in range(12)]
            for task in choose.sample(tasks, 4):
                for _ in range(choose.randrange(60)):
                    await asyncio.sleep(choose.choice([0, 0, 0.0005]))
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            smtp.close()
            await turns(2)
    out = Counter(address for received in server.mails for address in received.recipients)
    for person in [*people, *(f"bcc-{one}" for one in people)]:
        (history,) = await states(governor, person)
        assert (out[person], history) in [(0, []), (0, ["reserved"]), (1, ["reserved"]), (1, ["confirmed"])], ends


# When the store fails


@in_a_loop
async def test_a_store_that_fails_after_the_send_makes_nobody_send_again(server, caplog):
    """The message is out, so nothing is raised: the others are confirmed, one slot stays taken, and the log says so."""
    governor, message = govern(store=AsyncMemoryStore(Flaky(confirm=[2]))), mail(to=f"{ADA}, {BOB}, {CLEO}")
    with caplog.at_level(logging.ERROR, "fairtouch"):
        refused = await send(server, governor, message)
    assert ({}, [(ADA, BOB, CLEO)]) == (refused, reached(server))
    assert [["confirmed"], ["reserved"], ["confirmed"]] == await states(governor, ADA, BOB, CLEO)
    assert ["1 touches could not be settled (StoreUnavailable)"] == [text.partition(";")[0] for text in caplog.messages]
    assert {ADA: 550, BOB: 450, CLEO: 550} == codes(await failure(server, governor, message))


@in_a_loop
async def test_a_store_that_fails_after_a_failed_send_hides_nothing(caplog):
    """The server's error is raised, not the store's; every other slot is given back."""
    governor = govern(store=AsyncMemoryStore(Flaky(release=[1])))
    with RefusesData() as server, caplog.at_level(logging.ERROR, "fairtouch"):
        error = await failure(server, governor, mail(to=f"{ADA}, {BOB}"))
    assert aiosmtplib.SMTPDataError is type(error)
    assert ([["reserved"], []], 1) == (await states(governor, ADA, BOB), len(caplog.messages))


@in_a_loop
async def test_a_store_that_does_not_answer_sends_nothing(server):
    """Without an answer nobody is contacted, and the failure is no refusal."""
    with pytest.raises(StoreUnavailable):
        await send(server, govern(store=AsyncMemoryStore(Flaky(decide=range(100)))), mail())
    assert [] == server.mails


@in_a_loop
async def test_what_the_policy_lets_out_unverified_is_recorded(server):
    """A category that the policy lets out goes even so, and the ledger knows of it once the store answers again."""
    governor = govern({"fail_open": ["transactional"]}, store=AsyncMemoryStore(Flaky(decide=[1])))
    await send(server, governor, mail(), partial(email_touch, category="transactional"))
    assert ([(ADA,)], [["confirmed"]]) == (reached(server), await states(governor, ADA))


@in_a_loop
async def test_an_error_while_reserving_gives_everything_back(server):
    """One touch of many that cannot be judged: nothing is sent, and the slots of every batch before it are free."""
    governor = govern()
    addresses = [f"reader-{number}@example.com" for number in range(700)]
    await governor.record(addresses[-1], NOON, channel="sms", id="news-1")

    def to_touch(_: Any, address: str) -> Touch:
        return Touch(address, channel="email", id="news-1")

    with pytest.raises(IdConflict):
        await send(server, governor, mail(to=", ".join(addresses)), to_touch)
    assert ([], []) == (server.mails, [state for state in await states(governor, *addresses[:-1]) if state])


# Without aiosmtplib

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "aiosmtplib":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
try:
    import fairtouch.integrations.smtp_async
except ImportError as error:
    print(error)
"""


def test_a_missing_host_is_named():
    """Who has no aiosmtplib learns what to install."""
    done = subprocess.run([sys.executable, "-I", "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "there is no aiosmtplib to wrap: pip install 'fairtouch[aiosmtplib]'" == done.stdout.strip()
