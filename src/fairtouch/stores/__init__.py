"""Where ledgers, consents and suppressions are kept; `open_store` finds the store for a URL."""

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from fairtouch.errors import StoreError
from fairtouch.stores.port import Store


def _memory(rest: str) -> Store:
    from fairtouch.stores.memory import MemoryStore

    if rest:
        raise StoreError(f"memory://{rest[:40]}: a memory store has no name; write 'memory://' (nothing was opened)")
    return MemoryStore()


def _sqlite(rest: str) -> Store:
    from fairtouch.stores.sqlite import SqliteStore

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
    return SqliteStore(path, **options)  # type: ignore[arg-type] # it looks at the value itself


_SCHEMES: Final[dict[str, Callable[[str], Store]]] = {"memory": _memory, "sqlite": _sqlite}


def find_store(store: str | Store) -> Store:
    """The store itself, or the one behind its URL. Raises StoreError for anything else."""
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise StoreError(
            f"a {type(store).__name__} is no store; pass a URL such as 'sqlite:///touches.db', or a store object"
        )
    return store


def open_store(url: str) -> Store:
    """The store behind a URL: 'sqlite:///touches.db' or 'memory://'. Raises StoreError for another scheme, or what
    the store says.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise StoreError(
            f"{scheme[:40]!r} is no scheme of a store; known are {', '.join(f'{name}://' for name in _SCHEMES)}"
        )
    return _SCHEMES[scheme](rest)
