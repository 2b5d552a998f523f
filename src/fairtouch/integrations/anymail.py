"""Around django-anymail: a mail service's word about each recipient settles the slots, and what it tells later counts.

Rule 1: fairtouch's Django backend wraps one of anymail's; what it does differently then stands here. A service writes
To and Cc itself, so whoever is left out is not named in them. Rule 2: a tracking event is judged by the one address
that it names, once: services repeat themselves. Rule 3: what cannot be kept now is an error, so that the service tells
it again.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parseaddr
from typing import Any, Final, Literal, NamedTuple

try:
    from anymail.exceptions import AnymailAPIError, AnymailError
    from anymail.signals import AnymailTrackingEvent, EventType, RejectReason, tracking
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fairtouch.integrations.anymail needs django-anymail; pip install 'fairtouch[anymail]'", name=error.name
    ) from error

from fairtouch.addresses import normalize
from fairtouch.errors import TouchError
from fairtouch.governor import Governor
from fairtouch.integrations.django.configuration import configuration, governor
from fairtouch.integrations.django.delivering import Answer, Inner

_log: Final = logging.getLogger("fairtouch")

# Sending

_TAKEN: Final = ("sent", "queued")
_TURNED_AWAY: Final = ("rejected", "invalid", "failed")
_BY_ADDRESS: Final = ("merge_data", "merge_metadata", "merge_headers")


class AnymailInner(Inner):
    """One of anymail's backends, which knows what the service says of each recipient."""

    forgiven = (OSError, AnymailError)
    keeps_headers = False
    _message: Any = None

    def send(self, message: Any, addresses: Sequence[str]) -> Answer:
        """Sends; sent and queued are sent, rejected, invalid and failed are not, of all else nobody knows."""
        self._message = message
        allowed = {_bare(address) for address in addresses}
        for name in _BY_ADDRESS:  # what it says of those left out is nobody else's business
            if isinstance(said := getattr(message, name, None), Mapping):
                setattr(message, name, {key: value for key, value in said.items() if _bare(str(key)) in allowed})
        count = self.backend.send_messages([message])
        return Answer() if count == 0 else self._told(addresses)

    def after(self, error: BaseException, handled: BaseException | None, addresses: Sequence[str]) -> Answer:
        """What the service had said before something failed; else what its answer, or the want of one, means."""
        status = getattr(self._message, "anymail_status", None)
        if getattr(status, "esp_response", None) is not None:
            return self._told(addresses)
        if isinstance(error, AnymailAPIError) and (code := getattr(error, "status_code", None)) is not None:
            return Answer() if 400 <= code < 500 else Answer(in_doubt=frozenset(addresses))
        return super().after(error, handled, addresses)

    def tell(self, message: Any, sent: Any) -> None:
        """The caller finds `anymail_status` where anymail would have set it."""
        if hasattr(sent, "anymail_status"):
            message.anymail_status = sent.anymail_status

    def _told(self, addresses: Sequence[str]) -> Answer:
        told = {_bare(address): one.status for address, one in self._message.anymail_status.recipients.items()}
        loosely = {address.casefold(): status for address, status in told.items()}  # some services write all small
        found = {
            address: told.get(_bare(address), loosely.get(_bare(address).casefold(), "unknown"))
            for address in addresses
        }
        return Answer(
            sent_to=frozenset(address for address, status in found.items() if status in _TAKEN),
            turned_away=frozenset(address for address, status in found.items() if status in _TURNED_AWAY),
            in_doubt=frozenset(address for address, status in found.items() if status not in _TAKEN + _TURNED_AWAY),
        )


def _bare(address: str) -> str:
    """The one spelling; what has none stays as it is."""
    bare = parseaddr(address)[1] or address
    try:
        return normalize(bare, "email")
    except TouchError:
        return bare


# Tracking

Told = Literal["hard_bounce", "soft_bounce", "complaint", "open", "click", "unsubscribe"]

