"""The words of consent as a document on Redis spells them: per scope its latest instants, and a check of them all.

Rule: words that are not whole are an error and never other words. A length that lost a bit must not hide an opt-out, so
the check stands at the end, also where nothing was said.
"""

from binascii import crc_hqx
from collections.abc import Mapping
from typing import Final

from fairtouch.consent import Said
from fairtouch.stores.redis_entries import six, three

_WORDS: Final = (0, 2, 1, 3)  # in a document the commonest stand first, and zeros at the end are left out
_START: Final = 0xFFFF  # of the check (CRC-16): where all is zero, that is no answer
_CHECK: Final = 2  # bytes


def packed_words(said: Mapping[int, Said]) -> bytes:
    """What was said, by the number of the scope."""
    parts: list[bytes] = []
    for number, word in said.items():
        instants = [word[index] for index in _WORDS]
        while len(instants) > 1 and not instants[-1]:
            instants.pop()
        parts += (three(number), len(instants).to_bytes(1, "big"), *map(six, instants))
    words = b"".join(parts)
    return words + crc_hqx(words, _START).to_bytes(_CHECK, "big")


NOTHING_SAID: Final = packed_words({})


def words_of(packed: bytes) -> dict[int, Said]:
    """The words of a document, by the number of the scope. Raises ValueError for what fairtouch never wrote."""
    words = packed[:-_CHECK]
    if len(packed) < _CHECK or crc_hqx(words, _START) != int.from_bytes(packed[-_CHECK:], "big"):
        raise ValueError("words that nobody said")
    said, offset = {}, 0
    while offset < len(words):
        instants = [0, 0, 0, 0]
        for place, index in enumerate(_WORDS[: words[offset + 3]]):
            first = offset + 4 + 6 * place
            instants[index] = int.from_bytes(words[first : first + 6], "big")
        said[int.from_bytes(words[offset : offset + 3], "big")] = Said(*instants)
        offset += 4 + 6 * words[offset + 3]
    return said
