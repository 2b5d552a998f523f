"""A customer's document on Redis: profile, words of consent and newest entries in one string, packed.

Nearly every decision looks at nothing else, so it reads one key and writes one. Rule 1: counting reads the columns of
instants and kinds, and no details. Rule 2: what is older than a full document moves to the keys beside it; everything
in the document is newer. Rule 3: names (kinds, scopes) stand as numbers of three bytes, and the document says of which
table of names. `lua/decide.lua` reads the same format.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Final, NamedTuple

from fairtouch.consent import Said
from fairtouch.errors import StoreError
from fairtouch.facts import Entry, Stage
from fairtouch.touch import Kind

ENTRIES_MAX: Final = 64  # of one document; then the older half moves on
BYTES_MAX: Final = 4_000
VERSION: Final = 1
NUMBER_MAX: Final = 1 << 24

_HEADER: Final = Struct(">B4s4sHIHHH")  # version, names, turn, older (6 bytes), entries, lengths: profile, words
_DETAIL: Final = Struct(">HIBH")  # end of the lease (6 bytes), flags, length of the id
_CONFIRMED, _HAS_SUBJECT, _HAS_ADDRESS = 1, 2, 4  # the upper four bits are the length of the token
_ADDRESS_LENGTH: Final = 16
_SIX: Final = 1 << 32

KindOf = Callable[[int], Kind]
NEVER_WRITTEN: Final = (ValueError, TypeError, LookupError, struct.error)
"""What reading a document raises that fairtouch never wrote."""


def damaged(error: Exception) -> StoreError:
    """What to raise instead."""
    return StoreError(
        f"a customer's document holds what fairtouch never wrote ({error}); restore it. Nothing was recorded"
    )


class Document(NamedTuple):
    """A document, parsed as far as everybody needs it. `older`: the newest instant beside it; 0 when there is none."""

    names: bytes
    turn: bytes
    older: int
    profile: str
    words: bytes
    columns: bytes
    details: bytes

    def packed(self) -> bytes:
        """As it stands in its key."""
        profile = self.profile.encode()
        high, low = divmod(self.older, _SIX)
        lengths = (len(self.columns) // 9, len(profile), len(self.words))
        header = _HEADER.pack(VERSION, self.names, self.turn, high, low, *lengths)
        return b"".join((header, profile, self.words, self.columns, self.details))

    def newest(self) -> int:
        """The instant of the newest entry of the whole ledger; 0 without one."""
        return int.from_bytes(self.columns[-9:-3], "big") if self.columns else self.older

    def entries(self, kind_of: KindOf) -> list[Entry]:
        """What stands in it, oldest first. Raises ValueError for what fairtouch never wrote."""
        found, offset = [], 0
        for at, number in columns_of(self.columns):
            entry, offset = unpacked(at, kind_of(number), self.details, offset)
            found.append(entry)
        if offset != len(self.details):
            raise ValueError("a document goes on after its last entry")
        return found

    def is_full(self) -> bool:
        """Whether the older half has to move on."""
        return len(self.columns) > 9 * ENTRIES_MAX or len(self.details) > BYTES_MAX

    def has_most(self) -> bool:
        """Whether one more entry makes it full."""
        return len(self.columns) >= 9 * ENTRIES_MAX or len(self.details) > BYTES_MAX

    def with_entries(self, entries: Iterable[tuple[Entry, int]]) -> "Document":
        """The same with these entries, oldest first, each with the number of its kind."""
        pairs = list(entries)
        return self._replace(
            columns=b"".join(column(entry.at, number) for entry, number in pairs),
            details=b"".join(six(entry.lease_end) + detail(entry) for entry, _ in pairs),
        )


def document_of(packed: bytes) -> Document:
    """The document of a key. Raises ValueError when fairtouch did not write it, or a newer one did."""
    if len(packed) < _HEADER.size:
        raise ValueError("a document without a header")
    version, names, turn, high, low, number, profile_length, words_length = _HEADER.unpack_from(packed)
    if version != VERSION:
        raise ValueError(f"a document of version {version}, and this fairtouch knows {VERSION}; upgrade it")
    words_at = _HEADER.size + profile_length
    columns_at = words_at + words_length
    details_at = columns_at + 9 * number
    if len(packed) < details_at:
        raise ValueError("a document that is cut off")
    return Document(
        names,
        turn,
        high * _SIX + low,
        packed[_HEADER.size : words_at].decode(),
        packed[words_at:columns_at],
        packed[columns_at:details_at],
        packed[details_at:],
    )


def six(value: int) -> bytes:
    """An instant, or a length of time, of six bytes."""
    return min(max(value, 0), (1 << 48) - 1).to_bytes(6, "big")


def three(number: int) -> bytes:
    """The number of a name."""
    return number.to_bytes(3, "big")


def column(at: int, number: int) -> bytes:
    """What is counted of an entry."""
    return six(at) + three(number)


def columns_of(columns: bytes) -> list[tuple[int, int]]:
    """Instant and number of the kind, of each entry."""
    return [
        (int.from_bytes(columns[place : place + 6], "big"), int.from_bytes(columns[place + 6 : place + 9], "big"))
        for place in range(0, len(columns), 9)
    ]


def needle(touch_id: str) -> bytes:
    """An id as details spell it, to look for; empty for a touch without one."""
    name = touch_id.encode()
    return len(name).to_bytes(2, "big") + name if name else b""


def detail(entry: Entry) -> bytes:
    """What is kept of an entry besides what is counted and the end of its lease."""
    _, _, subject, touch_id, token, stage, _, address = entry
    flags = int(stage) | len(token) << 4
    parts = [needle(touch_id) or b"\0\0", token]
    if subject is not None:
        flags |= _HAS_SUBJECT
        text = subject.encode()
        parts += (len(text).to_bytes(2, "big"), text)
    if address is not None:
        flags |= _HAS_ADDRESS
        parts.append(address)
    return b"".join((bytes((flags,)), *parts))


def unpacked(at: int, kind: Kind, details: bytes, offset: int) -> tuple[Entry, int]:
    """The entry whose details begin at an offset, and where the next ones do. Raises ValueError."""
    if offset + _DETAIL.size > len(details):
        raise ValueError("a document ends within an entry")
    high, low, flags, length = _DETAIL.unpack_from(details, offset)
    offset += _DETAIL.size
    touch_id, offset = details[offset : offset + length].decode(), offset + length
    token, offset = details[offset : offset + (flags >> 4)], offset + (flags >> 4)
    subject, address = None, None
    if flags & _HAS_SUBJECT:
        length = int.from_bytes(details[offset : offset + 2], "big")
        offset += 2
        subject, offset = details[offset : offset + length].decode(), offset + length
    if flags & _HAS_ADDRESS:
        address, offset = details[offset : offset + _ADDRESS_LENGTH], offset + _ADDRESS_LENGTH
    if offset > len(details):
        raise ValueError("a document ends within an entry")
    stage = Stage(flags & _CONFIRMED)
    return Entry(at, kind, subject, touch_id, token, stage, high * _SIX + low, address), offset


# Words

_WORDS: Final = (0, 2, 1, 3)  # in a document the commonest stand first, and zeros at the end are left out
_PARTS: Final = 8  # the byte after a scope holds how many instants follow, and above that the check
_SUM: Final = 31  # of the bytes: no single bit can change without it


def packed_words(said: Mapping[int, Said]) -> bytes:
    """What was said, by the number of the scope."""
    parts: list[bytes] = []
    for number, word in said.items():
        instants = [word[index] for index in _WORDS]
        while len(instants) > 1 and not instants[-1]:
            instants.pop()
        scope, text = three(number), b"".join(map(six, instants))
        parts += (scope, bytes((len(instants) + _PARTS * _sum(scope, len(instants), text),)), text)
    return b"".join(parts)


def words_of(words: bytes) -> dict[int, Said]:
    """The words of a document, by the number of the scope. Raises ValueError for what fairtouch never wrote."""
    said, offset = {}, 0
    while offset < len(words):
        scope, (told, parts) = words[offset : offset + 3], divmod(words[offset + 3], _PARTS)
        text = words[offset + 4 : offset + 4 + 6 * parts]
        if not 1 <= parts <= len(_WORDS) or told != _sum(scope, parts, text):
            raise ValueError("words that nobody said")
        instants = [0, 0, 0, 0]
        for place, index in enumerate(_WORDS[:parts]):
            instants[index] = int.from_bytes(text[6 * place : 6 * place + 6], "big")
        said[int.from_bytes(scope, "big")] = Said(*instants)
        offset += 4 + 6 * parts
    return said


def _sum(scope: bytes, parts: int, text: bytes) -> int:
    return (sum(scope) + parts + sum(text)) % _SUM
