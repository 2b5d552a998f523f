"""The pacers: who waits knows from the store when the next send fits and sleeps until then; of all that wait here for
one sender, only the first asks.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Final, Self

from fairtouch.errors import StoreError
from fairtouch.pacing.rates import Pace, find, read_paces
from fairtouch.pacing.waiting import Waiting
from fairtouch.pacing.windows import (
    AsyncMemoryWindows,
    AsyncRedisWindows,
    AsyncWindows,
    MemoryWindows,
    RedisWindows,
    Windows,
    kind,
)

_CLOSED: Final = "this pacer was closed; make a new one (no send was taken)"


class Pacer:
    """Keeps senders to the speed that their providers allow: `Pacer({"ses": "14/second"}, "redis://localhost")`.

    `rates`: by the sender's name, how many sends fit into every period, however it is placed: '14/second',
    '300 per 5 minutes', '50000/day'. That many may go out at once, and then none until the first is a period old. A day
    is 24 hours. `store`: 'memory://' for the threads of this process, or the URL of a Redis, which all workers of all
    hosts share; it may be the URL of a governor's store, options included, except redis+sentinel:// and
    redis+cluster://. It is reached at the first `wait`. Keys hold a digest of the sender's name, and nothing of any
    customer.

    A pacer is safe for threads. With memory://, `limits` starts a timer thread when the pacer is made and after sends,
    which ends by itself after a hundredth of a second: make such a pacer after a fork, not before.

    Raises PolicyError for rates that cannot be read, StoreError for a URL that cannot be used.
    """

    def __init__(self, rates: Mapping[str, str], store: str = "memory://") -> None:
        self._paces: Final = read_paces(rates)
        self._windows: Final[Windows] = RedisWindows(store) if kind(store) == "redis" else MemoryWindows()
        self._turns: Final = {sender: threading.Lock() for sender in self._paces}
        self._is_closed = False

    def wait(self, sender: str, *, timeout: float | None = None) -> float:
        """Blocks until one more send fits, takes it, and returns how long that lasted, in seconds.

        `timeout`: seconds. When nothing fits by then, TooFast is raised, at once if that is certain; 0 never sleeps.

        Raises TouchError for an unknown sender, StoreUnavailable when Redis does not answer: then do not send.
        """
        pace = find(self._paces, sender)
        waiting = Waiting(pace, timeout)
        left = waiting.left()
        if not self._turns[sender].acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
            raise waiting.too_fast(None)
        try:
            while fits_in := self._take(pace):
                time.sleep(waiting.nap(fits_in))
        finally:
            self._turns[sender].release()
        return waiting.lasted()

    def _take(self, pace: Pace) -> float:
        if self._is_closed:
            raise StoreError(_CLOSED)
        return self._windows.take(pace)

    def close(self) -> None:
        """Closes the connections; whoever still waits gets a StoreError. Repeating it changes nothing."""
        self._is_closed = True
        self._windows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPacer:
    """The same with `await`, for the tasks of one event loop. It shares a Redis with pacers of either kind.

    Tasks get their sends in the order in which they came. One that is cancelled while it waits has taken nothing; one
    that is cancelled while Redis answers may have taken a send that nobody uses.
    """

    def __init__(self, rates: Mapping[str, str], store: str = "memory://") -> None:
        self._paces: Final = read_paces(rates)
        self._windows: Final[AsyncWindows] = (
            AsyncRedisWindows(store) if kind(store) == "redis" else AsyncMemoryWindows()
        )
        self._turns: Final = {sender: asyncio.Lock() for sender in self._paces}
        self._is_closed = False

    async def wait(self, sender: str, *, timeout: float | None = None) -> float:  # noqa: ASYNC109 - TooFast can say more
        """Waits until one more send fits, takes it, and returns how long that lasted; otherwise as `Pacer.wait`."""
        pace = find(self._paces, sender)
        waiting = Waiting(pace, timeout)
        if not await self._is_my_turn(sender, waiting.left()):
            raise waiting.too_fast(None)
        try:
            while fits_in := await self._take(pace):  # noqa: ASYNC110 - no event tells of other hosts' sends
                await asyncio.sleep(waiting.nap(fits_in))
        finally:
            self._turns[sender].release()
        return waiting.lasted()

    async def _is_my_turn(self, sender: str, seconds: float | None) -> bool:
        """False when the time is up."""
        try:
            async with asyncio.timeout(seconds):
                return await self._turns[sender].acquire()
        except TimeoutError:
            return False

    async def _take(self, pace: Pace) -> float:
        if self._is_closed:
            raise StoreError(_CLOSED)
        return await self._windows.take(pace)

    async def close(self) -> None:
        """Closes the connections; whoever still waits gets a StoreError. Repeating it changes nothing."""
        self._is_closed = True
        await self._windows.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
