"""Connections to one Redis: one per thread, each call within a deadline of its own, errors in words.

Rule 1: the client that an app has lends its address and its credentials; its retries and its pool stay its own. Rule 2:
a connection that fails before the deadline is opened anew and the call is sent again, because every call may run twice.
"""

import time
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoReplyError
from redis.retry import Retry

from fairtouch.clock import seconds_running
from fairtouch.stores.redis_calls import PRIMARIES, Call
from fairtouch.stores.redis_deadlines import bounded
from fairtouch.stores.redis_durability import Durability
from fairtouch.stores.redis_errors import in_words, no_answer
from fairtouch.stores.redis_lines import PAUSE_SECONDS, Line, Lines

LOST_LINE: Final = (NoConnectionError, NoReplyError, OSError)
"""What a driver raises when nobody knows whether the server did as it was asked."""
DEADLINE_SECONDS: Final = 0.25  # of a call, unless a store says otherwise
_OF_ITS_POOL: Final = ("maint_notifications", "oss_cluster", "orig_", "himport", "cache")  # settings that stay behind


def settings_of(lent: dict[str, Any], retry: Any, deadline_seconds: float) -> dict[str, Any]:
    """What a connection is opened with: where and as whom a client goes, and nothing of its patience."""
    return {
        **{name: value for name, value in lent.items() if not name.startswith(_OF_ITS_POOL)},
        "decode_responses": False,
        "protocol": 2,
        "health_check_interval": 0,
        "retry": retry,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "socket_timeout": deadline_seconds,
        "socket_connect_timeout": deadline_seconds,
    }


class Connections:
    """Opens and hands out connections with the settings of a client, in threads and after forks."""

    def __init__(self, client: redis.Redis, deadline_seconds: float, durability: Durability) -> None:
        self._client: Final = client  # its pool knows where the primary is, and must live as long
        make = bounded(client.connection_pool.connection_class)
        settings = settings_of(client.connection_pool.connection_kwargs, Retry(NoBackoff(), 0), deadline_seconds)
        make(**settings)  # raises for a setting that is none, before anybody waits for an answer
        self._deadline: Final = deadline_seconds
        self._lines: Final = Lines(lambda _: Line(make(**settings), deadline_seconds, durability))

    def close(self) -> None:
        """Lets go of every connection of this process."""
        self._lines.close()

    def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, which are sent together. Raises StoreUnavailable or
        StoreError.
        """
        if asked is PRIMARIES:
            return None
        ends = seconds_running() + self._deadline
        line = self._lines.get(None)
        while True:
            try:
                if isinstance(asked, Call):
                    return line.call(asked, ends)
                line.send(asked, ends)
                return [in_words(reply) if isinstance(reply, ResponseError) else reply for reply in line.receive(asked)]
            except AuthenticationError as error:
                raise in_words(error) from error
            except LOST_LINE as error:
                line.disconnect()
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, error) from error
                time.sleep(PAUSE_SECONDS)
            except RedisError as error:
                if "READONLY" in str(error):
                    line.disconnect()  # it was the primary: the next call asks who is
                raise in_words(error) from error
            except BaseException:
                line.disconnect()
                raise
