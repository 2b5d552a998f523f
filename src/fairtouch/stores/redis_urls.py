"""From a URL to a store on Redis: `redis://`, `rediss://` and `unix://` as the driver reads them, and
`redis+sentinel://host:26379,host:26379/service/0`, which asks the sentinels where the primary is; and
`redis+cluster://host:6379,host:6379`, of which any server tells of all.

`prefix`, `deadline_seconds`, `durability` and `on_eviction` in the query are the store's own options; a name and a
password before the hosts are those of the primaries.
"""

from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import AuthenticationError, RedisClusterException
from redis.retry import Retry

from fairtouch.errors import StoreError, StoreUnavailable
from fairtouch.stores.redis import RedisStore
from fairtouch.stores.redis_async import AsyncRedisStore
from fairtouch.stores.redis_connections import DEADLINE_SECONDS
from fairtouch.stores.redis_errors import in_words

SENTINEL: Final = "redis+sentinel"
CLUSTER: Final = "redis+cluster"
_OPTIONS: Final = ("prefix", "deadline_seconds", "durability", "on_eviction")
_SENTINEL_PORT: Final = 26_379
_PORT: Final = 6_379


def redis_store(url: str) -> RedisStore:
    """The store behind a URL. Raises StoreError; StoreUnavailable when no server of a cluster answers."""
    where, options = split_options(url)
    try:
        if where.startswith(CLUSTER):
            return RedisStore(_cluster(where, options), **options)
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
        if where.startswith(CLUSTER):
            hosts, settings = _members(where)
            nodes = [redis.asyncio.cluster.ClusterNode(*host) for host in hosts]
            return AsyncRedisStore(redis.asyncio.RedisCluster(startup_nodes=nodes, **settings), **options)
        if not where.startswith(SENTINEL):
            return AsyncRedisStore(redis.asyncio.Redis.from_url(where), **options)
        sentinels, service, settings = _sentinels(where)
        watched = redis.asyncio.Sentinel(sentinels)  # type: ignore[no-untyped-call]
        return AsyncRedisStore(watched.master_for(service, **settings), **options)
    except (ValueError, TypeError) as error:
        raise _unusable(url, error) from error


def _cluster(where: str, options: dict[str, Any]) -> redis.RedisCluster:
    """A client of a cluster, which has asked one of its servers. Raises ValueError or StoreUnavailable."""
    hosts, settings = _members(where)
    nodes = [ClusterNode(*host) for host in hosts]  # type: ignore[no-untyped-call]
    patience = options.get("deadline_seconds", DEADLINE_SECONDS)
    try:
        return redis.RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), socket_timeout=patience, **settings)
    except AuthenticationError as error:
        raise in_words(error) from error
    except (redis.RedisError, RedisClusterException) as error:
        if "not enabled" in str(error):
            raise StoreError("this Redis is no cluster; write redis:// (nothing was opened)") from error
        raise StoreUnavailable(f"no server of the cluster answers ({error}); nothing was opened") from error


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
    hosts, path, settings = _several(where, _SENTINEL_PORT)
    service, _, database = path.partition("/")
    if not hosts or not service:
        raise ValueError("write redis+sentinel://host:26379,host:26379/service/0")
    return hosts, service, {"db": int(database or 0), **settings}


def _members(where: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Servers of a cluster, and what all of them are opened with. Raises ValueError."""
    hosts, path, settings = _several(where, _PORT)
    if not hosts or path not in ("", "0"):
        raise ValueError("write redis+cluster://host:6379,host:6379; a cluster has one database")
    return hosts, settings


def _several(where: str, port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Hosts with their ports, the path, and name and password, of a URL. Raises ValueError."""
    parts = urlsplit(where)
    if parts.query:
        raise ValueError(f"{parts.query.partition('=')[0][:40]!r} is no option here")
    user, _, hosts = parts.netloc.rpartition("@")
    each = [urlsplit(f"//{host}") for host in hosts.split(",") if host]
    name, _, password = user.partition(":")
    settings = {"username": unquote(name), "password": unquote(password)}
    return (
        [(host.hostname or "", host.port or port) for host in each],
        parts.path.strip("/"),
        {key: value for key, value in settings.items() if value},
    )
