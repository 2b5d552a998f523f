"""What lies beyond the horizon goes: taken out of ledgers step by step, and kept as totals.

Rule: each function is a step inside a transaction that somebody else holds.
"""

import sqlite3
from typing import Final

from fairtouch.stores.sqlite_kinds import Kinds
from fairtouch.stores.sqlite_ledgers import Ledger

_HEADS_AFTER: Final = """
    SELECT customer, older, instants, kinds, details, sum FROM heads WHERE customer > ? ORDER BY customer LIMIT 500
"""
_COLLAPSE: Final = """
    INSERT INTO totals (customer, kind, count)
    SELECT customer, kind, count(*) FROM entries JOIN kinds ON kinds.id = kind
    WHERE customer > ? AND customer <= ? AND at < ? AND json_extract(spelling, '$[5]') IS NULL GROUP BY customer, kind
    ON CONFLICT (customer, kind) DO UPDATE SET count = count + excluded.count
"""
_PRUNE: Final = "DELETE FROM entries WHERE customer > ? AND customer <= ? AND at < ?"


def prune(connection: sqlite3.Connection, kinds: Kinds, after: bytes, since: int) -> tuple[int, bytes | None]:
    """Prunes the next customers; how many entries went, and the last of these customers."""
    heads = connection.execute(_HEADS_AFTER, (after,)).fetchall()
    if not heads:
        return 0, None
    last = heads[-1][0]
    connection.execute(_COLLAPSE, (after, last, since))
    gone = connection.execute(_PRUNE, (after, last, since)).rowcount
    for customer, *columns in heads:
        gone += Ledger(connection, kinds, customer, columns).prune_head(since)
    if gone:
        known = complete_since(connection)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('complete_since', ?)", (max(since, known),))
    return gone, last


def complete_since(connection: sqlite3.Connection) -> int:
    """The instant from which on nothing was pruned; 0 when nothing ever was."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'complete_since'").fetchone()
    return int(row[0]) if row else 0


def longest_keep(connection: sqlite3.Connection) -> int:
    """The longest horizon of those who share the file."""
    return int(connection.execute("SELECT coalesce(max(keep), 0) FROM namespaces").fetchone()[0])
