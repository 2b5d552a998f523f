"""Deferred touches on Redis, called and awaited: the steps of `redis_deferring` are run."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fairtouch.stores.deferral_port import Claimed, Standing, Turns
from fairtouch.stores.redis_deferring import Deferring
from fairtouch.stores.redis_steps import Step

Run = Callable[[Step[Any]], Any]
AsyncRun = Callable[[Step[Any]], Coroutine[Any, Any, Any]]


class RedisDeferrals:
    """`DeferralStore` on the Redis of a store."""

    def __init__(self, run: Run, steps: Deferring) -> None:
        self._run: Final = run
        self._steps: Final = steps

    def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        standing: Standing = self._run(self._steps.keep(queue, item, due_at, content))
        return standing

    def claim(self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None) -> tuple[int, list[Claimed]]:
        claim: tuple[int, list[Claimed]] = self._run(self._steps.claim(queue, token, limit, lease, now))
        return claim

    def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        self._run(self._steps.put_back(queue, token, item, due_at, turns))

    def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        self._run(self._steps.take_out(queue, token, item))

    def cancel(self, queue: bytes, prefix: bytes) -> int:
        gone: int = self._run(self._steps.cancel(queue, prefix))
        return gone

    def queues(self) -> list[bytes]:
        queues: list[bytes] = self._run(self._steps.queues())
        return queues


class AsyncRedisDeferrals:
    """The same, awaited."""

    def __init__(self, run: AsyncRun, steps: Deferring) -> None:
        self._run: Final = run
        self._steps: Final = steps

    async def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing:
        standing: Standing = await self._run(self._steps.keep(queue, item, due_at, content))
        return standing

    async def claim(
        self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None
    ) -> tuple[int, list[Claimed]]:
        claim: tuple[int, list[Claimed]] = await self._run(self._steps.claim(queue, token, limit, lease, now))
        return claim

    async def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None:
        await self._run(self._steps.put_back(queue, token, item, due_at, turns))

    async def take_out(self, queue: bytes, token: bytes, item: bytes) -> None:
        await self._run(self._steps.take_out(queue, token, item))

    async def cancel(self, queue: bytes, prefix: bytes) -> int:
        gone: int = await self._run(self._steps.cancel(queue, prefix))
        return gone

    async def queues(self) -> list[bytes]:
        queues: list[bytes] = await self._run(self._steps.queues())
        return queues
