"""The reference store, awaited: it is called as it is, because nobody holds its lock for longer than microseconds."""

from collections.abc import Callable
from typing import TypeVar

from fairtouch.stores.awaited import Awaited
from fairtouch.stores.awaited_deferrals import AwaitedDeferrals
from fairtouch.stores.memory import MemoryStore
from fairtouch.stores.port import Store

T = TypeVar("T")


class AsyncMemoryStore(Awaited):
    """Keeps everything in this process; nothing survives it. `store`: one that is shared with a `Governor`."""

    durability: str = MemoryStore.durability

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = MemoryStore() if store is None else store

    @property
    def deferrals(self) -> AwaitedDeferrals:
        """Where deferred touches are kept."""
        return AwaitedDeferrals(self._call)

    async def _call(self, verb: Callable[[Store], T]) -> T:
        return verb(self._store)

    async def aclose(self) -> None:
        self._store.close()
