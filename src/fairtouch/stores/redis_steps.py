"""What a store on Redis does, call by call: every verb of the port as a generator of calls that is sent the replies.

Rule 1: no connection and no waiting here, so the store that is called and the one that is awaited share every line.
Rule 2: what the one script cannot settle on its own (an id that is known, a consent that was lifted, a cap that counts
by subject) is weighed here, as in every other store, and written if the customer's document still is what was weighed.
Rule 3: names are append-only; a table of names that was lost is an error and never a new meaning.
"""

import hashlib
import json
import os
import struct
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

from fairtouch.consent import NOTHING, Said, Scope, Word, merge
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause, Total
from fairtouch.plan import Plan
from fairtouch.stores.port import Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.redis_calls import (
    CHANGE,
    NAME,
    PROBE,
    READ,
    SUPPRESS,
    UNSUPPRESS,
    Call,
    Keys,
    PlanWords,
    beside,
    decide,
    pairs,
    verdict,
)
from fairtouch.stores.redis_documents import (
    NUMBER_MAX,
    Document,
    column,
    columns_of,
    detail,
    document_of,
    packed_words,
    six,
    three,
    unpacked,
    words_of,
)
from fairtouch.stores.weighing import holder, recordable, stamped, weigh
from fairtouch.touch import Kind

T = TypeVar("T")
Step = Generator[Call | list[Call], Any, T]
"""Yields a call, or several to be sent together, is sent the reply or replies, and returns what the verb answers.

Among several replies an error stands in its place; the error of a single call is raised by whoever runs the step.
"""

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much
_by_instant: Final = attrgetter("at")
_PLANS_MAX: Final = 8_192
_TRIES_MAX: Final = 100  # changes of one customer that others were quicker with
_FIELDS: Final = 500  # of a hash in one command: a script cannot unpack more than some thousands
_TOKEN_LENGTH: Final = 8  # stands before the evidence: tells a call that is run again from another one
_REMEMBERED_SECONDS: Final = 600  # what a call did, for the same call that is run again
_PAGE: Final = 500  # documents that one step of a pruning looks at
_OLDER, _TOTALS, _SPOKEN = 1, 2, 4  # what to read beside a document
_WORDS: Final = tuple(Word)
LOST: Final = (
    "the table of names that ledgers refer to was lost or replaced on this Redis; restore it, or remove what was "
    "written with the old one. Nothing was recorded, and nothing may be sent"
)


_NEVER_WRITTEN: Final = (ValueError, TypeError, LookupError, struct.error)


def _damaged(error: Exception) -> StoreError:
    return StoreError(
        f"a customer's document holds what fairtouch never wrote ({error}); restore it. Nothing was recorded"
    )


class _NotReadError(Exception):
    """Older entries are to be looked at, and were not read."""


@dataclass(slots=True)
class _Kept:
    """A customer as she was read, and the commands that bring what stands beside the document up to date."""

    seen: bytes  # the document as it was
    document: Document
    now: int
    entries: list[Entry]
    counted: list[tuple[int, int]] = field(default_factory=list)  # of the older entries: instants and kinds, if read
    older: list[Entry] | None = None  # None when they were not read
    said: dict[Scope, Said] = field(default_factory=dict)
    totals: dict[bytes, bytes] = field(default_factory=dict)
    spoken: dict[bytes, bytes] = field(default_factory=dict)
    commands: list[bytes | int] = field(default_factory=list)

    def all(self) -> list[Entry]:
        """Every entry that was read, oldest first."""
        return [*(self.older or ()), *self.entries]

    def order(self, name: bytes, key: int, *arguments: bytes | int) -> None:
        """One more command for a key beside the document, by its place."""
        self.commands += (name, key, len(arguments), *arguments)


