"""Deferred touches, awaited, over a store that is called: the verbs, for whichever way of calling."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fairtouch.stores.deferral_port import Claimed, Standing, Turns

Call = Callable[[Callable[[Any], Any]], Coroutine[Any, Any, Any]]
"""What a verb answers, asked of the store; cancelled, it raises when the verb is over."""


class AwaitedDeferrals:
    """Keeps `AsyncDeferralStore` for a store that has `deferrals`."""

    def __init__(self, call: Call) -> None:
        self._call: Final = call

    async def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        standing: Standing = await self._call(lambda store: store.deferrals.keep(queue, item, due_at, content))
        return standing

    async def claim(
        self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None
    ) -> tuple[int, list[Claimed]]:
        claim: tuple[int, list[Claimed]] = await self._call(
            lambda store: store.deferrals.claim(queue, token, limit, lease, now)
        )
        return claim

    async def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        await self._call(lambda store: store.deferrals.put_back(queue, token, item, due_at, turns))

    async def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        await self._call(lambda store: store.deferrals.take_out(queue, token, item))

    async def cancel(self, queue: bytes, prefix: bytes) -> int:
        gone: int = await self._call(lambda store: store.deferrals.cancel(queue, prefix))
        return gone

    async def queues(self) -> list[bytes]:
        queues: list[bytes] = await self._call(lambda store: store.deferrals.queues())
        return queues
