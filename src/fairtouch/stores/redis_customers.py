"""A customer on Redis: what was read of her, and how what became of her is written if nobody else changed her since."""

import hashlib
import os
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from fairtouch.consent import Said, Scope
from fairtouch.errors import StoreError
from fairtouch.facts import Entry
from fairtouch.stores.redis_calls import CHANGE, READ, Call, Keys, beside, pairs
from fairtouch.stores.redis_documents import NEVER_WRITTEN, Document, damaged, document_of, numbers_of
from fairtouch.stores.redis_entries import COLUMN, column, columns_of, detail, three, unpacked
from fairtouch.stores.redis_names import LOST, Names
from fairtouch.stores.redis_steps import Step
from fairtouch.stores.redis_words import NOTHING_SAID
from fairtouch.touch import Kind

OLDER, TOTALS, SPOKEN = 1, 2, 4  # what to read beside a document
_TABLE: Final = b""  # a name among the totals: to which table of names the others belong
_by_instant: Final = attrgetter("at")
REMEMBERED_SECONDS: Final = 600  # what a call did, for the same call that is run again
_FIELDS: Final = 500  # of a hash in one command: a script cannot unpack more than some thousands
_UNKNOWN: Final = Kind("")
_UNREAD: Final = 2  # what the change of a customer answers when an id stands among older entries that were not read


class NotReadError(Exception):
    """Older entries are to be looked at, and were not read."""


@dataclass(slots=True)
class Kept:
    """A customer as she was read, and the commands that bring what stands beside the document up to date."""

    seen: bytes  # the document as it was
    document: Document
    now: int
    entries: list[Entry]
    kinds: dict[int, Kind] = field(default_factory=dict)  # that occur in the ledger, and perhaps more
    counted: list[tuple[int, int]] = field(default_factory=list)  # of the older entries: instants and kinds, if read
    older: list[Entry] | None = None  # None when they were not read
    said: dict[Scope, Said] = field(default_factory=dict)
    totals: dict[bytes, bytes] = field(default_factory=dict)
    spoken: dict[bytes, bytes] = field(default_factory=dict)
    commands: list[bytes | int] = field(default_factory=list)
    moved: list[bytes] = field(default_factory=list)  # ids that go beside the document, where nobody looked for them

    def all(self) -> list[Entry]:
        """Every entry that was read, oldest first."""
        return [*(self.older or ()), *self.entries]

    def order(self, name: bytes, key: int, *arguments: bytes | int) -> None:
        """One more command for a key beside the document, by its place."""
        self.commands += (name, key, len(arguments), *arguments)

    def same_id(self, entry: Entry) -> list[Entry]:
        """What stands under an entry's id."""
        return [other for other in self.all() if other.id == entry.id and other.kind.event == entry.kind.event]

    def reservation(self, entry: Entry) -> Entry | None:
        """The entry with its id and its token."""
        return next((other for other in self.same_id(entry) if other.token == entry.token), None)


