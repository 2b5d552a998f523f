"""The embedded store: one durable file, many processes and threads on one machine.

A reservation is one BEGIN IMMEDIATE transaction that reads one row per table and writes one: the head of the
customer's ledger (see `sqlite_heads`). What has left the head stands in `entries`, one row each. Everything that a
call acknowledges is on the disk before it returns (synchronous = FULL). A store that is `synchronous="normal"` keeps
that for consents, suppressions and profiles alone: its reservations survive a crash of the process, and a power cut
may take the last of them back.
"""

import json
import sqlite3
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final, cast, get_args

from fairtouch.clock import system_now
from fairtouch.consent import Said, Scope
from fairtouch.errors import StoreError
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause, Total
from fairtouch.instants import INSTANT_MAX
from fairtouch.stores import sqlite_registers as registers
from fairtouch.stores.port import WRITTEN_OTHERWISE, Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.sqlite_connections import NOT_OURS, Connections, Synchronous, damage, understood
from fairtouch.stores.sqlite_heads import EMPTY, ENTRIES_MAX, Head, head_of, packed
from fairtouch.stores.weighing import holder, is_stale, recordable, stamped, weigh
from fairtouch.touch import Kind

_SELECT: Final = "SELECT at, kind, subject, id, token, stage, lease_end, address FROM entries WHERE customer = ? AND "
_SINCE: Final = _SELECT + "at >= ? ORDER BY at, id, token"
_SAME_ID: Final = _SELECT + "id = ? ORDER BY at, token"
_INSTANTS: Final = "SELECT kind, at FROM entries WHERE customer = ? AND at >= ? ORDER BY at"
_INSERT: Final = (
    "INSERT INTO entries (customer, at, id, token, kind, subject, stage, lease_end, address) VALUES (?,?,?,?,?,?,?,?,?)"
)
_DELETE: Final = "DELETE FROM entries WHERE customer = ? AND at = ? AND id = ? AND token = ?"
_CONFIRM: Final = "UPDATE entries SET stage = 1 WHERE customer = ? AND at = ? AND id = ? AND token = ?"
_HEAD: Final = "SELECT older, instants, kinds, details, sum FROM heads WHERE customer = ?"
_WRITE_HEAD: Final = "UPDATE heads SET older = ?, instants = ?, kinds = ?, details = ?, sum = ? WHERE customer = ?"
_NEW_HEAD: Final = "INSERT INTO heads (older, instants, kinds, details, sum, customer) VALUES (?,?,?,?,?,?)"
_KEPT: Final = """
    SELECT place, heads.customer IS NOT NULL, profile, cause,
           category, channel, topic, opted_in, confirmed, opted_out, requested,
           older, instants, kinds, details, sum
    FROM asked LEFT JOIN heads ON heads.customer = asked.customer
    LEFT JOIN profiles ON profiles.customer = asked.customer
    LEFT JOIN consents ON consents.customer = asked.customer
    LEFT JOIN suppressions ON suppressions.address = asked.address
"""
_TOTALS: Final = "SELECT kind, count FROM totals WHERE customer = ?"
_ADD_TOTAL: Final = """
    INSERT INTO totals (customer, kind, count) VALUES (?, ?, ?)
    ON CONFLICT (customer, kind) DO UPDATE SET count = count + excluded.count
"""
_HEADS_AFTER: Final = """
    SELECT customer, older, instants, kinds, details, sum FROM heads WHERE customer > ? ORDER BY customer LIMIT 500
"""
_COLLAPSE: Final = """
    INSERT INTO totals (customer, kind, count)
    SELECT customer, kind, count(*) FROM entries JOIN kinds ON kinds.id = kind
    WHERE customer > ? AND customer <= ? AND at < ? AND json_extract(spelling, '$[5]') IS NULL GROUP BY customer, kind
    ON CONFLICT (customer, kind) DO UPDATE SET count = count + excluded.count
"""
_PRUNE: Final = "DELETE FROM entries WHERE customer > ? AND customer <= ? AND at < ?"

