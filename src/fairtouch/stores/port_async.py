"""What an asynchronous store promises: everything that `port.Store` does, method by method, and one thing more.

A cancelled call either has not happened, or is over when CancelledError reaches the caller: nothing goes on behind
her back. Otherwise what she does about it (give back a slot that was perhaps taken) could arrive first.

A store is one or the other by type: this one is closed by `aclose`, so that neither passes for the other.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from fairtouch.consent import Said, Scope
from fairtouch.facts import Ask, Entry, Facts, Stale, SuppressionCause
from fairtouch.stores.port import Recorded, Settlement, Spoken, Utterance


@runtime_checkable
class AsyncStore(Protocol):
    """The verbs of `port.Ledger`, `Consents`, `Suppressions`, `Profiles` and `Store`, awaited.

    `prune` yields its steps as they are done.
    """

    durability: str

    async def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]: ...

    async def confirm(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Settlement: ...

    async def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement: ...

    async def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded: ...

    async def history(self, customer: bytes) -> list[Entry]: ...

    def prune(self, keep: int, now: int | None) -> AsyncIterator[int]: ...

    async def complete_since(self) -> int: ...

    async def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]: ...

    async def said(
        self, customer: bytes, scopes: Sequence[Scope | None], now: int | None
    ) -> tuple[int, tuple[Said, ...]]: ...

    async def spoken(self, customer: bytes) -> list[Spoken]: ...

    async def suppress(
        self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None
    ) -> bool: ...

    async def unsuppress(self, address: bytes) -> bool: ...

    async def suppressed(self, address: bytes) -> SuppressionCause | None: ...

    async def profile(self, customer: bytes) -> str: ...

    async def replace_profile(self, customer: bytes, old: str, new: str) -> bool: ...

    async def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None: ...

    async def aclose(self) -> None: ...


Opened = Callable[[], Awaitable[AsyncStore]]
"""Awaited, the store, which knows its governor from then on."""
