"""Entries on Redis, packed: a column, which is counted, and the detail that stands apart from it.

A detail is: flags, end of the lease, length and text of the id, token; then, if there is one, length and text of the
subject, and the address. `lua/decide.lua` and `lua/settle.lua` read the same format.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from fairtouch.facts import Entry, Stage
from fairtouch.touch import Kind

COLUMN: Final = Struct(">HIHB")  # beside a document: instant (6 bytes), number of the kind (3)
NARROW: Final = 1 << 24  # a lease of less stands as its milliseconds in 3 bytes, another as its end in 6
_CONFIRMED, _HAS_SUBJECT, _HAS_ADDRESS, _IS_WIDE = 1, 2, 4, 8  # the upper four bits are the length of the token
_ADDRESS_LENGTH: Final = 16
_SHORT: Final = 1 << 7  # a text of fewer bytes has a length of one byte, another one of two
_LONG: Final = 1 << 15

KindOf = Callable[[int], Kind]


def six(value: int) -> bytes:
    """An instant, or a length of time, of six bytes."""
    return min(max(value, 0), (1 << 48) - 1).to_bytes(6, "big")


def three(number: int) -> bytes:
    """The number of a name."""
    return number.to_bytes(3, "big")


def column(at: int, number: int) -> bytes:
    """What is counted of an entry that stands beside a document."""
    return six(at) + three(number)


def columns_of(columns: bytes) -> list[tuple[int, int]]:
    """Instant and number of the kind, of each entry beside a document."""
    return [(high << 32 | low, first << 8 | last) for high, low, first, last in COLUMN.iter_unpack(columns)]


def with_length(text: bytes) -> bytes:
    """A text as details spell it."""
    length = len(text)
    return (length.to_bytes(1, "big") if length < _SHORT else (length | _LONG).to_bytes(2, "big")) + text


def needle(entry: Entry) -> bytes:
    """What tells a reservation from all others, as its detail spells it: the id and the token."""
    return with_length(entry.id.encode()) + entry.token


def detail(entry: Entry) -> bytes:
    """What is kept of an entry besides its column; of an entry without an instant the lease's length stands there."""
    at, _, subject, touch_id, token, stage, lease_end, address = entry
    flags, lease = int(stage) | len(token) << 4, lease_end - at
    if 0 <= lease < NARROW:
        end = lease.to_bytes(3, "big")
    else:
        flags, end = flags | _IS_WIDE, six(lease_end)
    parts = [end, with_length(touch_id.encode()), token]
    if subject is not None:
        flags |= _HAS_SUBJECT
        parts.append(with_length(subject.encode()))
    if address is not None:
        flags |= _HAS_ADDRESS
        parts.append(address)
    return b"".join((flags.to_bytes(1, "big"), *parts))


def unpacked(at: int, kind: Kind, details: bytes, offset: int) -> tuple[Entry, int]:
    """The entry whose detail begins at an offset, and where the next one does. Raises ValueError or IndexError."""
    flags = details[offset]
    if flags & _IS_WIDE:
        lease_end, offset = int.from_bytes(details[offset + 1 : offset + 7], "big"), offset + 7
    else:
        lease_end, offset = at + int.from_bytes(details[offset + 1 : offset + 4], "big"), offset + 4
    touch_id, offset = _text(details, offset)
    token, offset = details[offset : offset + (flags >> 4)], offset + (flags >> 4)
    subject, address = None, None
    if flags & _HAS_SUBJECT:
        subject, offset = _text(details, offset)
    if flags & _HAS_ADDRESS:
        address, offset = details[offset : offset + _ADDRESS_LENGTH], offset + _ADDRESS_LENGTH
    if offset > len(details):
        raise ValueError("a document ends within an entry")
    return Entry(at, kind, subject, touch_id, token, Stage(flags & _CONFIRMED), lease_end, address), offset


def _text(details: bytes, offset: int) -> tuple[str, int]:
    length, first = details[offset], offset + 1
    if length >= _SHORT:
        length, first = int.from_bytes(details[offset : offset + 2], "big") - _LONG, offset + 2
    return details[first : first + length].decode(), first + length
