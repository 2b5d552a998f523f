"""A store that is awaited, over one that is called: the verbs, for whichever way of calling.

Rule: each verb is the store's own, with the same arguments (`tests/test_mirror.py`). How and where the store is called
is the one thing that a subclass says.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from fairtouch.consent import Said, Scope
from fairtouch.facts import Ask, Entry, Facts, Stale, SuppressionCause
from fairtouch.stores.port import Recorded, Settlement, Spoken, Store, Utterance

T = TypeVar("T")


class Awaited(ABC):
    """Keeps `AsyncStore` for a `Store`."""

    @abstractmethod
    async def _call(self, verb: Callable[[Store], T]) -> T:
        """What the verb answers, asked of the store; cancelled, it raises when the verb is over."""

    async def decide(self, asks: Sequence[Ask]) -> list[Facts | Stale]:
        return await self._call(lambda store: store.decide(asks))

    async def confirm(
        self, customer: bytes, entry: Entry, scopes: Sequence[Scope | None], now: int | None
    ) -> Settlement:
        return await self._call(lambda store: store.confirm(customer, entry, scopes, now))

    async def release(self, customer: bytes, entry: Entry, now: int | None) -> Settlement:
        return await self._call(lambda store: store.release(customer, entry, now))

    async def record(self, customer: bytes, entry: Entry, keep: int, now: int | None) -> Recorded:
        return await self._call(lambda store: store.record(customer, entry, keep, now))

    async def history(self, customer: bytes) -> list[Entry]:
        return await self._call(lambda store: store.history(customer))

    async def prune(self, keep: int, now: int | None) -> AsyncIterator[int]:
        steps = await self._call(lambda store: store.prune(keep, now))
        while (gone := await self._call(lambda _: next(steps, None))) is not None:
            yield gone

    async def complete_since(self) -> int:
        return await self._call(lambda store: store.complete_since())

    async def say(self, utterances: Sequence[Utterance], now: int | None) -> list[int | None]:
        return await self._call(lambda store: store.say(utterances, now))

    async def said(
        self, customer: bytes, scopes: Sequence[Scope | None], now: int | None
    ) -> tuple[int, tuple[Said, ...]]:
        return await self._call(lambda store: store.said(customer, scopes, now))

    async def spoken(self, customer: bytes) -> list[Spoken]:
        return await self._call(lambda store: store.spoken(customer))

    async def suppress(self, address: bytes, cause: SuppressionCause, event_id: str | None, now: int | None) -> bool:
        return await self._call(lambda store: store.suppress(address, cause, event_id, now))

    async def unsuppress(self, address: bytes) -> bool:
        return await self._call(lambda store: store.unsuppress(address))

    async def suppressed(self, address: bytes) -> SuppressionCause | None:
        return await self._call(lambda store: store.suppressed(address))

    async def profile(self, customer: bytes) -> str:
        return await self._call(lambda store: store.profile(customer))

    async def replace_profile(self, customer: bytes, old: str, new: str) -> bool:
        return await self._call(lambda store: store.replace_profile(customer, old, new))

    async def bind(self, namespace: bytes, fingerprint: bytes, keep: int) -> None:
        return await self._call(lambda store: store.bind(namespace, fingerprint, keep))

    @abstractmethod
    async def aclose(self) -> None: ...
