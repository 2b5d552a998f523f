"""The embedded store: one durable file, many processes and threads on one machine.

A reservation is one BEGIN IMMEDIATE transaction that reads one row per table and writes one: the head of the
customer's ledger (see `sqlite_heads`). Everything that a call acknowledges is on the disk before it returns
(synchronous = FULL). A store that is `synchronous="normal"` keeps that for consents, suppressions and profiles alone:
its reservations survive a crash of the process, and a power cut may take the last of them back.

Rule: each verb is one step here, inside one transaction; how what it reads and writes stands in the file, the rooms
beside this one know.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, cast, get_args

from fairtouch.clock import system_now
from fairtouch.consent import Said, Scope
from fairtouch.errors import StoreError
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause
from fairtouch.stores import sqlite_pruning as pruning
from fairtouch.stores import sqlite_registers as registers
from fairtouch.stores.port import WRITTEN_OTHERWISE, Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.sqlite_connections import Connections, Synchronous
from fairtouch.stores.sqlite_deferrals import SqliteDeferrals
from fairtouch.stores.sqlite_kinds import Kinds
from fairtouch.stores.sqlite_ledgers import Ledger
from fairtouch.stores.weighing import holder, is_stale, recordable, stamped, weigh

_KEPT: Final = """
    SELECT place, heads.customer IS NOT NULL, profile, cause,
           category, channel, topic, opted_in, confirmed, opted_out, requested,
           older, instants, kinds, details, sum
    FROM asked LEFT JOIN heads ON heads.customer = asked.customer
    LEFT JOIN profiles ON profiles.customer = asked.customer
    LEFT JOIN consents ON consents.customer = asked.customer
    LEFT JOIN suppressions ON suppressions.address = asked.address
