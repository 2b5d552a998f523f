"""The embedded store, awaited: every call runs in a thread, by the rules of `asyncio.to_thread`.

SQLite waits for the disk and for other processes, for up to five seconds, and an event loop must not. It is the one
place where fairtouch uses threads. They are few, and each store's own: what the application does in the loop's default
executor holds up no decision, nor the other way round. The first call starts the first of them and opens the file;
`aclose` ends them.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from fairtouch.errors import StoreError
from fairtouch.finishing import over
from fairtouch.stores.awaited import Awaited
from fairtouch.stores.awaited_deferrals import AwaitedDeferrals
from fairtouch.stores.port import Store
from fairtouch.stores.sqlite import SqliteStore
from fairtouch.stores.sqlite_connections import Synchronous

T = TypeVar("T")

_THREADS_MAX: Final = 4  # writers queue for one pen: one writes, and the others read or wait for their turn


class AsyncSqliteStore(Awaited):
    """Keeps everything in the SQLite file at `path`, as `SqliteStore` does, together with any number of these.

    Raises what `SqliteStore` raises, at the first call. A cancelled call is awaited to its end, at most some seconds.
    """

    durability: str = SqliteStore.durability

    def __init__(self, path: str, *, synchronous: Synchronous = "full") -> None:
        self._path = Path(path).absolute()
        self._open = partial(SqliteStore, str(self._path), synchronous=synchronous)
        self._store: SqliteStore | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._pid = 0  # of the process that the threads are in: none crosses a fork
        self._is_closed = False
        self._gate = threading.Lock()  # one thread opens or closes

    @property
    def deferrals(self) -> AwaitedDeferrals:
        """Where deferred touches are kept."""
        return AwaitedDeferrals(self._call)

    async def _call(self, verb: Callable[[Store], T]) -> T:
        if self._is_closed:
            raise self._closed()
        return await in_thread(self._own_threads(), lambda: verb(self._opened()))

    def _own_threads(self) -> ThreadPoolExecutor:
        if self._threads is None or self._pid != os.getpid():
            self._threads, self._pid = ThreadPoolExecutor(_THREADS_MAX, "fairtouch-sqlite"), os.getpid()
        return self._threads

    def _opened(self) -> SqliteStore:
        if self._store is not None:
            return self._store
        with self._gate:
            if self._store is None:
                if self._is_closed:
                    raise self._closed()
                self._store = self._open()
            return self._store

    def _closed(self) -> StoreError:
        return StoreError(f"{self._path.name} was closed; open a new governor (nothing was recorded)")

    async def aclose(self) -> None:
        if not self._is_closed:
            threads = self._own_threads()
            try:
                await in_thread(threads, self._close)
            finally:
                threads.shutdown(wait=False)

    def _close(self) -> None:
        with self._gate:
            self._is_closed = True
            if self._store is not None:
                self._store.close()


async def in_thread(threads: Executor, work: Callable[[], T]) -> T:
    """What `asyncio.to_thread` does, in these threads, and awaited to its end also by a caller who is cancelled.

    `to_thread` itself would have to be a task to be waited for, and a task can be cancelled while its thread goes on;
    what an executor returns is known to nobody but us.
    """
    loop = asyncio.get_running_loop()
    return await over(loop.run_in_executor(threads, contextvars.copy_context().run, work))
