"""The reference store: plain dictionaries behind one lock. For tests, simulations and single processes that may
forget.

It is the shortest store that keeps the whole contract; what another store does differently from this one is a bug in
one of them.
"""

import threading
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Final

from fairtouch.clock import system_now
from fairtouch.consent import NOTHING, Said, Scope, merge
from fairtouch.errors import StoreError
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause, Total
from fairtouch.stores.memory_deferrals import MemoryDeferrals
from fairtouch.stores.port import WRITTEN_OTHERWISE, Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.weighing import holder, is_stale, recordable, stamped, weigh
from fairtouch.touch import Kind

_by_instant = attrgetter("at")


_NO_KINDS: Final[frozenset[Kind]] = frozenset()


@lru_cache(maxsize=8_192)
def _with_kind(kinds: frozenset[Kind], kind: Kind) -> frozenset[Kind]:
    """One set for all customers whose ledgers hold the same kinds: they are many, the sets are few."""
    return kinds | {kind}


@dataclass(slots=True)
class _Customer:
    """One customer. `instants` and `kinds` are those of the entries, `by_id` holds the entries under one id. Sets,
    tuples and mappings are replaced, never changed, so that answers may hold them.
    """

    entries: list[Entry] = field(default_factory=list)
    instants: list[int] = field(default_factory=list)
    kinds: frozenset[Kind] = _NO_KINDS
    by_id: dict[str, tuple[Entry, ...]] = field(default_factory=dict)
    totals: Counter[Kind] = field(default_factory=Counter)
    said: Mapping[Scope, Said] = field(default_factory=dict)
    spoken: list[Spoken] = field(default_factory=list)
    profile: str = ""

    def insert(self, entry: Entry) -> None:
        at, kind, _, touch_id, *_ = entry
        if not self.instants or at >= self.instants[-1]:
            self.entries.append(entry)
            self.instants.append(at)
        else:
            insort(self.entries, entry, key=_by_instant)
            insort(self.instants, at)
        if kind not in self.kinds:
            self.kinds = _with_kind(self.kinds, kind)
        known = self.by_id.get(touch_id)
        self.by_id[touch_id] = (entry,) if known is None else (*known, entry)

    def replace(self, old: Entry, new: Entry) -> None:
        """Puts the confirmed entry in the place of the reserved one."""
        self.entries[self._place(old)] = new
        self.by_id[old.id] = tuple(new if entry is old else entry for entry in self.by_id[old.id])

    def remove(self, entry: Entry) -> None:
        place = self._place(entry)
        self._take_out(slice(place, place + 1))

    def remove_before(self, at: int) -> list[Entry]:
        """What was removed."""
        return self._take_out(slice(0, bisect_left(self.instants, at)))

    def _take_out(self, places: slice) -> list[Entry]:
        removed = self.entries[places]
        del self.entries[places], self.instants[places]
        self.kinds = frozenset(entry.kind for entry in self.entries)
        for entry in removed:
            self.by_id[entry.id] = tuple(other for other in self.by_id[entry.id] if other is not entry)
            if not self.by_id[entry.id]:
                del self.by_id[entry.id]
        return removed

    def _place(self, entry: Entry) -> int:
        return self.entries.index(entry, bisect_left(self.instants, entry.at))

    def same_id(self, entry: Entry) -> Sequence[Entry]:
        known = self.by_id.get(entry.id)
        return () if known is None else [other for other in known if other.kind.event == entry.kind.event]

    def reservation(self, entry: Entry) -> Entry | None:
        return next((other for other in self.same_id(entry) if other.token == entry.token), None)

    def kind_of_each(self) -> Iterator[Kind]:
        return (entry.kind for entry in self.entries)

    def since(self, at: int) -> list[Entry]:
        return self.entries[bisect_left(self.instants, at) :]


