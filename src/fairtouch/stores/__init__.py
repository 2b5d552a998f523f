"""Where ledgers, consents and suppressions are kept; `open_store` and `open_async_store` find the store for a URL."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from fairtouch.errors import StoreError
from fairtouch.stores.port import Store
from fairtouch.stores.port_async import AsyncStore

T = TypeVar("T")
Opener = Callable[[str], T]
"""Opens the store that a URL stands for."""


def _memory(url: str) -> Store:
    from fairtouch.stores.memory import MemoryStore

    _check_nameless(url)
    return MemoryStore()


def _memory_async(url: str) -> AsyncStore:
    from fairtouch.stores.memory_async import AsyncMemoryStore

    _check_nameless(url)
    return AsyncMemoryStore()


def _check_nameless(url: str) -> None:
    if rest := url.partition("://")[2]:
        raise StoreError(f"memory://{rest[:40]}: a memory store has no name; write 'memory://' (nothing was opened)")


def _sqlite(url: str) -> Store:
    from fairtouch.stores.sqlite import SqliteStore

    path, options = _sqlite_file(url)
    return SqliteStore(path, **options)


def _sqlite_async(url: str) -> AsyncStore:
    from fairtouch.stores.sqlite_async import AsyncSqliteStore

    path, options = _sqlite_file(url)
    return AsyncSqliteStore(path, **options)


def _sqlite_file(url: str) -> tuple[str, dict[str, Any]]:
    """The path and the options; the store looks at their values itself."""
    rest = url.partition("://")[2]
    if not rest.startswith("/") or rest == "/":
        raise StoreError(
            "write 'sqlite:///touches.db' for a file in this directory, 'sqlite:////var/lib/touches.db' for any other"
        )
    path, _, query = rest[1:].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - {"synchronous"}):
        raise StoreError(
            f"sqlite:///: {unknown[0][:40]!r} is no option; there is '?synchronous=normal' (nothing was opened)"
        )
    return path, options


def _redis(url: str) -> Store:
    from fairtouch.stores.redis_urls import redis_store

    return redis_store(url)


def _redis_async(url: str) -> AsyncStore:
    from fairtouch.stores.redis_urls import async_redis_store

    return async_redis_store(url)


_SCHEMES: Final[dict[str, tuple[Opener[Store], Opener[AsyncStore]]]] = {
    "memory": (_memory, _memory_async),
    "sqlite": (_sqlite, _sqlite_async),
    "redis": (_redis, _redis_async),
    "rediss": (_redis, _redis_async),
    "unix": (_redis, _redis_async),
    "redis+sentinel": (_redis, _redis_async),
    "redis+cluster": (_redis, _redis_async),
}


def find_store(store: str | Store) -> Store:
    """The store itself, or the one behind its URL. Raises StoreError for anything else."""
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise StoreError(
            f"a {type(store).__name__} is no store; pass a URL such as 'sqlite:///touches.db', or a store object"
        )
    return store


def find_async_store(store: str | AsyncStore) -> AsyncStore:
    """The asynchronous store itself, or the one behind its URL. Raises StoreError for anything else."""
    if isinstance(store, str):
        return open_async_store(store)
    if not isinstance(store, AsyncStore):
        raise StoreError(
            f"a {type(store).__name__} is no asynchronous store; pass a URL such as 'sqlite:///touches.db', or a store "
            "object such as AsyncSqliteStore('touches.db')"
        )
    return store


def open_store(url: str) -> Store:
    """The store behind a URL: 'sqlite:///touches.db', 'redis://host:6379/0' or 'memory://'. Raises StoreError for
    another scheme, or what the store says.
    """
    return _openers(url)[0](url)


def open_async_store(url: str) -> AsyncStore:
    """The same for an asynchronous store, which opens what it needs at its first call."""
    return _openers(url)[1](url)


def _openers(url: str) -> tuple[Opener[Store], Opener[AsyncStore]]:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise StoreError(
            f"{scheme[:40]!r} is no scheme of a store; known are {', '.join(f'{name}://' for name in _SCHEMES)}"
        )
    return _SCHEMES[scheme]
