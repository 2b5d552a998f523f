"""Around a Celery task that sends: judged in the worker right before the send, put off until the touch is welcome.

Rule 1: nothing is judged when a task is enqueued, and no worker waits: a touch that is not welcome yet is a message
that comes back. Rule 2: a message rests for half of the time that the broker lets it, or less, so that it is not
delivered again meanwhile. Rule 3: what is delivered twice all the same is one touch, since the task's id is the
touch's. Rule 4: Celery's own words keep their meaning: `max_retries` counts failures, never the hops of a message.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec

from fairtouch.asking import as_touch
from fairtouch.decision import Decision
from fairtouch.errors import FairtouchError, StoreUnavailable
from fairtouch.governor import Governor
from fairtouch.guarding import OnRefused, check_on_refused, check_sender, settled
from fairtouch.integrations.celery_hops import Journey, Patience
from fairtouch.reasons import Code
from fairtouch.records import Outcome
from fairtouch.touch import Touch

try:
    from celery import current_task
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this needs Celery: pip install 'fairtouch[celery]'", name=error.name) from error

P = ParamSpec("P")


class NotSent(FairtouchError):
    """The touch of a task did not go out, and nothing will try again: it was refused, or put off for too long.

    No slot was taken, except by an earlier run when the touch is in doubt. `decision` says why, where the exception was
    raised; a result backend and another process get the text alone, which names rules, never a person.
    """

    def __init__(self, why: str, decision: Decision | None = None) -> None:
        super().__init__(why)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),)


def governed(
    governor: Governor | Callable[[], Governor],
    to_touch: Callable[P, Touch],
    *,
    on_refused: OnRefused = "raise",
    give_up_after: timedelta = timedelta(days=7),
    spread: timedelta = timedelta(minutes=1),
    hops_max: int = 1_000,
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Decorates the function of a Celery task that sends; it goes below `@app.task`, next to the function.

    Give the task `acks_late` and `reject_on_worker_lost`: else Celery forgets it when its worker dies. `to_touch` gets
    the arguments of the task (`self` too, with `bind=True`) and says what touch it makes; without an id of its own the
    touch gets the task's. `governor`: one, or a callable that returns one, for apps that enqueue where the store cannot
    be reached. Each run of the task is judged anew, in the worker:

    Allowed: the function runs between reservation and confirmation, as with `Governor.guard`. Deferred: the message
    comes back at `next_allowed_at`, and within `spread` after it at random, so that not everybody comes at once; it
    travels in hops shorter than the broker's visibility time-out. Store unavailable: it comes back soon, and later each
    time. A duplicate of a touch that went out: the task succeeds and returns None. Refused, or not welcome within
    `give_up_after` of the first run or after `hops_max` hops: given up. Then "raise" raises `NotSent`, "skip" returns
    the reasons as a text, a callable gets the decision, and what it returns is the task's result. A touch in doubt is
    refused under `in_doubt = "hold"`: a callable is where to learn which.

    Called directly, or eagerly (`apply`, `task_always_eager`), nothing can wait: deferred is given up, and
    StoreUnavailable is raised. Raises TypeError for what cannot be governed, ValueError for times that are negative.
    """
    check_on_refused(on_refused)
    if not isinstance(governor, Governor) and not callable(governor):
        raise TypeError(f"governor is a {type(governor).__name__}; pass a Governor, or a callable that returns one")
    patience = Patience(give_up_after=give_up_after, spread=spread, hops_max=hops_max)

    def decorate(send: Callable[P, Any]) -> Callable[P, Any]:
        _check_task(send)

        @wraps(send)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            task = _task_of(run)
            journey = None if task is None or not _can_wait(task) else Journey(task, patience)
            if journey is not None:
                journey.rest()
            touch = _with_id(to_touch(*args, **kwargs), None if task is None else task.request.id)
            found, decision = _reserve(governor, touch, journey)
            if decision:
                with settled(found, decision):
                    return send(*args, **kwargs)
            return _not_welcome(decision, journey, on_refused)

        run.__signature__ = inspect.signature(send)  # type: ignore[attr-defined] # what Celery checks arguments against
        return run

    return decorate


def _check_task(send: Callable[..., Any]) -> None:
    check_sender(send)
    if inspect.iscoroutinefunction(send):
        raise TypeError(f"{send.__qualname__} is a coroutine function, which Celery does not await")


def _task_of(run: Callable[..., Any]) -> Any:
    """The task that runs now, if `run` is its function: a governed function may also be called by another task."""
    if not current_task:
        return None
    body = inspect.unwrap(current_task.run, stop=lambda each: _function(each) is run)  # below autoretry_for, say
    return current_task if _function(body) is run else None


def _function(body: Any) -> Any:
    return getattr(body, "__func__", body)


def _can_wait(task: Any) -> bool:
    return not (task.request.called_directly or task.request.is_eager)


def _with_id(touch: Touch, task_id: str | None) -> Touch:
    touch = as_touch(touch, {})
    return replace(touch, id=task_id) if touch.id is None and task_id else touch


def _found(governor: Governor | Callable[[], Governor]) -> Governor:
    found = governor if isinstance(governor, Governor) else governor()
    if not isinstance(found, Governor):  # what an AsyncGovernor's verbs return is true, whatever it decides
        raise TypeError(f"the callable returned a {type(found).__name__}, no Governor; nothing was sent")
    return found


def _reserve(
    governor: Governor | Callable[[], Governor], touch: Touch, journey: Journey | None
) -> tuple[Governor, Decision]:
    try:
        found = _found(governor)
        return found, found.reserve(touch)
    except StoreUnavailable as error:
        if journey is not None:
            journey.wait_for_store(error)
        raise


def _not_welcome(decision: Decision, journey: Journey | None, on_refused: OnRefused) -> Any:
    codes = {reason.code for reason in decision.reasons}
    if Code.DUPLICATE in codes:
        return None
    why = decision.summary()
    if decision.outcome is Outcome.DEFERRED and decision.next_allowed_at is not None:
        if journey is not None:
            journey.wait(decision.next_allowed_at - decision.at, NotSent(why))
        why = f"given up, for it cannot wait: {why}"
    if on_refused == "raise":
        raise NotSent(why, decision)
    return why if on_refused == "skip" else on_refused(decision)