class Steps:
    """The verbs of `port.Store`, for one prefix of keys."""

    def __init__(self, prefix: str) -> None:
        self.keys: Final = Keys(prefix)
        self._table = b""
        self._kinds: dict[int, Kind] = {}
        self._kind_ids: dict[Kind, int] = {}
        self._scopes: dict[int, Scope] = {}
        self._scope_ids: dict[Scope, int] = {}
        self._plans: dict[Plan, PlanWords] = {}

    # Names

    def _number(self, sort: str, name: Sequence[object]) -> Step[int]:
        """The number of a kind or a scope, given when it has none."""
        spelling = sort + json.dumps(name, ensure_ascii=False, separators=(",", ":"))
        table, number = yield Call(NAME, (self.keys.names,), (os.urandom(4), spelling.encode()))
        if table != self._table and self._table:
            raise StoreError(LOST)
        if number >= NUMBER_MAX:
            raise StoreError(
                f"{NUMBER_MAX} names of kinds and scopes are in use, and no more fit (nothing was recorded)"
            )
        self._table = table
        return int(number)

    def _kind_id(self, kind: Kind) -> Step[int]:
        known = self._kind_ids.get(kind)
        if known is None:
            known = self._kind_ids[kind] = yield from self._number("k", kind)
            self._kinds[known] = kind
        return known

    def _give_numbers(self, scopes: Iterable[Scope]) -> Step[None]:
        for scope in scopes:
            if scope not in self._scope_ids:
                number = self._scope_ids[scope] = yield from self._number("s", scope)
                self._scopes[number] = scope

    def _learn(self, numbers: Iterable[int]) -> Step[None]:
        """Finds out what numbers stand for."""
        unknown = [number for number in set(numbers) if number not in self._kinds and number not in self._scopes]
        if not unknown:
            return
        asked = (b"HMGET", self.keys.names, b"", *(b"<%d" % number for number in unknown))
        table, *names = yield Call(None, (), asked)
        if table is None or (self._table and table != self._table) or None in names:
            raise StoreError(LOST)
        self._table = table
        for number, name in zip(unknown, names, strict=True):
            values = json.loads(name[1:])
            if name[:1] == b"s":
                self._scopes[number] = scope = Scope(*values)
                self._scope_ids[scope] = number
            else:
                channel, category, topic, campaign, tags, event = values
                self._kinds[number] = kind = Kind(channel, category, topic, campaign, tuple(tags), event)
                self._kind_ids[kind] = number

    def _plan(self, plan: Plan) -> Step[PlanWords]:
        """How a plan stands in calls; every scope of it has a number from now on, whoever speaks at it first."""
        yield from self._give_numbers(plan.covering)
        words = PlanWords(plan, sorted(self._scope_ids[scope] for scope in plan.covering))
        number = yield from self._kind_id(plan.shape.kind)
        words.tell([(number, plan.shape.kind)])
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        self._plans[plan] = words
        return words

    # Reading and changing

    def _kept(self, seen: bytes, now: int, columns: bytes, *hashes: Sequence[bytes]) -> Step[_Kept]:
        """A customer from what was read of her: the document, the older columns; then names and values of the older
        details, the totals, the words. Raises StoreError for what fairtouch never wrote.
        """
        if not self._table:
            yield from self._learn_table()
        if not seen:
            return _Kept(seen, Document(self._table, b"", 0, "", b"", b"", b""), now, [])
        try:
            document = document_of(seen)
            if document.names != self._table:
                raise StoreError(LOST)
            counted = columns_of(columns)
            yield from self._learn(number for _, number in (*counted, *columns_of(document.columns)))
            kept = _Kept(seen, document, now, document.entries(self._kinds.__getitem__), counted)
            details, kept.totals, kept.spoken = (*map(pairs, hashes), {}, {}, {})[:3]
            if details or not document.older:
                kept.older = self._older(columns, details)
            yield from self._learn(int.from_bytes(name, "big") for name in kept.totals)
            yield from self._learn(int.from_bytes(name[:3], "big") for name in kept.spoken)
            kept.said = yield from self._words(document.words)
        except _NEVER_WRITTEN as error:
            raise _damaged(error) from error
        return kept

    def _learn_table(self) -> Step[None]:
        self._table, _ = yield Call(NAME, (self.keys.names,), (os.urandom(4), b""))

    def _words(self, words: bytes) -> Step[dict[Scope, Said]]:
        """What was said, and where. Raises StoreError for what fairtouch never wrote."""
        try:
            said = words_of(words)
            if not all(number in self._scopes for number in said):
                yield from self._learn(said)
            return {self._scopes[number]: word for number, word in said.items()}
        except _NEVER_WRITTEN as error:
            raise _damaged(error) from error

    def _older(self, columns: bytes, details: Mapping[bytes, bytes]) -> list[Entry]:
        """What stands beside a document, oldest first."""
        found = []
        for packed in details.values():
            offset = 0
            while offset < len(packed):
                ((at, number),) = columns_of(packed[offset : offset + 9])
                entry, offset = unpacked(at, self._kinds[number], packed, offset + 9)
                found.append(entry)
        if len(found) != len(columns) // 9:
            raise ValueError("older entries that are counted and not kept")
        return sorted(found, key=_by_instant)

    def _read(self, customer: bytes, wanted: int, now: int | None) -> Step[_Kept]:
        """A customer, and what is wanted beside the document; older entries are not always there to be read."""
        clock, seen, *rest = yield Call(READ, beside(self.keys.document(customer)), (wanted,))
        kept = yield from self._kept(seen, 0, *rest)
        kept.now = now if now is not None else max(clock, kept.document.newest())
        return kept

    def _read_for(self, customer: bytes, entry: Entry, now: int | None) -> Step[_Kept]:
        """A customer with what may hold a reservation: the older entries too, unless it stands in the document."""
        kept = yield from self._read(customer, 0, now)
        if kept.document.older and self._reservation(kept, entry) is None:
            kept = yield from self._read(customer, _OLDER, now)
        return kept

    def _change(self, customer: bytes, kept: _Kept, address: bytes | None = None, *, lasts: bool = False) -> Step[int]:
        """Writes what became of a customer, if nobody else changed her meanwhile."""
        return (yield from self._change_at(self.keys.document(customer), kept, address, lasts=lasts))

    def _change_at(self, key: bytes, kept: _Kept, address: bytes | None = None, *, lasts: bool = False) -> Step[int]:
        document = kept.document._replace(turn=os.urandom(4))
        keys = beside(key)
        seen = hashlib.sha1(kept.seen, usedforsecurity=False).hexdigest().encode() if kept.seen else b""
        done = yield Call(
            CHANGE,
            keys if address is None else (*keys, self.keys.suppression(address)),
            (seen, document.packed(), *kept.commands),
            lasts,
        )
        return int(done)

    def _until_done(self, attempt: Callable[[], Step[tuple[int, T]]]) -> Step[T]:
        """Tries again while others are quicker."""
        for _ in range(_TRIES_MAX):
            done, result = yield from attempt()
            if done == 1:
                return result
        raise StoreUnavailable(
            f"others changed the same customer {_TRIES_MAX} times in between; try again with the same id (nothing was "
            "recorded)"
        )

    # Entries

    def _put(self, kept: _Kept, entry: Entry) -> Step[None]:
        """Puts an entry where its instant belongs."""
        yield from self._kind_id(entry.kind)
        if entry.at <= kept.document.older:
            self._put_beside(kept, [entry])
        else:
            insort(kept.entries, entry, key=_by_instant)
        self._repack(kept)

    def _put_beside(self, kept: _Kept, entries: Sequence[Entry]) -> None:
        """Adds to the older entries, which must have been read."""
        kept.older = sorted([*(kept.older or ()), *entries], key=_by_instant)
        self._write_older(kept, {entry.id for entry in entries})

    def _write_older(self, kept: _Kept, ids: Iterable[str]) -> None:
        """Writes the columns of the older entries, and the details of those with these ids."""
        older = kept.older or []
        by_id: dict[str, list[bytes]] = {touch_id: [] for touch_id in ids}
        for entry in older:
            if entry.id in by_id:
                by_id[entry.id] += (
                    column(entry.at, self._kind_ids[entry.kind]),
                    six(entry.lease_end),
                    detail(entry),
                )
        written = [word for name, parts in by_id.items() if parts for word in (name.encode(), b"".join(parts))]
        for first in range(0, len(written), 2 * _FIELDS):
            kept.order(b"HSET", 3, *written[first : first + 2 * _FIELDS])
        columns = b"".join(column(entry.at, self._kind_ids[entry.kind]) for entry in older)
        if columns:
            kept.order(b"SET", 2, columns)
        else:
            kept.order(b"DEL", 2)
        gone = [name.encode() for name, parts in by_id.items() if not parts]
        for first in range(0, len(gone), _FIELDS):
            kept.order(b"HDEL", 3, *gone[first : first + _FIELDS])

    def _repack(self, kept: _Kept) -> None:
        """The document for the entries as they are now; when it is full its older half moves beside it.

        Not where older entries stand there that were not read: then it waits for the next one who reads them.
        """
        pairs = [(entry, self._kind_ids[entry.kind]) for entry in kept.entries]
        kept.document = kept.document.with_entries(pairs)
        if kept.document.is_full() and kept.older is not None:
            half = (len(kept.entries) + 1) // 2
            while half < len(kept.entries) and kept.entries[half].at == kept.entries[half - 1].at:
                half += 1  # an instant stands in one place
            moved, kept.entries = kept.entries[:half], kept.entries[half:]
            self._put_beside(kept, moved)
            kept.document = kept.document._replace(older=moved[-1].at).with_entries(pairs[half:])

    def _replace(self, kept: _Kept, old: Entry, new: Entry | None) -> None:
        """Puts the entry that is confirmed in the place of the one that was reserved, or nothing."""
        is_older = old.at <= kept.document.older
        entries = (kept.older or []) if is_older else kept.entries
        place = entries.index(old, bisect_left(entries, old.at, key=_by_instant))
        entries[place : place + 1] = [] if new is None else [new]
        if is_older:
            self._write_older(kept, {old.id})
        else:
            self._repack(kept)

    @staticmethod
    def _same_id(kept: _Kept, entry: Entry) -> list[Entry]:
        return [other for other in kept.all() if other.id == entry.id and other.kind.event == entry.kind.event]

    # Deciding

    def decide(self, asks: Sequence[Ask]) -> Step[list[Facts | Stale]]:
        """`port.Ledger.decide`."""
        if len(asks) > 1 and len({ask.customer for ask in asks}) == len(asks):
            return (yield from self._decide_together(asks))
        answers = []
        for ask in asks:  # what one takes, the next one finds
            answer = yield from self._decide(ask)
            answers.append(answer)
        return answers

    def _decide_together(self, asks: Sequence[Ask]) -> Step[list[Facts | Stale]]:
        """Asks about different customers. An error about one of them gives back what was taken for the others."""
        answers = yield from side_by_side([self._decide(ask) for ask in asks])
        failed = [answer for answer in answers if isinstance(answer, FairtouchError)]
        if not failed:
            return cast("list[Facts | Stale]", answers)
        taken = [
            self.release(ask.customer, answer.entry, ask.now)
            for ask, answer in zip(asks, answers, strict=True)
            if isinstance(answer, Facts) and answer.taken and answer.entry is not None
        ]
        yield from side_by_side(taken)
        raise failed[0]

    def _decide(self, ask: Ask) -> Step[Facts | Stale]:
        plan = ask.plan
        words = self._plans.get(plan)
        if words is None:
            words = yield from self._plan(plan)
        kind = self._kind_ids[ask.entry.kind]
        seen = b"" if ask.seen is None else self._packed_words(ask.seen)
        for _ in range(_TRIES_MAX):
            reply = yield decide(self.keys, self._table, words, kind, ask, seen)
            if type(reply) is bytes:
                if reply[0] == ord("S"):
                    return Stale(int.from_bytes(reply[1:7], "big"), reply[7:].decode())
                return (yield from self._understood(ask, reply))
            facts = yield from self._weighed(ask, words, reply)
            if facts is not None:
                return facts
        raise StoreUnavailable(
            f"others changed the same customer {_TRIES_MAX} times in between; try again with the same id (nothing was "
            "recorded)"
        )

    def _understood(self, ask: Ask, reply: bytes) -> Step[Facts]:
        """The facts of a decision that the script settled."""
        found = verdict(reply, len(ask.plan.limits))
        entry = None
        if found.taken:
            _, kind, subject, touch_id, token, stage, _, address = ask.entry
            entry = _tuple(Entry, (found.now, kind, subject, touch_id, token, stage, found.lease_end, address))
        try:
            said = yield from self._words(found.words)
        except StoreError:
            if entry is not None:
                yield from self.release(ask.customer, entry, ask.now)
            raise
        return _tuple(Facts, (found.now, found.taken, found.counts, {}, said, None, Holder.NONE, entry))

    def _weighed(self, ask: Ask, words: PlanWords, reply: Sequence[Any]) -> Step[Facts | None]:
        """The facts, with what was taken written; None when somebody else changed the customer meanwhile."""
        now, seen, cause, *rest = reply
        suppressed = _cause(cause)
        kept = yield from self._kept(seen, now, *rest)
        try:
            facts = self._weigh(ask, kept, suppressed)
        except _NotReadError:
            kept = yield from self._read(ask.customer, _OLDER | _TOTALS, now)
            if kept.seen != seen:
                return None
            facts = self._weigh(ask, kept, suppressed)
        words.tell((self._kind_ids[kind], kind) for kind in self._mixture(kept))
        if not facts.taken or facts.holder is Holder.OURS or facts.entry is None:
            return facts
        if facts.holder is Holder.IN_DOUBT:
            replaced = holder(ask, self._same_id(kept, ask.entry), now)[1]
            if replaced is not None:
                self._replace(kept, replaced, None)
        yield from self._put(kept, facts.entry)
        done = yield from self._change(ask.customer, kept, ask.entry.address)
        return facts if done == 1 else None

    def _mixture(self, kept: _Kept) -> frozenset[Kind]:
        """Which kinds occur in a ledger."""
        older = {self._kinds[number] for number in {number for _, number in kept.counted}}
        return frozenset(older.union(entry.kind for entry in kept.entries))

    def _weigh(self, ask: Ask, kept: _Kept, suppressed: SuppressionCause | None) -> Facts:
        """The facts. Raises _NotReadError when older entries would have to be looked at that were not read."""
        entries, counted, plan = kept.entries, kept.counted, ask.plan
        instants = [*(at for at, _ in counted), *(entry.at for entry in entries)]

        def since(at: int) -> list[Entry]:
            if kept.older is None and at <= kept.document.older:
                raise _NotReadError
            return [entry for entry in kept.all() if entry.at >= at]

        if ask.take and kept.older is None and (kept.now <= kept.document.older or kept.document.has_most()):
            raise _NotReadError  # an entry may have to be put among the older ones
        return weigh(
            ask,
            kept.now,
            plan.starts(kept.now),
            instants,
            self._mixture(kept),
            lambda: chain((self._kinds[number] for _, number in counted), (entry.kind for entry in entries)),
            since,
            [Total(self._kinds[int.from_bytes(name, "big")], int(number)) for name, number in kept.totals.items()],
            kept.said,
            suppressed,
            self._same_id(kept, ask.entry),
        )

    def _packed_words(self, said: Mapping[Scope, Said]) -> bytes:
        return packed_words({self._scope_ids[scope]: word for scope, word in said.items()})

    # Settling and recording

    def confirm(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Step[Settlement]:
        """`port.Ledger.confirm`."""

        def attempt() -> Step[tuple[int, Settlement]]:
            kept = yield from self._read_for(customer, entry, now)
            found = self._reservation(kept, entry)
            said = kept.said
            settlement = Settlement(
                kept.now,
                found.stage if found else None,
                (found or entry).lease_end,
                tuple(said.get(scope, NOTHING) if scope else NOTHING for scope in scopes),
            )
            if found is None:
                yield from self._put(kept, entry._replace(at=kept.now, stage=Stage.CONFIRMED))
            elif found.stage is Stage.RESERVED:
                self._replace(kept, found, found._replace(stage=Stage.CONFIRMED))
            else:
                return 1, settlement
            return (yield from self._change(customer, kept)), settlement

        return (yield from self._until_done(attempt))

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Step[Settlement]:
        """`port.Ledger.release`."""

        def attempt() -> Step[tuple[int, Settlement]]:
            kept = yield from self._read_for(customer, entry, now)
            found = self._reservation(kept, entry)
            is_open = found is not None and found.stage is Stage.RESERVED
            if found is not None and is_open:
                self._replace(kept, found, None)
                kept.now = now if now is not None else kept.now
            settlement = Settlement(kept.now, found.stage if found else None, (found or entry).lease_end, ())
            return ((yield from self._change(customer, kept)) if is_open else 1), settlement

        return (yield from self._until_done(attempt))

    def _reservation(self, kept: _Kept, entry: Entry) -> Entry | None:
        return next((other for other in self._same_id(kept, entry) if other.token == entry.token), None)

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Step[Recorded]:
        """`port.Ledger.record`."""

        def attempt() -> Step[tuple[int, Recorded]]:
            kept = yield from self._read(customer, _OLDER, now)
            fact = stamped(entry, kept.now)
            verdict = recordable(fact, self._same_id(kept, fact), keep, kept.now)
            if isinstance(verdict, Entry):
                self._replace(kept, verdict, verdict._replace(stage=Stage.CONFIRMED))
                return (yield from self._change(customer, kept)), Recorded.KEPT
            if verdict is Recorded.KEPT:
                yield from self._put(kept, fact)
                return (yield from self._change(customer, kept)), Recorded.KEPT
            return 1, verdict

        return (yield from self._until_done(attempt))

    def history(self, customer: bytes) -> Step[list[Entry]]:
        """`port.Ledger.history`."""
        kept = yield from self._read(customer, _OLDER, None)
        return kept.all()

    # Pruning

    def oldest_kept(self, keep: int, now: int | None) -> Step[int]:
        """Before which instant facts are pruned: by the longest horizon of any namespace."""
        bound = yield Call(None, (), (b"HGETALL", self.keys.namespaces))
        keeps = [int(value) for name, value in pairs(bound).items() if name.startswith(b"keep:")]
        clock = (yield from self._clock()) if now is None else now
        return clock - max([keep, *keeps])

    def _clock(self) -> Step[int]:
        seconds, microseconds = yield Call(None, (), (b"TIME",))
        return int(seconds) * 1_000 + int(microseconds) // 1_000

    def prune(self, cursor: int, since: int) -> Step[tuple[int, int]]:
        """Prunes the next customers; where to go on (0: that was all), and how many entries went."""
        found = yield Call(None, (), (b"SCAN", cursor, b"MATCH", self.keys.documents, b"COUNT", _PAGE))
        following, documents = found
        gone = yield from all_of([self._prune(document, since) for document in documents])
        return int(following), sum(gone)

    def _prune(self, document: bytes, since: int) -> Step[int]:

        def attempt() -> Step[tuple[int, int]]:
            clock, seen, *rest = yield Call(READ, beside(document), (_OLDER | _TOTALS,))
            kept = yield from self._kept(seen, clock, *rest)
            old = [entry for entry in kept.all() if entry.at < since]
            if not old:
                return 1, 0
            yield from self._complete_from(since)
            for kind, number in Counter(entry.kind for entry in old if entry.kind.event is None).items():
                kept.order(b"HINCRBY", 4, three(self._kind_ids[kind]), number)
            if kept.older and kept.older[0].at < since:
                kept.older = [entry for entry in kept.older if entry.at >= since]
                self._write_older(kept, {entry.id for entry in old})
            kept.entries = [entry for entry in kept.entries if entry.at >= since]
            if not kept.older:
                kept.document = kept.document._replace(older=0)
            self._repack(kept)
            return (yield from self._change_at(document, kept)), len(old)

        return (yield from self._until_done(attempt))

    def _complete_from(self, since: int) -> Step[None]:
        """Says that nothing before an instant is whole, before the first of it goes; the latest such word stands."""
        yield Call(None, (), (b"ZADD", self.keys.complete_since, b"GT", since, b"since"))

    def complete_since(self) -> Step[int]:
        """`port.Ledger.complete_since`."""
        known = yield Call(None, (), (b"ZSCORE", self.keys.complete_since, b"since"))
        return int(float(known or 0))

    # Consents

    def say(self, utterances: Sequence[Utterance], now: int | None) -> Step[list[int | None]]:
        """`port.Consents.say`."""
        clock = (yield from self._clock()) if now is None else now
        if any(word.at is not None and word.at > clock for word in utterances):
            return [None if word.at is not None and word.at > clock else word.at for word in utterances]
        yield from self._give_numbers({word.scope for word in utterances})
        hers: dict[bytes, list[int]] = {}
        for place, word in enumerate(utterances):
            hers.setdefault(word.customer, []).append(place)
        said = yield from all_of(
            [self._say(customer, [utterances[place] for place in places], clock) for customer, places in hers.items()]
        )
        instants: list[int | None] = [None] * len(utterances)
        for places, found in zip(hers.values(), said, strict=True):
            for place, at in zip(places, found, strict=True):
                instants[place] = at
        return instants

    def _say(self, customer: bytes, utterances: Sequence[Utterance], clock: int) -> Step[list[int]]:
        """Keeps words of one customer, none of which lies in the future; their instants."""
        mine = os.urandom(_TOKEN_LENGTH)
        tried: list[tuple[list[int], bytes]] = []

        def attempt() -> Step[tuple[int, list[int]]]:
            kept = yield from self._read(customer, _SPOKEN if tried else 0, clock)
            for instants, name in tried:
                if kept.spoken.get(name, b"").startswith(mine):  # it was done, and the answer was lost: not again
                    return 1, instants
            said, instants, name = dict(kept.said), [], b""
            for word in utterances:
                last = max((max(words) for words in said.values()), default=0)
                at = max(clock, last + 1) if word.at is None else word.at
                said[word.scope] = merge(said.get(word.scope, NOTHING), word.word, at)
                instants.append(at)
                name = three(self._scope_ids[word.scope]) + bytes((_WORDS.index(word.word),)) + six(at)
                kept.order(b"HSETNX", 5, name, mine + word.evidence.encode())
            tried.append((instants, name))
            kept.document = kept.document._replace(words=self._packed_words(said))
            return (yield from self._change(customer, kept, lasts=True)), instants

        return (yield from self._until_done(attempt))

    def said(
        self, customer: bytes, scopes: Sequence[Scope | None], now: int | None
    ) -> Step[tuple[int, tuple[Said, ...]]]:
        """`port.Consents.said`."""
        clock, seen, *rest = yield Call(READ, beside(self.keys.document(customer)), (0,))
        kept = yield from self._kept(seen, clock, *rest)
        said = kept.said
        return clock if now is None else now, tuple(said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)

    def spoken(self, customer: bytes) -> Step[list[Spoken]]:
        """`port.Consents.spoken`."""
        kept = yield from self._read(customer, _SPOKEN, None)
        words = [
            Spoken(
                self._scopes[int.from_bytes(name[:3], "big")],
                _WORDS[name[3]],
                int.from_bytes(name[4:], "big"),
                evidence[_TOKEN_LENGTH:].decode(),
            )
            for name, evidence in kept.spoken.items()
        ]
        return sorted(words, key=_by_instant)

    # Suppressions

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None) -> Step[bool]:
        """`port.Suppressions.suppress`."""
        key = self.keys.suppression(address)
        event = b"" if event_id is None else event_id.encode()
        return bool((yield Call(SUPPRESS, (key, key + b":e"), (cause.encode(), event, os.urandom(8)), lasts=True)))

    def unsuppress(self, address: bytes) -> Step[bool]:
        """`port.Suppressions.unsuppress`."""
        key = self.keys.suppression(address)
        mine = key + b":u:" + os.urandom(8).hex().encode()
        return bool((yield Call(UNSUPPRESS, (key, mine), (_REMEMBERED_SECONDS,), lasts=True)))

    def suppressed(self, address: bytes) -> Step[SuppressionCause | None]:
        """`port.Suppressions.suppressed`."""
        return _cause((yield Call(None, (), (b"GET", self.keys.suppression(address)))))

    # Profiles

    def profile(self, customer: bytes) -> Step[str]:
        """`port.Profiles.profile`."""
        kept = yield from self._read(customer, 0, None)
        return kept.document.profile

    def replace_profile(self, customer: bytes, old: str, new: str) -> Step[bool]:
        """`port.Profiles.replace_profile`."""

        def attempt() -> Step[tuple[int, bool]]:
            kept = yield from self._read(customer, 0, None)
            if kept.document.profile != old:
                return 1, False
            kept.document = kept.document._replace(profile=new)
            return (yield from self._change(customer, kept, lasts=True)), True

        return (yield from self._until_done(attempt))

    # Whose it is

    def settings(self) -> Step[dict[str, str]]:
        """What the server says of itself."""
        found: dict[str, str] = {}
        for section in (b"memory", b"persistence"):
            told: bytes = yield Call(None, (), (b"INFO", section))
            for line in told.decode().splitlines():
                name, _, value = line.partition(":")
                found[name] = value
        return found

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> Step[bytes]:
        """Who wrote under a namespace first; keeps how long its policy keeps facts."""
        key, name = self.keys.namespaces, namespace.hex().encode()
        yield Call(PROBE, self.keys.probes, ())
        yield Call(None, (), (b"HSETNX", key, name, fingerprint))
        owner: bytes = yield Call(None, (), (b"HGET", key, name))
        if owner == fingerprint:
            yield Call(None, (), (b"HSET", key, b"keep:" + name, keep))
        return owner


