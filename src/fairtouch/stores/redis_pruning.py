"""Pruning on Redis: customers in pages, as the server lists their keys; what is old collapses into totals.

Rule 1: a customer of whom nothing is old costs one GET. Rule 2: columns say what to add to the totals; entries that
stay are not read, unless there are more than a document holds. Rule 3: a page goes in a few messages, and a customer
whom somebody else changed meanwhile is looked at again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from fairtouch.errors import FairtouchError
from fairtouch.stores.redis_calls import PRIMARIES, READ, Call, Node, beside, pairs
from fairtouch.stores.redis_customers import OLDER, Customers, Kept
from fairtouch.stores.redis_documents import NEVER_WRITTEN, Document, damaged
from fairtouch.stores.redis_entries import COLUMN, columns_of
from fairtouch.stores.redis_steps import TRIES_MAX, Step, all_of, overtaken, server_now

_PAGE: Final = 500  # keys that one step looks at: what it sends together has to be answered within the deadline


class Pruning:
    """`port.Ledger.prune` and `complete_since`, for one store's customers."""

    def __init__(self, customers: Customers) -> None:
        self._customers: Final = customers
        self._names: Final = customers.names

    def oldest_kept(self, keep: int, now: int | None) -> Step[int]:
        """Before which instant facts are pruned: by the longest horizon of any namespace."""
        bound = yield Call(None, (self._customers.keys.namespaces,), (b"HGETALL",))
        keeps = [int(value) for name, value in pairs(bound).items() if name.startswith(b"keep:")]
        clock = (yield from server_now()) if now is None else now
        return clock - max([keep, *keeps])

    def servers(self) -> Step[list[Node | None]]:
        """The servers whose customers are to be pruned."""
        return (yield PRIMARIES) or [None]

    def prune(self, server: Node | None, cursor: int, since: int) -> Step[tuple[int, int]]:
        """Prunes the next customers of a server; where to go on (0: that was all), and how many entries went."""
        asked = (b"SCAN", cursor, b"MATCH", self._customers.keys.documents, b"COUNT", _PAGE)
        following, waiting = yield Call(None, (), asked, server=server)
        gone = 0
        for _ in range(TRIES_MAX):
            if not waiting:
                return int(following), gone
            went, waiting = yield from self._attempt(waiting, since)
            gone += went
        raise overtaken()

    def complete_since(self) -> Step[int]:
        """`port.Ledger.complete_since`."""
        known = yield Call(None, (self._customers.keys.complete_since,), (b"ZSCORE", b"since"))
        return int(float(known or 0))

    def _attempt(self, keys: Sequence[bytes], since: int) -> Step[tuple[int, list[bytes]]]:
        """How many entries of these customers went, and who was changed by somebody else meanwhile."""
        if not self._names.table:
            yield from self._names.learn_table()
        found = yield [Call(None, (key,), (b"GET",)) for key in keys]
        looked_at = [(key, seen, self._customers.document(told(seen))) for key, seen in zip(keys, found, strict=True)]
        due = [(key, seen, document) for key, seen, document in looked_at if seen and is_due(document, since)]
        left = yield from all_of([self._left(key, seen, document, since) for key, seen, document in due])
        changed = [(key, *result) for (key, _, _), result in zip(due, left, strict=True) if result is not None]
        if any(went for _, _, went in changed):
            yield from self._complete_from(since)
        done = yield from all_of([self._customers.change_at(key, kept) for key, kept, _ in changed])
        outcomes = list(zip(changed, done, strict=True))
        gone = sum(went for (_, _, went), is_done in outcomes if is_done == 1)
        return gone, [key for (key, _, _), is_done in outcomes if is_done != 1]

    def _left(self, key: bytes, seen: bytes, document: Document, since: int) -> Step[tuple[Kept, int] | None]:
        """What is left of a customer, and how many entries went; None when nothing of her changes."""
        if document.beside:
            return (yield from self._left_of_long(key, document, since))
        try:
            old = [(at, number) for at, number in document.counted() if at < since]
            numbers = Counter(number for _, number in old)
            yield from self._names.learn(numbers)
            kept = Kept(seen, self._newest(document, old, since), 0, [])
        except NEVER_WRITTEN as error:
            raise damaged(error) from error
        self._add(kept, numbers)
        return kept, len(old)

    def _newest(self, document: Document, old: Sequence[tuple[int, int]], since: int) -> Document:
        """A document without its old entries."""
        if document.newest() < since:
            return document.without_entries()
        return document.without_oldest(old, self._names.kinds.__getitem__)

    def _left_of_long(self, key: bytes, document: Document, since: int) -> Step[tuple[Kept, int] | None]:
        """The same of a customer with older entries beside her document, all of which are read when one is old."""
        if document.older >= since:
            columns = yield Call(None, (beside(key)[1],), (b"GET",))
            if not any(at < since for at, _ in columns_of((columns or b"")[: document.beside * COLUMN.size])):
                return None
        _, seen, *rest = yield Call(READ, beside(key), (OLDER,))
        kept = yield from self._customers.kept(seen, 0, *rest)
        if kept.older is None:
            raise damaged(ValueError("older entries that are counted and not kept"))
        old = [entry for entry in kept.all() if entry.at < since]
        kept.older = [entry for entry in kept.older or () if entry.at >= since]
        self._customers.write_older(kept, {entry.id for entry in old})
        kept.entries = [entry for entry in kept.entries if entry.at >= since]
        self._customers.repack(kept)
        self._add(kept, Counter(self._names.kind_ids[entry.kind] for entry in old))
        return kept, len(old)

    def _add(self, kept: Kept, numbers: Counter[int]) -> None:
        """Adds so many touches (not events) of each kind to the totals."""
        kinds = self._names.kinds
        self._customers.add_to_totals(kept, {one: many for one, many in numbers.items() if kinds[one].event is None})

    def _complete_from(self, since: int) -> Step[None]:
        """Says that nothing before an instant is whole, before the first of it goes; the latest such word stands."""
        yield Call(None, (self._customers.keys.complete_since,), (b"ZADD", b"GT", since, b"since"))


def is_due(document: Document, since: int) -> bool:
    """Whether something of a customer may go, as far as her document tells: it is old, or it says nothing at all."""
    return document.beside > 0 or 0 < document.oldest() < since or document.says_nothing()


def told(reply: bytes | FairtouchError | None) -> bytes:
    """What a key holds, of several that were read together. Raises the error that stands in its place."""
    if isinstance(reply, FairtouchError):
        raise reply
    return reply or b""
