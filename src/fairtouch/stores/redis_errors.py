"""What Redis answers when it does not do as it is asked, as what a caller can do about it."""

import re
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from fairtouch.errors import FairtouchError, StoreError, StoreUnavailable
from fairtouch.stores.redis_names import LOST

CLOSED: Final = "this Redis store was closed; open a new governor (nothing was recorded)"
_PASSING: Final = (OutOfMemoryError, ReadOnlyError, ClusterDownError, MasterDownError, TryAgainError, AskError)
_PASSING_WORDS: Final = re.compile(r"(?:^|[ -])(?:OOM|READONLY|BUSY|NOREPLICAS|MISCONF|UNKILLABLE|MASTERDOWN) ")
_OURS: Final = {
    "FAIRTOUCH newer": "a newer fairtouch wrote this customer's document; upgrade this one. Nothing was recorded",
    "FAIRTOUCH names": LOST,
    "FAIRTOUCH cut": "a part of this customer's older touches was lost; restore it. Nothing was recorded",
}
"""What our scripts say instead of a result."""

_OPEN: Final = "it is not known whether this was recorded (repeat it with the same id), and nothing may be sent"


def no_answer(deadline_seconds: float, error: Exception) -> StoreUnavailable:
    """What to raise when the deadline is over."""
    return StoreUnavailable(f"Redis did not answer within {deadline_seconds} s ({type(error).__name__}); {_OPEN}")


def in_words(error: RedisError) -> FairtouchError:
    """What Redis says, as what a caller can do about it."""
    text = str(error)
    if isinstance(error, AuthenticationError | NoPermissionError) or "permission" in text:
        return StoreError(
            f"Redis does not let this user in ({text}); see the docs for the rights it needs. Nothing was recorded"
        )
    for said, meant in _OURS.items():
        if text.startswith(said):
            return StoreError(meant)
    if isinstance(error, _PASSING) or _PASSING_WORDS.search(text):
        return StoreUnavailable(f"Redis cannot do this now ({text}); nothing was recorded, and nothing may be sent")
    if "WAITAOF" in text:
        return StoreError(
            f"durability='fsynced' needs WAITAOF, which Redis has since 7.2 ({text}); the word was written, and nobody "
            "knows whether it is on the disk"
        )
    return StoreError(f"Redis refused a call ({type(error).__name__}: {text}); nothing may be sent")
