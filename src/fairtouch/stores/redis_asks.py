"""How plans and asks stand in calls of `lua/decide.lua`, which says what each byte is.

Rule: what belongs to a plan is packed once for all its calls; a call says nothing else but what belongs to the ask.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from struct import Struct
from typing import Final, NamedTuple

from fairtouch.facts import Ask
from fairtouch.instants import NEVER
from fairtouch.plan import Fills, Plan
from fairtouch.stores import redis_documents
from fairtouch.stores.redis_calls import DECIDE, Call, Keys
from fairtouch.stores.redis_entries import detail, six, three
from fairtouch.touch import Kind

TAKEN, FREE, STALE, DOUBTFUL = 1, 0, -1, -2
"""What an answer begins with."""

_YES_OR_NO: Final = Struct(">BB")
_NUMBERS: Final = Struct(">HHHH")
_ASK: Final = Struct(">BHIHBBH")
_TOLD_MAX: Final = 1_000  # kinds that a plan's calls tell of; then they start anew
_ROWS_MAX: Final = 256


class Told(NamedTuple):
    """What a plan's calls say of kinds: the row of each, by its number; where each row stands; and the whole plan,
    packed.
    """

    kinds: Mapping[int, int]
    rows: Mapping[Fills, int]
    packed: bytes


class PlanWords:
    """How a plan stands in calls. It grows with the kinds that ledgers turn out to hold."""

    __slots__ = ("_head", "_middle", "_plan", "is_plain", "told")

    def __init__(self, plan: Plan, names: bytes, covering: Iterable[int]) -> None:
        self._plan = plan
        profile, scopes = plan.profile.encode(), b"".join(map(three, covering))
        needed = [max((since for which, since in plan.needed if which == part), default=0) for part in (0, 1)]
        longest = max((span for span, _ in plan.windows), default=0)
        earliest = min((since for span, since in plan.windows if not span), default=NEVER)
        is_plain = 0 if plan.per_subject else 2 if plan.counts_totals else 1
        self.is_plain: Final = is_plain == 1
        self._head = b"".join(
            (
                names,
                *map(six, (plan.since, plan.until, plan.closes_at, *needed)),
                _YES_OR_NO.pack(plan.open, is_plain),
                six(longest),
                six(earliest),
                _NUMBERS.pack(len(plan.limits), len(profile), len(scopes) // 3, 0)[:-2],
            )
        )
        conditions = (
            six(span) + six(since) + min(limit, 0xFFFFFFFF).to_bytes(4, "big")
            for (span, since), limit in zip(plan.windows, plan.limits, strict=True)
        )
        self._middle = b"".join((profile, scopes, *conditions))
        self.told = Told({}, {}, self._packed({}, {}))

    def tell(self, kinds: Iterable[tuple[int, Kind]]) -> None:
        """Says in every later call what these kinds fill.

        All that is told is replaced at once, without a lock: what another thread told at the same instant may be lost,
        and is told when it is met again; and the child of a fork finds it whole.
        """
        told = self.told
        new = [(number, kind) for number, kind in kinds if number not in told.kinds]
        if new:
            self.told = self._with(told, new)

    def _with(self, told: Told, new: Iterable[tuple[int, Kind]]) -> Told:
        known, rows = dict(told.kinds), dict(told.rows)
        for number, kind in new:
            if len(known) >= _TOLD_MAX:
                known.clear()
            row = rows.setdefault(self._plan.fillings[kind], len(rows))
            if row < _ROWS_MAX:  # more are an exotic policy: ledgers with such a kind are looked at by the client
                known[number] = row
        return Told(known, rows, self._packed(known, rows))

    def _packed(self, known: Mapping[int, int], rows: Mapping[Fills, int]) -> bytes:
        told = sorted(known.items(), key=itemgetter(1, 0))  # those of one row together
        conditions = range(len(self._plan.limits))
        return b"".join(
            (
                self._head,
                len(told).to_bytes(2, "big"),
                self._middle,
                *(three(number) for number, _ in told),
                bytes(row for _, row in told),
                *(bytes(index in fills for index in conditions) for fills in list(rows)[:_ROWS_MAX]),
            )
        )


def decide(keys: Keys, words: PlanWords, kind: int, ask: Ask, seen: bytes | None, *, apart: bool) -> Call:
    """One decision; `kind` by its number, `seen`: the words that were judged to permit the touch. `apart`: the address
    stands on another server, and is not looked at.
    """
    plan, customer, entry, take, now, _ = ask
    takes = take and (entry.address is not None or not plan.require_address)
    high, low = divmod(now or 0, 1 << 32)
    asked = _ASK.pack(takes, high, low, kind >> 8, kind & 255, redis_documents.ENTRIES_MAX, redis_documents.BYTES_MAX)
    arguments = (words.told.packed, asked + detail(entry))
    return Call(
        DECIDE,
        keys.of_decision(customer, None if apart else entry.address, totals=not words.is_plain),
        arguments if seen is None else (*arguments, seen),
    )
