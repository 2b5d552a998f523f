"""fairtouch decides, before any message goes out, whether that touch is welcome: consent, quiet hours and caps in one
atomic step.
"""

from typing import TYPE_CHECKING, Any

from fairtouch.decision import Decision
from fairtouch.errors import (
    FairtouchError,
    IdConflict,
    PolicyError,
    Refused,
    StoreError,
    StoreUnavailable,
    TouchError,
)
from fairtouch.governor import Governor
from fairtouch.policy import Policy
from fairtouch.reasons import Reason
from fairtouch.records import Outcome, Reservation
from fairtouch.touch import Touch

if TYPE_CHECKING:
    from fairtouch.governor_async import AsyncGovernor
else:

    def __getattr__(name: str) -> Any:
        """`AsyncGovernor`, when it is asked for: programs without an event loop need not wait for asyncio."""
        if name != "AsyncGovernor":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from fairtouch.governor_async import AsyncGovernor

        return AsyncGovernor


__all__ = [
    "AsyncGovernor",
    "Decision",
    "FairtouchError",
    "Governor",
    "IdConflict",
    "Outcome",
    "Policy",
    "PolicyError",
    "Reason",
    "Refused",
    "Reservation",
    "StoreError",
    "StoreUnavailable",
    "Touch",
    "TouchError",
]