"""

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much


@dataclass(slots=True)
class _Kept:
    """What one read finds of a customer."""

    ledger: Ledger
    profile: str
    suppressed: SuppressionCause | None
    said: dict[Scope, Said]


class SqliteStore:
    """Keeps everything in the SQLite file at `path`. Safe for threads, processes and forks.

    `synchronous`: "full", or "normal" for reservations that may be lost in a power cut and never wait for the disk.
    Raises StoreError when the file is damaged, of a newer fairtouch, of something else, or on a network; and
    StoreUnavailable when it cannot be used now.
    """

    durability: str = "fsynced"  # of consents, suppressions and profiles, also where synchronous is normal

    def __init__(self, path: str, *, synchronous: Synchronous = "full") -> None:
        if synchronous not in get_args(Synchronous):
            raise StoreError(f"synchronous={synchronous!r}: write 'full' or 'normal' (nothing was opened)")
        self._connections = Connections(path, synchronous)
        self._kinds = Kinds(self._connections)
        self.deferrals: Final = SqliteDeferrals(self._connections)

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        key = namespace.hex()
        known = self._connections.read(registers.bound, key)
        if known is None or (known[0] == fingerprint and known[1] != keep):
            known = self._connections.write_through(registers.bind, key, fingerprint, keep)
        if known[0] != fingerprint:
            raise StoreError(WRITTEN_OTHERWISE)

    def close(self) -> None:
        self._connections.close()

    # Deciding

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        if not any(ask.take for ask in asks):
            return self._connections.read(self._decide_all, asks)
        for ask in asks:
            self._kinds.give_number(ask.entry.kind)
        return self._connections.write(self._decide_in_order, asks)

    def _decide_in_order(self, connection: sqlite3.Connection, asks: Sequence[Ask]) -> list[Facts | Stale]:
        if len({ask.customer for ask in asks}) == len(asks):
            return self._decide_all(connection, asks)
        return [self._decide_all(connection, [ask])[0] for ask in asks]  # what one takes, the next one finds

    def _decide_all(self, connection: sqlite3.Connection, asks: Sequence[Ask]) -> list[Facts | Stale]:
        clock = system_now()
        kept = self._kept(connection, [(ask.customer, ask.entry.address) for ask in asks])
        return [_decide(ask, found, clock) for ask, found in zip(asks, kept, strict=True)]

    def _kept(self, connection: sqlite3.Connection, keys: Sequence[tuple[bytes, bytes | None]]) -> list[_Kept]:
        """What is kept of customers and addresses, in one query."""
        asked = f"WITH asked (place, customer, address) AS (VALUES {','.join(['(?,?,?)'] * len(keys))})"
        values = chain.from_iterable((place, *key) for place, key in enumerate(keys))
        found: list[_Kept | None] = [None] * len(keys)
        for row in connection.execute(asked + _KEPT, tuple(values)):
            place, has_head, profile, cause = row[:4]
            kept = found[place]
            if kept is None:
                ledger = Ledger(connection, self._kinds, keys[place][0], row[11:] if has_head else None)
                kept = found[place] = _Kept(ledger, profile or "", cause, {})
            if row[4] is not None:
                scope = _tuple(Scope, (row[4] or None, row[5] or None, row[6] or None))
                kept.said[scope] = _tuple(Said, row[7:11])
        return cast("list[_Kept]", found)

    # Settling and recording

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        self._kinds.give_number(entry.kind)
        return self._connections.write(self._confirm, customer, entry, scopes, now)

    def _confirm(
        self,
        connection: sqlite3.Connection,
        customer: bytes,
        entry: Entry,
        scopes: Sequence[Scope | None],
        now: int | None,
    ) -> Settlement:
        ledger = Ledger.of(connection, self._kinds, customer)
        now = ledger.now(now, system_now())
        found = ledger.reservation(entry)
        if found is None:
            ledger.insert(entry._replace(at=now, stage=Stage.CONFIRMED))
        elif found.stage is Stage.RESERVED:
            ledger.confirm(found)
        said = registers.said(connection, customer, scopes)
        return Settlement(now, found.stage if found else None, (found or entry).lease_end, said)

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        return self._connections.write(self._release, customer, entry, now)

    def _release(self, connection: sqlite3.Connection, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        ledger = Ledger.of(connection, self._kinds, customer)
        found = ledger.reservation(entry)
        if found is not None and found.stage is Stage.RESERVED:
            ledger.remove(found)
        now = ledger.now(now, system_now())
        return Settlement(now, found.stage if found else None, (found or entry).lease_end, ())

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        self._kinds.give_number(entry.kind)
        return self._connections.write(self._record, customer, entry, keep, now)

    def _record(
        self, connection: sqlite3.Connection, customer: bytes, entry: Entry, keep: int, now: int | None
    ) -> Recorded:
        ledger = Ledger.of(connection, self._kinds, customer)
        now = ledger.now(now, system_now())
        entry = stamped(entry, now)
        verdict = recordable(entry, ledger.same_id(entry), keep, now)
        if isinstance(verdict, Entry):
            ledger.confirm(verdict)
            return Recorded.KEPT
        if verdict is Recorded.KEPT:
            ledger.insert(entry)
        return verdict

    def history(self, customer: bytes) -> list[Entry]:
        return self._connections.read(lambda connection: Ledger.of(connection, self._kinds, customer).since(0))

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        since = (system_now() if now is None else now) - max(keep, self._connections.read(pruning.longest_keep))
        after: bytes | None = b""
        while after is not None:
            gone, after = self._connections.write_through(pruning.prune, self._kinds, after, since)
            if gone:
                yield gone

    def complete_since(self) -> int:
        return self._connections.read(pruning.complete_since)

    # Consents, suppressions, profiles

    def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        return self._connections.write_through(registers.say_all, utterances, now)

    def said(self, customer: bytes, scopes: Sequence[Scope | None], now: int | None) -> tuple[int, tuple[Said, ...]]:
        return system_now() if now is None else now, self._connections.read(registers.said, customer, scopes)

    def spoken(self, customer: bytes) -> list[Spoken]:
        return self._connections.read(registers.spoken, customer)

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:
        return self._connections.write_through(registers.suppress, address, cause, event_id, now)

    def unsuppress(self, address: bytes) -> bool:
        return self._connections.write_through(registers.unsuppress, address)

    def suppressed(self, address: bytes) -> SuppressionCause | None:
        return self._connections.read(registers.suppressed, address)

    def profile(self, customer: bytes) -> str:
        return self._connections.read(registers.profile, customer)

    def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        return self._connections.write_through(registers.replace_profile, customer, old, new)


def _decide(ask: Ask, kept: _Kept, clock: int) -> Facts | Stale:
    plan, ledger = ask.plan, kept.ledger
    now = ledger.now(ask.now, clock)
    if is_stale(plan, kept.profile, now):
        return Stale(now, kept.profile)
    same_id = ledger.same_id(ask.entry)
    starts = plan.starts(now)
    instants, numbers = ledger.counted(min(starts, default=now))
    facts = weigh(
        ask,
        now,
        starts,
        instants,
        ledger.mixture(numbers),
        lambda: ledger.kind_of_each(numbers),
        ledger.since,
        ledger.totals() if plan.counts_totals else (),
        kept.said,
        kept.suppressed,
        same_id,
    )
    if facts.taken and facts.holder is not Holder.OURS and facts.entry is not None:
        if facts.holder is Holder.IN_DOUBT and (replaced := holder(ask, same_id, now)[1]) is not None:
            ledger.remove(replaced)
        ledger.insert(facts.entry)
    return facts
