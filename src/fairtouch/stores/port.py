"""What a store promises: the page that an implementer reads.

A store keeps, per customer (a digest), one *ledger* of touches and events, the latest words of consent per scope, and
a profile; and, per address (a digest), a suppression. It knows conditions, not policies: it compares integers,
instants and consent words, and answers with what it found. Each method is one atomic step: all of it happens or
nothing, whatever else happens at the same time, on every worker.

Errors: `StoreUnavailable` when it is unknown or impossible whether the step can happen now (locked, full,
unreachable) and repeating it is right; `StoreError` when the data cannot be trusted (damaged, of a newer version).
Nothing else leaves a store.

Time: "now" is the later of the store's clock and the newest instant that the store itself gave to an entry of the
customer's ledger; where a method takes `now` and it is not None, that is believed instead, even if it runs backwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, Protocol, runtime_checkable

from fairtouch.consent import Said, Scope, Word
from fairtouch.facts import Ask, Entry, Facts, Stage, Stale, SuppressionCause

WRITTEN_OTHERWISE: Final = (
    "this store was written with another secret under the same namespace; with this one no opt-out would be found. "
    "Use the secret that it was made with, or another namespace (nothing was read or written)"
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a reservation; `said`: the consents at the scopes that were asked for.

    `found` is how the reservation stood before: None when it was not there (released, replaced or pruned).
    `lease_end` as it stood.
    """

    now: int
    found: Stage | None
    lease_end: int
    said: tuple[Said, ...]


@unique
class Recorded(StrEnum):
    """What became of a fact that was handed in."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    TOO_OLD = "too_old"
    FUTURE = "future"
    OTHER_CONTENT = "other_content"


@dataclass(frozen=True, slots=True)
class Utterance:
    """A word of a customer at a scope. `at` None: now, and at least a millisecond after her last word at any scope."""

    customer: bytes
    scope: Scope
    word: Word
    at: int | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word as it was kept."""

    scope: Scope
    word: Word
    at: int
    evidence: str


class Ledger(Protocol):
    """Touches and events: decided, consumed, settled, recorded, pruned."""

    def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        """Answers each ask, in order, each atomically, an earlier one visible to the later ones.

        `Stale` when the customer's profile is not `plan.profile` or now is outside [plan.since, plan.until).
        Otherwise `Facts`. The slot is taken iff `ask.take`, the id is free (or held by the same token, or in doubt
        under `resend`, and then replaced), the address is not suppressed, every enforced condition counts fewer than
        its limit, and either `ask.seen` equals the consents found or `plan.open` and `plan.permits` them. Entries
        under the ask's own id are left out of the counts. The lease ends at now + its length, or at `plan.closes_at`
        if that is earlier. A reservation with the ask's own token is answered as taken, without a second entry.
        """
        ...

    def confirm(self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None) -> Settlement:
        """The touch was sent: its entry is confirmed, or inserted at now when it is not there. Idempotent by token."""
        ...

    def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        """The touch was certainly not sent: its reserved entry is taken out; a confirmed one stays. Idempotent by
        token.
        """
        ...

    def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        """Inserts a fact at its own instant (0: now), unless its id is known, it lies in the future, or before now -
        keep.

        A reservation under the same id and content becomes confirmed: the touch is now known to have happened.
        """
        ...

    def history(self, customer: bytes) -> list[Entry]:
        """The whole ledger, oldest first."""
        ...

    def prune(self, keep: int, now: int | None) -> Iterator[int]:
        """Takes out what lies before now - keep, and adds touches (not events) to their kind's total.

        Where a namespace keeps facts for longer, its horizon holds for all, because keys do not show whose they are.

        It goes in small steps; each is atomic, `complete_since` included, and yields how many entries went.
        """
        ...

    def complete_since(self) -> int:
        """The instant from which on nothing was pruned; 0 when nothing ever was."""
        ...


class Consents(Protocol):
    """What customers said. Never lost once acknowledged: durable before it returns, where the medium is."""

    durability: str
    """What an acknowledged word, suppression or profile has reached at least: 'memory' (of a process or a server),
    'replicated(n)' (of so many replicas as well), or 'fsynced' (on the disk).
    """

    def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        """Keeps all words, and returns their instants; None, and nothing of the batch is kept, for one that lies in
        the future.
        """
        ...

    def said(self, customer: bytes, scopes: Sequence[Scope | None], now: int | None) -> tuple[int, tuple[Said, ...]]:
        """Now, and what was said at each scope."""
        ...

    def spoken(self, customer: bytes) -> list[Spoken]:
        """Every word with its evidence, oldest first."""
        ...


class Suppressions(Protocol):
    """Addresses that must not be contacted. As durable as consents."""

    def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:
        """Suppresses; the first cause stays. An event that was already heard of this address changes nothing. Whether
        this did.
        """
        ...

    def unsuppress(self, address: bytes) -> bool:
        """Lifts a suppression; whether there was one."""
        ...

    def suppressed(self, address: bytes) -> SuppressionCause | None:
        """The cause, if the address is suppressed."""
        ...


class Profiles(Protocol):
    """What is stored with customers, as one text each; empty when nothing is."""

    def profile(self, customer: bytes) -> str:
        """The text."""
        ...

    def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        """Replaces the text if it still is `old`; whether it was."""
        ...


@runtime_checkable
class Store(Ledger, Consents, Suppressions, Profiles, Protocol):
    """All of it, and its life."""

    def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        """Called once per governor: a digest of its namespace, one of namespace and secret, and its policy's horizon.

        Raises StoreError when another secret wrote under this namespace before: a different secret makes different
        keys, under which no opt-out would be found.
        """
        ...

    def close(self) -> None:
        """Lets go of files and connections; harmless when repeated."""
        ...
