"""Connections to the servers of a cluster: one per thread and server, each call within a deadline of its own.

Rule: what `redis_connections` says of clients, retries and errors holds here too.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ClusterDownError, RedisError, ResponseError
from redis.retry import Retry

from fairtouch.clock import seconds_running
from fairtouch.stores.redis_calls import PRIMARIES, Call
from fairtouch.stores.redis_connections import LOST_LINE, settings_of
from fairtouch.stores.redis_deadlines import bounded
from fairtouch.stores.redis_durability import Durability
from fairtouch.stores.redis_errors import in_words, no_answer
from fairtouch.stores.redis_lines import PAUSE_SECONDS, Line, Lines
from fairtouch.stores.redis_slots import LEARN, OTHERS_SHARE, Errand, Slots


class ClusterConnections:
    """Opens connections with the settings of a client, and sends each call to the server that has its slot."""

    def __init__(self, client: redis.RedisCluster, deadline_seconds: float, durability: Durability) -> None:
        pool = client.get_redis_connection(client.get_primaries()[0]).connection_pool  # type: ignore[no-untyped-call]
        make = bounded(pool.connection_class)
        settings = settings_of(pool.connection_kwargs, Retry(NoBackoff(), 0), deadline_seconds)
        self._deadline: Final = deadline_seconds
        self._lines: Final = Lines(
            lambda node: Line(make(**settings | node._asdict()), deadline_seconds, durability),
        )
        self._slots: Final = Slots(client)

    def close(self) -> None:
        """Lets go of every connection of this process."""
        self._lines.close()

    def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, each of which goes to its server. Raises StoreUnavailable or
        StoreError.
        """
        ends = seconds_running() + self._deadline
        if asked is PRIMARIES:
            self._learn(ends)
            return self._slots.primaries()
        errand = Errand([asked] if isinstance(asked, Call) else asked, self._slots)
        while not errand.is_over:
            if not self._slots.is_known:
                self._learn(ends)
            self._turn(errand, ends)
            if not errand.is_over:
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, errand.last_error) from errand.last_error
                time.sleep(PAUSE_SECONDS)
        replies = [in_words(reply) if isinstance(reply, ResponseError) else reply for reply in errand.replies]
        if isinstance(asked, list):
            return replies
        if isinstance(replies[0], Exception):
            raise replies[0] from errand.replies[0]
        return replies[0]

    def _turn(self, errand: Errand, ends: float) -> None:
        """Sends to every server what is its, and then reads the replies, so that servers work side by side."""
        under_way: deque[tuple[Line, list[int], bool]] = deque()
        try:
            for (node, asking), places in errand.turns().items():
                line = self._lines.get(node)
                with _losing(line, errand):
                    line.send(errand.calls(places), ends, asking=asking)
                    under_way.append((line, places, asking))
            while under_way:
                line, places, asking = under_way.popleft()
                with _losing(line, errand):
                    errand.hear(places, line.receive(errand.calls(places), asking=asking))
        except BaseException:
            for line, *_ in under_way:
                line.disconnect()  # a reply that nobody reads must not answer the next call
            raise

    def _learn(self, ends: float) -> None:
        """Asks one server after the other for the map. Raises StoreUnavailable when none has it in time."""
        last_error: Exception = ClusterDownError("no server is known")
        for node in self._slots.whom_to_ask():
            line = self._lines.get(node)
            left = ends - seconds_running()
            if left <= 0:
                break
            try:
                self._slots.learn(line.call(LEARN, ends - left * OTHERS_SHARE), node)
            except AuthenticationError as error:
                raise in_words(error) from error
            except (*LOST_LINE, RedisError) as error:
                line.disconnect()
                last_error = error
            else:
                return
        raise no_answer(self._deadline, last_error) from last_error


@contextmanager
def _losing(line: Line, errand: Errand) -> Iterator[None]:
    """Around a connection that may be lost: its calls are asked again."""
    try:
        yield
    except AuthenticationError as error:
        raise in_words(error) from error
    except LOST_LINE as error:
        line.disconnect()
        errand.lost(error)
    except BaseException:
        line.disconnect()
        raise
