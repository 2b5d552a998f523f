"""From a URL to a store on Redis: `redis://`, `rediss://` and `unix://` as the driver reads them, and
`redis+sentinel://host:26379,host:26379/service/0`, which asks the sentinels where the primary is.

`prefix`, `deadline_seconds`, `durability` and `on_eviction` in the query are the store's own options; a name and a
password in a sentinel URL are those of the primary.
"""

from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio

from fairtouch.errors import StoreError
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_async import AsyncRedisStore

SENTINEL: Final = "redis+sentinel"
_OPTIONS: Final = ("prefix", "deadline_seconds", "durability", "on_eviction")
_SENTINEL_PORT: Final = 26_379


def redis_store(url: str) -> RedisStore:
    """The store behind a URL. Raises StoreError."""
    where, options = split_options(url)
    try:
        if not where.startswith(SENTINEL):
            return RedisStore(redis.Redis.from_url(where), **options)
        sentinels, service, settings = _sentinels(where)
        watched = redis.Sentinel(sentinels)  # type: ignore[no-untyped-call]
        return RedisStore(watched.master_for(service, **settings), **options)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise _unusable(url, error) from error


def async_redis_store(url: str) -> AsyncRedisStore:
    """The asynchronous store behind a URL. Raises StoreError."""
    where, options = split_options(url)
    try:
        if not where.startswith(SENTINEL):
            return AsyncRedisStore(redis.asyncio.Redis.from_url(where), **options)
        sentinels, service, settings = _sentinels(where)
        watched = redis.asyncio.Sentinel(sentinels)  # type: ignore[no-untyped-call]
        return AsyncRedisStore(watched.master_for(service, **settings), **options)
    except (ValueError, TypeError) as error:
        raise _unusable(url, error) from error


def _unusable(url: str, error: Exception) -> StoreError:
    return StoreError(f"{url.partition('://')[0]}://: {error} (nothing was opened)")


def split_options(url: str) -> tuple[str, dict[str, Any]]:
    """What the driver reads of a URL, and the store's own options. Raises StoreError."""
    where, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    ours: dict[str, Any] = {name: options.pop(name) for name in _OPTIONS if name in options}
    if "deadline_seconds" in ours:
        try:
            ours["deadline_seconds"] = float(ours["deadline_seconds"])
        except ValueError as error:
            raise _unusable(url, error) from error
    return f"{where}?{urlencode(options)}" if options else where, ours


def _sentinels(where: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """The sentinels, the service, and what its primary is opened with. Raises ValueError."""
    parts = urlsplit(where)
    if parts.query:
        raise ValueError(f"{parts.query.partition('=')[0][:40]!r} is no option here")
    user, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError("write redis+sentinel://host:26379,host:26379/service/0")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        sentinels.append((name, int(port or _SENTINEL_PORT)))
    settings: dict[str, Any] = {"db": int(database or 0)}
    name, _, password = user.partition(":")
    if password:
        settings["password"] = unquote(password)
    if name:
        settings["username"] = unquote(name)
    return sentinels, service, settings
