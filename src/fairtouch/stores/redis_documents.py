"""A customer's document on Redis: profile, words of consent and newest entries in one string, packed.

Nearly every decision looks at nothing else, so it reads one key and writes one. Rule 1: counting reads the columns of
instants and kinds, and no details. Rule 2: what is older than a full document moves to the keys beside it; everything
in the document is newer. Rule 3: names (kinds, scopes) stand as numbers of three bytes, and the document says of which
table of names; its entries stand for their kinds by the places in a list of its own, of one byte.
`lua/decide.lua` and `lua/settle.lua` read the same format.
"""

import struct
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, NamedTuple

from fairtouch.errors import StoreError
from fairtouch.facts import Entry
from fairtouch.stores.redis_entries import KindOf, detail, six, three, unpacked
from fairtouch.stores.redis_words import NOTHING_SAID

ENTRIES_MAX: Final = 64  # of one document; then the older half moves on
BYTES_MAX: Final = 4_000
LISTED_MAX: Final = 32  # kinds of the older entries that a document lists; with more of them they are looked at singly
VERSION: Final = 1
NUMBER_MAX: Final = 1 << 24

_HEADER: Final = Struct(">B4s4sHHBBB")
"""Version, names, turn, lengths of profile and words, and how many kinds listed, kinds and entries follow."""

_OLDER: Final = Struct(">HIHB")  # follows where kinds are listed: older (6 bytes), beside (3)
_COLUMN: Final = Struct(">HIB")  # instant (6 bytes), place of the kind
_NOT_LISTED: Final = 255

NEVER_WRITTEN: Final = (ValueError, TypeError, LookupError, struct.error)
"""What reading a document raises that fairtouch never wrote."""


def damaged(error: Exception) -> StoreError:
    """What to raise instead."""
    return StoreError(
        f"a customer's document holds what fairtouch never wrote ({error}); restore it. Nothing was recorded"
    )


class Document(NamedTuple):
    """A document, parsed as far as everybody needs it.

    `older`: the newest instant beside it (0: there is none), `beside`: how many entries stand there, `listed`: the
    kinds that occur among them (None: too many); `kinds`: those of its own entries, and perhaps more.
    """

    names: bytes
    turn: bytes
    profile: str
    words: bytes
    older: int = 0
    beside: int = 0
    listed: bytes | None = b""
    kinds: bytes = b""
    columns: bytes = b""
    details: bytes = b""

    def packed(self) -> bytes:
        """As it stands in its key."""
        profile, listed = self.profile.encode(), self.listed
        header = _HEADER.pack(
            VERSION,
            self.names,
            self.turn,
            len(profile),
            len(self.words),
            _NOT_LISTED if listed is None else len(listed) // 3,
            len(self.kinds) // 3,
            len(self.columns) // _COLUMN.size,
        )
        older = b"" if listed == b"" else _OLDER.pack(*divmod(self.older, 1 << 32), *divmod(self.beside, 1 << 8))
        return b"".join((header, older, profile, self.words, listed or b"", self.kinds, self.columns, self.details))

    def newest(self) -> int:
        """The instant of the newest entry of the whole ledger; 0 without one."""
        return int.from_bytes(self.columns[-7:-1], "big") if self.columns else self.older

    def numbers(self) -> list[int]:
        """The kinds that it lists, by their numbers."""
        return numbers_of((self.listed or b"") + self.kinds)

    def oldest(self) -> int:
        """The instant of the oldest entry in it; 0 without one."""
        return int.from_bytes(self.columns[:6], "big")

    def counted(self) -> list[tuple[int, int]]:
        """Instant and number of the kind, of each entry in it, oldest first."""
        kinds = numbers_of(self.kinds)
        return [(high << 32 | low, kinds[place]) for high, low, place in _COLUMN.iter_unpack(self.columns)]

    def without_oldest(self, oldest: Sequence[tuple[int, int]], kind_of: KindOf) -> "Document":
        """The same without its first entries, as `counted` tells them. Raises ValueError for a damaged one."""
        offset = 0
        for at, number in oldest:
            _, offset = unpacked(at, kind_of(number), self.details, offset)
        return self._replace(columns=self.columns[_COLUMN.size * len(oldest) :], details=self.details[offset:])

    def without_entries(self) -> "Document":
        """The same without any of its entries."""
        return self._replace(kinds=b"", columns=b"", details=b"")

    def says_nothing(self) -> bool:
        """Whether nothing is lost without it."""
        return self.words == NOTHING_SAID and not (self.columns or self.beside or self.profile)

    def entries(self, kind_of: KindOf) -> list[Entry]:
        """What stands in it, oldest first. Raises ValueError or LookupError for what fairtouch never wrote."""
        kinds = list(map(kind_of, numbers_of(self.kinds)))
        found, offset = [], 0
        for high, low, place in _COLUMN.iter_unpack(self.columns):
            entry, offset = unpacked(high << 32 | low, kinds[place], self.details, offset)
            found.append(entry)
        if offset != len(self.details):
            raise ValueError("a document goes on after its last entry")
        return found

    def is_full(self) -> bool:
        """Whether the older half has to move on."""
        return len(self.columns) > _COLUMN.size * ENTRIES_MAX or len(self.details) > BYTES_MAX

    def with_entries(self, entries: Sequence[tuple[Entry, int]]) -> "Document":
        """The same with these entries, oldest first, each with the number of its kind."""
        kinds = sorted({number for _, number in entries})  # a script finds them sooner in this order
        places = {number: place.to_bytes(1, "big") for place, number in enumerate(kinds)}
        return self._replace(
            kinds=b"".join(map(three, kinds)),
            columns=b"".join([six(entry.at) + places[number] for entry, number in entries]),
            details=b"".join([detail(entry) for entry, _ in entries]),
        )

    def with_older(self, older: int, beside: int, kinds: Iterable[int] | None) -> "Document":
        """The same with so many entries beside it, the newest of which has this instant."""
        listed = None if kinds is None else sorted(kinds)
        if listed is not None and len(listed) > LISTED_MAX:
            listed = None
        return self._replace(
            older=older, beside=beside, listed=None if listed is None else b"".join(map(three, listed))
        )


def numbers_of(kinds: bytes) -> list[int]:
    """The numbers that a list of kinds consists of."""
    return [int.from_bytes(kinds[place : place + 3], "big") for place in range(0, len(kinds), 3)]


def document_of(packed: bytes) -> Document:
    """The document of a key. Raises ValueError when fairtouch did not write it, or a newer one did."""
    if len(packed) < _HEADER.size:
        raise ValueError("a document without a header")
    version, names, turn, profile_length, words_length, listed, kinds, number = _HEADER.unpack_from(packed)
    if version != VERSION:
        raise ValueError(f"a document of version {version}, and this fairtouch knows {VERSION}; upgrade it")
    is_listed, offset = listed != _NOT_LISTED, _HEADER.size
    older = beside = 0
    if listed:
        high, low, beside_high, beside_low = _OLDER.unpack_from(packed, offset)
        older, beside, offset = high << 32 | low, beside_high << 8 | beside_low, offset + _OLDER.size
    parts = []
    for length in (profile_length, words_length, 3 * listed if is_listed else 0, 3 * kinds, _COLUMN.size * number):
        parts.append(packed[offset : offset + length])
        offset += length
    if len(packed) < offset:
        raise ValueError("a document that is cut off")
    profile, words, of_older, of_own, columns = parts
    return Document(
        names,
        turn,
        profile.decode(),
        words,
        older,
        beside,
        of_older if is_listed else None,
        of_own,
        columns,
        packed[offset:],
    )
