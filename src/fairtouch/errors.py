"""What can go wrong, as opposed to what is refused: a refusal is a value, a failure is one of these.

Rule 1: the text names the key, the value and the place, and what to do next. Rule 2: it says what was and was not
recorded. Rule 3: it never holds a customer's id or an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairtouch.decision import Decision


class FairtouchError(Exception):
    """The parent of every error that fairtouch raises on purpose."""


class PolicyError(FairtouchError):
    """The policy cannot be used as it is written; nothing was loaded."""


class TouchError(FairtouchError):
    """What was passed cannot be judged or recorded as it is; nothing was recorded."""


class IdConflict(FairtouchError):
    """The touch id is already taken by a touch with other content; nothing was recorded.

    The id itself is kept out of the text, because ids often contain the customer's: read it from `id`.
    """

    def __init__(self, touch_id: str) -> None:
        super().__init__(
            "this touch id stands for a touch with another channel, category, topic, campaign, subject, tags or "
            "address; use a new id for new content (nothing was recorded)"
        )
        self.id = touch_id


class StoreUnavailable(FairtouchError):
    """The store did not answer, so nothing is known: not a refusal. The call can be repeated with the same id."""


class StoreError(FairtouchError):
    """The store answered what it must not: damaged, of another version, or in breach of its contract."""


class Refused(FairtouchError):
    """The touch is not welcome now; `decision` says why and, if time helps, from when on it is. No slot was taken."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.summary())
        self.decision = decision
