"""The embedded store: one durable file, many processes and threads on one machine.

A reservation is one BEGIN IMMEDIATE transaction. Consents, suppressions and profiles are on the disk before a call
returns (synchronous = FULL); reservations survive a crash of the process, and reach the disk with the next checkpoint
or consent.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast

from fairtouch.clock import system_now
from fairtouch.consent import NOTHING, Said, Scope, Word, merge
from fairtouch.errors import StoreError
from fairtouch.facts import Ask, Entry, Facts, Holder, Stage, Stale, SuppressionCause, Total
from fairtouch.instants import INSTANT_MAX
from fairtouch.stores.port import WRITTEN_OTHERWISE, Recorded, Settlement, Spoken, Utterance
from fairtouch.stores.sqlite_connections import Connections
from fairtouch.stores.weighing import holder, is_stale, lease_end, oldest_counted, recordable, stamped, weigh
from fairtouch.touch import Kind

_SELECT: Final = "SELECT at, kind, subject, id, token, stage, lease_end, address FROM entries WHERE customer = ? AND "
_SINCE: Final = _SELECT + "at >= ? ORDER BY at, id, token"
_SAME_ID: Final = _SELECT + "id = ? ORDER BY at, token"
_NEWEST: Final = "SELECT coalesce(max(at), 0) FROM entries WHERE customer = ?"
_INSERT: Final = (
    "INSERT INTO entries (customer, at, id, token, kind, subject, stage, lease_end, address) VALUES (?,?,?,?,?,?,?,?,?)"
)
_DELETE: Final = "DELETE FROM entries WHERE customer = ? AND at = ? AND id = ? AND token = ?"
_CONFIRM: Final = "UPDATE entries SET stage = 1 WHERE customer = ? AND at = ? AND id = ? AND token = ?"
_TOTALS: Final = "SELECT kind, count FROM totals WHERE customer = ?"
_SAID: Final = (
    "SELECT category, channel, topic, opted_in, confirmed, opted_out, requested FROM consents WHERE customer = ?"
)
_SAY: Final = "INSERT OR REPLACE INTO consents VALUES (?,?,?,?,?,?,?,?)"
_BOUND: Final = "SELECT fingerprint, keep FROM namespaces WHERE namespace = ?"
_BIND: Final = """
    INSERT INTO namespaces VALUES (?1, ?2, ?3)
    ON CONFLICT (namespace) DO UPDATE SET keep = excluded.keep WHERE fingerprint = excluded.fingerprint
"""
_LAST_WORD: Final = """
    SELECT coalesce(max(max(opted_in, confirmed, opted_out, requested)), 0) FROM consents WHERE customer = ?
"""
_SPOKEN: Final = "SELECT category, channel, topic, word, at, evidence FROM spoken WHERE customer = ? ORDER BY at, rowid"
_PROFILE: Final = "SELECT profile FROM profiles WHERE customer = ?"
_SUPPRESSED: Final = "SELECT cause FROM suppressions WHERE address = ?"
_HEAR: Final = "INSERT OR IGNORE INTO suppression_events VALUES (?, ?, ?)"
_LAST_OF_STEP: Final = """
    SELECT max(customer) FROM (SELECT DISTINCT customer FROM entries WHERE customer > ? ORDER BY customer LIMIT 500)
"""
_COLLAPSE: Final = """
    INSERT INTO totals (customer, kind, count)
    SELECT customer, kind, count(*) FROM entries JOIN kinds ON kinds.id = kind
    WHERE customer > ? AND customer <= ? AND at < ? AND json_extract(spelling, '$[5]') IS NULL GROUP BY customer, kind
    ON CONFLICT (customer, kind) DO UPDATE SET count = count + excluded.count
