"""The head of a ledger: a customer's newest touches and events, packed into one row.

Nearly every decision looks at nothing older, so it reads one row and writes one row, whatever lies behind. Rule 1:
the row's instants and kinds stand in two columns of their own, so that counting unpacks nothing else. Rule 2: what is
older than a full head moves to the table `entries`; everything in the head is newer than everything there. Rule 3: the
format is the file's, not this machine's: little-endian, lengths before texts, and a sum that a damaged row fails.
"""

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from fairtouch.facts import Entry, Stage
from fairtouch.touch import Kind

ENTRIES_MAX: Final = 64  # of one head; then the older half moves on
BYTES_MAX: Final = 2_800  # of its details: the row still fits on a page of 4 KiB

_tuple: Final = tuple.__new__  # a NamedTuple's own constructor costs four times as much
_INSTANTS: Final = [Struct(f"<{number}q") for number in range(ENTRIES_MAX + 2)]
_KINDS: Final = [Struct(f"<{number}I") for number in range(ENTRIES_MAX + 2)]
_DETAIL: Final = Struct("<qBBBHH")  # end of the lease, stage, lengths: token, address, subject + 1 (0: none), id
_LENGTH: Final = Struct("<H")  # of an id, which follows it at once, so that the two can be looked for


class Head(NamedTuple):
    """A head as it stands in its row. `older`: the newest instant in `entries`; 0 when nothing is there."""

    older: int
    instants: bytes
    kinds: bytes
    details: bytes

    def row(self) -> tuple[int, bytes, bytes, bytes, int]:
        """As it is written: with its sum."""
        older, instants, kinds, details = self
        return older, instants, kinds, details, crc32(details, crc32(kinds, crc32(instants, older & 0xFFFFFFFF)))

    def mentions(self, touch_id: str) -> bool:
        """Whether the id may stand here; a no is certain. A touch that is only checked may have none."""
        name = touch_id.encode()
        return touch_id != "" and _LENGTH.pack(len(name)) + name in self.details

    def ats(self) -> tuple[int, ...]:
        """The instants, oldest first."""
        return _INSTANTS[len(self.instants) // 8].unpack(self.instants)

    def newest(self) -> int:
        """The instant of the newest entry of the whole ledger; 0 without one."""
        return int.from_bytes(self.instants[-8:], "little") if self.instants else self.older

    def numbers(self) -> tuple[int, ...]:
        """The number of each entry's kind."""
        return _KINDS[len(self.kinds) // 4].unpack(self.kinds)

    def entries(self, kind_of: Callable[[int], Kind]) -> list[Entry]:
        """All of it, oldest first. Raises ValueError for what fairtouch never wrote."""
        found, offset, details = [], 0, self.details
        for at, number in zip(self.ats(), self.numbers(), strict=True):
            lease_end, stage, *lengths = _lengths(details, offset)
            id_at = offset + _DETAIL.size
            token_at = id_at + lengths[3]
            subject_at = token_at + lengths[0]
            address_at = subject_at + max(0, lengths[2] - 1)
            offset = address_at + lengths[1]
            if offset > len(details):
                raise ValueError("a head ends within an entry")
            subject = details[subject_at:address_at].decode() if lengths[2] else None
            touch_id, token = details[id_at:token_at].decode(), details[token_at:subject_at]
            address = details[address_at:offset] or None
            found.append(Entry(at, kind_of(number), subject, touch_id, token, Stage(stage), lease_end, address))
        if offset != len(details):
            raise ValueError("a head goes on after its last entry")
        return found

    def is_full(self) -> bool:
        """Whether the older half has to move on."""
        return len(self.instants) > 8 * ENTRIES_MAX or len(self.details) > BYTES_MAX

    def with_newest(self, entry: Entry, kind: int) -> "Head":
        """The head with one more entry at its end."""
        return Head(
            self.older,
            self.instants + entry.at.to_bytes(8, "little"),
            self.kinds + kind.to_bytes(4, "little"),
            self.details + _detail(entry),
        )


def head_of(older: int, instants: bytes, kinds: bytes, details: bytes, total: int) -> Head:
    """The head of a row. Raises ValueError when it is not as it was written."""
    if total != crc32(details, crc32(kinds, crc32(instants, older & 0xFFFFFFFF))):
        raise ValueError("the sum of a ledger's head is wrong")
    return _tuple(Head, (older, instants, kinds, details))


EMPTY: Final = Head(0, b"", b"", b"")


def _lengths(details: bytes, offset: int) -> tuple[int, ...]:
    if offset + _DETAIL.size > len(details):
        raise ValueError("a head ends within an entry")
    return _DETAIL.unpack_from(details, offset)


def _detail(entry: Entry) -> bytes:
    _, _, subject, touch_id, token, stage, lease_end, address = entry
    name, where = touch_id.encode(), address or b""
    about, about_length = (b"", 0) if subject is None else ((text := subject.encode()), len(text) + 1)
    fixed = _DETAIL.pack(lease_end, stage, len(token), len(where), about_length, len(name))
    return b"".join((fixed, name, token, about, where))


def packed(older: int, entries: Iterable[tuple[Entry, int]]) -> Head:
    """A head of entries, each with the number of its kind, oldest first."""
    pairs = list(entries)
    return Head(
        older,
        b"".join(entry.at.to_bytes(8, "little") for entry, _ in pairs),
        b"".join(kind.to_bytes(4, "little") for _, kind in pairs),
        b"".join(_detail(entry) for entry, _ in pairs),
    )
