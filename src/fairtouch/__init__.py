"""fairtouch decides, before any message goes out, whether that touch is welcome: consent, quiet hours and caps in one
atomic step.
"""

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

__all__ = [
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
