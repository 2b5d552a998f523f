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
from redis.exceptions import TimeoutError as NoReplyError

from fairtouch.clock import seconds_running
from fairtouch.errors import StoreError
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_errors import CLOSED
from fairtouch.stores.redis_lines import ASKING, by_digest, packed, whole


class _Replies(asyncio.Future[list[Any]]):
    """What one exchange is answered. Whoever awaits it and is cancelled meanwhile is so when the answer is there: until
    then nobody could say what became of it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, ends: float) -> None:
        super().__init__(loop=loop)
        self.ends: Final = ends
        self.missing = number
        self.known: Final[list[Any]] = []

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002 - the signature is asyncio's
        return False

    def hear(self, reply: Any) -> bool:
        """Takes the next reply; whether it was the last."""
        self.known.append(reply)
        self.missing -= 1
        if not self.missing:
            self.set_result(self.known)
        return not self.missing


class AsyncLine:
    """A driver's connection, from its opening until it is lost; which it is, too, when a reply is not there in time."""

    def __init__(self, connection: Any) -> None:
        self._connection: Final = connection
        self._loop: Final = asyncio.get_running_loop()
        self._opening: Final = self._loop.create_task(connection.connect())
        self._outgoing: list[bytes] = []
        self._awaited: deque[_Replies] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._watched = 0.0
        self._losing: asyncio.Task[None] | None = None
        self.is_lost = False

    @property
    def is_open(self) -> bool:
        """Whether what is asked now goes out at once."""
        return not self.is_lost and self._opening.done()

    async def exchange(self, calls: Sequence[Call], ends: float, *, asking: bool = False) -> list[Any]:
        """The replies to calls; an error stands in its place. `ends` by the running clock. `asking` goes before each of
        them.
        """
        if not self._opening.done():
            async with asyncio.timeout(max(ends - seconds_running(), 0.001)):
                await asyncio.wait([self._opening])  # unlike the task itself, it does not hand its cancellation on
        if self._opening.cancelled():
            raise NoConnectionError("the connection was lost while it was opened")
        self._opening.result()
        if asking:
            replies = await self._ask([each for call in calls for each in (ASKING, whole(call))], ends)
            return replies[1::2]
        replies = await self._ask([by_digest(call) for call in calls], ends)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await self._ask([whole(calls[place]) for place in unknown], ends)
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    async def command(self, command: Sequence[bytes | int], ends: float) -> Any:
        """The reply to a command. Raises what the server answers instead."""
        (reply,) = await self._ask([command], ends)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def lose(self, error: BaseException | None = None) -> None:
        """Lets go of the socket, and of whoever waits for a reply."""
        if self.is_lost:
            return
        self.is_lost = True
        if not self._opening.cancel() and not self._opening.cancelled():
            self._opening.exception()  # seen, also if nobody waits for it any more
        if self._watch is not None:
            self._watch.cancel()
        for task in (self._sender, self._reader):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        while self._awaited:
            awaited = self._awaited.popleft()
            awaited.set_exception(NoConnectionError(f"the connection was lost ({type(error).__name__})"))
            awaited.exception()  # seen, also if nobody waits for it any more
        await self._connection.disconnect(nowait=True)

    def _ask(self, commands: Sequence[Sequence[Any]], ends: float) -> "asyncio.Future[list[Any]]":
        if self.is_lost:
            raise NoConnectionError("the connection was lost")
        self._outgoing += map(packed, commands)
        awaited = _Replies(self._loop, len(commands), ends)
        self._awaited.append(awaited)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        if self._reader is None:
            self._reader = self._loop.create_task(self._read())
        if self._watch is None or ends < self._watched:
            self._look_at(ends)
        return awaited

    def _look_at(self, ends: float) -> None:
        """Looks then whether somebody has waited for too long."""
        if self._watch is not None:
            self._watch.cancel()
        self._watched = ends
        self._watch = self._loop.call_later(ends - seconds_running(), self._look)

    def _look(self) -> None:
        self._watch = None
        if self._awaited:
            ends = min(awaited.ends for awaited in self._awaited)
            if ends > seconds_running():
                self._look_at(ends)
            else:
                self._losing = self._loop.create_task(self.lose(NoReplyError("no reply in time")))

    async def _send(self) -> None:
        try:
            while self._outgoing:
                outgoing, self._outgoing = self._outgoing, []
                await self._connection.send_packed_command(outgoing)
            self._sender = None
        except BaseException as error:  # also the cancellation of all tasks when a loop ends: who waits must hear of it
            await self.lose(error)
            if not isinstance(error, Exception):
                raise

    async def _read(self) -> None:
        try:
            while self._awaited:
                try:
                    reply = await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
                except ResponseError as error:
                    reply = error
                if self._awaited[0].hear(reply):
                    self._awaited.popleft()
            self._reader = None
        except BaseException as error:  # also the cancellation of all tasks when a loop ends: who waits must hear of it
            await self.lose(error)
            if not isinstance(error, Exception):
                raise


class AsyncLines:
    """The connections of a store: one per event loop and key, opened anew when one was lost; a child of a fork opens
    its own. `after`: what else to close at the end of a loop.
    """

    def __init__(self, open_to: Callable[[Any], AsyncLine], after: Callable[[], Awaitable[None]] | None = None) -> None:
        self._open_to: Final = open_to
        self._after: Final = after
        self._homes: WeakKeyDictionary[Any, tuple[dict[Hashable, AsyncLine], AsyncGenerator[None]]]
        self._homes = WeakKeyDictionary()
        self._pid = os.getpid()
        self._is_closed = False

    def at_hand(self, key: Hashable) -> AsyncLine | None:
        """This loop's connection, if it is open."""
        home = None if self._is_closed or self._pid != os.getpid() else self._homes.get(asyncio.get_running_loop())
        line = home and home[0].get(key)
        return line if line is not None and line.is_open else None

    async def get(self, key: Hashable) -> AsyncLine:
        """This loop's connection, which opens when it is not open yet. Raises StoreError when the store was closed."""
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
            line = lines[key] = self._open_to(key)
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
