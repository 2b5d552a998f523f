"""The words of consent as a document on Redis spells them: per scope its latest instants, and a check of five bits that
every single flipped bit fails.
"""

from collections.abc import Mapping
from typing import Final

from fairtouch.consent import Said
from fairtouch.stores.redis_entries import six, three

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
