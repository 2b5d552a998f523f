"""One connection to one server, per event loop, which all tasks share: what they ask in one turn of the loop goes out
together, and the replies come back in their order.

Rule 1: scripts go by their digest, and whole where the server does not know it. Rule 2: a connection that one call
waited for in vain is lost for all of them; what they asked is asked again on another one.
"""

import asyncio
import math
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import NoScriptError, ResponseError

from fairtouch.errors import StoreError
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_errors import CLOSED
from fairtouch.stores.redis_lines import ASKING, by_digest, packed, whole


class AsyncLine:
    """A driver's connection, from its opening until it is lost."""

    def __init__(self, connection: Any) -> None:
        self._connection: Final = connection
        self._loop: Final = asyncio.get_running_loop()
        self._opening: Final = self._loop.create_task(connection.connect())
        self._outgoing: list[bytes] = []
        self._awaited: deque[asyncio.Future[Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self.is_lost = False

    async def exchange(self, calls: Sequence[Call], *, asking: bool = False) -> list[Any]:
        """The replies to calls; an error stands in its place. `asking` goes before each of them."""
        if not self._opening.done():
            await asyncio.shield(self._opening)
        self._opening.result()
        if asking:
            replies = await self._ask([each for call in calls for each in (ASKING, whole(call))])
            return replies[1::2]
        replies = await self._ask([by_digest(call) for call in calls])
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for place, reply in zip(unknown, await self._ask([whole(calls[place]) for place in unknown]), strict=True):
                replies[place] = reply
        return replies

    async def command(self, *command: bytes | int) -> Any:
        """The reply to a command. Raises what the server answers instead."""
        (reply,) = await self._ask([command])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def lose(self, error: Exception | None = None) -> None:
        """Lets go of the socket, and of whoever waits for a reply."""
        self.is_lost = True
        self._opening.cancel()
        for task in (self._sender, self._reader):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        while self._awaited:
            awaited = self._awaited.popleft()
            if not awaited.done():
                awaited.set_exception(NoConnectionError(f"the connection was lost ({type(error).__name__})"))
                awaited.exception()  # seen, also if nobody waits for it any more
        await self._connection.disconnect(nowait=True)

    async def _ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if self.is_lost:
            raise NoConnectionError("the connection was lost")
        self._outgoing += map(packed, commands)
        awaited = [self._loop.create_future() for _ in commands]
        self._awaited += awaited
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        if self._reader is None:
            self._reader = self._loop.create_task(self._read())
        return [await each for each in awaited]

    async def _send(self) -> None:
        try:
            while self._outgoing:
                outgoing, self._outgoing = self._outgoing, []
                await self._connection.send_packed_command(outgoing)
            self._sender = None
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            await self.lose(error)

    async def _read(self) -> None:
        try:
            while self._awaited:
                try:
                    reply = await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
                except ResponseError as error:
                    reply = error
                awaited = self._awaited.popleft()
                if not awaited.done():
                    awaited.set_result(reply)
            self._reader = None
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            await self.lose(error)


class AsyncLines:
    """The connections of a store: one per event loop and key, opened anew when one was lost; a child of a fork opens
    its own. `after`: what else to close at the end of a loop.
    """

    def __init__(self, open_to: Callable[[Any], Any], after: Callable[[], Awaitable[None]] | None = None) -> None:
        self._open_to: Final = open_to
        self._after: Final = after
        self._homes: WeakKeyDictionary[Any, tuple[dict[Hashable, AsyncLine], AsyncGenerator[None]]]
        self._homes = WeakKeyDictionary()
        self._pid = os.getpid()
        self._is_closed = False

    async def get(self, key: Hashable) -> AsyncLine:
        """This loop's connection. Raises StoreError when the store was closed."""
        if self._is_closed:
            raise StoreError(CLOSED)
        if self._pid != os.getpid():
            self._pid, self._homes = os.getpid(), WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        if loop not in self._homes:
            lines: dict[Hashable, AsyncLine] = {}
            keeper = _closing(lines, self._after)
            self._homes[loop] = (lines, keeper)
            await anext(keeper)
        lines = self._homes[loop][0]
        line = lines.get(key)
        if line is None or line.is_lost:
            line = lines[key] = AsyncLine(self._open_to(key))
        return line

    async def aclose(self) -> None:
        """Lets go of this loop's connections, and opens no more."""
        self._is_closed = True
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None and self._pid == os.getpid():
            await home[1].aclose()


async def _closing(
    lines: dict[Hashable, AsyncLine], after: Callable[[], Awaitable[None]] | None
) -> AsyncGenerator[None]:
    """Closes connections when it is closed itself, as every generator is before its event loop ends: a governor that
    is used from loop to loop leaves nothing open in the last one.
    """
    try:
        yield
    finally:
        for line in lines.values():
            await line.lose()
        if after is not None:
            await after()
