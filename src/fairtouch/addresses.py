"""One rule of normalisation: which spellings are the same contact point.

A store keeps a digest of the normal form, so two hosts that read one spelling differently would lose an opt-out.
Rule 1: nothing here depends on an extra that one host has and another has not, nor on tables that come with one and
change by the month, as those of telephone numbers do. Rule 2: what could be read in two ways is a TouchError, never
a guess; `spellings` has the readings that an app may ask for. Rule 3: the normal form of a normal form is itself.

Every address: Unicode NFKC, no surrounding white space, and no character that this Python does not know yet: a later
one may know another spelling of it. With an "@": the domain in lower case and as A-labels (UTS #46, IDNA 2008), without
a final dot; the local part stays as it is, because RFC 5321 section 2.4 leaves its meaning to the receiving host: case,
dots and plus are significant. On `sms`, `voice` and `whatsapp`: E.164. Device tokens and everything else: as they are.
"""

import contextlib
import ipaddress
import re
import unicodedata
from typing import Final

from fairtouch.bounds import ADDRESS_LENGTH_MAX, PATH_OCTETS_MAX
from fairtouch.errors import TouchError
from fairtouch.touch import check_text

_NUMBERED_CHANNELS: Final = frozenset({"sms", "voice", "whatsapp"})

# The common way: a normal form already, so short that no label and no path is too long. A label may hold more than
# RFC 1123 allows: mail is delivered to "_" as well.
_NORMAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++@[a-z0-9_-]++(?:\.[a-z0-9_-]++)*+")
_NORMAL_LENGTH_MAX: Final = 63
_HOSTNAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")

_LOOKS_LIKE_MAIL: Final = re.compile(r"[^\s@:]+@[^\s@:/]+")  # on channels where an "@" may also be a handle's
_NAME: Final = re.compile(r'[^\x00-\x20"(),:;<>@\[\\\]\x7f]+')  # RFC 5322 section 3.2.3, RFC 6531; dots anywhere
_QUOTED: Final = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])+"')  # RFC 5321 section 4.1.2

# ITU-T E.164: at most 15 digits. The shortest that anybody can dial from abroad has 7 (+683 4000).
# Behind these country codes a 0 is the trunk prefix, which is dialled at home only: "+44 (0)20" and "+44 20" are one
# number. Behind all others it belongs to the number (+39 06, +225 07). In North America neither 0 nor 1 begins one.
_TRUNK_ZERO: Final = (
    "20|27|31|32|33|36|40|41|43|44|46|49|51|53|54|55|57|58|60|61|62|63|64|66|81|82|84|86|90|91|92|93|94|95|98|211|212|213|"
    "218|231|232|233|234|241|243|249|250|251|252|254|255|256|260|261|262|263|264|265|291|353|355|358|359|370|373|374|377|380|"
    "381|382|383|385|386|387|389|421|423|508|590|591|593|594|595|596|598|686|850|855|856|880|886|961|962|963|964|966|967|970|"
    "971|972|976|977|994|995|996"
)
_E164: Final = re.compile(rf"\+(?:(?![0-9]{{2,3}}0|1[01])|(?!1[01]|(?:{_TRUNK_ZERO})0))[1-9][0-9]{{6,14}}")
_PREFIXES: Final = {"sms": ("tel:",), "voice": ("tel:",), "whatsapp": ("whatsapp:", "tel:")}  # Twilio's; RFC 3966
# What people and address books write between digits: blanks, brackets, dots, slashes, dashes of every length, and the
# invisible marks that come along when a number is copied from a page or a telephone.
_PUNCTUATION: Final = str.maketrans(
    "",
    "",
    " \t()[]./-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u00ad\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff",
)


def normalize(address: str, channel: str) -> str:
    """The one spelling of `address` on `channel`.

    Raises TouchError when it is empty or too long, an e-mail address that is not a bare one, or no number with its
    country code where a number is meant.
    """
    check_text("address", address, ADDRESS_LENGTH_MAX)
    is_numbered = channel in _NUMBERED_CHANNELS
    if "@" in address:
        if len(address) <= _NORMAL_LENGTH_MAX and _NORMAL.fullmatch(address):
            return address
    elif is_numbered and _E164.fullmatch(address):
        return address
    text = _composed(address)
    if "@" in text and (is_numbered or channel == "email" or _LOOKS_LIKE_MAIL.fullmatch(text)):
        return _mailbox(text)
    return _number(text, channel) if is_numbered else text


