"""One rule of normalisation: which spellings are the same contact point.

Every address: Unicode NFKC, no surrounding white space. With an "@" (e-mail): the domain in lower case and as IDNA
A-labels (RFC 5890), without a final dot; the local part stays as it is, because RFC 5321 section 2.4 leaves its
meaning to the receiving host: case, dots and plus are significant. On `sms`, `voice` and `whatsapp`: the blanks,
dots, dashes and brackets of a number are dropped, and a leading "00" is "+". Device tokens and everything else: as
they are.
"""

import unicodedata
from typing import Final

from fairtouch.bounds import ADDRESS_LENGTH_MAX
from fairtouch.errors import TouchError
from fairtouch.touch import check_text

_NUMBERED_CHANNELS: Final = frozenset({"sms", "voice", "whatsapp"})
_PUNCTUATION: Final = str.maketrans("", "", " \t\u00a0().-/")


def normalize(address: str, channel: str) -> str:
    """The one spelling of `address` on `channel`. Raises TouchError when it is empty, too long or has no valid
    domain.
    """
    check_text("address", address, ADDRESS_LENGTH_MAX)
    text = unicodedata.normalize("NFKC", address).strip()
    check_text("address", text, ADDRESS_LENGTH_MAX)
    if channel in _NUMBERED_CHANNELS:
        return _number(text)
    if "@" in text:
        return _email(text)
    return text


def _number(text: str) -> str:
    digits = text.translate(_PUNCTUATION)
    return "+" + digits[2:] if digits.startswith("00") else digits


def _email(text: str) -> str:
    local, _, domain = text.rpartition("@")
    domain = domain.removesuffix(".").lower()
    if not local or not domain:
        raise TouchError("address has an @ without a name before or a domain after it; nothing was recorded")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise TouchError(
                "address has a domain that is no valid host name (RFC 5890); nothing was recorded"
            ) from error
    return f"{local}@{domain}"
