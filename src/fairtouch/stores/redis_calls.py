"""What is asked of Redis, and how the answers read: scripts, keys, arguments and replies, without any connection.

Rule 1: a call that the driver runs twice, or whose reply is lost, ends as if it had run once. Rule 2: every value is an
argument; nothing is formatted into a script. Rule 3: the keys of a customer share a slot by their tag, and show nothing
but digests.
"""

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from struct import Struct
from typing import Any, Final, NamedTuple

from fairtouch.facts import Ask
from fairtouch.plan import Fills, Plan
from fairtouch.stores import redis_documents
from fairtouch.stores.redis_documents import detail, needle, six, three
from fairtouch.touch import Kind

_PLAN: Final = Struct(">BBH")
_FILLS_MAX: Final = 1_000  # kinds that a plan's call tells of; then it starts anew


class Script:
    """A script and the digest under which Redis keeps it."""

    def __init__(self, name: str) -> None:
        self.source: Final = resources.files("fairtouch.stores").joinpath("lua", f"{name}.lua").read_bytes()
        self.sha: Final = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


DECIDE: Final = Script("decide")
CHANGE: Final = Script("change")
READ: Final = Script("read")
NAME: Final = Script("name")
SUPPRESS: Final = Script("suppress")
UNSUPPRESS: Final = Script("unsuppress")
PROBE: Final = Script("probe")


class Node(NamedTuple):
    """Where a server of a cluster is."""

    host: str
    port: int


class Call(NamedTuple):
    """One call of a script; or, when `script` is None, of the command that `args` begins with, on the keys. `lasts`: it
    writes what has to be as durable as the store requires. `server`: the one of a cluster that is asked, where keys do
    not say it.
    """

    script: Script | None
    keys: Sequence[bytes]
    args: Sequence[bytes | int]
    lasts: bool = False
    server: Node | None = None


PRIMARIES: Final = Call(None, (), ())
"""Asks nobody: the reply is the servers of a cluster that own slots, or None for one server."""


class Keys:
    """The keys of one store, which begin with its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.names: Final = b"%b:names" % self._prefix
        self.namespaces: Final = b"%b:namespaces" % self._prefix
        self.complete_since: Final = b"%b:complete_since" % self._prefix
        self.probes: Final = (b"%b:probe:{text}" % self._prefix, b"%b:probe:{text}:hash" % self._prefix)
        self.documents: Final = b"%b:{%b}" % (_literally(self._prefix), b"?" * 22)
        """A pattern of all documents."""

    def document(self, customer: bytes) -> bytes:
        """A customer's document."""
        return b"%b:{%b}" % (self._prefix, b2a_base64(customer, newline=False)[:22])

    def suppression(self, address: bytes) -> bytes:
        """What stands against an address."""
        return b"%b:{%b}:s" % (self._prefix, b2a_base64(address, newline=False)[:22])


def _literally(prefix: bytes) -> bytes:
    """A text in a pattern of SCAN, where some characters mean more than themselves."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", prefix)


def beside(document: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """A document's key, and those beside it: older columns, older details, totals, words."""
    return document, document + b":o", document + b":d", document + b":t", document + b":w"


class Told(NamedTuple):
    """What a plan's calls say of kinds: of which; their numbers, each with a row; the rows; and where each stands."""

    kinds: frozenset[int]
    fills: bytes
    rows: bytes
    places: Mapping[Fills, int]


class PlanWords:
    """How a plan stands in calls. It grows with the kinds that ledgers turn out to hold."""

    __slots__ = ("_plan", "covering", "packed", "profile", "told")

    def __init__(self, plan: Plan, covering: Iterable[int]) -> None:
        self._plan = plan
        needed = [max((since for which, since in plan.needed if which == part), default=0) for part in (0, 1)]
        instants = (plan.since, plan.until, plan.closes_at, *needed)
        is_plain = 0 if plan.per_subject else 2 if plan.counts_totals else 1
        conditions = (
            six(span) + six(since) + min(limit, 0xFFFFFFFF).to_bytes(4, "big")
            for (span, since), limit in zip(plan.windows, plan.limits, strict=True)
        )
        self.packed: Final = b"".join(
            (*map(six, instants), _PLAN.pack(plan.open, is_plain, len(plan.limits)), *conditions)
        )
        self.profile: Final = plan.profile.encode()
        self.covering: Final = b"".join(map(three, covering))
        self.told = Told(frozenset(), b"", b"", {})

    def tell(self, kinds: Iterable[tuple[int, Kind]]) -> None:
        """Says in every later call what these kinds fill.

        All that is told is replaced at once, without a lock: what another thread told at the same instant may be lost,
        and is told when it is met again; and the child of a fork finds it whole.
        """
        told = self.told
        new = [(number, kind) for number, kind in kinds if number not in told.kinds]
        if new:
            self.told = self._with(told, new)

    def _with(self, told: Told, new: Iterable[tuple[int, Kind]]) -> Told:
        known, fills, rows, places = set(told.kinds), told.fills, told.rows, dict(told.places)
        for number, kind in new:
            if len(known) >= _FILLS_MAX:
                known.clear()
                fills = b""
            filled = self._plan.fillings[kind]
            row = places.get(filled)
            if row is None:
                if len(places) > 255:
                    continue  # an exotic policy: ledgers with such a kind are looked at by the client
                row = places[filled] = len(places)
                rows += bytes(index in filled for index in range(len(self._plan.limits)))
            known.add(number)
            fills += three(number) + bytes((row,))
        return Told(frozenset(known), fills, rows, places)


def decide(  # noqa: PLR0917 - all that the script is told
    keys: Keys, names: bytes, words: PlanWords, kind: int, ask: Ask, seen: bytes
) -> Call:
    """One decision."""
    plan, customer, entry, take, now, _ = ask
    told = words.told
    document = keys.document(customer)
    four = beside(document)[:4]
    takes = take and (entry.address is not None or not plan.require_address)
    lease = min(entry.lease_end, 0xFFFFFFFF).to_bytes(4, "big")
    most = redis_documents.ENTRIES_MAX
    asked = b"".join((b"\1" if takes else b"\0", six(now or 0), lease, three(kind), bytes((most,))))
    return Call(
        DECIDE,
        four if entry.address is None else (*four, keys.suppression(entry.address)),
        (
            names,
            words.packed,
            words.profile,
            words.covering,
            told.fills,
            told.rows,
            asked,
            needle(entry.id),
            detail(entry),
            seen,
        ),
    )


_HEAD: Final = Struct(">xHIHI")


class Verdict(NamedTuple):
    """What the script found on the common way."""

    taken: bool
    now: int
    lease_end: int
    counts: list[int]
    words: bytes


def verdict(reply: bytes, conditions: int) -> Verdict:
    """A reply that begins with T or F."""
    now_high, now_low, end_high, end_low = _HEAD.unpack_from(reply)
    end = _HEAD.size + 4 * conditions
    counts = [int.from_bytes(reply[place : place + 4], "big") for place in range(_HEAD.size, end, 4)]
    now, lease_end = now_high << 32 | now_low, end_high << 32 | end_low
    return Verdict(reply[0] == ord("T"), now, lease_end, counts, reply[end:])


def pairs(flat: Sequence[Any]) -> dict[bytes, bytes]:
    """A reply of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
