"""Names of kinds and scopes, which documents spell as numbers. They are append-only; a table of names that was lost is
an error and never a new meaning.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fairtouch.consent import Said, Scope
from fairtouch.errors import StoreError
from fairtouch.stores.redis_calls import NAME, Call
from fairtouch.stores.redis_documents import NEVER_WRITTEN, NUMBER_MAX, damaged
from fairtouch.stores.redis_steps import Step
from fairtouch.stores.redis_words import packed_words, words_of
from fairtouch.touch import Kind

LOST: Final = (
    "the table of names that ledgers refer to was lost or replaced on this Redis; restore it, or remove what was "
    "written with the old one. Nothing was recorded, and nothing may be sent"
)


class Names:
    """What is known of the table under a key. `table`: its own number, empty until it was looked at."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.table = b""
        self.kinds: Final[dict[int, Kind]] = {}
        self.kind_ids: Final[dict[Kind, int]] = {}
        self.scopes: Final[dict[int, Scope]] = {}
        self.scope_ids: Final[dict[Scope, int]] = {}

    def _number(self, sort: str, name: Sequence[object]) -> Step[int]:
        """The number of a kind or a scope, given when it has none."""
        spelling = sort + json.dumps(name, ensure_ascii=False, separators=(",", ":"))
        table, number = yield Call(NAME, (self._key,), (os.urandom(4), spelling.encode()))
        if table != self.table and self.table:
            raise StoreError(LOST)
        if number >= NUMBER_MAX:
            raise StoreError(
                f"{NUMBER_MAX} names of kinds and scopes are in use, and no more fit (nothing was recorded)"
            )
        self.table = table
        return int(number)

    def kind_id(self, kind: Kind) -> Step[int]:
        known = self.kind_ids.get(kind)
        if known is None:
            known = self.kind_ids[kind] = yield from self._number("k", kind)
            self.kinds[known] = kind
        return known

    def give_numbers(self, scopes: Iterable[Scope]) -> Step[None]:
        for scope in scopes:
            if scope not in self.scope_ids:
                number = self.scope_ids[scope] = yield from self._number("s", scope)
                self.scopes[number] = scope

    def learn(self, numbers: Iterable[int]) -> Step[None]:
        """Finds out what numbers stand for."""
        unknown = [number for number in set(numbers) if number not in self.kinds and number not in self.scopes]
        if not unknown:
            return
        asked = (b"HMGET", b"", *(b"<%d" % number for number in unknown))
        table, *names = yield Call(None, (self._key,), asked)
        if table is None or (self.table and table != self.table) or None in names:
            raise StoreError(LOST)
        self.table = table
        for number, name in zip(unknown, names, strict=True):
            values = json.loads(name[1:])
            if name[:1] == b"s":
                scope = Scope(*values)
                self.scope_ids[scope] = number  # first: whoever finds the name, in another thread, asks for its number
                self.scopes[number] = scope
            else:
                channel, category, topic, campaign, tags, event = values
                kind = Kind(channel, category, topic, campaign, tuple(tags), event)
                self.kind_ids[kind] = number
                self.kinds[number] = kind

    def learn_table(self) -> Step[None]:
        self.table, _ = yield Call(NAME, (self._key,), (os.urandom(4), b""))

    def said(self, words: bytes) -> Step[dict[Scope, Said]]:
        """What was said, and where. Raises StoreError for what fairtouch never wrote."""
        try:
            said = words_of(words)
            if not all(number in self.scopes for number in said):
                yield from self.learn(said)
            return {self.scopes[number]: word for number, word in said.items()}
        except NEVER_WRITTEN as error:
            raise damaged(error) from error

    def packed(self, said: Mapping[Scope, Said]) -> bytes:
        return packed_words({self.scope_ids[scope]: word for scope, word in said.items()})
