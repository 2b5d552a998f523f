"""What an asynchronous store promises that keeps deferred touches: everything that `deferral_port` does, awaited.

A cancelled call either has not happened, or is over when CancelledError reaches the caller.
"""

from typing import Protocol, runtime_checkable

from fairtouch.stores.deferral_port import Claimed, Standing, Turns


@runtime_checkable
class AsyncDeferralStore(Protocol):
    """The verbs of `deferral_port.DeferralStore`, awaited."""

    async def keep(self, queue: bytes, item: bytes, due_at: int, content: bytes) -> Standing: ...

    async def claim(
        self, queue: bytes, token: bytes, limit: int, lease: int, now: int | None
    ) -> tuple[int, list[Claimed]]: ...

    async def put_back(self, queue: bytes, token: bytes, item: bytes, due_at: int, turns: Turns) -> None: ...

    async def take_out(self, queue: bytes, token: bytes, item: bytes) -> None: ...

    async def cancel(self, queue: bytes, prefix: bytes) -> int: ...

    async def queues(self) -> list[bytes]: ...
