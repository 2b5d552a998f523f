"""What someone wants to send: one outbound contact with one customer on one channel."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, NamedTuple

from fairtouch.bounds import ADDRESS_LENGTH_MAX, NAME_LENGTH_MAX, TAGS_MAX, TEXT_LENGTH_MAX, ZONE_LENGTH_MAX
from fairtouch.errors import TouchError

ShapeKey = tuple[str, str | None, str | None, str | None, tuple[str, ...], str | None, str | None, str | None, int]
"""What plans depend on, of a touch: channel, category, topic, campaign, tags, time zone, country, region, priority."""

_CHECKED_MAX: Final = 8_192
_checked: Final[set[ShapeKey]] = set()  # touches come in few shapes; each is looked at once


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


@dataclass(frozen=True, init=False, repr=False)
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
    shape_key: ShapeKey = field(init=False, compare=False)

    # By hand, because the generated one takes longer than all that a decision compares (benchmarks/, "memory").
    def __init__(
        self,
        customer: str,
        *,
        channel: str,
        category: str | None = None,
        topic: str | None = None,
        campaign: str | None = None,
        subject: str | None = None,
        tags: tuple[str, ...] = (),
        id: str | None = None,  # noqa: A002 - the word of the contract
        address: str | None = None,
        timezone: str | None = None,
        country: str | None = None,
        region: str | None = None,
        priority: int = 0,
    ) -> None:
        if tags or type(tags) is not tuple:
            tags = _tags(tags)
        shape_key: ShapeKey = (channel, category, topic, campaign, tags, timezone, country, region, priority)
        try:
            is_known = shape_key in _checked and type(priority) is int  # not True, and not 1.0
        except TypeError:  # what has no hash is no text either
            is_known = False
        if not is_known:
            _check_shape(shape_key)
        check_text("customer", customer, TEXT_LENGTH_MAX)
        if subject is not None:
            check_text("subject", subject, TEXT_LENGTH_MAX)
        if id is not None:
            check_text("id", id, TEXT_LENGTH_MAX)
        if address is not None:
            check_text("address", address, ADDRESS_LENGTH_MAX)
        values = {
            "customer": customer,
            "channel": channel,
            "category": category,
            "topic": topic,
            "campaign": campaign,
            "subject": subject,
            "tags": tags,
            "id": id,
            "address": address,
            "timezone": timezone,
            "country": country,
            "region": region,
            "priority": priority,
            "shape_key": shape_key,
        }
        object.__setattr__(self, "__dict__", values)

    def __repr__(self) -> str:
        """Without the customer, the address and the id, which may contain either."""
        shown = {"category": self.category, "topic": self.topic, "campaign": self.campaign, "tags": self.tags or None}
        fields = "".join(f", {name}={value!r}" for name, value in shown.items() if value is not None)
        return f"Touch(…, channel={self.channel!r}{fields})"


def _check_shape(key: ShapeKey) -> None:
    channel, category, topic, campaign, _, timezone, country, region, priority = key
    check_text("channel", channel, NAME_LENGTH_MAX)
    for name, value, length_max in (
        ("category", category, NAME_LENGTH_MAX),
        ("topic", topic, TEXT_LENGTH_MAX),
        ("campaign", campaign, TEXT_LENGTH_MAX),
        ("timezone", timezone, ZONE_LENGTH_MAX),
        ("region", region, NAME_LENGTH_MAX),
    ):
        if value is not None:
            check_text(name, value, length_max)
    if country is not None:
        check_country(country)
    if type(priority) is not int:
        raise TouchError(f"priority must be a whole number, not {type(priority).__name__}; nothing was recorded")
    if len(_checked) >= _CHECKED_MAX:
        _checked.clear()
    _checked.add(key)


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