def _composed(address: str) -> str:
    """NFKC. A text of characters that are assigned keeps its NFKC in every later version of Unicode (UAX #15)."""
    if address.isascii():
        return address.strip()
    if any(unicodedata.category(character) == "Cn" for character in address):
        raise TouchError(
            f"address has a character that Unicode {unicodedata.unidata_version} does not know; "
            "remove it, or use a newer Python on every host (nothing was recorded)"
        )
    text = unicodedata.normalize("NFKC", address).strip()
    check_text("address", text, ADDRESS_LENGTH_MAX)
    return text


# E-mail


def _mailbox(text: str) -> str:
    local, _, domain = text.rpartition("@")
    normal = f"{_local_part(local)}@{_literal(domain) if domain.startswith('[') else _host(domain)}"
    octets = len(normal.encode())
    if octets > PATH_OCTETS_MAX:
        raise TouchError(
            f"address has {octets} octets, {PATH_OCTETS_MAX} are allowed (RFC 5321 section 4.5.3.1.3); "
            "nothing was recorded"
        )
    return normal


def _local_part(local: str) -> str:
    """As it is, or without quotes that it does not need: RFC 5321 section 4.1.2 calls those spellings equal."""
    name = re.sub(r"\\(.)", r"\1", local[1:-1]) if _QUOTED.fullmatch(local) else local
    if not name.isascii() and any(unicodedata.category(one)[0] in "CZ" for one in name if one != " "):
        raise TouchError(
            "address has an invisible character before the @; remove it, it may have been pasted along "
            "(nothing was recorded)"
        )
    if _NAME.fullmatch(name):
        return name
    if name is local:
        raise TouchError(
            "address is not a bare e-mail address, name@domain: leave out blanks, brackets, comments and display "
            'names, or let fairtouch.spellings.to_email read it (pip install "fairtouch[email]"); '
            "nothing was recorded"
        )
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{escaped}"'


def _host(domain: str) -> str:
    """The host in lower case and A-labels, as UTS #46 maps it (ß and final sigma are kept) and RFC 5891 admits it."""
    ascii_domain = domain if domain.isascii() else _a_labels(domain)
    host = ascii_domain.removesuffix(".").lower()
    if not _HOSTNAME.fullmatch(host):
        raise TouchError(
            "address has a domain that is no valid host name (RFC 5890); where the host is known by its xn-- form, "
            "pass that (nothing was recorded)"
        )
    return host


def _a_labels(domain: str) -> str:
    """Empty when there are none. The error of idna would quote the domain."""
    import idna

    try:
        labels = idna.uts46_remap(domain, std3_rules=False).split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError:
        return ""


def _literal(domain: str) -> str:
    """An IP address in brackets (RFC 5321 section 4.1.3). One of version 6 is written out in full, because Python's
    short forms depend on its version.
    """
    if found := re.fullmatch(r"\[(IPv6:)?([0-9A-Fa-f:.]+)\]", domain, re.IGNORECASE):
        with contextlib.suppress(ValueError):
            if not found[1]:
                return f"[{ipaddress.IPv4Address(found[2])}]"
            return f"[IPv6:{ipaddress.IPv6Address(found[2]).packed.hex(':', 2)}]"
    raise TouchError("address has brackets without a valid IP address after the @; nothing was recorded")


# Numbers


def undecorated(number: str) -> str:
    """A number without what people write between its digits, and with those as ASCII."""
    digits = number.translate(_PUNCTUATION)
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(one, one)) for one in digits)


def _number(text: str, channel: str) -> str:
    for prefix in _PREFIXES[channel]:
        if text[: len(prefix)].lower() == prefix:
            text = text[len(prefix) :]
    digits = undecorated(text)
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    if not _E164.fullmatch(digits):
        raise TouchError(
            f"address is no telephone number with its country code, as channel {channel!r} needs it; write it as "
            "E.164 (+ and country code, no 0 between code and number, no extension), or let "
            'fairtouch.spellings.to_e164 read it (pip install "fairtouch[phone]"); nothing was recorded'
        )
    return digits
