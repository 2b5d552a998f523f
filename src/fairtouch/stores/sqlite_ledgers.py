"""A customer's ledger in a fairtouch database: read, and written where each entry belongs.

Rule 1: a ledger lives inside one transaction that somebody else holds. It knows its head (see `sqlite_heads`) as it
stands in the row, and reads `entries`, where the older ones have a row each, only when the head says that something is
there. Rule 2: what it writes it also holds, so it need not read twice.
"""

import sqlite3
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from fairtouch.facts import Entry, Stage, Total
from fairtouch.instants import INSTANT_MAX
from fairtouch.stores.sqlite_connections import NOT_OURS, damage, understood
from fairtouch.stores.sqlite_heads import EMPTY, Head, head_of, packed
from fairtouch.stores.sqlite_kinds import Kinds
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
_TOTALS: Final = "SELECT kind, count FROM totals WHERE customer = ?"
_ADD_TOTAL: Final = """
    INSERT INTO totals (customer, kind, count) VALUES (?, ?, ?)
    ON CONFLICT (customer, kind) DO UPDATE SET count = count + excluded.count
"""

Row = tuple[int, int, str | None, str, bytes, int, int, bytes | None]

_by_instant = attrgetter("at")


class Ledger:
    """The touches and events of one customer; `columns` are those of her row in `heads`, None when she has none."""

    __slots__ = ("_connection", "_customer", "_head", "_is_new", "_kinds")

    def __init__(
        self, connection: sqlite3.Connection, kinds: Kinds, customer: bytes, columns: Sequence[Any] | None
    ) -> None:
        self._connection, self._kinds, self._customer = connection, kinds, customer
        self._is_new = columns is None
        self._head: Head = EMPTY if columns is None else _trusted(columns)

    @classmethod
    def of(cls, connection: sqlite3.Connection, kinds: Kinds, customer: bytes) -> "Ledger":
        """The ledger of a customer, as it stands now."""
        return cls(connection, kinds, customer, connection.execute(_HEAD, (customer,)).fetchone())

    # Reading

    def now(self, given: int | None, clock: int) -> int:
        """The caller's now, else the later of the clock and the newest entry."""
        return max(clock, self._head.newest()) if given is None else given

    def same_id(self, entry: Entry) -> list[Entry]:
        """The entries under an entry's id: touches for a touch, the same events for an event."""
        found = self._rows(_SAME_ID, entry.id) if entry.id and self._head.older else []
        if self._head.mentions(entry.id):
            found += self._unpacked()
        return [other for other in found if other.id == entry.id and other.kind.event == entry.kind.event]

    def reservation(self, entry: Entry) -> Entry | None:
        """The entry under an entry's id and token."""
        return next((other for other in self.same_id(entry) if other.token == entry.token), None)

    def since(self, at: int) -> list[Entry]:
        """The entries at or after an instant, oldest first."""
        older = self._rows(_SINCE, at) if self._head.older >= at else []
        return older + [entry for entry in self._unpacked() if entry.at >= at]

    def counted(self, since: int) -> tuple[Sequence[int], tuple[int, ...]]:
        """Of every entry since an instant, or more, oldest first: the instants, and the numbers of the kinds."""
        head = self._head
        try:
            ats, numbers = head.ats(), head.numbers()
        except NOT_OURS as error:
            raise damage(error) from error
        if head.older >= since:
            rows = self._connection.execute(_INSTANTS, (self._customer, since)).fetchall()
            ats, numbers = (*(row[1] for row in rows), *ats), (*(row[0] for row in rows), *numbers)
        return ats, numbers

    def mixture(self, numbers: tuple[int, ...]) -> frozenset[Kind]:
        """The kinds behind numbers."""
        return self._kinds.mixture(self._connection, numbers)

    def kind_of_each(self, numbers: Iterable[int]) -> Iterator[Kind]:
        """The kind behind each number."""
        return map(self._kind, numbers)

    def totals(self) -> list[Total]:
        """What was pruned."""
        rows = self._connection.execute(_TOTALS, (self._customer,))
        return [Total(self._kind(number), count) for number, count in rows]

    def _kind(self, number: int) -> Kind:
        return self._kinds.kind(self._connection, number)

    def _rows(self, query: str, value: object) -> list[Entry]:
        with understood():
            return [self._entry(row) for row in self._connection.execute(query, (self._customer, value))]

    def _entry(self, row: Row) -> Entry:
        at, kind, subject, touch_id, token, stage, end, address = row
        if not 0 < at < INSTANT_MAX:
            raise ValueError("an instant that no calendar has")
        return Entry(at, self._kind(kind), subject, touch_id, token, Stage(stage), end, address)

    def _unpacked(self) -> list[Entry]:
        with understood():
            return self._head.entries(self._kind)

    # Writing

    def insert(self, entry: Entry) -> None:
        """Puts an entry where its instant belongs."""
        head = self._head
        if entry.at <= head.older:
            self._insert_rows([entry])
        elif entry.at >= head.newest():
            self._write(head.with_newest(entry, self._kinds.number(entry.kind)))
        else:
            entries = self._unpacked()
            insort(entries, entry, key=_by_instant)
            self._write(self._packed(head.older, entries))

    def confirm(self, reserved: Entry) -> None:
        """The touch that was reserved was sent."""
        if reserved.at <= self._head.older:
            self._connection.execute(_CONFIRM, (self._customer, reserved.at, reserved.id, reserved.token))
        else:
            self._put_in_place(reserved, [reserved._replace(stage=Stage.CONFIRMED)])

    def remove(self, entry: Entry) -> None:
        """Takes an entry out."""
        if entry.at <= self._head.older:
            self._connection.execute(_DELETE, (self._customer, entry.at, entry.id, entry.token))
        else:
            self._put_in_place(entry, [])

    def prune_head(self, since: int) -> int:
        """Collapses what the head holds from before an instant into totals; how many entries went."""
        if not self._head.instants or self._head.ats()[0] >= since:
            return 0
        entries = self._unpacked()
        old = [entry for entry in entries if entry.at < since]
        for kind, count in Counter(entry.kind for entry in old if entry.kind.event is None).items():
            self._connection.execute(_ADD_TOTAL, (self._customer, self._kinds.number(kind), count))
        self._write(self._packed(self._head.older, entries[len(old) :]))
        return len(old)

    def _put_in_place(self, old: Entry, new: list[Entry]) -> None:
        entries = self._unpacked()
        place = entries.index(old)
        entries[place : place + 1] = new
        self._write(self._packed(self._head.older, entries))

    def _write(self, head: Head) -> None:
        """Writes the head; when it is full its older half becomes rows."""
        self._head = head
        if head.is_full():
            entries = self._unpacked()
            half = (len(entries) + 1) // 2
            while half < len(entries) and entries[half].at == entries[half - 1].at:
                half += 1  # an instant stands in one place
            self._insert_rows(entries[:half])
            self._head = self._packed(entries[half - 1].at, entries[half:])
        self._connection.execute(_NEW_HEAD if self._is_new else _WRITE_HEAD, (*self._head.row(), self._customer))
        self._is_new = False

    def _packed(self, older: int, entries: Iterable[Entry]) -> Head:
        return packed(older, ((entry, self._kinds.number(entry.kind)) for entry in entries))

    def _insert_rows(self, entries: Iterable[Entry]) -> None:
        for at, kind, subject, touch_id, token, stage, lease_end, address in entries:
            number = self._kinds.number(kind)
            row = (self._customer, at, touch_id, token, number, subject, int(stage), lease_end, address)
            self._connection.execute(_INSERT, row)


def _trusted(columns: Sequence[Any]) -> Head:
    try:
        return head_of(*columns)
    except NOT_OURS as error:
        raise damage(error) from error
