"""What someone wants to send: one outbound contact with one customer on one channel."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from fairtouch.bounds import ADDRESS_LENGTH_MAX, NAME_LENGTH_MAX, TAGS_MAX, TEXT_LENGTH_MAX, ZONE_LENGTH_MAX
from fairtouch.errors import TouchError

_LENGTHS = {
    "category": NAME_LENGTH_MAX,
    "topic": TEXT_LENGTH_MAX,
    "campaign": TEXT_LENGTH_MAX,
    "subject": TEXT_LENGTH_MAX,
    "id": TEXT_LENGTH_MAX,
    "address": ADDRESS_LENGTH_MAX,
    "timezone": ZONE_LENGTH_MAX,
    "region": NAME_LENGTH_MAX,
}


class Kind(NamedTuple):
    """What a ledger remembers of a touch (`event` is None) or of an event, apart from who, when, about what and under
    which id.
    """

    channel: str
    category: str | None = None
    topic: str | None = None
    campaign: str | None = None
    tags: tuple[str, ...] = ()
    event: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Touch:
    """One outbound contact with one customer on one channel.

    `customer` is the app's own opaque id; `address` one contact point of hers. `category` is the touch's own, else
    that of its topic in the policy, else `marketing`. `subject` is what a regulated cap counts by (a debt, a case).
    `id` is the idempotency key, unique per customer; `reserve` makes one when it is missing. `timezone` (an IANA
    name), `country` (ISO 3166-1, "US") and `region` (ISO 3166-2, "US-FL") override what is stored with the customer.
    A higher `priority` is judged first within a batch and may use slots that a cap holds back.

    Raises TouchError for empty, over-long or wrongly typed values.
    """

    customer: str
    _: KW_ONLY
    channel: str
    category: str | None = None
    topic: str | None = None
    campaign: str | None = None
    subject: str | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None
    address: str | None = None
    timezone: str | None = None
    country: str | None = None
    region: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        check_text("customer", self.customer, TEXT_LENGTH_MAX)
        check_text("channel", self.channel, NAME_LENGTH_MAX)
        for name, length_max in _LENGTHS.items():
            value = getattr(self, name)
            if value is not None:
                check_text(name, value, length_max)
        if self.country is not None:
            check_country(self.country)
        if type(self.priority) is not int:
            raise TouchError(
                f"priority must be a whole number, not {type(self.priority).__name__}; nothing was recorded"
            )
        if self.tags or type(self.tags) is not tuple:
            object.__setattr__(self, "tags", _tags(self.tags))

    def __repr__(self) -> str:
        """Without the customer, the address and the id, which may contain either."""
        shown = {"category": self.category, "topic": self.topic, "campaign": self.campaign, "tags": self.tags or None}
        fields = "".join(f", {name}={value!r}" for name, value in shown.items() if value is not None)
        return f"Touch(…, channel={self.channel!r}{fields})"


def check_country(value: object) -> None:
    """Raises TouchError unless the value is an ISO 3166-1 code of two letters; no rule selects another spelling."""
    if not isinstance(value, str) or not (len(value) == 2 and value.isascii() and value.isalpha()):
        raise TouchError(
            f"country={str(value)[:40]!r} is no ISO 3166-1 code of two letters, such as 'US'; nothing was recorded"
        )


def check_text(name: str, value: object, length_max: int) -> None:
    """Raises TouchError unless `value` is a text of 1 to `length_max` encodable characters; the text shows no
    personal value.
    """
    if not isinstance(value, str):
        raise TouchError(f"{name} must be a text, not {type(value).__name__}; nothing was recorded")
    if not value or value.isspace():
        raise TouchError(f"{name} is empty; leave it out or give it a value; nothing was recorded")
    if len(value) > length_max:
        raise TouchError(f"{name} has {len(value)} characters, {length_max} are allowed; nothing was recorded")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise TouchError(f"{name} contains a lone surrogate, which no store can keep; nothing was recorded")


def _tags(tags: Any) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, tuple | list | set | frozenset):
        raise TouchError(f"tags must be a tuple of texts, not {type(tags).__name__}; nothing was recorded")
    if len(tags) > TAGS_MAX:
        raise TouchError(f"tags holds {len(tags)} values, {TAGS_MAX} are allowed; nothing was recorded")
    for tag in tags:
        check_text("tags", tag, NAME_LENGTH_MAX)
    return tuple(sorted(set(tags)))