def _cause(value: bytes | None) -> SuppressionCause | None:
    """Why an address is suppressed; what follows the colon tells calls apart."""
    return cast("SuppressionCause", value.partition(b":")[0].decode()) if value else None


def side_by_side(steps: Sequence[Step[T]]) -> Step[list[T | FairtouchError]]:
    """Runs steps about different customers together: their calls go in one message. Each is brought to its end; an
    error stands in the place of a result.
    """
    results: dict[int, T | FairtouchError] = {}
    waiting: list[tuple[int, Step[T], Call]] = []
    replies: list[tuple[int, Step[T], Any]] = [(place, step, None) for place, step in enumerate(steps)]
    while replies:
        for place, step, reply in replies:
            try:
                call = step.throw(reply) if isinstance(reply, FairtouchError) else step.send(reply)
                waiting.append((place, step, cast("Call", call)))
            except StopIteration as done:
                results[place] = done.value
            except FairtouchError as error:
                results[place] = error
        answers = (yield [call for _, _, call in waiting]) if waiting else []
        replies = [(place, step, answer) for (place, step, _), answer in zip(waiting, answers, strict=True)]
        waiting = []
    return [results[place] for place in range(len(steps))]


def all_of(steps: Sequence[Step[T]]) -> Step[list[T]]:
    """The same where all have to succeed. Raises the first error, after the others came to their end."""
    results = yield from side_by_side(steps)
    for result in results:
        if isinstance(result, FairtouchError):
            raise result
    return cast("list[T]", results)
