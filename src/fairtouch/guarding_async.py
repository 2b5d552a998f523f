"""Around a send in an event loop: `guarding`, awaited.

Rule: this file is `guarding.py` line for line, but for `await` and the few differences that `tests/test_mirror.py`
names with their reasons. What must not be left half done when a caller is cancelled (settling) is `finished`.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from fairtouch.decision import Decision
from fairtouch.errors import FairtouchError
from fairtouch.finishing import finished
from fairtouch.guarding import OnRefused, check_sender, refuse
from fairtouch.in_doubt import is_in_doubt
from fairtouch.records import Reservation
from fairtouch.settling import Settled
from fairtouch.touch import Touch

if TYPE_CHECKING:
    from fairtouch.governor_async import AsyncGovernor

P = ParamSpec("P")
_log: Final = logging.getLogger("fairtouch")


@asynccontextmanager
async def settled(governor: AsyncGovernor, decision: Decision) -> AsyncIterator[None]:
    """Confirms after the block, or releases when it certainly sent nothing.

    A store that fails now is logged and not raised: the send's own outcome must reach the caller, who would send
    again. The slot then stays taken, and the id is in doubt when its lease ends.
    """
    handled = sys.exc_info()[1]
    try:
        yield
    except BaseException as error:
        if not is_in_doubt(error, handled):
            await finished(_settle, governor.release, decision)
        raise
    await finished(_settle, governor.confirm, decision)


async def _settle(settle: Callable[[Reservation], Coroutine[Any, Any, Settled]], decision: Decision) -> None:
    if decision.reservation is not None:
        try:
            await settle(decision.reservation)
        except FairtouchError:
            _log.exception("a touch could not be settled; its slot stays taken, and its id is in doubt after the lease")


def guarded(
    governor: AsyncGovernor,
    send: Callable[P, Coroutine[Any, Any, Any]],
    to_touch: Callable[P, Touch],
    on_refused: OnRefused,
) -> Callable[P, Coroutine[Any, Any, Any]]:
    """What to call instead of `send`: it reserves, sends and settles. Raises TypeError for what cannot be guarded."""
    check_sender(send)
    if not inspect.iscoroutinefunction(send):
        raise TypeError(f"{send.__qualname__} is no coroutine function; guard it by a Governor, which does not await")

    @wraps(send)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        decision = await governor.reserve(to_touch(*args, **kwargs))
        if not decision:
            return refuse(decision, on_refused)
        async with settled(governor, decision):
            return await send(*args, **kwargs)

    return call
