"""The embedded store, awaited: every call runs in a thread, by the rules of `asyncio.to_thread`.

SQLite waits for the disk and for other processes, for up to five seconds, and an event loop must not. It is the one
place where fairtouch uses threads; they are the loop's own, of its default executor. Nothing is opened before the first
call, which is in a thread as well.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fairtouch.errors import StoreError
from fairtouch.finishing import over
from fairtouch.stores.awaited import Awaited
from fairtouch.stores.port import Store
from fairtouch.stores.sqlite import SqliteStore
from fairtouch.stores.sqlite_connections import Synchronous

T = TypeVar("T")


class AsyncSqliteStore(Awaited):
    """Keeps everything in the SQLite file at `path`, as `SqliteStore` does, together with any number of these.

    Raises what `SqliteStore` raises, at the first call. A cancelled call is awaited to its end, at most some seconds.
    """

    def __init__(self, path: str, *, synchronous: Synchronous = "full") -> None:
        self._path = Path(path).absolute()
        self._open = partial(SqliteStore, str(self._path), synchronous=synchronous)
        self._store: SqliteStore | None = None
        self._is_closed = False
        self._gate = threading.Lock()  # one thread opens or closes

    async def _call(self, verb: Callable[[Store], T]) -> T:
        return await in_thread(lambda: verb(self._opened()))

    def _opened(self) -> SqliteStore:
        if self._store is not None:
            return self._store
        with self._gate:
            if self._store is None:
                if self._is_closed:
                    raise StoreError(f"{self._path.name} was closed; open a new governor (nothing was recorded)")
                self._store = self._open()
            return self._store

    async def aclose(self) -> None:
        await in_thread(self._close)

    def _close(self) -> None:
        with self._gate:
            self._is_closed = True
            if self._store is not None:
                self._store.close()


async def in_thread(work: Callable[[], T]) -> T:
    """What `asyncio.to_thread` does, awaited to its end also by a caller who is cancelled.

    `to_thread` itself would have to be a task to be waited for, and a task can be cancelled while its thread goes on;
    what the loop's executor returns is known to nobody but us.
    """
    loop = asyncio.get_running_loop()
    return await over(loop.run_in_executor(None, contextvars.copy_context().run, work))