# Where a service says whether a bounce is for good, which anymail does not pass on, and the words that say: it is.
_FOR_GOOD: Final[Mapping[str, tuple[tuple[str, ...], tuple[object, ...]]]] = {
    "Amazon SES": (("bounce", "bounceType"), ("Permanent",)),
    "Brevo": (("event",), ("hard_bounce", "invalid_email")),
    "MailerSend": (("data", "type"), ("hard_bounced",)),
    "Mailjet": (("hard_bounce",), (True,)),
    "Mandrill": (("event",), ("hard_bounce",)),
    "Postmark": (("Type",), ("HardBounce", "BadEmailAddress")),
    "Resend": (("data", "bounce", "type"), ("Permanent",)),
    "SendGrid": (("type",), ("bounce",)),
    "SparkPost": (("msys", "message_event", "bounce_class"), ("10", "30")),
}
_PASSING: Final = re.compile(r"\b4\.\d{1,3}\.\d{1,3}\b")  # RFC 3463 section 3.1: a persistent transient failure
_REJECTIONS: Final[Mapping[str, Told]] = {  # whom a service does not write to any more, it tells why
    RejectReason.INVALID: "hard_bounce",
    RejectReason.BOUNCED: "hard_bounce",
    RejectReason.SPAM: "complaint",
    RejectReason.UNSUBSCRIBED: "unsubscribe",
}
_EVENTS: Final[Mapping[str, Told]] = {
    EventType.COMPLAINED: "complaint",
    EventType.UNSUBSCRIBED: "unsubscribe",
    EventType.OPENED: "open",
    EventType.CLICKED: "click",
}


def listen() -> None:
    """From now on anymail's tracking events are told to the governor of FAIRTOUCH; the app does it when it is installed
    next to anymail.
    """
    tracking.connect(hear, dispatch_uid="fairtouch")


def hear(sender: Any, event: AnymailTrackingEvent, esp_name: str, **_: Any) -> None:  # noqa: ARG001 - Django's signature
    """Keeps what a tracking event says; the same event again changes nothing.

    A hard bounce or complaint suppresses the address and stands in its customer's ledger; a soft bounce, an opening and
    a click in her ledger alone. Whoever unsubscribes opts out of e-mail, if FAIRTOUCH["CUSTOMER"] knows who it is;
    else the address is suppressed. Raises StoreUnavailable and StoreError, and then nothing was recorded.
    """
    told = _told(event, esp_name)
    if told is None:
        return
    address = _named(event, esp_name)
    if address is None:
        _log.warning("%s tells of a %s and names no one address; nothing was recorded", esp_name, told)
        return
    news = News(told, address, _id(event, esp_name, told, address), event.timestamp)
    wanted = configuration()
    known = wanted.customer(address) if wanted.customer is not None else None
    try:
        _keep(governor(wanted), news, known)
    except TouchError:  # its clock is ahead of the store's, say
        _keep(governor(wanted), news._replace(at=None), known)


class News(NamedTuple):
    """What a service tells of an address. `id`: the same when it is told again. `at` None: now."""

    told: Told
    address: str
    id: str
    at: datetime | None


def _keep(keeper: Governor, news: News, known: str | None) -> None:
    told, address, key, at = news
    if told != "unsubscribe":
        suppressed = address if told in ("hard_bounce", "complaint") else None
        keeper.feedback(told, customer=known or address, address=suppressed, channel="email", id=key, at=at)
    elif known is None:
        keeper.suppressions.add(address, "email", "unsubscribe", event_id=key)
    else:
        keeper.consent.opt_out(known, channel="email", at=at, evidence={"source": "mail service", "event": key})


def _told(event: AnymailTrackingEvent, esp_name: str) -> Told | None:
    """What an event is to fairtouch, if anything."""
    if event.event_type == EventType.BOUNCED:
        return "hard_bounce" if _is_for_good(event, esp_name) else "soft_bounce"
    if event.event_type == EventType.REJECTED:
        return _REJECTIONS.get(event.reject_reason)
    return _EVENTS.get(event.event_type)


def _is_for_good(event: AnymailTrackingEvent, esp_name: str) -> bool:
    path, words = _FOR_GOOD.get(esp_name, ((), ()))
    said: Any = event.esp_event
    for key in path:
        said = said.get(key) if isinstance(said, Mapping) else None
    if path and said is not None:
        return said in words
    is_passing = _PASSING.search(event.mta_response or "") is not None
    return event.reject_reason in (RejectReason.INVALID, RejectReason.BOUNCED) and not is_passing


def _named(event: AnymailTrackingEvent, esp_name: str) -> str | None:
    """The address that an event is about, in its one spelling."""
    if esp_name == "Resend" and len(event.esp_event.get("data", {}).get("to", ())) != 1:
        return None  # it does not say which of them
    try:
        return normalize(event.recipient or "", "email")
    except TouchError:
        return None


def _id(event: AnymailTrackingEvent, esp_name: str, told: Told, address: str) -> str:
    """The same for the same event told again; some services give theirs no id."""
    own = (event.event_id,) if event.event_id else (event.message_id, event.timestamp, event.click_url)
    text = "\0".join(map(str, (esp_name, told, address, *own)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
