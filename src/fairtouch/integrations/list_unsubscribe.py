"""The headers by which a mail program shows an unsubscribe button: List-Unsubscribe (RFC 2369) has the links, and
List-Unsubscribe-Post (RFC 8058) says that one click is enough.

Rule 1: a personal link goes to one person: a message that names several recipients gets none. Rule 2: the caller's
message is not touched. Rule 3: no line break and no encoding gets into a URL, however the message is written out.
"""

import re
from copy import deepcopy
from email.policy import EmailPolicy
from typing import Final
from urllib.parse import urlsplit

from fairtouch.bounds import LINK_OCTETS_MAX
from fairtouch.errors import TouchError
from fairtouch.integrations.envelopes import AnyMessage, distinct, header_addresses

POST: Final = "List-Unsubscribe=One-Click"
"""The value of List-Unsubscribe-Post, and the body that a mail program posts."""

# RFC 3986 without what ends or divides a URL in this header, or never leaves the browser: < > " , ; #
_URL: Final = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+=%-]+")


class UnfoldedLinks(str):
    """The value of List-Unsubscribe: a text that a message writes out with every URL in one piece.

    Python's newer messages (`email.policy.default`) would encode a word that is longer than a line, and no mail
    program reads a link through that. They ask a value that has a name how it is to be folded.
    """

    __slots__ = ()
    name: Final = "List-Unsubscribe"

    def fold(self, *, policy: EmailPolicy) -> str:
        """The whole header, a line for each URL."""
        return f"{self.name}: {self.replace(', ', f',{policy.linesep} ')}{policy.linesep}"


def unsubscribe_headers(url: str, *, mailto: str | None = None) -> dict[str, str]:
    """Both headers, for a host that takes a dict; add them as they are, not a `str()` of them.

    `url`: the personal https link, to which a mail program posts `List-Unsubscribe=One-Click`. `mailto`: a whole
    mailto: URL (RFC 6068) for programs that know no other, with the token in its subject. Raises TouchError for a URL
    that is none or would not stay whole.
    """
    links = [f"<{_checked(url, 'https')}>"]
    if mailto is not None:
        links.append(f"<{_checked(mailto, 'mailto')}>")
    return {"List-Unsubscribe": UnfoldedLinks(", ".join(links)), "List-Unsubscribe-Post": POST}


def with_unsubscribe(message: AnyMessage, url: str, *, mailto: str | None = None) -> AnyMessage:
    """A copy of the message with both headers, in place of those that it had.

    Raises TouchError when its To, Cc and Bcc name more than one address: each of them could unsubscribe the person
    whose link it is. Sign with DKIM afterwards, both headers included (RFC 8058 section 4).
    """
    headers = unsubscribe_headers(url, mailto=mailto)
    known, unusable = distinct(filter(None, header_addresses(message, "To", "Cc", "Bcc")))
    number = len(known) + len(unusable)
    if number > 1:
        raise TouchError(
            f"the message names {number} recipients, and a personal unsubscribe link may go to one only; make a "
            "message for each (nothing was recorded)"
        )
    copy = deepcopy(message)
    for name, value in headers.items():
        del copy[name]
        copy[name] = value
    return copy


def _checked(url: object, scheme: str) -> str:
    """The URL. The errors do not repeat it, since whoever has it can use it."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise TouchError(
            f"the {scheme} link of List-Unsubscribe must be a URL of ASCII characters without blanks, quotes, "
            'fragments, "<", ">", "," and ";"; percent-encode them (nothing was recorded)'
        )
    if len(url) > LINK_OCTETS_MAX:
        raise TouchError(
            f"the {scheme} link of List-Unsubscribe has {len(url)} octets, {LINK_OCTETS_MAX} are allowed, because a "
            "header's line must not break within a URL (nothing was recorded)"
        )
    if not _is_link(url, scheme):
        raise TouchError(
            f"the {scheme} link of List-Unsubscribe must begin with {scheme}: and name where it goes; one-click asks "
            "for https (RFC 8058 section 3.1; nothing was recorded)"
        )
    return url


def _is_link(url: str, scheme: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == scheme and bool(parts.hostname if scheme == "https" else "@" in parts.path)
    except ValueError:  # brackets that hold no address
        return False