"""
_PRUNE: Final = "DELETE FROM entries WHERE customer > ? AND customer <= ? AND at < ?"

Row = tuple[int, int, str | None, str, bytes, int, int, bytes | None]


class SqliteStore:
    """Keeps everything in the SQLite file at `path`. Safe for threads, processes and forks.

    Raises StoreError when the file is damaged, of a newer fairtouch, or of something else; StoreUnavailable when it
    cannot be used now.
    """

    def __init__(self, path: str) -> None:
        self._connections = Connections(path)
        self._kinds: dict[int, Kind] = {}
        self._kind_ids: dict[Kind, int] = {}

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        key = namespace.hex()
        with self._connections.transaction("read") as connection:
            known = connection.execute(_BOUND, (key,)).fetchone()
        if known is None or (known[0] == fingerprint and known[1] != keep):
            with self._connections.transaction("durable") as connection:
                connection.execute(_BIND, (key, fingerprint, keep))
                known = connection.execute(_BOUND, (key,)).fetchone()
        if known[0] != fingerprint:
            raise StoreError(WRITTEN_OTHERWISE)

    def close(self) -> None:
        self._connections.close()

    # Kinds

    def _kind_id(self, kind: Kind) -> int:
        """The number of a kind, given in a step of its own: a rolled-back number must not stay in this cache."""
        known = self._kind_ids.get(kind)
        if known is None:
            spelling = json.dumps(kind, ensure_ascii=False)
            with self._connections.transaction("durable") as connection:
                connection.execute("INSERT OR IGNORE INTO kinds (spelling) VALUES (?)", (spelling,))
                known = int(connection.execute("SELECT id FROM kinds WHERE spelling = ?", (spelling,)).fetchone()[0])
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
            with _understood():
                channel, category, topic, campaign, tags, event = json.loads(row[0])
                kind = self._kinds[number] = Kind(channel, category, topic, campaign, tuple(tags), event)
        return kind

    # Reading

    def _entry(self, connection: sqlite3.Connection, row: Row) -> Entry:
        at, kind, subject, touch_id, token, stage, end, address = row
        known = self._kinds.get(kind) or self._kind(connection, kind)
        if not 0 < at < INSTANT_MAX:
            raise ValueError("an instant that no calendar has")
        return Entry(at, known, subject, touch_id, token, Stage(stage), end, address)

    def _entries(self, connection: sqlite3.Connection, query: str, *values: object) -> list[Entry]:
        with _understood():
            return [self._entry(connection, row) for row in connection.execute(query, values)]

    def _same_id(self, connection: sqlite3.Connection, customer: bytes, entry: Entry, since: int) -> list[Entry]:
        found = self._entries(connection, _SAME_ID, customer, entry.id)
        return [other for other in found if other.at >= since and other.kind.event == entry.kind.event]

    def _now(self, connection: sqlite3.Connection, customer: bytes, now: int | None) -> int:
        return max(system_now(), connection.execute(_NEWEST, (customer,)).fetchone()[0]) if now is None else now

    def _said(
        self, connection: sqlite3.Connection, customer: bytes, scopes: Sequence[Scope | None]
    ) -> tuple[Said, ...]:
        said = {(row[0], row[1], row[2]): Said(*row[3:]) for row in connection.execute(_SAID, (customer,))}
        if not said:
            return (NOTHING,) * len(scopes)
        return tuple(said.get(_key(scope), NOTHING) if scope is not None else NOTHING for scope in scopes)

    # Deciding

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        take = any(ask.take for ask in asks)
        if take:
            for ask in asks:
                self._kind_id(ask.entry.kind)
        with self._connections.transaction("write" if take else "read") as connection:
            return [self._decide(connection, ask) for ask in asks]

    def _decide(self, connection: sqlite3.Connection, ask: Ask) -> Facts | Stale:
        customer, entry = ask.customer, ask.entry
        clock = system_now() if ask.now is None else ask.now
        entries = self._entries(connection, _SINCE, customer, oldest_counted(ask, clock))
        now = max(clock, entries[-1].at) if ask.now is None and entries else clock
        profile = connection.execute(_PROFILE, (customer,)).fetchone()
        stale = is_stale(ask, profile[0] if profile else "", now)
        if stale is not None:
            return stale
        held = holder(ask, self._same_id(connection, customer, entry, now - ask.plan.keep), now)
        suppressed = connection.execute(_SUPPRESSED, (entry.address,)).fetchone() if entry.address else None
        said = self._said(connection, customer, ask.plan.scopes)
        totals = self._totals(connection, ask)
        facts = weigh(ask, now, entries, totals, said, suppressed[0] if suppressed else None, held)
        if not facts.taken or facts.holder is Holder.OURS:
            return facts
        if held[1] is not None:
            connection.execute(_DELETE, (customer, held[1].at, held[1].id, held[1].token))
        taken = entry._replace(at=now, lease_end=lease_end(ask, now))
        self._insert(connection, customer, taken)
        return facts._replace(entry=taken)

    def _totals(self, connection: sqlite3.Connection, ask: Ask) -> Iterable[Total]:
        if all(condition.span or condition.since >= 0 for condition in ask.plan.conditions):
            return ()
        return [
            Total(self._kind(connection, kind), count) for kind, count in connection.execute(_TOTALS, (ask.customer,))
        ]

    def _insert(self, connection: sqlite3.Connection, customer: bytes, entry: Entry) -> None:
        values = (customer, entry.at, entry.id, entry.token, self._kind_ids[entry.kind], entry.subject)
        connection.execute(_INSERT, (*values, int(entry.stage), entry.lease_end, entry.address))

    # Settling and recording

    def _reservation(self, connection: sqlite3.Connection, customer: bytes, entry: Entry) -> Entry | None:
        return next(
            (other for other in self._same_id(connection, customer, entry, 0) if other.token == entry.token), None
        )

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        self._kind_id(entry.kind)
        with self._connections.transaction("write") as connection:
            now = self._now(connection, customer, now)
            found = self._reservation(connection, customer, entry)
            if found is None:
                self._insert(connection, customer, entry._replace(at=now, stage=Stage.CONFIRMED))
            elif found.stage is Stage.RESERVED:
                connection.execute(_CONFIRM, (customer, found.at, found.id, found.token))
            said = self._said(connection, customer, scopes)
            return Settlement(now, found.stage if found else None, (found or entry).lease_end, said)

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        with self._connections.transaction("write") as connection:
            found = self._reservation(connection, customer, entry)
            if found is not None and found.stage is Stage.RESERVED:
                connection.execute(_DELETE, (customer, found.at, found.id, found.token))
            now = self._now(connection, customer, now)
            return Settlement(now, found.stage if found else None, (found or entry).lease_end, ())

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        self._kind_id(entry.kind)
        with self._connections.transaction("write") as connection:
            now = self._now(connection, customer, now)
            entry = stamped(entry, now)
            verdict = recordable(entry, self._same_id(connection, customer, entry, now - keep), keep, now)
            if isinstance(verdict, Entry):
                connection.execute(_CONFIRM, (customer, verdict.at, verdict.id, verdict.token))
                return Recorded.KEPT
            if verdict is Recorded.KEPT:
                self._insert(connection, customer, entry)
            return verdict

    def history(self, customer: bytes) -> list[Entry]:
        with self._connections.transaction("read") as connection:
            return self._entries(connection, _SINCE, customer, 0)

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        since = (system_now() if now is None else now) - max(keep, self._longest_keep())
        after = b""
        while True:
            with self._connections.transaction("durable") as connection:
                last = connection.execute(_LAST_OF_STEP, (after,)).fetchone()[0]
                if last is None:
                    return
                connection.execute(_COLLAPSE, (after, last, since))
                gone = connection.execute(_PRUNE, (after, last, since)).rowcount
                if gone:
                    known = _complete_since(connection)
                    connection.execute("INSERT OR REPLACE INTO meta VALUES ('complete_since', ?)", (max(since, known),))
            if gone:
                yield gone
            after = last

    def _longest_keep(self) -> int:
        with self._connections.transaction("read") as connection:
            return int(connection.execute("SELECT coalesce(max(keep), 0) FROM namespaces").fetchone()[0])

    def complete_since(self) -> int:
        with self._connections.transaction("read") as connection:
            return _complete_since(connection)

    # Consents, suppressions, profiles

    def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        with self._connections.transaction("durable") as connection:
            clock = system_now() if now is None else now
            if any(word.at is not None and word.at > clock for word in utterances):
                return [None if word.at is not None and word.at > clock else word.at for word in utterances]
            return [self._say(connection, word, clock) for word in utterances]

    def _say(self, connection: sqlite3.Connection, word: Utterance, now: int) -> int:
        key = _key(word.scope)
        said = self._said(connection, word.customer, [word.scope])[0]
        at = (
            max(now, connection.execute(_LAST_WORD, (word.customer,)).fetchone()[0] + 1) if word.at is None else word.at
        )
        connection.execute(_SAY, (word.customer, *key, *merge(said, word.word, at)))
        connection.execute(
            "INSERT OR IGNORE INTO spoken VALUES (?,?,?,?,?,?,?)", (word.customer, at, *key, word.word, word.evidence)
        )
        return at

    def said(self, customer: bytes, scopes: Sequence[Scope | None], now: int | None) -> tuple[int, tuple[Said, ...]]:
        with self._connections.transaction("read") as connection:
            return system_now() if now is None else now, self._said(connection, customer, scopes)

    def spoken(self, customer: bytes) -> list[Spoken]:
        with self._connections.transaction("read") as connection, _understood():
            return [
                Spoken(Scope(category or None, channel or None, topic or None), Word(word), at, evidence)
                for category, channel, topic, word, at, evidence in connection.execute(_SPOKEN, (customer,))
            ]

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:
        at = system_now() if now is None else now
        with self._connections.transaction("durable") as connection:
            if event_id is not None and not connection.execute(_HEAR, (address, event_id, at)).rowcount:
                return False
            return (
                connection.execute("INSERT OR IGNORE INTO suppressions VALUES (?, ?, ?)", (address, cause, at)).rowcount
                > 0
            )

    def unsuppress(self, address: bytes) -> bool:
        with self._connections.transaction("durable") as connection:
            return connection.execute("DELETE FROM suppressions WHERE address = ?", (address,)).rowcount > 0

    def suppressed(self, address: bytes) -> SuppressionCause | None:
        with self._connections.transaction("read") as connection:
            row = connection.execute(_SUPPRESSED, (address,)).fetchone()
            return cast("SuppressionCause", row[0]) if row else None

    def profile(self, customer: bytes) -> str:
        with self._connections.transaction("read") as connection:
            row = connection.execute(_PROFILE, (customer,)).fetchone()
            return row[0] if row else ""

    def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        with self._connections.transaction("durable") as connection:
            row = connection.execute(_PROFILE, (customer,)).fetchone()
            if (row[0] if row else "") != old:
                return False
            connection.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (customer, new))
            return True


@contextmanager
def _understood() -> Iterator[None]:
    """Around reading rows: what fairtouch never wrote is damage, and is never guessed at."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"a row holds what fairtouch never wrote ({error}); restore the file. Nothing was recorded"
        ) from error


def _key(scope: Scope) -> tuple[str, str, str]:
    return scope.category or "", scope.channel or "", scope.topic or ""


def _complete_since(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = 'complete_since'").fetchone()
    return int(row[0]) if row else 0
