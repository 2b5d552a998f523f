"""What a rate text says: so many sends in every period, and the key under which they are remembered."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from limits import parse_many

from fairtouch.bounds import LIMIT_MAX, NAME_LENGTH_MAX, PERIOD_DAYS_MAX
from fairtouch.errors import PolicyError, TouchError

_DAY_SECONDS: Final = 86_400
_NO_PERIOD: Final = re.compile(r"(?:/|per)\s*0+\s*[a-z]", re.IGNORECASE)  # limits reads "5/0 seconds" as "5/second"


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `sends` in any `period_seconds`. Under `key` are the sends of all workers, whichever rate they know: a
    new rate over the same period counts what went out under the old one.
    """

    sender: str
    sends: int
    period_seconds: int
    key: str


def read_paces(rates: object) -> dict[str, Pace]:
    """The paces by sender. Raises PolicyError."""
    if not isinstance(rates, Mapping) or not rates:
        raise PolicyError("rates: name at least one sender and its rate, such as {'ses': '14/second'}")
    return {sender: _read_pace(sender, text) for sender, text in rates.items()}


def _read_pace(sender: object, text: object) -> Pace:
    if not isinstance(sender, str) or not 0 < len(sender) <= NAME_LENGTH_MAX:
        raise PolicyError(f"rates: a sender's name is a text of 1 to {NAME_LENGTH_MAX} characters, such as 'ses'")
    place = f"rates[{sender!r}]"
    sends, period_seconds, unit = _read_rate(place, text)
    if not 0 < sends <= LIMIT_MAX:
        raise PolicyError(f"{place}: {sends} sends are no pace; write 1 to {LIMIT_MAX:,}, or leave the sender out")
    if unit in ("month", "year") or period_seconds > PERIOD_DAYS_MAX * _DAY_SECONDS:
        raise PolicyError(f"{place}: a pace is over seconds, minutes, hours or days; write '30 days' for a month")
    name = hashlib.sha256(f"fairtouch:pacing:{sender}".encode()).hexdigest()[:32]
    return Pace(sender, sends, period_seconds, f"{name}:{period_seconds}")


def _read_rate(place: str, text: object) -> tuple[int, int, str]:
    """Sends, seconds and the unit of the period."""
    wrong = PolicyError(f"{place}: {str(text)[:40]!r} is no rate; write '14/second' or '300 per 5 minutes'")
    if not isinstance(text, str) or _NO_PERIOD.search(text):
        raise wrong
    try:
        items = parse_many(text)
    except ValueError:
        raise wrong from None
    if len(items) > 1:
        raise PolicyError(f"{place}: {text[:40]!r} has several rates, of which none could be kept exactly; write one")
    return items[0].amount, items[0].get_expiry(), items[0].GRANULARITY.name


def find(paces: Mapping[str, Pace], sender: str) -> Pace:
    """The sender's pace. Raises TouchError."""
    if (pace := paces.get(sender)) is None:
        known = ", ".join(map(repr, paces))
        raise TouchError(f"{str(sender)[:NAME_LENGTH_MAX]!r} is no sender of this pacer; there is {known}")
    return pace
