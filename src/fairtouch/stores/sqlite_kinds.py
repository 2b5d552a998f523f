"""The kinds of a fairtouch database: each is spelled out once, and ledgers name it by its number.

Rule 1: a number, once given, stands for its kind for ever, so what was read or given stays remembered. Rule 2: it is
given in a step of its own, on the disk before a ledger names it: a number that was rolled back must not be remembered.
"""

import json
import sqlite3
from typing import Final

from fairtouch.errors import StoreError
from fairtouch.stores.sqlite_connections import Connections, understood
from fairtouch.stores.sqlite_heads import ENTRIES_MAX
from fairtouch.touch import Kind

_MIXTURES_MAX: Final = 8_192


class Kinds:
    """What the numbers stand for, and which number a kind has."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._kinds: dict[int, Kind] = {}
        self._numbers: dict[Kind, int] = {}
        self._mixtures: dict[tuple[int, ...], frozenset[Kind]] = {}

    def number(self, kind: Kind) -> int:
        """The number of a kind that was given one (`give_number`) or read before."""
        return self._numbers[kind]

    def give_number(self, kind: Kind) -> None:
        """Makes sure that a kind has a number. Not inside of another step."""
        if kind not in self._numbers:
            number = self._connections.write_through(_number_of, json.dumps(kind, ensure_ascii=False))
            self._numbers[kind] = number
            self._kinds[number] = kind

    def kind(self, connection: sqlite3.Connection, number: int) -> Kind:
        """The kind that a number stands for."""
        kind = self._kinds.get(number)
        if kind is None:
            row = connection.execute("SELECT spelling FROM kinds WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise StoreError(
                    "the table of kinds lost a row that ledgers refer to; restore the file. Nothing was recorded"
                )
            with understood():
                channel, category, topic, campaign, tags, event = json.loads(row[0])
                kind = self._kinds[number] = Kind(channel, category, topic, campaign, tuple(tags), event)
                self._numbers[kind] = number
        return kind

    def mixture(self, connection: sqlite3.Connection, numbers: tuple[int, ...]) -> frozenset[Kind]:
        """The kinds behind numbers, remembered: who gets the same campaigns has the same numbers."""
        kinds = self._mixtures.get(numbers)
        if kinds is None:
            kinds = frozenset(self.kind(connection, number) for number in set(numbers))
            if len(self._mixtures) >= _MIXTURES_MAX:
                self._mixtures.clear()
            if len(numbers) <= ENTRIES_MAX:
                self._mixtures[numbers] = kinds
        return kinds


def _number_of(connection: sqlite3.Connection, spelling: str) -> int:
    connection.execute("INSERT OR IGNORE INTO kinds (spelling) VALUES (?)", (spelling,))
    return int(connection.execute("SELECT id FROM kinds WHERE spelling = ?", (spelling,)).fetchone()[0])
