"""Who an e-mail goes to, and what touch it is to each: addresses in headers, each contact point once, no Bcc.

Rule 1: headers are read as the host's own `send_message` reads them, so that nobody is added to or missing from an
envelope.
"""

import hashlib
import re
from collections.abc import Iterable
from copy import copy, deepcopy
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser, HeaderParser
from email.utils import getaddresses, parseaddr
from typing import Any, Final

from fairtouch.addresses import normalize
from fairtouch.errors import TouchError
from fairtouch.touch import Touch

AnyMessage = EmailMessage | Message
_PATH_LENGTH_MAX: Final = 254  # RFC 5321 section 4.5.3.1.3: 256 octets with the brackets
# How nearly every address and list of addresses is written; then a pattern reads what `email.utils` would, in a tenth
# of the time.
_ADDRESS: Final = r"[\w.+-]++@[\w.-]++"
_NAMED: Final = rf"(?:[\w -]*+<{_ADDRESS}>|{_ADDRESS})"
_BARE: Final = re.compile(_ADDRESS, re.ASCII)
_PLAIN: Final = re.compile(rf"{_NAMED}(?:, *+{_NAMED})*", re.ASCII)
_EMPTY_GROUP: Final = re.compile(r":\s*;")
_BLANK_LINE: Final = r"(?:\A|\r\n|\r(?!\n)|\n)(?:\r\n|\r(?!\n)|\n)"
_BLANK_IN_TEXT: Final = re.compile(_BLANK_LINE)
_BLANK_IN_BYTES: Final = re.compile(_BLANK_LINE.encode())


def header_addresses(message: AnyMessage, *names: str, repeated: bool = False) -> list[str]:
    """The addresses in these headers, from the Resent- ones when there is one such block (RFC 5322 section 3.6.6).

    `repeated`: of a header that is there several times each is read, as aiosmtplib does; smtplib reads the first.
    An empty text stands for what is no address. Raises ValueError when there are several blocks, because it cannot be
    known which is the latest.
    """
    blocks = message.get_all("Resent-Date") or []
    if len(blocks) > 1:
        raise ValueError("message has more than one 'Resent-' header block; pass its sender and its recipients")
    prefix = "Resent-" if blocks else ""
    found = [message.get_all(prefix + name, []) for name in names]
    fields = [str(field) for each in found for field in (each if repeated else each[:1])]
    if all(map(_PLAIN.fullmatch, fields)):
        return _BARE.findall(", ".join(fields))
    read = [address for _, address in getaddresses(fields) if address]
    return [*read, ""] if any(map(_names_what_is_no_address, fields)) else read


def _names_what_is_no_address(field: str) -> bool:
    """What `email.utils` cannot read is empty to it, and so are an empty group and nothing between two commas."""
    empty = sum(not address for _, address in getaddresses([field]))
    return empty > len(_EMPTY_GROUP.findall(field)) + sum(not part.strip() for part in field.split(","))


def listed(addresses: str | Iterable[str]) -> list[str]:
    """Addresses as smtplib takes them: one text is one address."""
    return [addresses] if isinstance(addresses, str) else list(addresses)


def distinct(addresses: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Each contact point once, as {its first spelling: the bare address in it}; then those that are no address.

    A spelling may have a display name, which smtplib leaves out of the envelope.
    """
    found: dict[str, tuple[str, str]] = {}
    unusable: list[str] = []
    for spelling in addresses:
        bare = spelling if _BARE.fullmatch(spelling) else parseaddr(spelling)[1] or spelling
        try:
            normal = normalize(bare, "email")
        except TouchError:
            normal = ""
        if 0 < len(normal) <= _PATH_LENGTH_MAX:
            found.setdefault(normal, (spelling, bare))
        else:
            unusable.append(spelling)
    return dict(found.values()), unusable


def without_bcc(message: AnyMessage) -> AnyMessage:
    """A copy that a sender may change: to write a multipart out, for one, sets the boundaries of its parts."""
    outgoing = _copied(message)
    del outgoing["Bcc"], outgoing["Resent-Bcc"]
    return outgoing


def _copied(message: AnyMessage) -> AnyMessage:
    """As `deepcopy`, but for what nobody can change: texts, headers that are texts with what was read in them, and
    policies. These take most of its time.
    """
    if hasattr(message, "__deepcopy__") or hasattr(message, "__copy__"):
        return deepcopy(message)  # an app's own class, which knows better
    outgoing = copy(message)
    for name, value in vars(message).items():
        if name == "_headers":
            vars(outgoing)[name] = [(key, field if isinstance(field, str) else deepcopy(field)) for key, field in value]
        elif name == "_payload" and isinstance(value, list):
            vars(outgoing)[name] = [_copied(part) if isinstance(part, Message) else deepcopy(part) for part in value]
        elif value and name != "policy" and not isinstance(value, str):
            vars(outgoing)[name] = deepcopy(value)
        elif value == []:
            vars(outgoing)[name] = []
    return outgoing


def headers_only(text: bytes | str) -> AnyMessage:
    """The headers of a message as it is written out; what follows them is not looked at, however long."""
    if isinstance(text, str):
        blank = _BLANK_IN_TEXT.search(text)
        return HeaderParser(policy=policy.default).parsestr(text[: blank.end()] if blank else text)
    blank_bytes = _BLANK_IN_BYTES.search(text)
    return BytesHeaderParser(policy=policy.default).parsebytes(text[: blank_bytes.end()] if blank_bytes else text)


def email_touch(message: AnyMessage, address: str, **fields: Any) -> Touch:
    """The touch that a message to one address is; `fields` add to what follows from the message, or replace it.

    The customer is the normalised address; an app that keeps consent under ids of its own passes `customer=`, or a
    `to_touch` that looks it up, else its opt-outs are not found. The id is a digest of Message-ID (RFC 5322 section
    3.6.4) and address: the same message sent again reaches nobody twice, and one customer may have two addresses.
    Without a Message-ID every send is another touch. What the message is about stands in no header:
    `functools.partial(email_touch, topic="newsletter")`, else it is marketing. Raises TouchError.
    """
    message_id = "".join(str(message["Message-ID"] or "").split())
    return touch_to(address, message_id, **fields)


def touch_to(address: str, message_id: str, **fields: Any) -> Touch:
    """The touch that the message of an id is to one address; an empty id: every send is another touch. Raises
    TouchError.
    """
    normal = normalize(address, "email")
    known = {"customer": normal, "channel": "email", "address": normal}
    if message_id:
        known["id"] = hashlib.sha256(f"{message_id}\0{normal}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Touch(**(known | fields))