class Customers:
    """Reads and changes customers, under one store's keys and names."""

    def __init__(self, keys: Keys, names: Names) -> None:
        self.keys: Final = keys
        self.names: Final = names

    def kept(self, seen: bytes, now: int, columns: bytes, *hashes: Sequence[bytes]) -> Step[Kept]:
        """A customer from what was read of her: the document, the older columns; then names and values of the older
        details, the totals, the words. Raises StoreError for what fairtouch never wrote.
        """
        if not self.names.table:
            yield from self.names.learn_table()
        document = self.document(seen)
        try:
            counted = columns_of(columns[: document.beside * COLUMN.size])
            numbers = {*document.numbers(), *(number for _, number in counted)}
            yield from self.names.learn(numbers)
            kinds = {number: self.names.kinds[number] for number in numbers}
            kept = Kept(seen, document, now, document.entries(kinds.__getitem__), kinds, counted)
            details, kept.totals, kept.spoken = (*map(pairs, hashes), {}, {}, {})[:3]
            if (columns or details) and len(counted) < document.beside:
                raise ValueError("older entries that are cut off")
            if details or not document.beside:
                kept.older = self._older(document, details)
            if kept.totals and kept.totals.pop(_TABLE, None) != self.names.table:
                raise StoreError(LOST)
            yield from self.names.learn(int.from_bytes(name, "big") for name in kept.totals)
            yield from self.names.learn(int.from_bytes(name[:3], "big") for name in kept.spoken)
            kept.said = yield from self.names.said(document.words)
        except NEVER_WRITTEN as error:
            raise damaged(error) from error
        return kept

    def document(self, seen: bytes) -> Document:
        """The document as it was read, once the table of names is known; one that says nothing where there was none.
        Raises StoreError for what fairtouch never wrote.
        """
        if not seen:
            return Document(self.names.table, b"", "", NOTHING_SAID)
        try:
            document = document_of(seen)
        except NEVER_WRITTEN as error:
            raise damaged(error) from error
        if document.names != self.names.table:
            raise StoreError(LOST)
        return document

    def _older(self, document: Document, details: Mapping[bytes, bytes]) -> list[Entry]:
        """What stands beside a document, oldest first. What is newer was left behind by a change that failed."""
        found = []
        for packed in details.values():
            offset = 0
            while offset < len(packed):
                ((at, number),) = columns_of(packed[offset : offset + COLUMN.size])
                is_left = at > document.older
                kind = _UNKNOWN if is_left else self.names.kinds[number]
                entry, offset = unpacked(at, kind, packed, offset + COLUMN.size)
                if not is_left:
                    found.append(entry)
        if len(found) != document.beside:
            raise ValueError("older entries that are counted and not kept")
        return sorted(found, key=_by_instant)

    def read(self, customer: bytes, wanted: int, now: int | None) -> Step[Kept]:
        """A customer, and what is wanted beside the document; older entries are not always there to be read."""
        clock, seen, *rest = yield Call(READ, beside(self.keys.document(customer)), (wanted,))
        kept = yield from self.kept(seen, 0, *rest)
        if wanted & OLDER and kept.older is None:
            raise damaged(ValueError("older entries that are counted and not kept"))
        kept.now = now if now is not None else max(clock, kept.document.newest())
        return kept

    def read_for(self, customer: bytes, entry: Entry, now: int | None) -> Step[Kept]:
        """A customer with what may hold a reservation: the older entries too, unless it stands in the document."""
        kept = yield from self.read(customer, 0, now)
        if kept.document.older and kept.reservation(entry) is None:
            kept = yield from self.read(customer, OLDER, now)
        return kept

    def change(self, customer: bytes, kept: Kept, address: bytes | None = None, *, lasts: bool = False) -> Step[int]:
        """Writes what became of a customer, if nobody else changed her meanwhile. Raises NotReadError when older
        entries have to be read before, which only `put` may bring about. A document that says nothing any more goes a
        while later: until then the same call, run again, finds what it did.
        """
        return (yield from self.change_at(self.keys.document(customer), kept, address, lasts=lasts))

    def change_at(self, key: bytes, kept: Kept, address: bytes | None = None, *, lasts: bool = False) -> Step[int]:
        document = kept.document._replace(turn=os.urandom(4))
        keys = beside(key)
        seen = hashlib.sha1(kept.seen, usedforsecurity=False).hexdigest().encode() if kept.seen else b""
        done = yield Call(
            CHANGE,
            keys if address is None else (*keys, self.keys.suppression(address)),
            (
                seen,
                document.packed(),
                REMEMBERED_SECONDS if document.says_nothing() else b"",
                len(kept.moved),
                *kept.moved,
                *kept.commands,
            ),
            lasts,
        )
        if done == _UNREAD:
            raise NotReadError
        return int(done)

    def put(self, kept: Kept, entry: Entry) -> Step[None]:
        """Puts an entry where its instant belongs; when the document is full then, its older half moves beside it."""
        yield from self.names.kind_id(entry.kind)
        if entry.at <= kept.document.older:
            kept.older = sorted([*(kept.older or ()), entry], key=_by_instant)
            self.write_older(kept, {entry.id})
            return
        insort(kept.entries, entry, key=_by_instant)
        self.repack(kept)
        if kept.document.is_full():
            half = (len(kept.entries) + 1) // 2
            while half < len(kept.entries) and kept.entries[half].at == kept.entries[half - 1].at:
                half += 1  # an instant stands in one place
            moved, kept.entries = kept.entries[:half], kept.entries[half:]
            self._move(kept, moved)
            self.repack(kept)

    def replace(self, kept: Kept, old: Entry, new: Entry | None) -> None:
        """Puts the entry that is confirmed in the place of the one that was reserved, or nothing."""
        is_older = old.at <= kept.document.older
        entries = (kept.older or []) if is_older else kept.entries
        try:
            place = entries.index(old, bisect_left(entries, old.at, key=_by_instant))
        except ValueError as error:
            raise damaged(ValueError("an entry that stands elsewhere than its instant says")) from error
        entries[place : place + 1] = [] if new is None else [new]
        if is_older:
            self.write_older(kept, {old.id})
        else:
            self.repack(kept)

    def add_to_totals(self, kept: Kept, numbers: Mapping[int, int]) -> None:
        """Adds so many touches to the totals of these kinds. Totals may outlive the document, and tell their table."""
        for number, many in numbers.items():
            kept.order(b"HINCRBY", 4, three(number), many)
        if numbers:
            kept.order(b"HSET", 4, _TABLE, self.names.table)

    def repack(self, kept: Kept) -> None:
        """The document for the entries as they are now."""
        kept.document = kept.document.with_entries([(entry, self._number(entry)) for entry in kept.entries])

    def write_older(self, kept: Kept, ids: Iterable[str]) -> None:
        """Writes the columns of the older entries, and the details of those with these ids; all of them were read."""
        older = kept.older or []
        columns = b"".join(column(entry.at, self._number(entry)) for entry in older)
        if columns:
            kept.order(b"SET", 2, columns)
        else:
            kept.order(b"DEL", 2)
        self._write_details(kept, older, ids)
        kept.document = kept.document.with_older(
            older[-1].at if older else 0, len(older), {self._number(entry) for entry in older}
        )

    def _move(self, kept: Kept, entries: Sequence[Entry]) -> None:
        """Adds entries to the older ones, all of which are older than these; they need not have been read."""
        document = kept.document
        columns = b"".join(column(entry.at, self._number(entry)) for entry in entries)
        kept.order(b"SETRANGE", 2, document.beside * COLUMN.size, columns)  # over what a change that failed left there
        ids = {entry.id for entry in entries}
        if kept.older is None:
            kept.moved = [touch_id.encode() for touch_id in ids]
        else:
            kept.older += entries
        self._write_details(kept, entries if kept.older is None else kept.older, ids)
        numbers = {self._number(entry) for entry in entries}
        if document.listed is not None:
            numbers.update(numbers_of(document.listed))
        kept.document = document.with_older(
            entries[-1].at, document.beside + len(entries), None if document.listed is None else numbers
        )

    def _write_details(self, kept: Kept, entries: Iterable[Entry], ids: Iterable[str]) -> None:
        """Writes the details of the older entries with these ids, and takes out those of ids that no entry has."""
        by_id: dict[str, list[bytes]] = {touch_id: [] for touch_id in ids}
        for entry in entries:
            if entry.id in by_id:
                by_id[entry.id] += (column(entry.at, self._number(entry)), detail(entry))
        written = [word for name, parts in by_id.items() if parts for word in (name.encode(), b"".join(parts))]
        for first in range(0, len(written), 2 * _FIELDS):
            kept.order(b"HSET", 3, *written[first : first + 2 * _FIELDS])
        gone = [name.encode() for name, parts in by_id.items() if not parts]
        for first in range(0, len(gone), _FIELDS):
            kept.order(b"HDEL", 3, *gone[first : first + _FIELDS])

    def _number(self, entry: Entry) -> int:
        return self.names.kind_ids[entry.kind]
