"""Around a send: the touch is reserved before, and settled after by what became of the send.

Rule 1: only a governor's own verbs are used here. Rule 2: a send is never undone by what fails afterwards: the caller
gets its outcome, and the log says what could not be settled.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec

from fairtouch.decision import Decision
from fairtouch.errors import FairtouchError, Refused
from fairtouch.in_doubt import is_in_doubt
from fairtouch.records import Reservation
from fairtouch.settling import Settled
from fairtouch.touch import Touch

if TYPE_CHECKING:
    from fairtouch.governor import Governor

P = ParamSpec("P")
OnRefused = Literal["raise", "skip"] | Callable[[Decision], Any]
_log: Final = logging.getLogger("fairtouch")


@contextmanager
def settled(governor: Governor, decision: Decision) -> Iterator[None]:
    """Confirms after the block, or releases when it certainly sent nothing.

    A store that fails now is logged and not raised: the send's own outcome must reach the caller, who would send
    again. The slot then stays taken, and the id is in doubt when its lease ends.
    """
    handled = sys.exc_info()[1]
    try:
        yield
    except BaseException as error:
        if not is_in_doubt(error, handled):
            _settle(governor.release, decision)
        raise
    _settle(governor.confirm, decision)


def _settle(settle: Callable[[Reservation], Settled], decision: Decision) -> None:
    if decision.reservation is not None:
        try:
            settle(decision.reservation)
        except FairtouchError:
            _log.exception("a touch could not be settled; its slot stays taken, and its id is in doubt after the lease")


def guarded(
    governor: Governor, send: Callable[P, Any], to_touch: Callable[P, Touch], on_refused: OnRefused
) -> Callable[P, Any]:
    """What to call instead of `send`: it reserves, sends and settles. Raises TypeError for what cannot be guarded."""
    check_sender(send)
    if inspect.iscoroutinefunction(send):

        @wraps(send)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            decision = governor.reserve(to_touch(*args, **kwargs))
            if not decision:
                return refuse(decision, on_refused)
            with settled(governor, decision):
                return await send(*args, **kwargs)

        return call_async

    @wraps(send)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        decision = governor.reserve(to_touch(*args, **kwargs))
        if not decision:
            return refuse(decision, on_refused)
        with settled(governor, decision):
            return send(*args, **kwargs)

    return call


def check_sender(send: Callable[..., Any]) -> None:
    """Raises TypeError for a generator function."""
    if inspect.isgeneratorfunction(send) or inspect.isasyncgenfunction(send):
        raise TypeError(f"{send.__qualname__} is a generator, which sends when it is iterated; guard what it calls")


def check_on_refused(on_refused: object) -> None:
    """Raises TypeError for what says nothing about a touch that is not welcome."""
    if on_refused not in ("raise", "skip") and not callable(on_refused):
        raise TypeError(f"on_refused={on_refused!r}; write 'raise', 'skip', or a callable that takes the decision")


def refuse(decision: Decision, on_refused: OnRefused) -> Any:
    """What a guarded call comes to when its touch is not welcome."""
    if on_refused == "raise":
        raise Refused(decision)
    return decision if on_refused == "skip" else on_refused(decision)
