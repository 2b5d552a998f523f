"""Connections to the servers of a cluster for an event loop, each call within the store's deadline.

Rule: what `redis_connections_async` says of cancellation, retries and errors holds here too.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from redis import asyncio as redis
from redis.exceptions import AuthenticationError, ClusterDownError, RedisError

from fairtouch.clock import seconds_running
from fairtouch.finishing import over
from fairtouch.stores.redis_calls import PRIMARIES, Call, Node
from fairtouch.stores.redis_connections import LOST_LINE
from fairtouch.stores.redis_connections_async import as_answered, async_settings_of, make_durable
from fairtouch.stores.redis_durability import Durability
from fairtouch.stores.redis_errors import in_words, no_answer
from fairtouch.stores.redis_lines import PAUSE_SECONDS
from fairtouch.stores.redis_lines_async import AsyncLine, AsyncLines
from fairtouch.stores.redis_slots import LEARN, OTHERS_SHARE, Errand, Slots


class AsyncClusterConnections:
    """Opens connections with the settings of a client, and sends each call to the server that has its slot."""

    def __init__(self, client: redis.RedisCluster, deadline_seconds: float, durability: Durability) -> None:
        member = client.startup_nodes[0]
        make: Any = member.connection_class
        settings = async_settings_of(member.connection_kwargs, deadline_seconds)
        self._deadline: Final = deadline_seconds
        self._durability: Final = durability
        self._lines: Final = AsyncLines(lambda key: AsyncLine(make(**settings | key[0]._asdict())))
        self._slots: Final = Slots(client)

    async def aclose(self) -> None:
        """Lets go of the connections of this event loop."""
        await self._lines.aclose()

    async def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, each of which goes to its server. Raises StoreUnavailable or
        StoreError.
        """
        return await over(asyncio.get_running_loop().create_task(self._call(asked)))

    async def _call(self, asked: Call | list[Call]) -> Any:
        ends = seconds_running() + self._deadline
        if asked is PRIMARIES:
            await self._learn(ends)
            return self._slots.primaries()
        errand = Errand([asked] if isinstance(asked, Call) else asked, self._slots)
        while not errand.is_over:
            if not self._slots.is_known:
                await self._learn(ends)
            turns = errand.turns().items()
            await asyncio.gather(*(self._turn(errand, whom, places, ends) for whom, places in turns))
            if not errand.is_over:
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, errand.last_error) from errand.last_error
                await asyncio.sleep(PAUSE_SECONDS)
        return as_answered(asked, errand.replies)

    async def _turn(self, errand: Errand, whom: tuple[Node, bool], places: Sequence[int], ends: float) -> None:
        """One server's part of an errand."""
        node, asking = whom
        calls = errand.calls(places)
        waits = self._durability.is_required and any(call.lasts for call in calls)
        line = await self._lines.get((node, waits))
        try:
            replies = await line.exchange(calls, ends, asking=asking)
            if waits:
                await make_durable(line, self._durability, self._deadline)
        except AuthenticationError as error:
            raise in_words(error) from error
        except LOST_LINE as error:
            await line.lose(error)
            errand.lost(error)
        else:
            errand.hear(places, replies)

    async def _learn(self, ends: float) -> None:
        """Asks one server after the other for the map. Raises StoreUnavailable when none has it in time."""
        last_error: Exception = ClusterDownError("no server is known")
        for node in self._slots.whom_to_ask():
            left = ends - seconds_running()
            if left <= 0:
                break
            line = await self._lines.get((node, False))
            try:
                (told,) = await line.exchange([LEARN], ends - left * OTHERS_SHARE)
                if isinstance(told, RedisError):
                    raise told
                self._slots.learn(told, node)
            except AuthenticationError as error:
                raise in_words(error) from error
            except (*LOST_LINE, RedisError) as error:
                await line.lose(error)
                last_error = error
            else:
                return
        raise no_answer(self._deadline, last_error) from last_error