class MemoryStore:
    """Keeps everything in this process; nothing survives it. Safe for threads."""

    durability: str = "memory"

    def __init__(self) -> None:
        self.deferrals: Final = MemoryDeferrals()
        self._lock = threading.RLock()
        self._customers: dict[bytes, _Customer] = defaultdict(_Customer)
        self._suppressed: dict[bytes, SuppressionCause] = {}
        self._heard: set[tuple[bytes, str]] = set()
        self._fingerprints: dict[bytes, bytes] = {}
        self._keeps: dict[bytes, int] = {}
        self._complete_since = 0

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        with self._lock:
            self._keeps[namespace] = keep
            if self._fingerprints.setdefault(namespace, fingerprint) != fingerprint:
                raise StoreError(WRITTEN_OTHERWISE)

    def close(self) -> None:
        """Nothing to let go of."""

    def _now(self, customer: _Customer, now: int | None) -> int:
        if now is not None:
            return now
        now, instants = system_now(), customer.instants
        return instants[-1] if instants and instants[-1] > now else now

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        with self._lock:
            return list(map(self._decide, asks))

    def _decide(self, ask: Ask) -> Facts | Stale:
        plan, key, entry, _, now, _ = ask
        customer = self._customers.get(key) or _Customer()
        now = self._now(customer, now)
        if is_stale(plan, customer.profile, now):
            return Stale(now, customer.profile)
        same_id = customer.same_id(entry)
        facts = weigh(
            ask,
            now,
            plan.starts(now),
            customer.instants,
            customer.kinds,
            customer.kind_of_each,
            customer.since,
            [Total(*total) for total in customer.totals.items()] if customer.totals else (),
            customer.said,
            None if entry.address is None else self._suppressed.get(entry.address),
            same_id,
        )
        if facts.taken and facts.holder is not Holder.OURS and facts.entry is not None:
            if facts.holder is Holder.IN_DOUBT and (replaced := holder(ask, same_id, now)[1]) is not None:
                customer.remove(replaced)
            customer.insert(facts.entry)
            self._customers[key] = customer
        return facts

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        with self._lock:
            kept = self._customers[customer]
            now = self._now(kept, now)
            found = kept.reservation(entry)
            if found is None:
                kept.insert(entry._replace(at=now, stage=Stage.CONFIRMED))
            elif found.stage is Stage.RESERVED:
                kept.replace(found, found._replace(stage=Stage.CONFIRMED))
            said = tuple(kept.said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)
            return Settlement(now, found.stage if found else None, (found or entry).lease_end, said)

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        with self._lock:
            kept = self._customers[customer]
            found = kept.reservation(entry)
            if found is not None and found.stage is Stage.RESERVED:
                kept.remove(found)
            return Settlement(self._now(kept, now), found.stage if found else None, (found or entry).lease_end, ())

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        with self._lock:
            kept = self._customers[customer]
            now = self._now(kept, now)
            entry = stamped(entry, now)
            verdict = recordable(entry, kept.same_id(entry), keep, now)
            if isinstance(verdict, Entry):
                kept.replace(verdict, verdict._replace(stage=Stage.CONFIRMED))
                return Recorded.KEPT
            if verdict is Recorded.KEPT:
                kept.insert(entry)
            return verdict

    def history(self, customer: bytes) -> list[Entry]:
        with self._lock:
            kept = self._customers.get(customer)
            return list(kept.entries) if kept else []

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        since = (system_now() if now is None else now) - max([keep, *self._keeps.values()])
        for customer in list(self._customers.values()):
            with self._lock:
                gone = self._prune(customer, since)
            if gone:
                yield gone

    def _prune(self, customer: _Customer, since: int) -> int:
        old = customer.remove_before(since)
        customer.totals.update(entry.kind for entry in old if entry.kind.event is None)
        if old:
            self._complete_since = max(self._complete_since, since)
        return len(old)

    def complete_since(self) -> int:
        return self._complete_since

    def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        with self._lock:
            clock = system_now() if now is None else now
            if any(word.at is not None and word.at > clock for word in utterances):
                return [None if word.at is not None and word.at > clock else word.at for word in utterances]
            return [self._say(word, clock) for word in utterances]

    def _say(self, word: Utterance, now: int) -> int:
        customer = self._customers[word.customer]
        said = customer.said.get(word.scope, NOTHING)
        last = max((max(words) for words in customer.said.values()), default=0)
        at = max(now, last + 1) if word.at is None else word.at
        customer.said = {**customer.said, word.scope: merge(said, word.word, at)}  # answers hold the mapping that was
        if not any((kept.scope, kept.word, kept.at) == (word.scope, word.word, at) for kept in customer.spoken):
            insort(customer.spoken, Spoken(word.scope, word.word, at, word.evidence), key=_by_instant)
        return at

    def said(self, customer: bytes, scopes: Sequence[Scope | None], now: int | None) -> tuple[int, tuple[Said, ...]]:
        with self._lock:
            kept = self._customers.get(customer) or _Customer()
            said = tuple(kept.said.get(scope, NOTHING) if scope else NOTHING for scope in scopes)
            return system_now() if now is None else now, said

    def spoken(self, customer: bytes) -> list[Spoken]:
        with self._lock:
            kept = self._customers.get(customer)
            return list(kept.spoken) if kept else []

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:  # noqa: ARG002
        with self._lock:
            if event_id is not None:
                if (address, event_id) in self._heard:
                    return False
                self._heard.add((address, event_id))
            is_new = address not in self._suppressed
            self._suppressed.setdefault(address, cause)
            return is_new

    def unsuppress(self, address: bytes) -> bool:
        with self._lock:
            return self._suppressed.pop(address, None) is not None

    def suppressed(self, address: bytes) -> SuppressionCause | None:
        with self._lock:
            return self._suppressed.get(address)

    def profile(self, customer: bytes) -> str:
        with self._lock:
            kept = self._customers.get(customer)
            return kept.profile if kept else ""

    def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        with self._lock:
            kept = self._customers[customer]
            if kept.profile != old:
                return False
            kept.profile = new
            return True
