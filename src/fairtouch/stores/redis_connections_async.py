"""Connections to one Redis for an event loop: as many as there are calls under way, each within the store's deadline.

Rule 1: what `redis_connections` says of clients, retries and scripts holds here too. Rule 2: a call whose caller is
cancelled is awaited to its end, which is the deadline at the latest.
"""

import asyncio
import math
import os
from collections.abc import AsyncGenerator
from typing import Any, Final

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoReplyError

from fairtouch.clock import seconds_running
from fairtouch.errors import StoreError
from fairtouch.finishing import over
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_connections import (
    CLOSED,
    PAUSE_SECONDS,
    by_digest,
    in_words,
    lasts,
    no_answer,
    settings_of,
    whole,
)
from fairtouch.stores.redis_durability import GRACE_SECONDS, Durability

_CONNECTIONS_MAX: Final = 32  # more calls than that wait for each other


class AsyncConnections:
    """Opens connections with the settings of a client, and keeps those that are free for the next call."""

    def __init__(self, client: redis.Redis, deadline_seconds: float, durability: Durability) -> None:
        self._client: Final = client  # its pool knows where the primary is, and must live as long
        self._make = client.connection_pool.connection_class
        self._settings: Final = settings_of(client.connection_pool, Retry(NoBackoff(), 0), deadline_seconds)
        self._make(**self._settings)  # raises for a setting that is none, before anybody waits for an answer
        self._deadline: Final = deadline_seconds
        self._durability: Final = durability
        self._free: list[Any] = []
        self._places = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._home: tuple[int, asyncio.AbstractEventLoop | None] = (0, None)  # the process and the loop of the free
        self._keeper: AsyncGenerator[None] | None = None
        self._is_closed = False

    async def aclose(self) -> None:
        """Lets go of every connection that is free; the others follow when their calls are over."""
        self._is_closed = True
        if self._keeper is not None and self._home == (os.getpid(), asyncio.get_running_loop()):
            await self._keeper.aclose()

    async def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, which are sent together. Raises StoreUnavailable or
        StoreError.
        """
        if self._is_closed:
            raise StoreError(CLOSED)
        return await over(asyncio.get_running_loop().create_task(self._call(asked)))

    async def _move_in(self) -> None:
        """Begins anew in another event loop, and in the child of a fork."""
        home = (os.getpid(), asyncio.get_running_loop())
        if self._home != home:
            self._home, self._free, self._places = home, [], asyncio.Semaphore(_CONNECTIONS_MAX)
            self._keeper = _closing(self._free, self._client)
            await anext(self._keeper)

    async def _call(self, asked: Call | list[Call]) -> Any:
        ends = seconds_running() + self._deadline
        await self._move_in()
        try:
            async with asyncio.timeout(self._deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise no_answer(self._deadline, error) from error
        connection = self._free.pop() if self._free else self._make(**self._settings)
        try:
            return await self._until(ends, connection, asked)
        except RedisError as error:
            if "READONLY" in str(error):
                await connection.disconnect(nowait=True)  # it was the primary: the next call asks who is
            raise in_words(error) from error
        finally:
            self._places.release()
            if connection.is_connected:
                await self._put(connection)

    async def _put(self, connection: Any) -> None:
        if self._is_closed:
            await connection.disconnect(nowait=True)
        else:
            self._free.append(connection)

    async def _until(self, ends: float, connection: Any, asked: Call | list[Call]) -> Any:
        """Sends a call again while there is time: every one of them may run twice."""
        while True:
            try:
                async with asyncio.timeout(max(ends - seconds_running(), 0.001)):
                    replies = await self._replies(connection, asked)
                await self._make_durable(connection, asked)
            except AuthenticationError:
                raise
            except (NoConnectionError, NoReplyError, OSError) as error:
                await connection.disconnect(nowait=True)
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, error) from error
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return replies

    async def _make_durable(self, connection: Any, asked: Call | list[Call]) -> None:
        if self._durability.is_required and lasts(asked):
            await connection.send_command(*self._durability.command(self._deadline))
            async with asyncio.timeout(self._deadline + GRACE_SECONDS):
                self._durability.check(await connection.read_response(timeout=math.inf))

    async def _replies(self, connection: Any, asked: Call | list[Call]) -> Any:
        """Sends and reads; what the server does not know by its digest goes once more, whole."""
        if not connection.is_connected:
            await connection.connect()
        if isinstance(asked, Call):
            await connection.send_command(*by_digest(asked))
            try:
                return await connection.read_response()
            except NoScriptError:
                await connection.send_command(*whole(asked))
                return await connection.read_response()
        await connection.send_packed_command(connection.pack_commands([by_digest(call) for call in asked]))
        replies = [await _reply(connection) for _ in asked]
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                await connection.send_command(*whole(asked[place]))
                replies[place] = await _reply(connection)
        return [in_words(reply) if isinstance(reply, ResponseError) else reply for reply in replies]


async def _closing(connections: list[Any], client: redis.Redis) -> AsyncGenerator[None]:
    """Closes connections when it is closed itself, as every generator is before its event loop ends: a governor that
    is used from loop to loop leaves nothing open in the last one, nor with the sentinels that were asked for it.
    """
    try:
        yield
    finally:
        while connections:
            await connections.pop().disconnect(nowait=True)
        watched = getattr(client.connection_pool, "sentinel_manager", None)
        for sentinel in () if watched is None else watched.sentinels:
            await sentinel.aclose()


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
