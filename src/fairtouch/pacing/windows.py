"""Where sends are remembered: the moving windows of `limits`, in this process or on a Redis.

One atomic step looks and takes. On Redis the time is the server's, so hosts whose clocks disagree keep one pace.
"""

import math
import threading
from collections import defaultdict
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from limits.aio.storage import RedisStorage as AsyncRedisStorage
from limits.storage import MemoryStorage, RedisStorage

from fairtouch.clock import system_now
from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.pacing.rates import Pace

_SET_BACK_SECONDS: Final = 1  # more than rounding and slewing: somebody set the clock
_SOON_SECONDS: Final = 0.001  # what was in the way is gone: look again
_DEADLINE_SECONDS: Final = 1.0  # of one attempt to reach Redis; there are two, for the first may find a dead connection
_PASSING_WORDS: Final = ("OOM", "READONLY", "BUSY", "NOREPLICAS", "MISCONF", "UNKILLABLE")  # that are no class of redis

_ON_THE_SERVERS_CLOCK: Final = b"""
-- Put before a script of `limits` that takes a slot of a moving window, so that it goes by this server's clock.
-- KEYS[1]  instants of the newest sends, newest first
-- ARGV[1]  the caller's time, replaced here; ARGV[3]  the period, in seconds
do
    local clock = redis.call('TIME')
    ARGV[1] = clock[1] + clock[2] / 1000000
    local newest = redis.call('LINDEX', KEYS[1], 0)
    if newest and tonumber(newest) > ARGV[1] then
        -- the clock was set back: as if all had been sent just now, or nothing would fit until it has caught up
        local sends = redis.call('LLEN', KEYS[1])
        redis.call('DEL', KEYS[1])
        for _ = 1, sends do
            redis.call('RPUSH', KEYS[1], ARGV[1])
        end
        redis.call('EXPIRE', KEYS[1], ARGV[3])
    end
end
"""


class Windows(Protocol):
    """Where the sends of a pace are remembered."""

    def take(self, pace: Pace) -> float:
        """Takes a send and answers 0, or takes nothing and answers in how many seconds the next one fits."""

    def close(self) -> None: ...


class AsyncWindows(Protocol):
    """The same, awaited."""

    async def take(self, pace: Pace) -> float: ...

    async def close(self) -> None: ...


class _KeptLocks(defaultdict[str, threading.RLock]):
    """Locks that stay. MemoryStorage drops a lock that others are waiting for, and then two threads have "the" lock."""

    def pop(self, *_: object) -> Any:
        return None


class MemoryWindows:
    """The sends of this process, by this machine's clock."""

    def __init__(self) -> None:
        self._storage: Final = MemoryStorage()
        self._storage.locks = _KeptLocks(threading.RLock)

    def take(self, pace: Pace) -> float:
        window = pace.key, pace.sends, pace.period_seconds
        if self._storage.acquire_entry(*window):
            return 0.0
        oldest, sends = self._storage.get_moving_window(*window)
        fits_in = oldest + pace.period_seconds - system_now() / 1000
        if fits_in > pace.period_seconds + _SET_BACK_SECONDS:
            # as if all had been sent just now, or nothing would fit until the clock has caught up
            self._storage.clear(pace.key)
            self._storage.acquire_entry(*window, amount=pace.sends)
            return pace.period_seconds
        return fits_in if sends >= pace.sends else _SOON_SECONDS

    def close(self) -> None:
        pass


class AsyncMemoryWindows:
    """The same, awaited; it never waits."""

    def __init__(self) -> None:
        self._windows: Final = MemoryWindows()

    async def take(self, pace: Pace) -> float:
        return self._windows.take(pace)

    async def close(self) -> None:
        self._windows.close()


class RedisWindows:
    """The sends of every process that uses this Redis, by its clock."""

    def __init__(self, url: str) -> None:
        from redis import ConnectionPool, Redis
        from redis.retry import Retry

        self._pool, prefix = _open_pool(ConnectionPool, Retry, url)
        self._redis: Final = Redis(connection_pool=self._pool)
        self._storage: Final = RedisStorage("redis://", self._pool, prefix)
        script = _ON_THE_SERVERS_CLOCK + self._storage.SCRIPT_ACQUIRE_MOVING_WINDOW
        self._storage.lua_acquire_moving_window = self._redis.register_script(script)

    def take(self, pace: Pace) -> float:
        try:
            if self._storage.acquire_entry(pace.key, pace.sends, pace.period_seconds):
                return 0.0
            with self._redis.pipeline(transaction=False) as calls:
                calls.lindex(self._storage.prefixed_key(pace.key), pace.sends - 1)
                calls.time()
                return _fits_in(pace, *calls.execute())
        except self._storage.base_exceptions as error:
            failure = _in_words(error)
        raise failure  # not chained: a lost connection to Redis says nothing about the message, see in_doubt.py

    def close(self) -> None:
        self._pool.disconnect()


