"""What both fronts of a queue share around a run: who can send, where it is kept, what is raised when that fails."""

import inspect
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, cast

from fairtouch.decision import Decision
from fairtouch.deferral.reports import Fate, Run
from fairtouch.errors import StoreUnavailable
from fairtouch.guarding import check_sender
from fairtouch.stores.deferral_port import DeferralStore
from fairtouch.stores.deferral_port_async import AsyncDeferralStore
from fairtouch.stores.port_async import Opened
from fairtouch.touch import Touch

Send = Callable[[Touch, Any], Any]
AsyncSend = Callable[[Touch, Any], Coroutine[Any, Any, Any]]

_NO_QUEUE: Final = (
    "a {} keeps no deferred touches here; use a store that comes with fairtouch, or give yours an attribute "
    "`deferrals` that is a {} (Deferrals takes a Governor, AsyncDeferrals an AsyncGovernor)"
)


def place_of(error: BaseException) -> str:
    """What an exception is, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return type(error).__name__ + "".join(f" in {Path(each.filename).name}, line {each.lineno}" for each in place)


def plain_sender(send: Send) -> Send:
    """The function, which fails when it returns a coroutine that nobody would await. Raises TypeError for a generator
    or coroutine function.
    """
    if not callable(send):
        raise TypeError(
            f"send is a {type(send).__name__}; pass a function of a touch and its payload (nothing was sent)"
        )
    check_sender(send)
    if inspect.iscoroutinefunction(send):
        raise TypeError(f"{_name(send)} is a coroutine function; use AsyncDeferrals, which awaits it")

    def call(touch: Touch, payload: Any) -> None:
        result = send(touch, payload)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"{_name(send)} returned a coroutine, which has sent nothing; use AsyncDeferrals")

    return call


def coroutine_sender(send: AsyncSend) -> AsyncSend:
    """The function. Raises TypeError for what is no coroutine function."""
    check_sender(send)
    if not inspect.iscoroutinefunction(send):
        raise TypeError(f"{_name(send)} is no coroutine function; use Deferrals, which does not await")
    return send


def _name(send: Callable[..., Any]) -> str:
    return getattr(send, "__qualname__", type(send).__name__)


def deferral_store(store: object) -> DeferralStore:
    """Where a store keeps deferred touches. Raises TypeError when it does not."""
    found = getattr(store, "deferrals", None)
    if not isinstance(found, DeferralStore) or inspect.iscoroutinefunction(found.keep):
        raise TypeError(_NO_QUEUE.format(type(store).__name__, "fairtouch.stores.deferral_port.DeferralStore"))
    return found


def opened(store: object) -> Opened:
    """How to come by an asynchronous store. Raises TypeError for a store that is called."""
    if not callable(store):
        raise TypeError("AsyncDeferrals takes an AsyncGovernor; for a Governor there is Deferrals (nothing was opened)")
    return cast("Opened", store)


def async_deferral_store(store: object) -> AsyncDeferralStore:
    """The same of an asynchronous store."""
    found = getattr(store, "deferrals", None)
    if not isinstance(found, AsyncDeferralStore) or not inspect.iscoroutinefunction(found.keep):
        raise TypeError(
            _NO_QUEUE.format(type(store).__name__, "fairtouch.stores.deferral_port_async.AsyncDeferralStore")
        )
    return found


def verified(decision: Decision) -> None:
    """Raises StoreUnavailable for a decision without a store: the policy may let a caller out, who cannot wait; a queue
    can, and without a reservation nobody would know that the touch went out.
    """
    if decision.unverified:
        raise StoreUnavailable("the store did not answer, and a deferred touch waits until it does")


def unavailable(error: StoreUnavailable, run: Run, lease: int) -> StoreUnavailable:
    """What to raise when the store failed in a run."""
    return StoreUnavailable(
        f"{error} (the run ended: {run.counts[Fate.SENT]} touches had gone out, each with a reservation; those that "
        f"were claimed come up again within {lease // 1_000} s)"
    )
