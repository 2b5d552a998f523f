"""Connections to one Redis for an event loop, each call within the store's deadline.

Rule 1: what `redis_connections` says of clients, retries and scripts holds here too. Rule 2: a call whose caller is
cancelled is awaited to its end, which is the deadline at the latest.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from fairtouch.clock import seconds_running
from fairtouch.finishing import over
from fairtouch.stores.redis_calls import PRIMARIES, Call
from fairtouch.stores.redis_connections import LOST_LINE, settings_of
from fairtouch.stores.redis_durability import GRACE_SECONDS, Durability
from fairtouch.stores.redis_errors import in_words, no_answer
from fairtouch.stores.redis_lines import PAUSE_SECONDS
from fairtouch.stores.redis_lines_async import AsyncLine, AsyncLines


class AsyncConnections:
    """Opens connections with the settings of a client: one for all, and one for what waits to be durable."""

    def __init__(self, client: redis.Redis, deadline_seconds: float, durability: Durability) -> None:
        self._client: Final = client  # its pool knows where the primary is, and must live as long
        make: Any = client.connection_pool.connection_class
        settings = async_settings_of(client.connection_pool.connection_kwargs, deadline_seconds)
        make(**settings)  # raises for a setting that is none, before anybody waits for an answer
        self._deadline: Final = deadline_seconds
        self._durability: Final = durability
        self._lines: Final = AsyncLines(lambda _: AsyncLine(make(**settings)), self._leave_sentinels)

    async def aclose(self) -> None:
        """Lets go of the connections of this event loop."""
        await self._lines.aclose()

    async def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, which are sent together. Raises StoreUnavailable or
        StoreError.
        """
        if asked is PRIMARIES:
            return None
        calls = [asked] if isinstance(asked, Call) else asked
        waits = self._durability.is_required and any(call.lasts for call in calls)
        ends = seconds_running() + self._deadline
        at_hand = None if waits else self._lines.at_hand(waits)
        found: tuple[AsyncLine, list[Any]] | None = None
        if at_hand is not None:  # the common way: a task of its own would cost as much as the rest
            with suppress(*LOST_LINE):
                found = at_hand, await at_hand.exchange(calls, ends)
        if found is None:
            found = await over(asyncio.get_running_loop().create_task(self._exchange(calls, ends, waits=waits)))
        line, replies = found
        if any("READONLY" in str(reply) for reply in replies if isinstance(reply, ResponseError)):
            await line.lose()  # it was the primary: the next call asks who is
        return as_answered(asked, replies)

    async def _exchange(self, calls: list[Call], ends: float, *, waits: bool) -> tuple[AsyncLine, list[Any]]:
        """Sends calls again while there is time: every one of them may run twice."""
        while True:
            line = await self._lines.get(waits)
            try:
                replies = await line.exchange(calls, ends)
                if waits:
                    await make_durable(line, self._durability, self._deadline)
            except AuthenticationError as error:
                raise in_words(error) from error
            except LOST_LINE as error:
                await line.lose(error)
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, error) from error
                await asyncio.sleep(PAUSE_SECONDS)
            except RedisError as error:
                raise in_words(error) from error
            else:
                return line, replies

    async def _leave_sentinels(self) -> None:
        """Lets go of the sentinels that were asked for the primary."""
        watched = getattr(self._client.connection_pool, "sentinel_manager", None)
        for sentinel in () if watched is None else watched.sentinels:
            await sentinel.aclose()


def async_settings_of(lent: dict[str, Any], deadline_seconds: float) -> dict[str, Any]:
    """What a connection is opened with; its time-outs are those of the calls."""
    settings = settings_of(lent, Retry(NoBackoff(), 0), deadline_seconds)
    return settings | {"socket_timeout": None}


async def make_durable(line: AsyncLine, durability: Durability, deadline_seconds: float) -> None:
    """Waits until what was written on a connection is as durable as required. Raises StoreUnavailable."""
    ends = seconds_running() + deadline_seconds + GRACE_SECONDS
    durability.check(await line.command(durability.command(deadline_seconds), ends))


def as_answered(asked: Call | list[Call], replies: list[Any]) -> Any:
    """The replies, with errors in words; or the one reply, if it is none."""
    told = [in_words(reply) if isinstance(reply, ResponseError) else reply for reply in replies]
    if isinstance(asked, list):
        return told
    if isinstance(told[0], Exception):
        raise told[0] from replies[0]
    return told[0]
