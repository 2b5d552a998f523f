"""What the customer said: scopes and their order, and what follows from the latest words.

Rule 1: a scope is (category, channel, topic), each a value or any (None). Any category means every category but the
policy's essential ones. Rule 2: a touch is withdrawn iff an opt-out W covers it and no later, unexpired opt-in O has
W ⊇ O ⊇ touch. So narrower lifts broader for itself only, broader never revives narrower, and at equal instants the
opt-out wins. Rule 3: per scope only the latest instant of each word counts, so events settle the same in whatever
order they arrive.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final, NamedTuple

from dateutil.relativedelta import relativedelta

from fairtouch.instants import DAY, from_ms, to_ms

MASKS: Final = range(8)
"""The scopes that cover one touch, by which of their parts name a value: 1 category, 2 channel, 4 topic. Scope A
holds scope B iff A names no part that B leaves open: `A & B == A`.
"""

_CLIP: Final = 4 * DAY  # month arithmetic moves an instant by at most three days (31 January + 1 month)


class Scope(NamedTuple):
    """What a consent is about; None is any."""

    category: str | None
    channel: str | None
    topic: str | None


class Said(NamedTuple):
    """The latest instant of each word at one scope, in milliseconds; 0 when it was never said.

    `opted_in` is the latest opt-in of either sort, `confirmed` the latest double opt-in, `requested` the latest
    question.
    """

    opted_in: int = 0
    confirmed: int = 0
    opted_out: int = 0
    requested: int = 0


NOTHING: Final = Said()

Alive = Callable[[int], bool]
"""Whether an opt-in given at an instant is unexpired."""


@unique
class Word(StrEnum):
    """What can be said about a scope."""

    OPT_IN = "opt_in"
    CONFIRM = "confirm"
    OPT_OUT = "opt_out"
    REQUEST = "request"


@unique
class State(StrEnum):
    """Where a customer stands on a scope."""

    OPTED_IN = "opted_in"
    OPTED_OUT = "opted_out"
    PENDING = "pending"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One word of a customer about one scope, with the evidence for it. `at` is aware UTC.

    `durability`: what it had reached when it was acknowledged, at least: 'memory', 'replicated(n)' or 'fsynced'; None
    where it is read again.
    """

    word: Word
    scope: Scope
    at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)
    durability: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ConsentStatus:
    """Where a customer stands on a scope; `at` is the word that decides, `expires_at` the end of an opt-in that a
    rule ends.
    """

    state: State
    scope: Scope | None = None
    at: datetime | None = None
    expires_at: datetime | None = None


def covering(
    category: str | None, channel: str | None, topic: str | None, *, essential: bool
) -> tuple[Scope | None, ...]:
    """The scopes that cover a touch (or a scope), by mask; None where there is none (a touch without topic, an
    essential category).
    """
    missing = (category is None) | (channel is None) << 1 | (topic is None) << 2
    return tuple(
        None
        if mask & missing or (essential and not mask & 1)
        else Scope(category if mask & 1 else None, channel if mask & 2 else None, topic if mask & 4 else None)
        for mask in MASKS
    )


def withdrawn(said: Sequence[Said], alive: Alive) -> bool:
    """Whether an opt-out stands against the touch; `said` by mask, NOTHING where nothing was said."""
    return standing_opt_out(said, alive) is not None


def standing_opt_out(said: Sequence[Said], alive: Alive) -> int | None:
    """The mask of the latest opt-out that covers the touch and that no narrower or equal, later, unexpired opt-in
    lifts.
    """
    standing = [
        (words.opted_out, mask)
        for mask, words in enumerate(said)
        if words.opted_out
        and not any(
            mask & other == mask and words.opted_out < said[other].opted_in and alive(said[other].opted_in)
            for other in MASKS
        )
    ]
    return max(standing)[1] if standing else None


def granting(said: Sequence[Said], alive: Alive, *, double: bool, within: int = 0) -> int | None:
    """The mask of the latest opt-in (of a double one if `double`) that is unexpired and later than every covering
    opt-out.

    `within`: only scopes that name at least these parts count, so that a blanket opt-in does not answer a special
    question.
    """
    last_out = max(words.opted_out for words in said)
    grants = [
        (given, mask)
        for mask, words in enumerate(said)
        if mask & within == within
        and (given := words.confirmed if double else words.opted_in) > last_out
        and alive(given)
    ]
    return max(grants)[1] if grants else None


def standing(
    scopes: Sequence[Scope | None], said: Sequence[Said], ending: Sequence[relativedelta], now: int
) -> ConsentStatus:
    """Where a customer stands on what the scopes cover: a standing opt-out, else the latest opt-in, else an open
    question.

    `ending`: after how long the rules that apply let opt-ins expire; the strictest decides.
    """

    def alive(given: int) -> bool:
        return all(expires_at(given, after) > now for after in ending)

    out = standing_opt_out(said, alive)
    if out is not None:
        return ConsentStatus(State.OPTED_OUT, scopes[out], from_ms(said[out].opted_out))
    given = granting(said, alive, double=False)
    if given is not None:
        at = said[given].opted_in
        ends = [expires_at(at, after) for after in ending]
        return ConsentStatus(State.OPTED_IN, scopes[given], from_ms(at), from_ms(min(ends)) if ends else None)
    asked = max(MASKS, key=lambda mask: said[mask].requested)
    if said[asked].requested > max(words.opted_out for words in said):
        return ConsentStatus(State.PENDING, scopes[asked], from_ms(said[asked].requested))
    return ConsentStatus(State.UNKNOWN)


def expires_at(given: int, after: relativedelta) -> int:
    """The instant at which an opt-in ends: calendar arithmetic in UTC (two years after 29 February is 28 February)."""
    return to_ms(from_ms(given) + after)


def surely_alive_from(at: int, after: relativedelta) -> int:
    """An opt-in at or after this instant is unexpired at `at`; earlier ones may be expired or not (months have
    several lengths).
    """
    return to_ms(from_ms(at) - after) + _CLIP


def merge(said: Said, word: Word, at: int) -> Said:
    """What stands at a scope after one more word; the order in which words arrive does not matter."""
    match word:
        case Word.OPT_IN:
            return said._replace(opted_in=max(said.opted_in, at))
        case Word.CONFIRM:
            return said._replace(opted_in=max(said.opted_in, at), confirmed=max(said.confirmed, at))
        case Word.OPT_OUT:
            return said._replace(opted_out=max(said.opted_out, at))
        case Word.REQUEST:
            return said._replace(requested=max(said.requested, at))