_MIXTURES_MAX: Final = 8_192

Row = tuple[int, int, str | None, str, bytes, int, int, bytes | None]

_by_instant = attrgetter("at")
_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much


@dataclass(slots=True)
class _Kept:
    """What one read finds of a customer; `is_new`: no row holds a head yet."""

    customer: bytes
    is_new: bool
    head: Head
    profile: str
    suppressed: SuppressionCause | None
    said: dict[Scope, Said]


class SqliteStore:
    """Keeps everything in the SQLite file at `path`. Safe for threads, processes and forks.

    `synchronous`: "full", or "normal" for reservations that may be lost in a power cut and never wait for the disk.
    Raises StoreError when the file is damaged, of a newer fairtouch, of something else, or on a network; and
    StoreUnavailable when it cannot be used now.
    """

    def __init__(self, path: str, *, synchronous: Synchronous = "full") -> None:
        if synchronous not in get_args(Synchronous):
            raise StoreError(f"synchronous={synchronous!r}: write 'full' or 'normal' (nothing was opened)")
        self._connections = Connections(path, synchronous)
        self._kinds: dict[int, Kind] = {}
        self._kind_ids: dict[Kind, int] = {}
        self._mixtures: dict[tuple[int, ...], frozenset[Kind]] = {}

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        key = namespace.hex()
        known = self._connections.read(registers.bound, key)
        if known is None or (known[0] == fingerprint and known[1] != keep):
            known = self._connections.write_through(registers.bind, key, fingerprint, keep)
        if known[0] != fingerprint:
            raise StoreError(WRITTEN_OTHERWISE)

    def close(self) -> None:
        self._connections.close()

    # Kinds

    def _kind_id(self, kind: Kind) -> int:
        """The number of a kind, given in a step of its own: a rolled-back number must not stay in this cache."""
        known = self._kind_ids.get(kind)
        if known is None:
            known = self._connections.write_through(_number_of, json.dumps(kind, ensure_ascii=False))
            self._kind_ids[kind] = known
            self._kinds[known] = kind
        return known

    def _kind(self, connection: sqlite3.Connection, number: int) -> Kind:
        kind = self._kinds.get(number)
        if kind is None:
            row = connection.execute("SELECT spelling FROM kinds WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise StoreError(
                    "the table of kinds lost a row that ledgers refer to; restore the file. Nothing was recorded"
                )
            with understood():
                channel, category, topic, campaign, tags, event = json.loads(row[0])
                kind = self._kinds[number] = Kind(channel, category, topic, campaign, tuple(tags), event)
                self._kind_ids[kind] = number
        return kind

    # Reading

    def _rows(self, connection: sqlite3.Connection, query: str, *values: object) -> list[Entry]:
        with understood():
            return [self._entry(connection, row) for row in connection.execute(query, values)]

    def _entry(self, connection: sqlite3.Connection, row: Row) -> Entry:
        at, kind, subject, touch_id, token, stage, end, address = row
        if not 0 < at < INSTANT_MAX:
            raise ValueError("an instant that no calendar has")
        return Entry(at, self._kind(connection, kind), subject, touch_id, token, Stage(stage), end, address)

    def _unpacked(self, connection: sqlite3.Connection, head: Head) -> list[Entry]:
        with understood():
            return head.entries(lambda number: self._kind(connection, number))

    def _kept(self, connection: sqlite3.Connection, keys: Sequence[tuple[bytes, bytes | None]]) -> list[_Kept]:
        """What is kept of customers and addresses, in one query."""
        asked = f"WITH asked (place, customer, address) AS (VALUES {','.join(['(?,?,?)'] * len(keys))})"
        values = chain.from_iterable((place, *key) for place, key in enumerate(keys))
        found: list[_Kept | None] = [None] * len(keys)
        for row in connection.execute(asked + _KEPT, tuple(values)):
            place, has_head, profile, cause = row[:4]
            kept = found[place]
            if kept is None:
                head = _trusted(row[11:]) if has_head else EMPTY
                kept = found[place] = _Kept(keys[place][0], not has_head, head, profile or "", cause, {})
            if row[4] is not None:
                scope = _tuple(Scope, (row[4] or None, row[5] or None, row[6] or None))
                kept.said[scope] = _tuple(Said, row[7:11])
        return cast("list[_Kept]", found)

    def _same_id(self, connection: sqlite3.Connection, head: Head, customer: bytes, entry: Entry) -> list[Entry]:
        found = self._rows(connection, _SAME_ID, customer, entry.id) if head.older else []
        if head.mentions(entry.id):
            found += self._unpacked(connection, head)
        return [other for other in found if other.id == entry.id and other.kind.event == entry.kind.event]

    def _since(self, connection: sqlite3.Connection, customer: bytes, head: Head, at: int) -> list[Entry]:
        older = self._rows(connection, _SINCE, customer, at) if head.older >= at else []
        return older + [entry for entry in self._unpacked(connection, head) if entry.at >= at]

    def _counted(
        self, connection: sqlite3.Connection, kept: _Kept, since: int
    ) -> tuple[Sequence[int], Sequence[int], frozenset[Kind]]:
        """Of every entry since an instant, or more: the instants, the numbers of the kinds; and which kinds occur."""
        head = kept.head
        try:
            ats, numbers = head.ats(), head.numbers()
        except NOT_OURS as error:
            raise damage(error) from error
        if head.older >= since:
            rows = connection.execute(_INSTANTS, (kept.customer, since)).fetchall()
            ats, numbers = (*(row[1] for row in rows), *ats), (*(row[0] for row in rows), *numbers)
        return ats, numbers, self._mixtures.get(numbers) or self._mixture(connection, numbers)

    def _mixture(self, connection: sqlite3.Connection, numbers: tuple[int, ...]) -> frozenset[Kind]:
        """The kinds behind numbers, remembered: who gets the same campaigns has the same numbers."""
        if len(self._mixtures) >= _MIXTURES_MAX:
            self._mixtures.clear()
        kinds = frozenset(self._kind(connection, number) for number in set(numbers))
        if len(numbers) <= ENTRIES_MAX:
            self._mixtures[numbers] = kinds
        return kinds

    # Writing

    def _insert(
        self, connection: sqlite3.Connection, customer: bytes, head: Head, entry: Entry, *, is_new: bool
    ) -> None:
        """Puts an entry where its instant belongs."""
        if entry.at <= head.older:
            self._insert_rows(connection, customer, [entry])
            return
        if entry.at >= head.newest():
            self._write(connection, customer, head.with_newest(entry, self._kind_ids[entry.kind]), is_new=is_new)
            return
        entries = self._unpacked(connection, head)
        insort(entries, entry, key=_by_instant)
        self._write(connection, customer, self._packed(head.older, entries), is_new=is_new)

    def _write(self, connection: sqlite3.Connection, customer: bytes, head: Head, *, is_new: bool = False) -> None:
        """Writes a head; when it is full its older half becomes rows."""
        if head.is_full():
            entries = self._unpacked(connection, head)
            half = (len(entries) + 1) // 2
            while half < len(entries) and entries[half].at == entries[half - 1].at:
                half += 1  # an instant stands in one place
            self._insert_rows(connection, customer, entries[:half])
            head = self._packed(entries[half - 1].at, entries[half:])
        connection.execute(_NEW_HEAD if is_new else _WRITE_HEAD, (*head.row(), customer))

    def _packed(self, older: int, entries: Iterable[Entry]) -> Head:
        return packed(older, ((entry, self._kind_ids[entry.kind]) for entry in entries))

    def _insert_rows(self, connection: sqlite3.Connection, customer: bytes, entries: Iterable[Entry]) -> None:
        for at, kind, subject, touch_id, token, stage, lease_end, address in entries:
            row = (customer, at, touch_id, token, self._kind_ids[kind], subject, int(stage), lease_end, address)
            connection.execute(_INSERT, row)

    def _replace(self, connection: sqlite3.Connection, customer: bytes, old: Entry, new: Entry | None) -> None:
        """Puts the entry that is confirmed in the place of the one that was reserved, or nothing."""
        head = _head(connection, customer)
        if old.at <= head.older:
            connection.execute(_DELETE if new is None else _CONFIRM, (customer, old.at, old.id, old.token))
            return
        entries = self._unpacked(connection, head)
        place = entries.index(old)
        entries[place : place + 1] = [] if new is None else [new]
        self._write(connection, customer, self._packed(head.older, entries))

    # Deciding

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        if not any(ask.take for ask in asks):
            return self._connections.read(self._decide_all, asks)
        for ask in asks:
            if ask.entry.kind not in self._kind_ids:
                self._kind_id(ask.entry.kind)
        return self._connections.write(self._decide_in_order, asks)

    def _decide_in_order(self, connection: sqlite3.Connection, asks: Sequence[Ask]) -> list[Facts | Stale]:
        if len({ask.customer for ask in asks}) == len(asks):
            return self._decide_all(connection, asks)
        return [self._decide_all(connection, [ask])[0] for ask in asks]  # what one takes, the next one finds

    def _decide_all(self, connection: sqlite3.Connection, asks: Sequence[Ask]) -> list[Facts | Stale]:
        clock = system_now()
        kept = self._kept(connection, [(ask.customer, ask.entry.address) for ask in asks])
        return [self._decide(connection, ask, found, clock) for ask, found in zip(asks, kept, strict=True)]

    def _decide(self, connection: sqlite3.Connection, ask: Ask, kept: _Kept, clock: int) -> Facts | Stale:
        plan, customer, entry, _, now, _ = ask
        head = kept.head
        if now is None:
            newest = head.newest()
            now = max(clock, newest)
        if is_stale(plan, kept.profile, now):
            return Stale(now, kept.profile)
        may_be_known = entry.id and (head.older or head.mentions(entry.id))
        same_id = self._same_id(connection, head, customer, entry) if may_be_known else ()
        starts = plan.starts(now)
        instants, numbers, kinds = self._counted(connection, kept, min(starts, default=now))
        facts = weigh(
            ask,
            now,
            starts,
            instants,
            kinds,
            lambda: map(self._kinds.__getitem__, numbers),
            lambda since: self._since(connection, customer, head, since),
            self._totals(connection, ask) if plan.counts_totals else (),
            kept.said,
            kept.suppressed,
            same_id,
        )
        if facts.taken and facts.holder is not Holder.OURS and facts.entry is not None:
            if facts.holder is Holder.IN_DOUBT and (replaced := holder(ask, same_id, now)[1]) is not None:
                self._replace(connection, customer, replaced, None)
                head = _head(connection, customer)
            self._insert(connection, customer, head, facts.entry, is_new=kept.is_new)
        return facts

    def _totals(self, connection: sqlite3.Connection, ask: Ask) -> Iterable[Total]:
        return [
            Total(self._kind(connection, kind), count) for kind, count in connection.execute(_TOTALS, (ask.customer,))
        ]

    # Settling and recording

    def _found(self, connection: sqlite3.Connection, customer: bytes, head: Head, entry: Entry) -> Entry | None:
        same_id = self._same_id(connection, head, customer, entry)
        return next((other for other in same_id if other.token == entry.token), None)

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        self._kind_id(entry.kind)
        return self._connections.write(self._confirm, customer, entry, scopes, now)

    def _confirm(
        self,
        connection: sqlite3.Connection,
        customer: bytes,
        entry: Entry,
        scopes: Sequence[Scope | None],
        now: int | None,
    ) -> Settlement:
        head = _head(connection, customer)
        now = _now(head, now)
        found = self._found(connection, customer, head, entry)
        if found is None:
            sent = entry._replace(at=now, stage=Stage.CONFIRMED)
            self._insert(connection, customer, head, sent, is_new=head is EMPTY)
        elif found.stage is Stage.RESERVED:
            self._replace(connection, customer, found, found._replace(stage=Stage.CONFIRMED))
        said = registers.said(connection, customer, scopes)
        return Settlement(now, found.stage if found else None, (found or entry).lease_end, said)

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        return self._connections.write(self._release, customer, entry, now)

    def _release(self, connection: sqlite3.Connection, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        head = _head(connection, customer)
        found = self._found(connection, customer, head, entry)
        if found is not None and found.stage is Stage.RESERVED:
            self._replace(connection, customer, found, None)
            head = _head(connection, customer)
        return Settlement(_now(head, now), found.stage if found else None, (found or entry).lease_end, ())

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        self._kind_id(entry.kind)
        return self._connections.write(self._record, customer, entry, keep, now)

    def _record(
        self, connection: sqlite3.Connection, customer: bytes, entry: Entry, keep: int, now: int | None
    ) -> Recorded:
        head = _head(connection, customer)
        now = _now(head, now)
        entry = stamped(entry, now)
        verdict = recordable(entry, self._same_id(connection, head, customer, entry), keep, now)
        if isinstance(verdict, Entry):
            self._replace(connection, customer, verdict, verdict._replace(stage=Stage.CONFIRMED))
            return Recorded.KEPT
        if verdict is Recorded.KEPT:
            self._insert(connection, customer, head, entry, is_new=head is EMPTY)
        return verdict

    def history(self, customer: bytes) -> list[Entry]:
        return self._connections.read(
            lambda connection: self._since(connection, customer, _head(connection, customer), 0)
        )

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        since = (system_now() if now is None else now) - max(keep, self._connections.read(_longest_keep))
        after: bytes | None = b""
        while after is not None:
            gone, after = self._connections.write_through(self._prune, after, since)
            if gone:
                yield gone

    def _prune(self, connection: sqlite3.Connection, after: bytes, since: int) -> tuple[int, bytes | None]:
        """Prunes the next customers; how many entries went, and the last of these customers."""
        heads = connection.execute(_HEADS_AFTER, (after,)).fetchall()
        if not heads:
            return 0, None
        last = heads[-1][0]
        connection.execute(_COLLAPSE, (after, last, since))
        gone = connection.execute(_PRUNE, (after, last, since)).rowcount
        for customer, *columns in heads:
            gone += self._prune_head(connection, customer, _trusted(columns), since)
        if gone:
            known = _complete_since(connection)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('complete_since', ?)", (max(since, known),))
        return gone, last

    def _prune_head(self, connection: sqlite3.Connection, customer: bytes, head: Head, since: int) -> int:
        if not head.instants or head.ats()[0] >= since:
            return 0
        entries = self._unpacked(connection, head)
        old = [entry for entry in entries if entry.at < since]
        for kind, number in Counter(entry.kind for entry in old if entry.kind.event is None).items():
            connection.execute(_ADD_TOTAL, (customer, self._kind_ids[kind], number))
        self._write(connection, customer, self._packed(head.older, entries[len(old) :]))
        return len(old)

    def complete_since(self) -> int:
        return self._connections.read(_complete_since)

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


def _trusted(columns: Sequence[Any]) -> Head:
    try:
        return head_of(*columns)
    except NOT_OURS as error:
        raise damage(error) from error


def _now(head: Head, now: int | None) -> int:
    return max(system_now(), head.newest()) if now is None else now


def _head(connection: sqlite3.Connection, customer: bytes) -> Head:
    row = connection.execute(_HEAD, (customer,)).fetchone()
    return _trusted(row) if row else EMPTY


def _number_of(connection: sqlite3.Connection, spelling: str) -> int:
    connection.execute("INSERT OR IGNORE INTO kinds (spelling) VALUES (?)", (spelling,))
    return int(connection.execute("SELECT id FROM kinds WHERE spelling = ?", (spelling,)).fetchone()[0])


def _longest_keep(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(keep), 0) FROM namespaces").fetchone()[0])


def _complete_since(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = 'complete_since'").fetchone()
    return int(row[0]) if row else 0
