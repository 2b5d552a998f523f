"""Steps: verbs of a store as generators of calls that are sent the replies, so that the store that is called and the
one that is awaited share every line. No connection and no waiting here.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar, cast

from fairtouch.errors import FairtouchError, StoreUnavailable
from fairtouch.stores.redis_calls import Call

T = TypeVar("T")
Step = Generator[Call | list[Call], Any, T]
"""Yields a call, or several to be sent together, is sent the reply or replies, and returns what the verb answers.

Among several replies an error stands in its place. When the call as a whole fails, whoever runs the step throws the
error into it, so that what was taken before can be given back.
"""

TRIES_MAX: Final = 100  # changes of one customer that others were quicker with


def server_now() -> Step[int]:
    """The server's own time."""
    seconds, microseconds = yield Call(None, (), (b"TIME",))
    return int(seconds) * 1_000 + int(microseconds) // 1_000


def until_done(attempt: Callable[[], Step[tuple[int, T]]]) -> Step[T]:
    """Tries again while others are quicker. Raises StoreUnavailable in the end."""
    for _ in range(TRIES_MAX):
        done, result = yield from attempt()
        if done == 1:
            return result
    raise overtaken()


def overtaken() -> StoreUnavailable:
    """What to raise when others always were."""
    return StoreUnavailable(
        f"others changed the same customer {TRIES_MAX} times in between; try again with the same id (nothing was "
        "recorded)"
    )


def side_by_side(steps: Sequence[Step[T]]) -> Step[list[T | FairtouchError]]:
    """Runs steps about different customers together: their calls go in one message. Each is brought to its end; an
    error stands in the place of a result.
    """
    results: dict[int, T | FairtouchError] = {}
    waiting: list[tuple[int, Step[T], Call]] = []
    replies: list[tuple[int, Step[T], Any]] = [(place, step, None) for place, step in enumerate(steps)]
    while replies:
        for place, step, reply in replies:
            try:
                call = step.throw(reply) if isinstance(reply, FairtouchError) else step.send(reply)
                waiting.append((place, step, cast("Call", call)))
            except StopIteration as done:
                results[place] = done.value
            except FairtouchError as error:
                results[place] = error
        answers = (yield from _answers([call for _, _, call in waiting])) if waiting else []
        replies = [(place, step, answer) for (place, step, _), answer in zip(waiting, answers, strict=True)]
        waiting = []
    return [results[place] for place in range(len(steps))]


def _answers(calls: list[Call]) -> Step[list[Any]]:
    """The replies; each is the error when the call as a whole failed."""
    try:
        return cast("list[Any]", (yield calls))
    except FairtouchError as error:
        return [error] * len(calls)


def all_of(steps: Sequence[Step[T]]) -> Step[list[T]]:
    """The same where all have to succeed. Raises the first error, after the others came to their end."""
    results = yield from side_by_side(steps)
    for result in results:
        if isinstance(result, FairtouchError):
            raise result
    return cast("list[T]", results)
