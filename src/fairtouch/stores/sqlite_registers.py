"""What stands in a fairtouch database besides ledgers: consents, suppressions, profiles, and whose file it is.

Rule 1: each function is a step inside a transaction that somebody else holds. Rule 2: a word is merged with what stood
before in that same step, so the order in which words arrive does not matter.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, cast

from fairtouch.clock import system_now
from fairtouch.consent import NOTHING, Said, Scope, Word, merge
from fairtouch.facts import SuppressionCause
from fairtouch.stores.port import Spoken, Utterance
from fairtouch.stores.sqlite_connections import understood

_SAID: Final = (
    "SELECT category, channel, topic, opted_in, confirmed, opted_out, requested FROM consents WHERE customer = ?"
)
_SAY: Final = "INSERT OR REPLACE INTO consents VALUES (?,?,?,?,?,?,?,?)"
_BOUND: Final = "SELECT fingerprint, keep FROM namespaces WHERE namespace = ?"
_BIND: Final = """
    INSERT INTO namespaces VALUES (?1, ?2, ?3)
    ON CONFLICT (namespace) DO UPDATE SET keep = excluded.keep WHERE fingerprint = excluded.fingerprint
"""
_LAST_WORD: Final = """
    SELECT coalesce(max(max(opted_in, confirmed, opted_out, requested)), 0) FROM consents WHERE customer = ?
"""
_SPOKEN: Final = "SELECT category, channel, topic, word, at, evidence FROM spoken WHERE customer = ? ORDER BY at, rowid"
_PROFILE: Final = "SELECT profile FROM profiles WHERE customer = ?"
_SUPPRESSED: Final = "SELECT cause FROM suppressions WHERE address = ?"
_HEAR: Final = "INSERT OR IGNORE INTO suppression_events VALUES (?, ?, ?)"


def bind(connection: sqlite3.Connection, key: str, fingerprint: bytes, keep: int) -> tuple[bytes, int]:
    """Whose namespace it is now, and for how long its policy keeps facts."""
    connection.execute(_BIND, (key, fingerprint, keep))
    row: tuple[bytes, int] = connection.execute(_BOUND, (key,)).fetchone()
    return row


def bound(connection: sqlite3.Connection, key: str) -> tuple[bytes, int] | None:
    """The fingerprint and the horizon of a namespace."""
    row: tuple[bytes, int] | None = connection.execute(_BOUND, (key,)).fetchone()
    return row


def _key(scope: Scope) -> tuple[str, str, str]:
    return scope.category or "", scope.channel or "", scope.topic or ""


def said(connection: sqlite3.Connection, customer: bytes, scopes: Sequence[Scope | None]) -> tuple[Said, ...]:
    """What was said at each scope."""
    said = {(row[0], row[1], row[2]): Said(*row[3:]) for row in connection.execute(_SAID, (customer,))}
    return tuple(said.get(_key(scope), NOTHING) if scope is not None else NOTHING for scope in scopes)


def say_all(connection: sqlite3.Connection, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
    """Keeps all words, or none when one lies in the future; see the port."""
    clock = system_now() if now is None else now
    if any(word.at is not None and word.at > clock for word in utterances):
        return [None if word.at is not None and word.at > clock else word.at for word in utterances]
    return [_say(connection, word, clock) for word in utterances]


def _say(connection: sqlite3.Connection, word: Utterance, now: int) -> int:
    key = _key(word.scope)
    before = said(connection, word.customer, [word.scope])[0]
    at = max(now, connection.execute(_LAST_WORD, (word.customer,)).fetchone()[0] + 1) if word.at is None else word.at
    connection.execute(_SAY, (word.customer, *key, *merge(before, word.word, at)))
    connection.execute(
        "INSERT OR IGNORE INTO spoken VALUES (?,?,?,?,?,?,?)", (word.customer, at, *key, word.word, word.evidence)
    )
    return at


def spoken(connection: sqlite3.Connection, customer: bytes) -> list[Spoken]:
    """Every word with its evidence, oldest first."""
    with understood():
        return [
            Spoken(Scope(category or None, channel or None, topic or None), Word(word), at, evidence)
            for category, channel, topic, word, at, evidence in connection.execute(_SPOKEN, (customer,))
        ]


def suppress(
    connection: sqlite3.Connection, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None
) -> bool:
    """Suppresses an address; whether that is new."""
    at = system_now() if now is None else now
    if event_id is not None and not connection.execute(_HEAR, (address, event_id, at)).rowcount:
        return False
    added = connection.execute("INSERT OR IGNORE INTO suppressions VALUES (?, ?, ?)", (address, cause, at))
    return added.rowcount > 0


def profile(connection: sqlite3.Connection, customer: bytes) -> str:
    """What is stored with a customer; empty when nothing is."""
    row = connection.execute(_PROFILE, (customer,)).fetchone()
    return row[0] if row else ""


def replace_profile(connection: sqlite3.Connection, customer: bytes, old: str, new: str) -> bool:
    """Replaces a profile if it still is the old one; whether it was."""
    if profile(connection, customer) != old:
        return False
    connection.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (customer, new))
    return True


def unsuppress(connection: sqlite3.Connection, address: bytes) -> bool:
    """Lifts a suppression; whether there was one."""
    return connection.execute("DELETE FROM suppressions WHERE address = ?", (address,)).rowcount > 0


def suppressed(connection: sqlite3.Connection, address: bytes) -> SuppressionCause | None:
    """Why an address is suppressed."""
    row = connection.execute(_SUPPRESSED, (address,)).fetchone()
    return cast("SuppressionCause", row[0]) if row else None
