"""Connections to one Redis: one per thread, each call within a deadline of its own, errors in words.

Rule 1: the client that an app has lends its address and its credentials; its retries and its pool stay its own. Rule 2:
a connection that fails before the deadline is opened anew and the call is sent again, because every call may run twice.
Rule 3: scripts go by their digest, and whole where the server does not know it.
"""

import os
import re
import threading
import time
import weakref
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoReplyError
from redis.retry import Retry

from fairtouch.clock import seconds_running
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.stores.redis_calls import Call
from fairtouch.stores.redis_durability import GRACE_SECONDS, Durability
from fairtouch.stores.redis_names import LOST

_PASSING: Final = (OutOfMemoryError, ReadOnlyError, ClusterDownError, MasterDownError, TryAgainError)
_PASSING_WORDS: Final = re.compile(r"(?:^|[ -])(?:OOM|READONLY|BUSY|NOREPLICAS|MISCONF|UNKILLABLE|MASTERDOWN) ")
_OF_ITS_POOL: Final = ("maint_notifications", "oss_cluster", "orig_", "himport", "cache")  # settings that stay behind
PAUSE_SECONDS: Final = 0.01  # before a connection is opened anew
CLOSED: Final = "this Redis store was closed; open a new governor (nothing was recorded)"
_OURS: Final = "FAIRTOUCH"
_OPEN: Final = "it is not known whether this was recorded (repeat it with the same id), and nothing may be sent"


def settings_of(pool: Any, retry: Any, deadline_seconds: float) -> dict[str, Any]:
    """What a connection is opened with: where and as whom a client's pool goes, and nothing of its patience."""
    return {
        **{name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OF_ITS_POOL)},
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
        self._make = client.connection_pool.connection_class
        self._settings: Final = settings_of(client.connection_pool, Retry(NoBackoff(), 0), deadline_seconds)
        self._make(**self._settings)  # raises for a setting that is none, before anybody waits for an answer
        self._deadline: Final = deadline_seconds
        self._durability: Final = durability
        self._local: Final = threading.local()
        self._all: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
        self._is_closed = False

    def close(self) -> None:
        """Lets go of every connection of this process."""
        self._is_closed = True
        for connection in list(self._all):
            connection.disconnect()

    def _get(self) -> Any:
        """This thread's connection. A child of a fork opens its own."""
        if self._is_closed:
            raise StoreError(CLOSED)
        pid, connection = getattr(self._local, "known", (0, None))
        if connection is None or pid != os.getpid():
            connection = self._make(**self._settings)
            self._local.known = (os.getpid(), connection)
            self._all.add(connection)
        return connection

    def call(self, asked: Call | list[Call]) -> Any:
        """The reply to a call, or the replies to several, which are sent together. Raises StoreUnavailable or
        StoreError.
        """
        ends = seconds_running() + self._deadline
        connection = self._get()
        while True:
            try:
                return self._exchange(connection, asked, ends)
            except AuthenticationError as error:
                raise in_words(error) from error
            except (NoConnectionError, NoReplyError, OSError) as error:
                connection.disconnect()
                if seconds_running() + PAUSE_SECONDS > ends:
                    raise no_answer(self._deadline, error) from error
                time.sleep(PAUSE_SECONDS)
            except RedisError as error:
                if "READONLY" in str(error):
                    connection.disconnect()  # it was the primary: the next call asks who is
                raise in_words(error) from error
            except BaseException:
                connection.disconnect()  # a reply that nobody reads must not answer the next call
                raise

    def _exchange(self, connection: Any, asked: Call | list[Call], ends: float) -> Any:
        """Sends and reads; what the server does not know by its digest goes once more, whole."""
        if not connection.is_connected:
            connection.socket_connect_timeout = max(ends - seconds_running(), PAUSE_SECONDS)
            connection.connect()
        replies = self._replies(connection, asked)
        if self._durability.is_required and lasts(asked):
            connection.send_command(*self._durability.command(self._deadline))
            self._durability.check(connection.read_response(timeout=self._deadline + GRACE_SECONDS))
        return replies

    def _replies(self, connection: Any, asked: Call | list[Call]) -> Any:
        if isinstance(asked, Call):
            connection.send_command(*by_digest(asked))
            try:
                return connection.read_response()
            except NoScriptError:
                connection.send_command(*whole(asked))
                return connection.read_response()
        connection.send_packed_command(connection.pack_commands([by_digest(call) for call in asked]))
        replies = [_reply(connection) for _ in asked]
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        for place in unknown:
            connection.send_command(*whole(asked[place]))
            replies[place] = _reply(connection)
        return [in_words(reply) if isinstance(reply, ResponseError) else reply for reply in replies]


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def no_answer(deadline_seconds: float, error: Exception) -> StoreUnavailable:
    """What to raise when the deadline is over."""
    return StoreUnavailable(f"Redis did not answer within {deadline_seconds} s ({type(error).__name__}); {_OPEN}")


def lasts(asked: Call | list[Call]) -> bool:
    """Whether something was written that has to be durable."""
    return asked.lasts if isinstance(asked, Call) else any(call.lasts for call in asked)


def by_digest(call: Call) -> tuple[Any, ...]:
    """The command of a call; its script by its digest."""
    if call.script is None:
        return (call.args[0], *call.keys, *call.args[1:])
    return (b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def whole(call: Call) -> tuple[Any, ...]:
    """The command of a call with its script, which the server knows from then on."""
    if call.script is None:
        return by_digest(call)
    return (b"EVAL", call.script.source, len(call.keys), *call.keys, *call.args)


def in_words(error: RedisError) -> FairtouchError:
    """What Redis says, as what a caller can do about it."""
    text = str(error)
    if isinstance(error, AuthenticationError | NoPermissionError) or "permission" in text:
        return StoreError(
            f"Redis does not let this user in ({text}); see the docs for the rights it needs. Nothing was recorded"
        )
    if text.startswith(f"{_OURS} newer"):
        return StoreError("a newer fairtouch wrote this customer's document; upgrade this one. Nothing was recorded")
    if text.startswith(f"{_OURS} names"):
        return StoreError(LOST)
    if isinstance(error, _PASSING) or _PASSING_WORDS.search(text):
        return StoreUnavailable(f"Redis cannot do this now ({text}); nothing was recorded, and nothing may be sent")
    if "WAITAOF" in text:
        return StoreError(
            f"durability='fsynced' needs WAITAOF, which Redis has since 7.2 ({text}); the word was written, and nobody "
            "knows whether it is on the disk"
        )
    return StoreError(f"Redis refused a call ({type(error).__name__}: {text}); nothing may be sent")
