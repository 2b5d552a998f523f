"""What a Django message says: who it goes to, what touch it is to each, and the copy that goes out.

Rule 1: whoever is judged is whoever is written to: an address that two parsers read differently is an error. Rule 2:
the copy differs in its lists of recipients alone; To and Cc on the wire stay as the caller wrote them, and what the
message says to fairtouch does not go out. Rule 3: the copy is plain data, because some backends queue it.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy, deepcopy
from email.errors import MessageError
from email.headerregistry import AddressHeader
from email.utils import getaddresses
from functools import partial
from typing import Any, Final

from fairtouch.addresses import normalize
from fairtouch.errors import TouchError
from fairtouch.integrations.envelopes import distinct, touch_to
from fairtouch.touch import Touch

HEADER_PREFIX: Final = "x-fairtouch-"
# Nothing but an addr-spec of RFC 5322 section 3.4.1 in its common form, which can be read in one way; parsing takes as
# long as everything else that is done to a message. "=?" would be an encoded word to some.
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN: Final = re.compile(rf"(?!.*=\?){_ATOM}(\.{_ATOM})*@([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:.]+\])")
_LISTS: Final = ("to", "cc", "bcc")
FIELDS: Final = ("category", "topic", "campaign", "subject", "tags", "timezone", "country", "region", "priority")
_KIND: Final = frozenset({"category", "topic"})
_IN_HEADERS: Final = ("category", "topic", "campaign", "subject", "tags", "id", "customer")
_IN_ATTRIBUTE: Final = (*FIELDS, "id", "customer", "customers")
_CONNECTIONS: Final = ("connection", "_connection")  # the former until Django 6.0
_RESULTS: Final = ("fairtouch_status", "anymail_status")  # of an earlier send


def recipients(message: Any) -> dict[str, str]:
    """Each contact point of To, Cc and Bcc once, as {how it is written: the bare address}. Raises TouchError."""
    known, unusable = distinct(each for item in message.recipients() for each in _each(item))
    if unusable:
        raise _unreadable(len(unusable))
    return known


def _each(item: object) -> list[str]:
    """The recipients in an item of a list: the item itself when it is one, else their bare addresses."""
    text = str(item)
    if _PLAIN.fullmatch(text):
        return [text]
    bare = [address for _, address in getaddresses([text])]
    try:
        parsed = [mailbox.addr_spec for mailbox in AddressHeader.value_parser(text).all_mailboxes]
    except (MessageError, ValueError, IndexError):  # what Python's parser raises for what it did not expect
        parsed = []
    if parsed != bare or not all(bare):
        raise _unreadable(1)
    if len(bare) == 1:
        return [text]
    if not all("@" in address for address in bare):  # a name with a comma in it, rather
        raise _unreadable(1)
    return bare


def _unreadable(count: int) -> TouchError:
    return TouchError(
        f"{count} of the message's recipients in to, cc and bcc cannot be read as an e-mail address (RFC 5322); "
        "correct them or leave them out. Nothing was sent and nothing was recorded"
    )


def message_touch(
    message: Any, address: str, *, customer_of: Callable[[str], str | None] | None = None, **fields: Any
) -> Touch:
    """The touch that a message to one address is.

    What the message says of itself stands in the dict `message.fairtouch` (`category`, `topic`, `campaign`, `subject`,
    `tags`, `timezone`, `country`, `region`, `priority`, `id`, `customers` by address, or `customer`), or in headers
    such as X-Fairtouch-Topic. `fields` hold where it says nothing; a message that has a category or a topic takes
    neither from them. The customer is then what `customer_of` says, else
    the normalised address. The id is a digest of the message's `id`, else of its Message-ID header, and the address;
    with neither, every send is another touch, because Django makes a Message-ID anew each time. Raises TouchError.
    """
    said = {**_headers_said(message), **_attribute_said(message)}
    if said.keys() & _KIND:  # a newsletter is not transactional because receipts are
        fields = {name: value for name, value in fields.items() if name not in _KIND}
    said = {**fields, **said}
    message_id = str(said.pop("id", None) or "".join(_header(message, "message-id").split()))
    customers = said.pop("customers", None) or {}
    normal = normalize(address, "email")
    named = {normalize(str(key), "email"): customer for key, customer in dict(customers).items()}
    customer = named.get(normal, said.pop("customer", None))
    if customer is None and customer_of is not None:
        customer = customer_of(normal)
    return touch_to(address, message_id, **said, **({} if customer is None else {"customer": customer}))


def _header(message: Any, name: str) -> str:
    return "".join(str(value) for key, value in message.extra_headers.items() if key.lower() == name)


def _headers_said(message: Any) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for key, value in message.extra_headers.items():
        if key.lower().startswith(HEADER_PREFIX):
            name = key.lower().removeprefix(HEADER_PREFIX)
            _check_name(f"the header {key}", name, _IN_HEADERS)
            said[name] = str(value)
    if "tags" in said:
        said["tags"] = tuple(tag.strip() for tag in said["tags"].split(",") if tag.strip())
    return said


def _attribute_said(message: Any) -> dict[str, Any]:
    said = getattr(message, "fairtouch", None) or {}
    if not isinstance(said, Mapping):
        raise TouchError(f"message.fairtouch must be a dict, not {type(said).__name__}; nothing was recorded")
    for name in said:
        _check_name(f"message.fairtouch[{str(name)[:40]!r}]", str(name), _IN_ATTRIBUTE)
    return dict(said)


def _check_name(place: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise TouchError(f"{place[:80]} says nothing to fairtouch; {hint} Nothing was recorded")


def only_to(message: Any, addresses: Iterable[str], *, keep_headers: bool = True) -> Any:
    """A copy of the message that goes to these of its recipients alone, as they are written in it.

    `keep_headers`: To and Cc go out as they are in the message; otherwise they name only who is left, which is what
    mail services want that write the headers themselves. The copy can be pickled when the message can.
    """
    return _narrowed(message, list(addresses), keep_headers=keep_headers)


def outgoing(message: Any, addresses: Iterable[str], *, keep_headers: bool) -> Any:
    """The same without what the message says to fairtouch."""
    narrowed = _narrowed(message, list(addresses), keep_headers=keep_headers)
    vars(narrowed).pop("fairtouch", None)
    headers = narrowed.extra_headers
    narrowed.extra_headers = {key: headers[key] for key in headers if not _stays_here(key.lower())}
    return narrowed


def _stays_here(name: str) -> bool:
    """Whether a header never goes out. Until Django 6.0 a Bcc among the headers would."""
    return name.startswith(HEADER_PREFIX) or name in ("bcc", "resent-bcc")


def _narrowed(message: Any, addresses: list[str], *, keep_headers: bool) -> Any:
    narrowed = _copy(message)
    remaining = list(addresses)
    for name in _LISTS:
        before = [str(item) for item in getattr(message, name) or ()]
        after = [each for item in before if item for each in _each(item) if _taken(remaining, each)]
        setattr(narrowed, name, after)
        header = name.capitalize()
        if keep_headers and name != "bcc" and before and after != before:
            narrowed.extra_headers.setdefault(header, ", ".join(before))
    if list(narrowed.recipients()) != addresses:  # a class of the app's own names more than its lists do
        narrowed.recipients = partial(list, addresses)
    return narrowed


def _taken(remaining: list[str], address: str) -> bool:
    if address not in remaining:
        return False
    remaining.remove(address)
    return True


def _copy(message: Any) -> Any:
    """A copy that a backend may change. What cannot be copied (an open file, say) is shared."""
    copied = copy(message)
    for name, value in vars(message).items():
        if name in _CONNECTIONS:
            vars(copied)[name] = None
        elif name in _RESULTS:
            del vars(copied)[name]
        else:
            vars(copied)[name] = _deep_copy(value)
    return copied


def _deep_copy(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001 - objects say in many ways that they cannot be copied
        return value