class AsyncRedisWindows:
    """The same, awaited."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import ConnectionPool, Redis
        from redis.asyncio.retry import Retry

        self._pool, prefix = _open_pool(ConnectionPool, Retry, url)
        self._redis: Final = Redis(connection_pool=self._pool)
        options: dict[str, Any] = {"connection_pool": self._pool}
        self._storage: Final = AsyncRedisStorage(
            "redis://localhost:6379", implementation="redispy", key_prefix=prefix, **options
        )
        self._bridge: Final = cast(Any, self._storage.bridge)  # its scripts are declared in its own module
        script = _ON_THE_SERVERS_CLOCK + self._bridge.SCRIPT_ACQUIRE_MOVING_WINDOW
        self._bridge.lua_acquire_moving_window = self._redis.register_script(script)

    async def take(self, pace: Pace) -> float:
        try:
            if await self._storage.acquire_entry(pace.key, pace.sends, pace.period_seconds):
                return 0.0
            async with self._redis.pipeline(transaction=False) as calls:
                calls.lindex(self._bridge.prefixed_key(pace.key), pace.sends - 1)
                calls.time()
                return _fits_in(pace, *await calls.execute())
        except self._storage.base_exceptions as error:
            failure = _in_words(error)
        raise failure  # not chained, as above

    async def close(self) -> None:
        await self._pool.disconnect()


def _open_pool(pool: Any, retry: Any, url: str) -> tuple[Any, str]:
    """A pool of connections that opens none yet, and the prefix of the keys. Raises StoreError for an unusable URL."""
    from redis.backoff import NoBackoff

    from fairtouch.stores.redis_urls import split_options

    where, options = split_options(url)
    deadline = options.get("deadline_seconds", _DEADLINE_SECONDS)
    if not 0 < deadline < math.inf:
        raise StoreError(f"deadline_seconds={deadline:g} is no time to wait for Redis; write 1 (nothing was opened)")
    settings = {"socket_timeout": deadline, "socket_connect_timeout": deadline, "retry": retry(NoBackoff(), 1)}
    try:
        found = pool.from_url(where, **settings)
        found.connection_class(**found.connection_kwargs)  # an unknown option would be noticed at the first call only
    except (ValueError, TypeError) as error:
        raise StoreError(f"{url.partition('://')[0]}://: {error} (nothing was opened)") from error
    return found, f"{options.get('prefix', 'fairtouch')}:pace"


def _fits_in(pace: Pace, oldest: bytes | None, now: tuple[int, int]) -> float:
    """Seconds until the oldest send that is in the way leaves the window."""
    if oldest is None:
        return _SOON_SECONDS  # it left meanwhile
    seconds, microseconds = now
    return max(float(oldest) + pace.period_seconds - (seconds + microseconds / 1_000_000), _SOON_SECONDS)


def _in_words(error: Exception) -> FairtouchError:
    """What Redis says, as what a caller can do about it."""
    from redis import exceptions as known

    text = f"{type(error).__name__}: {error}"
    if isinstance(error, (known.AuthenticationError, known.NoPermissionError)):
        return StoreError(f"Redis does not let this pacer in ({text}); correct the URL or the user's rights")
    unable = known.OutOfMemoryError, known.ReadOnlyError, known.ClusterDownError, known.MasterDownError
    gone = known.ConnectionError, known.TimeoutError, known.TryAgainError
    if isinstance(error, (*gone, *unable)) or str(error).startswith(_PASSING_WORDS):
        return StoreUnavailable(
            f"Redis does not keep the pace now ({text}); whether a send was taken is unknown. Do not send, try later"
        )
    return StoreError(f"Redis refused to keep a pace ({text}); do not send, and look at what is under its key")


def kind(url: object) -> str:
    """'memory' or 'redis'. Raises StoreError for what keeps no pace."""
    scheme = urlsplit(url).scheme if isinstance(url, str) else ""
    if url == "memory://":
        return "memory"
    if scheme not in ("redis", "rediss", "unix"):
        raise StoreError(
            f"{scheme[:40]!r} keeps no pace; write 'memory://' for one process, or 'redis://host:6379/0' (also "
            "rediss:// and unix://) for many (nothing was opened)"
        )
    return "redis"
