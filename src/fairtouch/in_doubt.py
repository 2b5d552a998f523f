"""Which exceptions leave a send in doubt: the touch may have gone out, so its slot stays taken.

Time-outs, lost connections and cancellation say nothing about what the other side did. A connection that was refused or
never came about does: nothing went out. Libraries wrap these in exceptions of their own, so causes, contexts and groups
are looked at too; the safe side is to keep the slot.
"""

import sys
from collections.abc import Iterator
from typing import Final

# Exceptions with no common parent, by module and name; a module that nobody imported cannot have raised one.
_ELSEWHERE: Final = (
    ("smtplib", "SMTPServerDisconnected"),
    ("ssl", "SSLEOFError"),
    ("ssl", "SSLZeroReturnError"),
    ("concurrent.futures", "CancelledError"),
    ("billiard.exceptions", "SoftTimeLimitExceeded"),  # how Celery interrupts a task
)
_NEVER_CONNECTED: Final = (("aiosmtplib", "SMTPConnectError"),)


def is_in_doubt(error: BaseException, handled: BaseException | None = None) -> bool:
    """Whether the touch may have gone out although its send raised.

    `handled`: what the caller was already handling when the send began (`sys.exc_info()[1]`); it says nothing about it.
    """
    return any(_says_nothing(each) for each in _family(error, {id(handled)}))


def _family(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and what it groups."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    if _is_one_of(_NEVER_CONNECTED, error):
        yield from _before_connecting(error, seen)
    yield from _family(error.__cause__, seen)
    yield from _family(error.__context__, seen)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _family(member, seen)


def _before_connecting(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """What was being handled when a connection was tried in vain: a send before it may have failed, say.

    Why the attempt failed, which is what it was raised from, is no more than that: its time-out is not a send's.
    """
    reasons = []
    reason = error.__cause__
    while reason is not None and id(reason) not in seen:
        seen.add(id(reason))
        reasons.append(reason)
        reason = reason.__cause__
    for each in reasons:
        yield from _family(each.__context__, seen)


def _says_nothing(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return False  # its members speak for it
    if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError, GeneratorExit
        return True
    if isinstance(error, ConnectionRefusedError) or _is_one_of(_NEVER_CONNECTED, error):
        return False
    return isinstance(error, TimeoutError | ConnectionError | EOFError) or _is_one_of(_ELSEWHERE, error)


def _is_one_of(kinds: tuple[tuple[str, str], ...], error: BaseException) -> bool:
    """Whether it is an instance of one of these; where a module was not imported, of none of its kinds."""
    return any(isinstance(error, getattr(sys.modules[module], name)) for module, name in kinds if module in sys.modules)
