"""What was begun comes to its end, whoever cancels meanwhile; then the cancellation goes on.

Rule 1: nothing here swallows a cancellation; it is put off until what must not be left half done is done. Rule 2: it
is put off for as long as one call of a store takes, so a store has a time-out.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_REPEATED_MAX: Final = 10


async def over(work: asyncio.Future[T]) -> T:
    """The result of what cannot be stopped. Cancelled meanwhile, however often, it raises CancelledError at the end."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError as error:
        if work.cancelled():
            raise
        return _result(work, await _ended(work) or error)


async def finished(call: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that runs to its end in a task of its own, where a cancellation of the caller's is not felt.

    Whoever cancels every task there is, as `asyncio.run` does in the end, cancels that one too; then it is called
    again. So the call is one that may be repeated.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(call(*args, **kwargs))
    cancelled = await _ended(task)
    for _ in range(_REPEATED_MAX):
        if not task.cancelled():
            break
        task = loop.create_task(call(*args, **kwargs))
        cancelled = await _ended(task) or cancelled
    return _result(task, cancelled)


async def _ended(work: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Waits for the end; the cancellation that came meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _result(work: asyncio.Future[T], cancelled: asyncio.CancelledError | None) -> T:
    if cancelled is None:
        return work.result()
    if not work.cancelled():
        work.exception()  # seen; else asyncio would complain that nobody looked
    raise cancelled
