"""What of a message a sender gets: a copy that is its own, and the addresses that its host would read."""

import random
import re
from collections.abc import Callable
from copy import copy, deepcopy
from email import message_from_bytes, policy
from email.charset import Charset
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import BytesHeaderParser, HeaderParser
from email.utils import getaddresses, parseaddr
from typing import Any, Self

import pytest

from fairtouch.integrations.envelopes import distinct, header_addresses, headers_only, without_bcc
from tests.mails import ADA, BOB, mail, nested


def attached() -> EmailMessage:
    """Text and HTML with a picture, an attachment and a forwarded message."""
    message: EmailMessage = mail(to=f"Ada <{ADA}>", bcc=BOB)
    message.add_alternative("<b>Hello!</b>", subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG" * 50, "image", "png", cid="<logo>")
    message.add_attachment(bytes(range(256)) * 100, maintype="application", subtype="pdf", filename="läßt.pdf")
    message.add_attachment(mail(to="dan@example.net", bcc="eve@example.net"))
    return message


def forwarded() -> MIMEMultipart:
    """A legacy message with headers of their own kind, a character set, and what stands around its parts."""
    message = MIMEMultipart("related")
    message["Subject"] = Header("Grüße", "utf-8")
    message["To"], message["Bcc"] = ADA, Header(BOB)
    message.attach(MIMEText("Schöne Grüße", _charset="iso-8859-1"))
    message.attach(nested())
    message.preamble, message.epilogue = "before", "after"
    return message


def raw() -> Message:
    """A message as it came from elsewhere, with bytes that nobody declared and a defect."""
    text = (
        b"From: a@example.com\r\nTo: b@example.com\r\nBcc: c@example.com\r\nX: \xe4\r\nContent-Type: multipart/mixed; "
    )
    return message_from_bytes(text + b"boundary=b\r\n\r\n--b\r\n\r\n\xf6\r\n", policy=policy.compat32)


class Labelled(EmailMessage):
    """An app's own class, with something of its own that can be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = ["spring"]


def labelled() -> Labelled:
    """A message of the app's own class."""
    message = Labelled()
    message["To"], message["Bcc"] = ADA, BOB
    message.set_content("Hello!")
    return message


KINDS = [mail, nested, attached, forwarded, raw, labelled]
every_kind = pytest.mark.parametrize("make", KINDS)


def state(message: Any) -> Any:
    """Everything that a message holds, without writing it out."""
    if isinstance(message, Message):
        return type(message), {name: state(value) for name, value in vars(message).items()}
    if isinstance(message, list | tuple):
        return [state(each) for each in message]
    if isinstance(message, Header):
        return message.encode(), list(message._chunks)  # type: ignore[attr-defined]
    if isinstance(message, Charset):
        return dict(vars(message))
    if isinstance(message, policy.Policy):
        return repr(message)
    return (str(message), type(message)) if isinstance(message, Exception) else message


def spoil(message: Message) -> None:
    """Changes all that can be changed."""
    for part in list(message.walk()):
        for name, value in list(part.items()):
            if isinstance(value, Header):
                value.append("spoiled")
            part.replace_header(name, "spoiled")
        for header in part._headers:  # type: ignore[attr-defined]
            if isinstance(header[1], Header):
                header[1].append("spoiled")
        part["X-Mailer"] = "spoiled"
        part.defects.append(ValueError())
        part.preamble = part.epilogue = "spoiled"
        if isinstance(part._charset, Charset):  # type: ignore[attr-defined]
            part._charset.body_encoding = None  # type: ignore[attr-defined]
        if isinstance(part.get_payload(), list):
            part._payload.append(Message())  # type: ignore[attr-defined]
        else:
            part.set_payload("spoiled")
        if isinstance(part, Labelled):
            part.labels.append("spoiled")


@every_kind
def test_a_copy_is_the_message_without_bcc(make: Callable[[], Message]) -> None:
    """Written out, the copy is what the message is, every byte of it, but for Bcc at the top."""
    message, outgoing = make(), without_bcc(make())
    del message["Bcc"]
    random.seed(1)  # boundaries of parts are random when a message is first written out
    expected = message.as_bytes()
    random.seed(1)
    assert expected == outgoing.as_bytes()
    assert outgoing["Bcc"] is None
    assert type(message) is type(outgoing)


@every_kind
def test_the_message_feels_nothing_of_what_befalls_its_copy(make: Callable[[], Message]) -> None:
    """Written out in every way, or spoiled on purpose: the caller's object stays as it is, attribute by attribute."""
    message = make()
    before = state(deepcopy(message))
    modern = (policy.SMTP, policy.SMTPUTF8, policy.SMTP.clone(cte_type="7bit"))
    for way in (policy.compat32, *(modern if isinstance(message, EmailMessage) else ())):
        without_bcc(message).as_bytes(policy=way)
    assert before == state(message)
    spoil(without_bcc(message))
    assert before == state(message)


@every_kind
def test_what_spoils_a_copy_would_be_noticed(make: Callable[[], Message]) -> None:
    """A copy that shares its parts is seen by the test above."""
    message = make()
    before = state(deepcopy(message))
    spoil(copy(message))
    assert before != state(message)


def test_an_apps_own_way_of_copying_is_used() -> None:
    """A class that says how it is copied knows better."""

    class Counted(EmailMessage):
        copies = 0

        def __deepcopy__(self, memo: Any) -> Self:
            type(self).copies += 1
            return type(self)()

    without_bcc(Counted())
    assert 1 == Counted.copies


def test_texts_are_shared_however_long() -> None:
    """An attachment of megabytes is not copied."""
    message = mail()
    message.add_attachment(bytes(5_000_000), maintype="application", subtype="octet-stream")
    theirs, ours = ([part._payload for part in each.iter_parts()] for each in (message, without_bcc(message)))
    assert all(one is other for one, other in zip(theirs, ours, strict=True))


# Reading


def spelled(choose: random.Random) -> str:
    """A list of addresses, some of them odd."""
    texts = []
    for _ in range(choose.randint(1, 3)):
        address = "".join(choose.choice('ab.+-_@1Zü"(),<>: ') for _ in range(choose.randint(0, 4)))
        address = choose.choice(
            [f"a{address}@b.example", f"{address}@{address}", f"ada.{choose.randint(1, 9)}@b-1.example"]
        )
        name = "".join(choose.choice('ab -_1."ü(') for _ in range(choose.randint(0, 4)))
        texts.append(choose.choice([address, f"{name}<{address}>", f"Ada {name} <{address}>"]))
    return choose.choice([", ", ",", ",  "]).join(texts)


def test_addresses_are_read_as_the_email_package_reads_them() -> None:
    """Whatever stands in To, Cc and Bcc: the quick way reads what the slow one does, and both are taken."""
    choose, plain, lost = random.Random(1), 0, 0
    for _ in range(5_000):
        message = Message()
        fields = [spelled(choose) for _ in range(choose.randint(1, 2))]
        for name, field in zip(("To", "Cc"), fields, strict=False):
            message[name] = field
        expected = [address for _, address in getaddresses(fields) if address]
        read = header_addresses(message, "To", "Cc")
        assert read in (expected, [*expected, ""]), fields
        lost += read != expected
        plain += bool(re.fullmatch(r"[\w.@<> ,-]+", "".join(fields)))
        known, unusable = distinct(expected)
        assert set(known) | set(unusable) <= set(expected)
        assert {one: parseaddr(one)[1] or one for one in known} == known
    assert 500 < plain < 4_500
    assert 50 < lost < 4_500


@pytest.mark.parametrize("kind", [str, bytes])
def test_headers_end_where_the_email_package_ends_them(kind: type) -> None:
    """At the first empty line, however lines end, and nothing behind it is looked at."""
    choose, pieces = random.Random(1), ["a: b", "\r\n", "\n", "\r", " c", "x", "Message-ID: <1>", ":", ""]
    for _ in range(2_000):
        text = "".join(choose.choice(pieces) for _ in range(choose.randint(1, 10)))
        if kind is str:
            assert HeaderParser(policy=policy.default).parsestr(text).items() == headers_only(text).items()
        else:
            raw = text.encode()
            assert BytesHeaderParser(policy=policy.default).parsebytes(raw).items() == headers_only(raw).items()
    body = headers_only("Subject: x\n\n" + "y" * 1_000).get_payload()
    assert "" == body
